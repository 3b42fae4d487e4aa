"""The most probable classes of many images, in little memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Prediction(NamedTuple):
    """A class and its probability, 0-1. ``id``: the wnid for ImageNet's classes, otherwise the
    class index as text.
    """

    id: str
    name: str
    probability: float


class ImagePrediction(NamedTuple):
    """``top``: the most probable classes of ``image``, best first; of an unreadable file it is
    empty, and ``error`` says why.
    """

    image: str
    top: tuple[Prediction, ...]
    error: str | None = None


class TopClasses(Sequence):
    """For each image a tuple of its most probable classes, best first, empty for an unreadable
    one; made when it is asked for, so that 10^5 images take a few megabytes.

    ``classes``: ``(id, name)`` by label. ``labels``: (images, top) int32, -1 for unreadable ones;
    ``probabilities``: (images, top) float32.
    """

    def __init__(self, classes: Sequence[tuple[str, str]], rows: int, top: int):
        self.classes = classes
        self.labels = np.full((rows, min(top, len(classes))), -1, np.int32)
        self.probabilities = np.zeros(self.labels.shape, np.float32)

    def set(self, first: int, probabilities: np.ndarray) -> None:
        """The probabilities, (images, classes) float32, of the images from ``first`` on; NaN of
        unreadable ones.
        """
        rows = slice(first, first + len(probabilities))
        best = np.argsort(-probabilities, axis=1, kind="stable")[:, : self.width]
        self.labels[rows] = np.where(np.isnan(probabilities[:, :1]), -1, best)
        self.probabilities[rows] = np.take_along_axis(probabilities, best, axis=1)

    @property
    def width(self) -> int:
        """The number of classes that are kept for each image."""
        return self.labels.shape[1]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return tuple(self[row] for row in range(*index.indices(len(self))))
        labels = self.labels[index]
        if labels[0] < 0:
            return ()
        return tuple(
            Prediction(*self.classes[label], probability)
            for label, probability in zip(
                labels.tolist(), self.probabilities[index].tolist(), strict=True
            )
        )
