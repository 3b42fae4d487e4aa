"""What a reader found in a large data set, kept so that the next start takes seconds.

An index lies under ``$KERAS_HOME`` (or ``~/.keras``), never in the data set, which may be
read-only. It holds a digest of all its bytes and the state of the files it was read from; where
either does not fit, the files are read again.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import RunError
from weights.locations import keras_cache

VERSION = 2  # of the columns that readers keep
MIN_READ_SECONDS = 1.0
MIN_AGE_SECONDS = (
    2.0  # the coarsest clock of a file system, FAT's: a later change could bear the same time
)
DIGEST_BYTES = hashlib.sha256().digest_size

Columns = dict[str, np.ndarray]
logger = logging.getLogger(__name__)


def cached(sources: Sequence[Path], read: Callable[[], Columns]) -> Columns:
    """What ``read()`` returns, or returned when ``sources`` were last as they are now.

    ``sources`` are all files and folders whose content decides the result, the data set's own name
    for it first. A folder changes with the names in it, not with the content of its files. What
    was read in under a second, from files changed just now or where no index can be written, is
    not kept. Errors are those of ``read``.
    """
    path, stamp = cache_path(sources[0]), _fingerprint(sources)
    columns = _load(path, stamp)
    if columns is not None:
        logger.info("%s: taken from the index %s", sources[0], path)
        return columns
    began, is_settled = time.perf_counter(), _is_settled(sources)
    columns = read()
    seconds = time.perf_counter() - began
    if is_settled and seconds >= MIN_READ_SECONDS:
        _save(path, columns | {"stamp": stamp}, f"{sources[0]}: read in {seconds:.0f} s")
    return columns


def cache_path(source: Path) -> Path:
    """The file that an index of ``source`` has; it need not exist."""
    digest = hashlib.sha256(os.fsencode(os.path.abspath(source))).hexdigest()
    return keras_cache("datasets") / f"index-{digest[:16]}"


def pack_strings(strings: Iterable[str]) -> np.ndarray:
    """Any strings as one column (bytes,) uint8; NumPy's own would be as wide as the longest and
    end at a NUL.
    """
    return np.frombuffer(json.dumps(list(strings)).encode(), np.uint8)


def unpack_strings(column: np.ndarray) -> list[str]:
    """What :func:`pack_strings` was given."""
    return json.loads(column.tobytes())


def _fingerprint(sources: Sequence[Path]) -> np.ndarray:
    """The state of the sources: a replaced or restored file can have its old size and time of
    writing, not of change.
    """
    return pack_strings(
        [
            f"version {VERSION}",
            *(f"{os.path.abspath(source)}: {_state(source)}" for source in sources),
        ]
    )


def _state(source: Path) -> tuple[int, int, int] | None:
    try:
        stat = os.stat(source)
    except (OSError, ValueError):
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def _is_settled(sources: Sequence[Path]) -> bool:
    states = [_state(source) for source in sources]
    return (
        None not in states
        and time.time() - max(map(max, (state[1:] for state in states))) / 1e9 > MIN_AGE_SECONDS
    )


def _load(path: Path, stamp: np.ndarray) -> Columns | None:
    """The columns of an index that is whole and has this stamp, else None."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
        logger.info("%s: damaged, will be replaced", path)
        return None
    with np.load(io.BytesIO(content[DIGEST_BYTES:]), allow_pickle=False) as arrays:
        columns = dict(arrays)
    return columns if np.array_equal(columns.pop("stamp"), stamp) else None


def _save(path: Path, columns: Columns, what: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as (partial,):
            partial.write_bytes(hashlib.sha256(buffer.getbuffer()).digest() + buffer.getbuffer())
    except (OSError, RunError) as error:
        logger.info("%s; no index kept: %s", what, error)
    else:
        logger.info("%s; index kept in %s", what, path)
