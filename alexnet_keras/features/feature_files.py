"""The files that features are written to, by the suffix that is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from alexnet_keras.array_readers.npz_mat import variable_name
from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.features.array_files import ArrayFiles, Hdf5File, NpyFiles, RowArray
from alexnet_keras.features.csv_files import CsvFiles
from alexnet_keras.features.mat_file import MatFile, check_mat
from alexnet_keras.features.npz_file import NpzFile
from alexnet_keras.features.row_table import RowTable

Sink = Callable[[np.ndarray], None]
SUFFIXES = (".npy", ".npz", ".h5", ".mat", ".csv")
FILE_PER_LAYER = (".npy", ".csv")
_ONE_FILE = {".npz": NpzFile, ".h5": Hdf5File, ".mat": MatFile}


@dataclass(frozen=True)
class FeatureFiles:
    """The names of the files of an extraction.

    ``layers``: the files of each layer, in the order of their rows; several layers may share one.
    ``rows_per_file``: of a ``.npy`` that is divided, else None.
    """

    out: Path
    layers: Mapping[str, tuple[Path, ...]]
    rows_per_file: int | None = None

    @property
    def table(self) -> Path:
        """The table of rows. With a single layer in ``.csv``, its features stand in it too."""
        return self.out.with_suffix(".csv")

    @property
    def description(self) -> Path:
        return self.out.with_suffix(".json")

    @property
    def features(self) -> tuple[Path, ...]:
        """Every file with features."""
        return tuple(dict.fromkeys(path for paths in self.layers.values() for path in paths))

    @property
    def by_layer(self) -> dict[str, Path]:
        """The file of each layer; of one that is divided, the name that it would have."""
        return output_files(self.out, tuple(self.layers))

    def describe(self, layer: str) -> dict:
        """What the description says of a layer's files."""
        names = [path.name for path in self.layers[layer]]
        if self.rows_per_file is not None:
            return {"files": names, "rows_per_file": self.rows_per_file}
        variable = {"variable": variable_name(layer)} if self.out.suffix == ".mat" else {}
        return {"file": names[0], **variable}

    @property
    def has_own_table(self) -> bool:
        """Whether the table is a file of its own."""
        return (self.table,) not in self.layers.values()

    def moved(self, place: Callable[[Path], Path]) -> FeatureFiles:
        """The same files elsewhere: ``place`` maps each path to another."""
        layers = {layer: tuple(map(place, paths)) for layer, paths in self.layers.items()}
        return replace(self, out=place(self.out), layers=layers)


def name_files(
    out: Path, arrays: Mapping[str, RowArray], rows_per_file: int | None = None
) -> FeatureFiles:
    """The files for ``out``: ``.npz``, ``.h5`` and ``.mat`` hold all layers; of ``.npy`` and
    ``.csv`` there is ``<stem>-<layer>`` for each of several layers (``<stem>-fc6-pre`` for
    ``fc6:pre``).

    With ``rows_per_file`` each ``.npy`` is divided: ``<stem>-00000-of-00003.npy``. Raises
    ``ConfigurationError`` for a suffix that no format has, and for arrays that the format cannot
    hold.
    """
    one = output_files(out, tuple(arrays))
    if out.suffix == ".mat":
        check_mat(arrays, out)
    if rows_per_file is None:
        return FeatureFiles(out, {layer: (path,) for layer, path in one.items()})
    if out.suffix != ".npy":
        raise ConfigurationError(f"rows_per_file: expected an out that ends in .npy, got {out}")
    layers = {}
    for layer, path in one.items():
        count = max(1, -(-arrays[layer].shape[0] // rows_per_file))
        layers[layer] = tuple(
            path.with_name(f"{path.stem}-{index:05d}-of-{count:05d}.npy") for index in range(count)
        )
    return FeatureFiles(out, layers, rows_per_file)


def output_files(out: Path, layers: tuple[str, ...]) -> dict[str, Path]:
    """The file that each layer's rows are written to. Raises ``ConfigurationError``."""
    if out.suffix not in SUFFIXES:
        raise ConfigurationError(
            f"out: expected a name that ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, "
            f"got {out}"
        )
    if out.suffix not in FILE_PER_LAYER or len(layers) == 1:
        return dict.fromkeys(layers, out)
    return {layer: _beside(out, layer, out.suffix) for layer in layers}


def basis_files(out: Path, layers: tuple[str, ...]) -> dict[str, Path]:
    """The file that the basis of each layer is saved in."""
    return {layer: _beside(out, layer, ".basis.npz") for layer in layers}


def _beside(out: Path, layer: str, suffix: str) -> Path:
    """``<stem>-fc6-pre<suffix>`` for ``fc6:pre``: Windows and rsync read a ``:`` otherwise."""
    return out.with_name(f"{out.stem}-{layer.replace(':', '-')}{suffix}")


def create_files(
    files: FeatureFiles, arrays: Mapping[str, RowArray], table: RowTable, rows: range
) -> ArrayFiles | CsvFiles:
    """What writes ``files``; ``rows`` of the ``table`` are those that are extracted."""
    if files.out.suffix == ".csv":
        return CsvFiles(arrays, files.layers, table, rows)
    return create_arrays(files, arrays)


def create_arrays(files: FeatureFiles, arrays: Mapping[str, RowArray]) -> ArrayFiles:
    """What writes ``files`` of any format but ``.csv``."""
    if files.out.suffix == ".npy":
        return NpyFiles(arrays, files.layers, files.rows_per_file)
    return _ONE_FILE[files.out.suffix](arrays, files.layers)


@contextmanager
def open_feature_files(
    paths: Mapping[str, Path], shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[dict[str, Sink]]:
    """Open a file for each layer (``.npy``, or data sets named by layer in one ``.h5``) to append
    blocks of float32 rows.

    The files replace existing ones only when the ``with`` block ends without an error and all rows
    were written. ``shapes``: (rows, ...) of each layer's array.
    """
    finals = tuple(dict.fromkeys(paths.values()))
    arrays = {layer: RowArray(shape) for layer, shape in shapes.items()}
    with atomic_write(*finals) as temporaries:
        where = dict(zip(finals, temporaries, strict=True))
        places = {layer: (where[path],) for layer, path in paths.items()}
        files = create_arrays(FeatureFiles(finals[0], places), arrays)
        try:
            files.start()
            yield sinks_of(files)
            files.finish()
        finally:
            files.close()
        for layer, rows in files.rows.items():
            if rows != shapes[layer][0]:
                raise RunError(
                    f"{paths[layer]}: expected {shapes[layer][0]} rows of {layer}, got {rows}"
                )


def sinks_of(files: ArrayFiles | CsvFiles) -> dict[str, Sink]:
    """A function for each layer that appends a block of its rows."""
    return {layer: partial(files.append, layer) for layer in files.arrays}


def write_description(path: Path, description: dict) -> None:
    """Write the JSON that says how features were computed."""
    path.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
