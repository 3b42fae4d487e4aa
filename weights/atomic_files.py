"""Files that appear under their names only when they are complete."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from weights.errors import AlexNetError, WeightsError

PARTIAL_PREFIX = ".part-"


@contextmanager
def atomic_write(
    *paths: Path, raises: type[AlexNetError] = WeightsError
) -> Iterator[tuple[Path, ...]]:
    """Temporary names to write under, one for each of ``paths``, renamed to these when the block
    ends without an error.

    Until then, and after any failure, ``paths`` are what they were before. The temporary names
    keep the suffix. ``raises``: the error for what the file system refuses, in the block too.
    """
    partial = tuple(
        path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}-{path.name}")
        for path in paths
    )
    try:
        yield partial
        for temporary in partial:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        for temporary, path in zip(partial, paths, strict=True):
            os.replace(temporary, path)
    except OSError as error:
        raise raises(f"{paths[0]}: cannot be written: {error.strerror or error}") from None
    finally:
        for temporary in partial:
            with suppress(OSError):
                temporary.unlink()


def is_partial(name: str) -> bool:
    """Whether a file of this name is one that a killed process left unfinished."""
    return name.startswith(PARTIAL_PREFIX)
