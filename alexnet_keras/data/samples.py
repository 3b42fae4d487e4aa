"""Samples: the columns that every data set reader returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from alexnet_keras.errors import DataError

if TYPE_CHECKING:
    from alexnet_keras.data.pixel_arrays import PixelArray

ALL = "all"
"""The one split of images that have none."""


@dataclass(frozen=True)
class Samples:
    """One row per sample: an image, or one object of an image.

    ``ids``: (N,) str, unique, the same on every machine. ``paths``: (N,) str, absolute. Both
    should have dtype object: a million paths in NumPy's fixed-width dtype take several times the
    memory, and seconds. ``labels``: (N,) int32 in [0, len(class_names)), -1 where unknown.

    ``boxes``: (N, 4) float32 ``x, y, width, height`` in pixels of the image as it is
    displayed, clipped to it, or None if a sample is an entire image. ``split``: the data set's
    own name, such as ``val2017``. ``skipped``: the number of skipped annotations, by reason.
    ``class_ids``: the data set's own identifier of each class (a category id, a wnid), by
    label; empty if that is its name. ``image_sizes``: (N, 2) int32 ``width, height`` of the
    image that each box was drawn on, or None if unknown. ``warnings``: messages for the user
    about the files. ``columns``: further columns of a table, (N,) each, by name. ``pixels``: the
    array that contains the images, if they are not files; ``paths`` are then ``<file>[<row>]``.
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
    pixels: PixelArray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def check_labelled(self, what_for: str) -> None:
        """Raise ``DataError`` that names the first sample without a label, if any."""
        missing = np.flatnonzero(self.labels < 0)
        if len(missing):
            raise DataError(
                f"{self.paths[missing[0]]}: expected a label for {what_for}, got none ("
                f"{len(missing)} of {len(self)} images of {self.split} have none)"
            )


def join_samples(parts: Sequence[Samples]) -> Samples:
    """The samples of several splits of one data set, in turn, in the split ``all``."""
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> np.ndarray | None:
        columns = [getattr(part, name) for part in parts]
        return None if columns[0] is None else np.concatenate(columns)

    return Samples(
        np.array([f"{part.split}/{each}" for part in parts for each in part.ids], object),
        *(joined(name) for name in ("paths", "labels", "boxes")),
        parts[0].class_names,
        ALL,
        dict(sum((Counter(part.skipped) for part in parts), Counter())),
        parts[0].class_ids,
        joined("image_sizes"),
        columns={
            name: np.concatenate([part.columns[name] for part in parts])
            for name in parts[0].columns
        },
    )
