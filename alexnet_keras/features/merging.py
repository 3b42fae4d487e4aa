"""Joins the parts of an extraction that was divided among processes or machines."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from alexnet_keras.array_readers.open_arrays import open_array
from alexnet_keras.atomic_files import check_keeps_inputs
from alexnet_keras.errors import ConfigurationError, DataError, error_reason
from alexnet_keras.features.array_files import ArrayFiles, RowArray
from alexnet_keras.features.csv_files import LINE_END, csv_line
from alexnet_keras.features.feature_files import (
    FeatureFiles,
    basis_files,
    create_arrays,
    name_files,
    write_description,
)
from alexnet_keras.features.parts import FILE_NAMES, Part, check_parts, read_part, without
from alexnet_keras.features.row_table import ERRORS
from alexnet_keras.features.saved import Features
from alexnet_keras.features.unfinished import Unfinished
from alexnet_keras.progress import Progress

BLOCK_BYTES = 1 << 24


def merge_features(
    out: str | os.PathLike,
    parts: Sequence[str | os.PathLike],
    *,
    overwrite: bool = False,
    verbose: str | int = "auto",
) -> Features:
    """Join the parts that ``extract(shard="I/N")`` wrote into the files of one extraction, byte by
    byte: features, table of rows and description.

    ``out``: of the same suffix as the parts. ``parts``: all N, in any order, each by its
    description (``feats-2-of-4.json``) or its features file. ``verbose``: as in ``extract``.

    Raises ``DataError`` for a part that is missing, given twice, damaged or of another extraction,
    ``ConfigurationError`` and ``RunError``.

    Example::

        for index in range(1, 5):
            alexnet_keras.extract(data="photographs", out="f.h5", shard=f"{index}/4")
        alexnet_keras.merge_features("f.h5", [f"f-{index}-of-4.json" for index in range(1, 5)])
    """
    out = Path(out)
    progress = Progress(verbose)
    ordered = check_parts([read_part(Path(path)) for path in parts])
    first = ordered[0]
    suffix = first.files(next(iter(first.layers)))[0].suffix
    if out.suffix != suffix:
        raise ConfigurationError(f"out: expected a name that ends in {suffix}, got {out}")
    rows = range(ordered[-1].rows.stop)
    arrays = {
        layer: RowArray((len(rows), *about["shape"][1:]), about["dtype"])
        for layer, about in first.layers.items()
    }
    divided = {about.get("rows_per_file") for about in first.layers.values()}.pop()
    files = name_files(out, arrays, divided)
    bases = _shared_bases(ordered, files)
    finals = dict.fromkeys((*files.features, files.table, *bases.values(), files.description))
    check_keeps_inputs(finals, [part.path for part in ordered])
    if suffix != ".csv":
        _check_arrays(ordered, arrays)
    work = Unfinished(out, tuple(finals), rows, {"merged": True}, "", {})
    with work.opened(resume=False, overwrite=overwrite):
        for source, final in bases.items():
            shutil.copyfile(source, work.place(final))
        with progress.track("merge", len(rows) * len(arrays), unit="rows") as advance:
            if suffix == ".csv":
                _join_texts(ordered, files, work, advance)
            else:
                writer = create_arrays(files.moved(work.place), arrays)
                work.begin(writer)
                _copy_rows(ordered, writer, advance)
        if files.has_own_table:
            _join(
                [part.path.with_suffix(".csv") for part in ordered],
                ordered,
                work.place(files.table),
            )
        write_description(work.place(files.description), _merged(ordered, files, bases))
        work.complete()
    for layer, path in files.by_layer.items():
        progress.print(f"{layer} -> {path}")
    return Features(files.by_layer, files.table, describing=files.description)


def _shared_bases(parts: list[Part], files: FeatureFiles) -> dict[Path, Path]:
    """The basis of each layer that the parts have fitted, and what it is called when merged."""
    shared = {}
    merged = basis_files(files.out, tuple(files.layers))
    for layer in files.layers:
        own = [basis_files(part.path, (layer,))[layer] for part in parts]
        if not all(_uses(part, layer, path) for part, path in zip(parts, own, strict=True)):
            continue
        try:
            contents = [path.read_bytes() for path in own]
        except OSError as error:
            raise DataError(f"{own[0]}: expected a basis, got: {error_reason(error)}") from None
        for path, content in zip(own, contents, strict=True):
            if content != contents[0]:
                raise DataError(f"{path}: expected the same basis as {own[0]}, got another")
        shared[own[0]] = merged[layer]
    return shared


def _uses(part: Part, layer: str, basis: Path) -> bool:
    return (part.layers[layer].get("projection") or {}).get("basis") == basis.name


def _check_arrays(parts: list[Part], arrays: Mapping[str, RowArray]) -> None:
    """Raise ``DataError`` for arrays other than described, before anything is created."""
    for part in parts:
        for layer, array in arrays.items():
            for _ in _arrays_of(part, layer, array):
                pass


def _copy_rows(parts: list[Part], writer: ArrayFiles, advance) -> None:
    for part in parts:
        for layer, array in writer.arrays.items():
            step = max(1, BLOCK_BYTES // max(1, array.row_bytes))
            for rows in _arrays_of(part, layer, array):
                for start in range(0, len(rows), step):
                    block = rows[start : start + step]
                    writer.append(layer, block)
                    advance(len(block))


def _arrays_of(part: Part, layer: str, array: RowArray) -> Iterator[np.ndarray]:
    found = 0
    for path in part.files(layer):
        rows = open_array(path, part.layers[layer].get("variable", layer))
        found += len(rows)
        if rows.shape[1:] != array.shape[1:] or rows.dtype != array.dtype:
            raise DataError(
                f"{path}: {layer}: expected rows of {array.dtype} {array.shape[1:]}, got "
                f"{rows.dtype} {rows.shape[1:]}"
            )
        yield rows
    if found != len(part.rows):
        raise DataError(f"{path}: {layer}: expected {len(part.rows)} rows, got {found}")


def _join_texts(parts: list[Part], files: FeatureFiles, work: Unfinished, advance) -> None:
    for layer, (final,) in files.layers.items():
        _join([part.files(layer)[0] for part in parts], parts, work.place(final))
        advance(parts[-1].rows.stop)


def _join(sources: Sequence[Path], parts: Sequence[Part], target: Path) -> None:
    """The lines of the parts' CSV files under the header of the first."""
    header = b""
    with open(target, "wb") as joined:
        for source, part in zip(sources, parts, strict=True):
            try:
                found = _header(source)
                header = header or found
                if found != header:
                    raise DataError(f"{source}: expected the columns of {sources[0]}, got others")
                _check_rows(source, len(part.rows))
                with open(source, "rb") as file:
                    file.seek(0 if source == sources[0] else len(header))
                    shutil.copyfileobj(file, joined, BLOCK_BYTES)
            except (FileNotFoundError, csv.Error) as error:
                raise DataError(
                    f"{source}: expected a table of rows, got: {error_reason(error)}"
                ) from None


def _header(path: Path) -> bytes:
    with open(path, encoding="utf-8", errors=ERRORS, newline="") as file:
        return csv_line(next(csv.reader(file), ())).encode(errors=ERRORS)


def _check_rows(path: Path, expected: int) -> None:
    with open(path, encoding="utf-8", errors=ERRORS, newline="") as file:
        rows = csv.reader(file)
        width = len(next(rows, ()))
        found = sum(len(row) == width for row in rows)
    with open(path, "rb") as file:
        file.seek(-min(len(LINE_END), path.stat().st_size), os.SEEK_END)
        is_cut = file.read() != LINE_END.encode()
    if found != expected or is_cut:
        raise DataError(
            f"{path}: expected {expected} rows, got {found}"
            + (", and no end of the last line" if is_cut else "")
        )


def _merged(parts: list[Part], files: FeatureFiles, bases: Mapping[Path, Path]) -> dict:
    """What one extraction of all rows would say, with the environment of the first part."""
    first = parts[0]
    description = {key: of for key, of in first.description.items() if key != "shard"}
    names = {source.name: final.name for source, final in bases.items()}
    layers = {}
    for layer, about in first.layers.items():
        layers[layer] = {
            **files.describe(layer),
            **without(about, FILE_NAMES),
            "shape": [parts[-1].rows.stop, *about["shape"][1:]],
        }
        basis = (about.get("projection") or {}).get("basis")
        if basis in names:
            layers[layer]["projection"] = {**about["projection"], "basis": names[basis]}
    bad_rows = [row for part in parts for row in part.description["bad_rows"]]
    return {**description, "layers": layers, "bad_rows": bad_rows}
