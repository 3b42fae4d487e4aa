"""Which files a run learned from, so that a changed data set is noticed and named when the run is continued."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import RunError
from alexnet_keras.whole_files import whole_files

COLUMNS = ("split", "id", "path", "bytes", "label", "box")


def manifest(root: Path, parts: list[Samples]) -> str:
    """A CSV table with a row a sample: split, id, path (relative to ``root`` where it lies below), size of the file in
    bytes (empty where there is none), label, and box."""
    text, sizes = io.StringIO(newline=""), {}
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for part in parts:
        writer.writerows(_rows(root, part, sizes))
    return text.getvalue()


def digest(table: str) -> str:
    """What two workers compare to know that they see the same data."""
    return hashlib.sha256(table.encode()).hexdigest()


def write_manifest(path: Path, table: str) -> None:
    """Write a manifest, compressed; the same table makes the same bytes. Raises ``RunError``."""
    with whole_files(path) as (partial,), gzip.GzipFile(partial, "wb", mtime=0) as file:
        file.write(table.encode())


def refuse_changed(path: Path, table: str, root: Path) -> None:
    """Raise ``RunError`` that counts and names what differs between the manifest at ``path`` and the data of today."""
    try:
        recorded = gzip.decompress(path.read_bytes()).decode()
        before, now = _by_id(recorded), _by_id(table)
    except (OSError, EOFError, ValueError, KeyError, gzip.zlib.error) as error:
        raise RunError(f"{path}: expected the list of the run's samples, found: {error}") from None
    if recorded == table:
        return
    changed = [key for key in before | now if before.get(key) != now.get(key)]
    raise RunError(f"{root}: the data set has changed since the run began: {len(changed)} samples differ; "
                   f"{_difference(before.get(changed[0]), now.get(changed[0]))}")


def _rows(root: Path, part: Samples, sizes: dict) -> Iterator[tuple]:
    boxes, prefix = part.boxes if part.boxes is not None else [()] * len(part), os.path.join(root, "")
    for sample_id, path, label, box in zip(part.ids, part.paths, part.labels, boxes, strict=True):
        if path not in sizes:
            sizes[path] = (path.removeprefix(prefix).replace(os.sep, "/"), _size(path))
        yield part.split, sample_id, *sizes[path], label, " ".join(f"{value:g}" for value in box)


def _size(path) -> int | str:
    try:
        return os.stat(path).st_size
    except OSError:
        return ""


def _by_id(table: str) -> dict[tuple, dict]:
    return {(row["split"], row["id"]): row for row in csv.DictReader(io.StringIO(table, newline=""))}


def _difference(before: dict | None, now: dict | None) -> str:
    row = before or now
    what = f"the first is {row['split']} {row['id']} ({row['path']})"
    if before is None or now is None:
        return f"{what}: {'it is new' if before is None else 'it is gone'}"
    field = next((column for column in COLUMNS if before[column] != now[column]), "order")
    return f"{what}: {field}: expected {before.get(field) or 'none'}, found {now.get(field) or 'none'}"
