"""Manifest of the samples that a run is trained on, to detect a changed data set when the run is
resumed.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import RunError

COLUMNS = ("split", "id", "path", "bytes", "label", "box")


def sample_table(root: Path, parts: list[Samples]) -> str:
    """A CSV table with a row per sample: split, id, path (relative to ``root`` if it is inside),
    size of the file in bytes (empty if there is no file), label, and box.
    """
    text = io.StringIO(newline="")
    sizes = {}
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for part in parts:
        writer.writerows(_rows(root, part, sizes))
    return text.getvalue()


def digest(table: str) -> str:
    """SHA-256 of a sample table, for workers to check that they see the same data."""
    return hashlib.sha256(_bytes(table)).hexdigest()


def write_manifest(path: Path, table: str) -> None:
    """Write a manifest, compressed; equal tables give equal bytes. Raises ``RunError``."""
    with atomic_write(path) as (partial,):
        partial.write_bytes(gzip.compress(_bytes(table), mtime=0))


def check_unchanged(path: Path, table: str, root: Path) -> None:
    """Raise ``RunError`` if the manifest at ``path`` differs from the current sample ``table``;
    it counts the differing samples and names the first.
    """
    try:
        recorded = gzip.decompress(path.read_bytes())
        if recorded == _bytes(table):
            return
        before = _by_id(recorded.decode(errors="surrogateescape"))
        now = _by_id(table)
    except (OSError, EOFError, ValueError, csv.Error, gzip.zlib.error) as error:
        raise RunError(f"{path}: expected the run's sample manifest, got: {error}") from None
    changed = [key for key in before | now if before.get(key) != now.get(key)]
    what = (
        f"{len(changed)} samples differ; "
        f"{_difference(before.get(changed[0]), now.get(changed[0]))}"
        if changed
        else "its samples have another order"
    )
    raise RunError(f"{root}: the data set has changed since the run started: {what}")


def _bytes(table: str) -> bytes:
    return table.encode(errors="surrogateescape")  # file names may be any bytes


def _rows(root: Path, part: Samples, sizes: dict) -> Iterator[tuple]:
    boxes = [()] * len(part) if part.boxes is None else part.boxes
    prefix = os.path.join(root, "")
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
    """The rows by split, id and a count, because an id may occur twice."""
    header, *rows = csv.reader(io.StringIO(table, newline=""))
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise ValueError(f"not the columns {', '.join(COLUMNS)}")
    by_id = {}
    counts = Counter()
    for row in rows:
        key = tuple(row[:2])
        by_id[*key, counts[key]] = dict(zip(COLUMNS, row, strict=True))
        counts[key] += 1
    return by_id


def _difference(before: dict | None, now: dict | None) -> str:
    row = before or now
    what = f"the first is {row['split']} {row['id']} ({row['path']})"
    if before is None or now is None:
        return f"{what}: {'added' if before is None else 'removed'}"
    field = next(column for column in COLUMNS if before[column] != now[column])
    return f"{what}: {field}: expected {before[field] or 'none'}, got {now[field] or 'none'}"
