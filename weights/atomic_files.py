"""Files that appear under their names only when they are complete.

While a writer is at work in a folder it holds a lock on a file there, ``.part-<token>.lock``; what
it has written so far is in ``.part-<token>-<name>``. The token is random, so that no two writers
ever share one, whatever their process ids, hosts and containers. A lock that nobody holds is of a
writer that died, and the next writer in that folder removes what it left.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from weights.errors import AlexNetError, WeightsError, error_reason

try:
    import fcntl
except ImportError:  # Windows: leftovers stay, for nothing tells whose they are
    fcntl = None

PARTIAL_PREFIX = ".part-"
LOCK_SUFFIX = ".lock"
_own_locks: set[Path] = set()


@contextmanager
def atomic_write(
    *paths: Path, raises: type[AlexNetError] = WeightsError
) -> Iterator[tuple[Path, ...]]:
    """Temporary names to write under, one for each of ``paths``, renamed to these when the block
    ends without an error.

    Until then, and after any failure, ``paths`` are what they were before. The temporary names
    keep the suffix. ``raises``: the error for what the file system refuses, in the block too.
    """
    token = uuid.uuid4().hex
    try:
        with ExitStack() as stack:
            for folder in dict.fromkeys(path.parent for path in paths):
                stack.enter_context(_writing_in(folder, token))
            partial = tuple(partial_name(path, token) for path in paths)
            stack.callback(_remove, partial)
            yield partial
            for temporary in partial:
                with open(temporary, "rb+") as file:
                    os.fsync(file.fileno())
            for temporary, path in zip(partial, paths, strict=True):
                os.replace(temporary, path)
    except OSError as error:
        raise raises(f"{paths[0]}: cannot be written: {error_reason(error)}") from None


def partial_name(path: Path, token: str | None = None) -> Path:
    """The name of an unfinished ``path``, beside it; a new one at each call without ``token``."""
    return path.with_name(f"{PARTIAL_PREFIX}{token or uuid.uuid4().hex}-{path.name}")


def is_partial(name: str) -> bool:
    """Whether a file of this name is one that a killed process left unfinished."""
    return name.startswith(PARTIAL_PREFIX)


@contextmanager
def _writing_in(folder: Path, token: str) -> Iterator[None]:
    """Hold this writer's lock in ``folder``, once what dead writers left there is removed. Without
    a lock where there is no such folder yet, or the file system has none.
    """
    if fcntl is None or not folder.is_dir():
        yield
        return
    with suppress(OSError):
        _remove_leftovers(folder)
    path = folder / f"{PARTIAL_PREFIX}{token}{LOCK_SUFFIX}"
    descriptor = _locked(path)
    _own_locks.add(path)
    try:
        yield
    finally:
        _own_locks.discard(path)
        _remove([path])
        os.close(descriptor)


def _locked(path: Path) -> int:
    """A descriptor of the lock file at ``path``, held where the file system has locks. Another
    writer that took it for a dead one's, in the moment before it was held, removes it: then anew.
    """
    while True:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
        if not _hold(descriptor):
            os.close(descriptor)
            continue
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)


def _hold(descriptor: int) -> bool:
    """Whether nobody else holds the lock; True too where the file system has none."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _remove_leftovers(folder: Path) -> None:
    for path in folder.glob(f"{PARTIAL_PREFIX}*{LOCK_SUFFIX}"):
        if path in _own_locks:
            continue
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                left = path.name.removesuffix(LOCK_SUFFIX)
                _remove([*folder.glob(f"{left}-*"), path])
            finally:
                os.close(descriptor)


def _remove(paths) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
