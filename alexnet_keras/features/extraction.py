"""The activations of a network for every sample, block by block."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.data.batches import Batch, EvaluationBatches
from alexnet_keras.features.feature_files import Sink
from alexnet_keras.features.unfinished import Unfinished

logger = logging.getLogger(__name__)

Transform = Callable[[np.ndarray], np.ndarray]


def extract(
    extractor: keras.Model,
    batches: Iterable[Batch],
    sinks: Mapping[str, Sink],
    on_batch: Callable[[int], None] = lambda rows: None,
    *,
    transform: Mapping[str, Transform] = {},
    dtype: str = "float32",
) -> Counter[str]:
    """Append each sample's activations to its layer's sink, in order, in constant memory.

    ``transform`` has a function for some of the layers, from (batch, ...) float32 activations to
    (batch, ...) float32 rows; it is given whole batches with their padding, so that a row does not
    depend on how many there are. ``dtype``: of the rows that the sinks are given.

    The rows of unreadable samples (weight 0, but not padding) are NaN; padding is dropped. Returns
    for each layer how many finite values are infinite in ``dtype``.
    """
    step = tf.function(lambda images: extractor(images, training=False), autograph=False)
    overflows = Counter()
    for batch in batches:
        rows = batch.rows.numpy()
        real = int(rows[-1] - rows[0]) + 1  # padding repeats the last row
        unreadable = batch.weights.numpy()[:real] == 0
        for name, activations in step(batch.images).items():
            block = activations.numpy().astype(np.float32, copy=False)
            if name in transform:
                block = transform[name](block)
            block, too_large = _cast(block[:real], dtype)
            overflows[name] += too_large
            block[unreadable] = np.nan
            sinks[name](block)
        on_batch(real)
    return overflows


def _cast(block: np.ndarray, dtype: str) -> tuple[np.ndarray, int]:
    """``block`` as ``dtype``, and how many finite values became infinite."""
    if block.dtype == dtype:
        return block, 0
    with np.errstate(over="ignore"):
        cast = block.astype(dtype)
    return cast, np.count_nonzero(np.isinf(cast)) - np.count_nonzero(np.isinf(block))


def extract_rows(
    extractor: keras.Model,
    batches: Sequence[tuple[int, EvaluationBatches]],
    sinks: Mapping[str, Sink],
    work: Unfinished,
    on_batch: Callable[[int], None],
    **settings,
) -> None:
    """Write the rows that ``work`` lacks: those of ``batches``, each with the number of the first
    row of its samples. ``settings``: of :func:`extract`. Values that become infinite are logged.
    """

    def bad_rows() -> list[int]:
        return [start + int(row) for start, part in batches for row in part.bad_rows]

    def finish_batch(rows: int) -> None:
        on_batch(rows)
        work.add(rows, bad_rows)

    overflows = Counter()
    for _, part in batches:
        overflows += extract(extractor, part, sinks, finish_batch, **settings)
    if overflows:
        counts = ", ".join(f"{layer} {count}" for layer, count in overflows.items())
        logger.warning("dtype: values too large for it became infinite (%s); use float32", counts)
