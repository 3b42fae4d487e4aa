"""Where published files are kept and checked: the package's folder, then the cache, then the
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

from weights.atomic_files import atomic_write
from weights.download import Progress, download_file
from weights.errors import WeightsError, error_reason
from weights.formats import detect_format
from weights.locations import keras_cache
from weights.published_file import PublishedFile

OFFLINE_VARIABLE = "ALEXNET_KERAS_OFFLINE"
PACKAGE_FOLDER = Path(__file__).parent

logger = logging.getLogger(__name__)


def fetch(file: PublishedFile, offline: bool = False, progress: Progress | None = None) -> Path:
    """The path of ``file`` on this machine, downloaded if it is not there yet.

    It is looked for in the folder of the package ``weights`` and in :func:`cache_folder`, then
    downloaded into the latter. A file with another digest is never used: one in the cache is moved
    aside.

    Args:
        file: what to find.
        offline: never use the network; so does the environment variable
            ``ALEXNET_KERAS_OFFLINE=1``.
        progress: called with (file name, bytes downloaded, total or None).

    Raises:
        WeightsError: not downloaded and offline; no mirror could provide it; the cache cannot be
            written.
    """
    cached = cache_folder() / file.name
    faults = []
    for path in (_bundled_path(file), cached):
        if os.path.isfile(path):
            fault = _find_fault(path, file)
            if fault is None:
                if path == cached and file.digest is None:
                    _record_first_use(path)
                return path
            logger.warning("%s: %s; not used", path, fault)
            faults.append(f"{path}: {fault}; ")
    if offline or _offline_by_environment() or not file.mirrors:
        raise WeightsError("".join(faults) + _how_to_get(file))
    return _downloaded(file, progress)


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
        raise WeightsError(f"{path}: cannot be read: {error_reason(error)}") from None


def verify_digest(path: str | os.PathLike, file: PublishedFile) -> str:
    """The digest of the file at ``path``, computed now and compared with the one expected of
    ``file``.

    Expected is the published digest, or else the one that ``<file>.sha256`` recorded at the first
    use. Raises ``WeightsError`` with both digests where they differ.
    """
    path = Path(path)
    algorithm, expected = _expected_digest(path, file) or ("sha256", "")
    found = digest_of(path, algorithm)
    if not found.startswith(expected):
        raise WeightsError(f"{path}: expected {algorithm} {expected}, got {found}")
    return found


def _bundled_path(file: PublishedFile) -> Path:
    return PACKAGE_FOLDER / file.name


def _offline_by_environment() -> bool:
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "false", "no")


def _how_to_get(file: PublishedFile) -> str:
    target = cache_folder() / file.name
    missing = f"{file.name} is neither in {_bundled_path(file).parent} nor in {target.parent}"
    if not file.mirrors:
        return f"{missing}, and it cannot be downloaded: put it at {target}"
    size = f"{file.size:,} bytes" if file.size else "size not published"
    return (
        f"{missing}, and downloads are off: get it from {' or '.join(file.mirrors)} "
        f"({file.describe_digest()}, {size}) and put it at {target}"
    )


def _downloaded(file: PublishedFile, progress: Progress | None) -> Path:
    target = cache_folder() / file.name
    with _writable(target), _locked(target):
        if os.path.isfile(target):
            if _find_fault(target, file) is None:  # another process was faster
                return target
            aside = target.with_name(target.name + ".rejected")
            os.replace(target, aside)
            logger.warning("%s: moved to %s", target, aside)
        download_file(
            file, target, lambda part: _find_fault(part, file, final_path=target), progress
        )
        if file.digest is None:
            _record_first_use(target)
    return target


@contextlib.contextmanager
def _writable(target: Path) -> Iterator[None]:
    """One line of advice for a cache that is full or cannot be written."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, NotImplementedError) as error:
        code = getattr(error, "errno", None)
        advice = "free some space" if code in (errno.ENOSPC, errno.EDQUOT) else "make it writable"
        raise WeightsError(
            f"{target}: cannot be written: {error_reason(error)}; "
            f"{advice} or set KERAS_HOME to another folder"
        ) from None


def _locked(target: Path) -> filelock.BaseFileLock:
    logger.info("%s: waiting for other processes that may be fetching it", target)
    return filelock.FileLock(target.with_name(target.name + ".lock"))


def _find_fault(path: Path, file: PublishedFile, final_path: Path | None = None) -> str | None:
    """Why the file at ``path`` is not ``file``, None where it is; ``final_path`` is its later
    name.
    """
    try:
        expected = _expected_digest(final_path or path, file)
        return (
            _find_digest_fault(path, file, *expected)
            if expected
            else _find_content_fault(path, file)
        )
    except OSError as error:
        return f"cannot be read: {error_reason(error)}"


def _find_digest_fault(path: Path, file: PublishedFile, algorithm: str, digest: str) -> str | None:
    """A digest that matched is remembered with size and time of change, which saves half a second
    for large files.
    """
    checked = {
        "digest": f"{algorithm}:{digest}",
        "size": path.stat().st_size,
        "mtime_ns": path.stat().st_mtime_ns,
    }
    memory = cache_folder() / f"{file.name}.verified"
    if _remembered(memory) == checked:
        return None
    found = digest_of(path, algorithm)
    if not found.startswith(digest):
        return f"wrong digest: {algorithm} {found}, expected {digest}"
    _write_if_possible(memory, json.dumps(checked))
    return None


def _find_content_fault(path: Path, file: PublishedFile) -> str | None:
    """What is wrong with size or content, where no digest is published."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"wrong size: {size:,} bytes, expected {file.size:,}"
    try:
        detect_format(path)
    except WeightsError as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _expected_digest(path: Path, file: PublishedFile) -> tuple[str, str] | None:
    """(algorithm, hexadecimal digits): the published one, or the one recorded when this file was
    first used.
    """
    if file.digest:
        return file.digest_algorithm, file.digest
    record = _record_of(path)
    if not record.is_file():
        return None
    digest = record.read_bytes()[:64]
    if not re.fullmatch(b"[0-9a-f]{64}", digest):
        raise WeightsError(
            f"{record}: expected 64 hexadecimal digits, got {digest[:16]!r}; delete it to accept "
            f"{path.name} again"
        )
    return "sha256", digest.decode("ascii")


def _record_of(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _record_first_use(path: Path) -> None:
    """Trust on first use: the file must keep its digest, written as ``sha256sum`` does."""
    if not _record_of(path).exists():
        digest = digest_of(path)
        logger.warning(
            "%s: no digest of it is published; sha256 %s is recorded and expected from now on",
            path,
            digest,
        )
        _write_if_possible(_record_of(path), f"{digest}  {path.name}\n")


def _remembered(memory: Path) -> object:
    try:
        return json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write_if_possible(path: Path, text: str) -> None:
    """Only time is lost where the cache cannot be written."""
    with contextlib.suppress(OSError, WeightsError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as (temporary,):
            temporary.write_text(text, encoding="utf-8")
