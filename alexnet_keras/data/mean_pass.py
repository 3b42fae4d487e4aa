"""The mean image of samples, from one pass over their central crops."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from alexnet_keras.data.batches import EvaluationBatches

# Grey levels are rounded to multiples of this, whose sums are exact in float64 (up to 5e8 images):
# the same in any order, so for any number of threads and workers.
PRECISION = 2.0**-16


class CentralCrops(EvaluationBatches):
    """The central crop of each sample once, RGB in grey levels, 0-255, nothing subtracted."""

    def _network_input(self, position, pixels):
        return self._crop(position, pixels)[0]


def sums_of_crops(
    crops: CentralCrops, steps: int, on_batch: Callable[[int], None] = lambda rows: None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The sum of the crops of every ``steps`` batches, (crop, crop, 3) float64 RGB, in multiples
    of ``PRECISION``, and how many images these are, a float64 scalar.

    ``on_batch`` is called with the number of rows of each batch, those of all workers.
    """
    rows = len(crops.samples)
    for first in range(0, crops.steps, steps):
        total, count = np.zeros((crops.preprocessing.crop,) * 2 + (3,)), np.zeros(())
        for step, batch in enumerate(
            crops.iterate(first, min(first + steps, crops.steps)), start=first
        ):
            for image in batch.images.numpy():  # zeros for an unreadable file
                total += np.rint(image * np.float32(1 / PRECISION))
            count += batch.weights.numpy().sum()
            on_batch(min(crops.batch_size, rows - step * crops.batch_size))
        yield total, count


def mean_of(total: np.ndarray, count: float) -> np.ndarray:
    """The mean image of a total of :func:`sums_of_crops`: float64, RGB, 0-255."""
    # Antialiased resizing turns white into 255.0001.
    return np.minimum(total * PRECISION / count, 255)
