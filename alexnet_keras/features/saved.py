"""Reads saved features: those of ``extract`` with their table of rows and description, and plain
arrays of others.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import numpy as np

from alexnet_keras.array_readers.csv_values import csv_rows, value_columns
from alexnet_keras.array_readers.open_arrays import array_names, open_array
from alexnet_keras.errors import ConfigurationError, DataError, error_reason

_INTEGERS = {"row": "", "label": "-1"}
"""Columns of integers, and what an empty cell stands for."""
_PART = re.compile(r"-[0-9]{5}-of-[0-9]{5}(?=\.npy$)")


class Features(Mapping):
    """Arrays by layer, and the table of their rows.

    ``features["fc7"]`` is a read-only array, (rows, ...): a memory map, but of divided ``.npy``,
    ``.csv`` and compressed files. The rows of unreadable files (``skip_bad``) are NaN. Opening one
    raises ``DataError`` where its file is damaged or has another number of rows than the table.

    Attributes:
        files: the file of each layer; of a ``.npy`` that is divided, the name without its part.
        table: the file of the table, None where there is none.
        probes: with ``probe``, the :class:`~alexnet_keras.features.linear_probe.ProbeResult` of
            each layer, fractions 0-1.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        table: Path | None = None,
        probes: Mapping = {},
        describing: Path | None = None,
    ):
        self.files = dict(files)
        self.probes = dict(probes)
        self.table = table
        self._describing = describing
        self._opened: dict[str, np.ndarray] = {}

    def __getitem__(self, layer: str) -> np.ndarray:
        if layer not in self._opened:
            array = open_array(self.files[layer], layer)
            self._check_rows(self.files[layer], len(array))
            self._opened[layer] = self._shaped(array, layer)
        return self._opened[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    @cached_property
    def rows(self) -> dict[str, list]:
        """The table of the rows by column, empty without a table: for ``extract``, ``row``,
        ``split``, ``id``, ``path``, ``label`` and ``class``. ``row`` and ``label`` are integers
        where all their cells are; the label of a row that has none is -1.
        """
        if self.table is None:
            return {}
        shared = [layer for layer, path in self.files.items() if path == self.table]
        return _read_table(self.table, shared)

    @cached_property
    def description(self) -> dict:
        """How ``extract`` computed the features, from the JSON beside them; ``{}`` without it."""
        return {} if self._describing is None else _read_description(self._describing)

    def check_layers(self, layers: tuple[str, ...]) -> None:
        """Raise ``ConfigurationError`` for a layer that is not here, with those whose names are
        like it.
        """
        for layer in layers:
            if layer not in self.files:
                near = difflib.get_close_matches(layer, self.files, 5) or list(self.files)[:20]
                raise ConfigurationError(f"layer: expected one of {', '.join(near)}; got {layer}")

    def _check_rows(self, path: Path, found: int) -> None:
        column = next(iter(self.rows.values()), None)
        if column is not None and len(column) != found:
            raise DataError(
                f"{path}: expected {len(column)} rows, as in {self.table}, got {found}"
            )

    def _shaped(self, array: np.ndarray, layer: str) -> np.ndarray:
        """``array`` in the shape and dtype that the description has; a ``.csv`` has neither."""
        if self.files[layer].suffix != ".csv" or "layers" not in self.description:
            return array
        try:
            about = self.description["layers"][layer]
            dtype = {"float16": np.float16, "float32": np.float32}[about["dtype"]]
            return array.reshape(len(array), *about["shape"][1:]).astype(dtype, copy=False)
        except (LookupError, TypeError, ValueError):
            raise DataError(
                f"{self._describing}: {layer}: expected the shape and dtype of its "
                f"{array.shape[1]} values in each row, got others"
            ) from None


def read_features(path: str | os.PathLike, layer: str | None = None) -> Features:
    """Open the features that ``extract`` wrote, or anyone's arrays.

    ``path``: a ``.npy``, ``.npz``, ``.h5``, ``.mat`` (MATLAB 5 to 7.3) or ``.csv`` (columns
    ``fc7_0``, ``fc7_1``, ...); or the name that was given to ``extract`` as ``out`` where it is
    divided or each layer has a file of its own (``feats.npy`` for ``feats-pool5.npy`` and
    ``feats-fc7.npy``). The table of rows (``feats.csv``) and the description (``feats.json``) are
    found beside it; without them ``rows`` and ``description`` are empty, and the layer of a
    ``.npy`` is called after its file. ``layer``: open this one alone.

    Objects are never unpickled. Raises ``DataError`` for files that cannot be read, and
    ``ConfigurationError`` for an unknown layer.

    Example::

        features = alexnet_keras.read_features("feats.h5")
        features["fc7"].shape, features.rows["path"][0], features.description["variant"]
    """
    path = Path(path)
    if not path.name:
        raise DataError(f"features: expected a file, got {str(path)!r}")
    description = _description_of(path)
    files = _files_of(path, description)
    table = (description or path).with_suffix(".csv")
    features = Features(files, table if table.is_file() else None, describing=description)
    if layer is None:
        return features
    features.check_layers((layer,))
    return Features({layer: files[layer]}, features.table, describing=description)


def _description_of(path: Path) -> Path | None:
    """The JSON beside ``path``: of its own stem, or of the stem that ``extract`` has added a
    layer's name to.
    """
    own = path.with_suffix(".json")
    if own.is_file():
        return own
    for place in range(len(path.stem) - 1, 0, -1):
        other = path.with_name(f"{path.stem[:place]}.json")
        if path.stem[place] == "-" and other.is_file() and path.name in _described(other).values():
            return other
    return None


def _files_of(path: Path, description: Path | None) -> dict[str, Path]:
    described = {} if description is None else _described(description)
    layers = {layer: path for layer, name in described.items() if name == path.name}
    if layers:
        return layers
    if not described or (path.exists() and path.suffix != ".csv"):
        return dict.fromkeys(array_names(path), path)
    return {layer: path.with_name(name) for layer, name in described.items()}


def _described(description: Path) -> dict[str, str]:
    """The file of each layer, as a description has it: names within its own folder."""
    layers = _read_description(description).get("layers")
    if not isinstance(layers, dict):
        return {}
    files = {layer: _file_of(about) for layer, about in layers.items() if type(about) is dict}
    return {
        layer: name
        for layer, name in files.items()
        if isinstance(name, str) and name == Path(name).name
    }


def _file_of(about: dict) -> object:
    """The file's name; of a ``.npy`` that is divided, without its part."""
    parts = about.get("files")
    if isinstance(parts, list) and parts and isinstance(parts[0], str):
        return _PART.sub("", parts[0])
    return about.get("file")


def _read_description(path: Path) -> dict:
    try:
        description = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected JSON, got: {error_reason(error)}") from None
    if not isinstance(description, dict):
        raise DataError(f"{path}: expected a JSON object, got a {type(description).__name__}")
    return description


def _read_table(path: Path, layers: Container[str]) -> dict[str, list]:
    """The columns of a table but those with the values of ``layers``, which ``.csv`` features have
    beside them.
    """
    with csv_rows(path) as (header, cells):
        values = [columns for layer, columns in value_columns(header).items() if layer in layers]
        own = [
            place
            for place in range(len(header))
            if not any(columns.start <= place < columns.stop for columns in values)
        ]
        rows = [[row[place] for place in own] for _, row in cells]
    columns = zip(*rows, strict=True) if rows else [()] * len(own)
    return {
        header[place]: _cells(header[place], column)
        for place, column in zip(own, columns, strict=True)
    }


def _cells(name: str, column: tuple[str, ...]) -> list:
    if name in _INTEGERS:
        with suppress(ValueError):
            return [int(cell or _INTEGERS[name]) for cell in column]
    return list(column)
