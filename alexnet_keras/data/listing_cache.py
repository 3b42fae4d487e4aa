"""A cache for listings of large data sets, so that the next start takes seconds.

Its files are under ``$KERAS_HOME`` (or ``~/.keras``), never in the data set, which may be
read-only. Each contains a digest of its bytes and the state of the files it was read from; if
either does not match, the data set is read again.
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
# FAT's clock, the coarsest of a file system: a later change could get the same time.
MIN_AGE_SECONDS = 2.0
DIGEST_BYTES = hashlib.sha256().digest_size

Columns = dict[str, np.ndarray]
logger = logging.getLogger(__name__)


def cached(sources: Sequence[Path], read: Callable[[], Columns]) -> Columns:
    """The result of ``read()``, or of an earlier call for the same state of ``sources``.

    ``sources`` are all files and folders whose content determines the result; the first names the
    cache file. A folder changes with the names in it, not with the content of its files. A result
    is not cached if it was read in under a second, from files changed just before, or if the cache
    cannot be written. Raises the errors of ``read``.
    """
    path = cache_path(sources[0])
    fingerprint = _fingerprint(sources)
    columns = _load(path, fingerprint)
    if columns is not None:
        logger.info("%s: read from the listing cache %s", sources[0], path)
        return columns
    is_settled = _is_settled(sources)
    began = time.perf_counter()
    columns = read()
    seconds = time.perf_counter() - began
    if is_settled and seconds >= MIN_READ_SECONDS:
        _save(path, columns | {"stamp": fingerprint}, f"{sources[0]}: read in {seconds:.0f} s")
    return columns


def cache_path(source: Path) -> Path:
    """The cache file for ``source``; it may not exist."""
    digest = hashlib.sha256(os.fsencode(os.path.abspath(source))).hexdigest()
    return keras_cache("datasets") / f"index-{digest[:16]}"


def pack_strings(strings: Iterable[str]) -> np.ndarray:
    """Strings as one column (bytes,) uint8. NumPy's strings are all as wide as the longest one,
    and end at a NUL.
    """
    return np.frombuffer(json.dumps(list(strings)).encode(), np.uint8)


def unpack_strings(column: np.ndarray) -> list[str]:
    """The inverse of :func:`pack_strings`."""
    return json.loads(column.tobytes())


def _fingerprint(sources: Sequence[Path]) -> np.ndarray:
    """The state of the sources, with their ctime: a replaced or restored file may keep its size
    and mtime.
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


def _load(path: Path, fingerprint: np.ndarray) -> Columns | None:
    """The columns of a cache file if it is intact and has this fingerprint, else None."""
    try:
        content = memoryview(path.read_bytes())
    except OSError:
        return None
    if hashlib.sha256(content[DIGEST_BYTES:]).digest() != content[:DIGEST_BYTES]:
        logger.info("%s: damaged, will be replaced", path)
        return None
    with np.load(io.BytesIO(content[DIGEST_BYTES:]), allow_pickle=False) as arrays:
        columns = dict(arrays)
    return columns if np.array_equal(columns.pop("stamp"), fingerprint) else None


def _save(path: Path, columns: Columns, what: str) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, **columns)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as (partial,):
            partial.write_bytes(hashlib.sha256(buffer.getbuffer()).digest() + buffer.getbuffer())
    except (OSError, RunError) as error:
        logger.info("%s; listing not cached: %s", what, error)
    else:
        logger.info("%s; listing cached in %s", what, path)
