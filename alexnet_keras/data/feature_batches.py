"""Batches of precomputed features: a batch is a pure function of (seed, step)."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from alexnet_keras.data.batches import Batch
from alexnet_keras.data.samples import Samples
from alexnet_keras.data.steps import epoch_start


class FeatureBatches:
    """Batches of precomputed features, (N, width) float32, shuffled as
    :class:`~alexnet_keras.data.batches.TrainingBatches` shuffles images.

    ``images`` of a batch are ``(features - center) / scale``; rows of NaN get weight 0.
    ``features`` may be a memory map larger than the memory.
    """

    def __init__(
        self,
        features: np.ndarray,
        samples: Samples,
        batch_size: int,
        seed: int,
        center=0.0,
        scale: float = 1.0,
    ):
        self.features = features
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.center = center
        self.scale = scale

    def first_step_of(self, epoch: int) -> int:
        """The first step without a sample of an earlier epoch."""
        return epoch_start(epoch, len(self.samples), self.batch_size)

    def iterate(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """Batches of the steps ``first_step <= step < last_step``."""
        for step in range(first_step, last_step):
            epochs, indices = np.divmod(
                np.arange(step * self.batch_size, (step + 1) * self.batch_size), len(self.samples)
            )
            rows = np.array(
                [
                    self._permutation(epoch)[index]
                    for epoch, index in zip(epochs, indices, strict=True)
                ]
            )
            features = (self.features[rows] - self.center) / np.float32(self.scale)
            usable = ~np.isnan(features[:, 0])
            yield Batch(
                tf.constant(np.where(usable[:, None], features, 0)),
                tf.constant(self.samples.labels[rows], tf.int32),
                tf.constant(usable, tf.float32),
                tf.constant(rows),
            )

    @functools.lru_cache(maxsize=2)  # noqa: B019  the two epochs that one batch can touch
    def _permutation(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch)).permutation(len(self.samples))
