"""The inputs of a layer for all samples, computed once: in memory, or cached on disk for the next
run on the same data.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import RunError, error_reason
from alexnet_keras.features.extraction import extract
from alexnet_keras.features.feature_files import open_feature_files
from alexnet_keras.models.alexnet import AlexNetModel

logger = logging.getLogger(__name__)


def layer_inputs(
    model: AlexNetModel,
    layer: str,
    batches: EvaluationBatches,
    folder: Path | None = None,
    on_batch: Callable[[int], None] = lambda rows: None,
) -> np.ndarray:
    """The inputs of ``layer`` of ``model`` for the centre crop of each sample: (N, width) float32,
    NaN for unreadable samples.

    Without ``folder``, an array in memory. With it, a read-only memory map of a file in it, which
    is computed unless it exists: its name is a digest of the weights, the preprocessing and the
    files (path, size and mtime). Raises ``RunError`` if it cannot be written.
    """
    below = keras.Model(model.input, {"features": model.get_layer(layer).input})
    if folder is None:
        blocks = []
        extract(below, batches, {"features": blocks.append}, on_batch)
        return np.concatenate(blocks)
    path = Path(folder) / f"features-{_key(model, below, batches)}.npy"
    shape = (len(batches.samples), *below.output["features"].shape[1:])
    features = _opened(path, shape)
    if features is None:
        _compute(below, batches, path, shape, on_batch)
        features = np.load(path, mmap_mode="r")
    return features


def _compute(
    below: keras.Model, batches: EvaluationBatches, path: Path, shape: tuple[int, ...], on_batch
) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{path.parent}: expected a folder for the feature cache, got: {error_reason(error)}"
        ) from None
    with open_feature_files({"features": path}, {"features": shape}) as sinks:
        extract(below, batches, sinks, on_batch)


def _opened(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    try:
        features = np.load(path, mmap_mode="r")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError) as error:
        logger.warning(
            "%s: expected cached features, got: %s; recomputing", path, error_reason(error)
        )
        return None
    if features.shape != shape or features.dtype != np.float32:
        logger.warning(
            "%s: expected float32 %s, got %s %s; recomputing",
            path,
            shape,
            features.dtype,
            features.shape,
        )
        return None
    logger.info("%s: cached features are used", path)
    return features


def _key(model: AlexNetModel, below: keras.Model, batches: EvaluationBatches) -> str:
    """A digest of everything that determines the features."""
    facts = {
        "architecture": model.architecture.to_dict(),
        "preprocessing": dataclasses.asdict(batches.preprocessing),
        "orientation": "exif",  # not a file of a version that ignored it
        "region": None if batches.samples.boxes is None else dataclasses.asdict(batches.region),
        "dtype": below.output["features"].dtype,
    }
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for variable in below.weights:
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(keras.ops.convert_to_numpy(variable)).data)
    _add_samples(digest, batches.samples)
    return digest.hexdigest()[:32]


def _add_samples(digest, samples: Samples) -> None:
    states = {path: _state(path) for path in dict.fromkeys(samples.paths)}
    for path in samples.paths:
        digest.update(f"{path}\n{states[path]}\n".encode(errors="surrogateescape"))
    if samples.boxes is not None:
        digest.update(np.ascontiguousarray(samples.boxes).data)


def _state(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
