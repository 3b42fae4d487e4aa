"""Samples: the columns that every reader returns, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Samples:
    """One row a sample: an image, or one object of an image.

    ``ids``: (N,) str, unique, stable across machines. ``paths``: (N,) str, absolute. Both are best
    of dtype object: a million paths of NumPy's own fixed width take several times the memory and
    seconds. ``labels``: (N,) int32 in [0, len(class_names)). ``boxes``: (N, 4) float32 ``x, y,
    width, height`` in pixels of the image as it is displayed, clipped to it, or None where a
    sample is the whole image. ``split``: the data set's own name, such as ``val2017``.
    ``skipped``: how many annotations or files were left out, by reason. ``class_ids``: what the
    data set itself calls each class (a category id, a wnid), by label; empty where that is its
    name. ``image_sizes``: (N, 2) int32 ``width, height`` of the image that each box was drawn on,
    or None where that is unknown. ``warnings``: what a user should know of what was read.
    """

    ids: np.ndarray
    paths: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray | None
    class_names: tuple[str, ...]
    split: str
    skipped: dict[str, int]
    class_ids: tuple[str, ...] = ()
    image_sizes: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)
