"""Where weight files are found, kept and checked: the package's folder, then the cache, then the
network.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import filelock

import weights
from alexnet_keras.pretrained.catalog import WeightSource, catalog
from weights import download
from weights.atomic_files import atomic_write
from weights.download import Progress
from weights.errors import WeightsError
from weights.locations import keras_cache
from weights.recognise import recognise

OFFLINE_VARIABLE = "ALEXNET_KERAS_OFFLINE"

logger = logging.getLogger(__name__)


def locate(
    name_or_path: str | os.PathLike, offline: bool = False, progress: Progress | None = None
) -> Path:
    """The file of a catalogue name, fetched where it is not there yet, or the path itself where it
    exists.

    A name is looked up in the folder of the package ``weights``, in :func:`cache_folder`, and then
    at its mirrors; it goes before a path of the same spelling (``./caffe`` is a path). A file
    whose digest does not fit is never used: one in the cache is moved aside. ``offline``, or the
    environment variable ``ALEXNET_KERAS_OFFLINE=1``, keeps away from the network. ``progress`` is
    called with (file name, bytes there, bytes expected or None).

    Raises ``WeightsError``: no such name or path, not there and offline, no mirror gave it, no
    place to keep it.
    """
    entry = catalog().get(name_or_path) if isinstance(name_or_path, str) else None
    if entry is None:
        return _existing(name_or_path)
    cached = cache_folder() / entry.file
    faults = []
    for path in (_packaged(entry), cached):
        if os.path.isfile(path):
            fault = _fault_of(path, entry)
            if fault is None:
                if path == cached and entry.digest is None:
                    _record_first_use(path)
                return path
            logger.warning("%s: %s; not used", path, fault)
            faults.append(f"{path}: {fault}; ")
    if offline or _offline_by_environment() or not entry.mirrors:
        raise WeightsError("".join(faults) + _how_to_get(entry))
    return _fetched(entry, progress)


def cache_folder() -> Path:
    """``$KERAS_HOME/models/alexnet_keras``, which may not exist yet."""
    return keras_cache("models")


def digest_of(path: str | os.PathLike, algorithm: str = "sha256") -> str:
    """The digest of a file in lower-case hexadecimal, read in pieces. Raises ``WeightsError`` if
    it cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None


def verify_digest(path: str | os.PathLike, source: WeightSource) -> str:
    """The file's digest, by the source's algorithm or sha256, computed now and compared with what
    is known of it.

    That is the published digest or else the one recorded in ``<file>.sha256`` when the file was
    first used. Raises ``WeightsError`` with both digests where they differ.
    """
    path = Path(path)
    algorithm, expected = _expected_digest(path, source) or ("sha256", "")
    found = digest_of(path, algorithm)
    if not found.startswith(expected):
        raise WeightsError(f"{path}: expected {algorithm} {expected}, got {found}")
    return found


def _existing(path: str | os.PathLike) -> Path:
    if not os.path.exists(path):
        raise WeightsError(
            f"{str(path)!r} is neither an existing file nor one of {', '.join(catalog())}"
        )
    return Path(path)


def _packaged(source: WeightSource) -> Path:
    return Path(next(iter(weights.__path__))) / source.file


def _offline_by_environment() -> bool:
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def _how_to_get(source: WeightSource) -> str:
    target = cache_folder() / source.file
    places = f"{_packaged(source).parent} nor in {target.parent}"
    missing = f"{source.name}: {source.file} is neither in {places}"
    if not source.mirrors:
        return f"{missing}, and no mirror has it: put it at {target}"
    size = f"{source.size:,} bytes" if source.size else "size not published"
    return (
        f"{missing}, and this is offline: fetch {' or '.join(source.mirrors)} "
        f"({source.describe_digest()}, {size}) "
        f"and put it at {target}"
    )


def _fetched(source: WeightSource, progress: Progress | None) -> Path:
    target = cache_folder() / source.file
    with _writing(target), _alone(target):
        if os.path.isfile(target):
            if (
                _fault_of(target, source) is None
            ):  # another process fetched it while this one waited
                return target
            aside = target.with_name(target.name + ".rejected")
            os.replace(target, aside)
            logger.warning("%s: moved to %s", target, aside)
        download.fetch(
            source, target, lambda part: _fault_of(part, source, kept_as=target), progress
        )
        if source.digest is None:
            _record_first_use(target)
    return target


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """One line for a cache that is full or cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, NotImplementedError) as error:
        code = getattr(error, "errno", None)
        advice = "free some space" if code in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise WeightsError(
            f"{target}: cannot be kept there: {getattr(error, 'strerror', None) or error}; "
            f"{advice} or "
            f"set KERAS_HOME to another folder"
        ) from None


def _alone(target: Path) -> filelock.BaseFileLock:
    logger.info("%s: waiting for other processes that may be fetching it", target)
    return filelock.FileLock(target.with_name(target.name + ".lock"))


def _fault_of(path: Path, source: WeightSource, kept_as: Path | None = None) -> str | None:
    """Why ``path`` is not the file of ``source``, None where it is. ``kept_as``: the name that it
    is to get.
    """
    try:
        expected = _expected_digest(kept_as or path, source)
        return (
            _fault_of_digest(path, source, *expected)
            if expected
            else _fault_of_content(path, source)
        )
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _fault_of_digest(path: Path, source: WeightSource, algorithm: str, digest: str) -> str | None:
    """A digest once found to fit is remembered with size and time of change: half a second saved
    for the big files.
    """
    checked = {
        "digest": f"{algorithm}:{digest}",
        "size": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
    }
    memory = cache_folder() / f"{source.file}.verified"
    if _remembered(memory) == checked:
        return None
    found = digest_of(path, algorithm)
    if not found.startswith(digest):
        return f"wrong digest: {algorithm} {found}, expected {digest}"
    _write_if_possible(memory, json.dumps(checked))
    return None


def _fault_of_content(path: Path, source: WeightSource) -> str | None:
    """What size and content tell where nobody published a digest."""
    size = path.stat().st_size
    if source.size is not None and size != source.size:
        return f"wrong size: {size:,} bytes, expected {source.size:,}"
    try:
        recognise(path)
    except WeightsError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _expected_digest(path: Path, source: WeightSource) -> tuple[str, str] | None:
    """(algorithm, hexadecimal digits): the published one, or the one recorded when this file was
    first used.
    """
    if source.digest:
        return source.digest_algorithm, source.digest
    record = _record_of(path)
    if not record.is_file():
        return None
    digest = record.read_bytes()[:64]
    if not re.fullmatch(b"[0-9a-f]{64}", digest):
        raise WeightsError(
            f"{record}: expected 64 hexadecimal digits, got {digest[:16]!r}; delete it to trust "
            f"{path.name} anew"
        )
    return "sha256", digest.decode("ascii")


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _record_first_use(path: Path) -> None:
    """Trust on first use: from now on the file must stay what it is. In the form that ``sha256sum
    -c`` reads.
    """
    if not _record_of(path).exists():
        _write_if_possible(_record_of(path), f"{digest_of(path)}  {path.name}\n")


def _remembered(memory: Path) -> object:
    try:
        return json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_if_possible(path: Path, text: str) -> None:
    """A cache that cannot be written only forgets."""
    with contextlib.suppress(OSError, WeightsError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as (temporary,):
            temporary.write_text(text, encoding="utf-8")
