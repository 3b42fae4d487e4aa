"""Samples: the columns that every data set reader returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Samples:
    """One row per sample: an image, or one object of an image.

    ``ids``: (N,) str, unique, the same on every machine. ``paths``: (N,) str, absolute. Both
    should have dtype object: a million paths in NumPy's fixed-width dtype take several times the
    memory, and seconds. ``labels``: (N,) int32 in [0, len(class_names)).

    ``boxes``: (N, 4) float32 ``x, y, width, height`` in pixels of the image as it is
    displayed, clipped to it, or None if a sample is an entire image. ``split``: the data set's
    own name, such as ``val2017``. ``skipped``: the number of skipped annotations, by reason.
    ``class_ids``: the data set's own identifier of each class (a category id, a wnid), by
    label; empty if that is its name. ``image_sizes``: (N, 2) int32 ``width, height`` of the
    image that each box was drawn on, or None if unknown. ``warnings``: messages for the user
    about the files. ``columns``: further columns of a table, (N,) each, by name, which the table
    of features passes on.
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
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)
