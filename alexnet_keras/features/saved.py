"""Reads saved features."""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np


class Features(Mapping):
    """Arrays by layer, and the table of their rows.

    ``features["fc7"]`` is a read-only memory map, (rows, ...) float32; the rows of unreadable
    files (``skip_bad``) are NaN.

    Attributes:
        files: the file of each layer.
        probes: with ``probe``, the :class:`~alexnet_keras.features.linear_probe.ProbeResult` of
            each layer, fractions 0-1.
    """

    def __init__(self, files: Mapping[str, Path], rows: Path, probes: Mapping = {}):
        self.files = dict(files)
        self.probes = dict(probes)
        self._rows = rows

    def __getitem__(self, layer: str) -> np.ndarray:
        return open_features(self.files[layer], layer)

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    @functools.cached_property
    def rows(self) -> dict[str, list]:
        """The table of the rows by column: ``row``, ``split``, ``id``, ``path``, ``label`` and
        ``class``.
        """
        with open(self._rows, encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            table = list(reader)
        numbers = ("row", "label")
        return {
            name: [int(row[name]) if name in numbers else row[name] for row in table]
            for name in reader.fieldnames
        }


def open_features(path: Path, layer: str) -> np.ndarray:
    """The rows of a layer in a ``.npy`` or ``.h5`` of ``extract``, as a read-only memory map."""
    if path.suffix != ".h5":
        return np.load(path, mmap_mode="r")
    with h5py.File(path) as file:
        dataset = file[layer]
        offset = dataset.id.get_offset()
        if offset is None:  # no rows
            return dataset[...]
        return np.memmap(path, dataset.dtype, "r", offset, dataset.shape)
