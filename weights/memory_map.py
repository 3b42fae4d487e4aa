"""Files mapped into memory, so that arrays can be views of them."""

from __future__ import annotations

import mmap
from pathlib import Path

from weights.errors import WeightsError, error_reason


def map_file(path: Path) -> mmap.mmap:
    """Memory-map a file for reading; raises ``WeightsError`` where there is none, or nothing in
    it.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise WeightsError(
                f"{path}: expected a file, got "
                f"{'a directory or device' if path.exists() else 'none'}"
            )
        with path.open("rb") as file:
            if not path.stat().st_size:
                raise WeightsError(f"{path}: byte 0: expected weights, got an empty file")
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"{path}: expected a readable file, got: {error_reason(error)}"
        ) from None
