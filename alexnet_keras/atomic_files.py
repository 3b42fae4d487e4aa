"""Files that get their names only when they are whole."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alexnet_keras.errors import RunError

PARTIAL_PREFIX = ".part-"


@contextmanager
def whole_files(*paths: Path) -> Iterator[tuple[Path, ...]]:
    """Names to write under, one for each of ``paths``, which become these when the block ends
    without an error.

    Until then, and after any failure, only what was there before is there under ``paths``. The
    names keep the suffix. Raises ``RunError`` for what the file system refuses, in the block too.
    """
    partial = tuple(path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}") for path in paths)
    try:
        yield partial
        for temporary in partial:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        for temporary, path in zip(partial, paths, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"{paths[0]}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary in partial:
            with suppress(OSError):
                temporary.unlink()


def is_partial(name: str) -> bool:
    """Whether a file of this name is what a killed process left of one that did not get whole."""
    return name.startswith(PARTIAL_PREFIX)
