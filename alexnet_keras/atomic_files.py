"""Files of a run: :func:`weights.atomic_files.atomic_write`, whose failures are ``RunError``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from alexnet_keras.errors import RunError
from weights import atomic_files
from weights.atomic_files import PARTIAL_PREFIX, is_partial, partial_name

__all__ = ["PARTIAL_PREFIX", "atomic_write", "check_keeps_inputs", "is_partial", "partial_name"]

atomic_write = partial(atomic_files.atomic_write, raises=RunError)


def check_keeps_inputs(
    outputs: Iterable[Path], inputs: Iterable[Path | None], option: str = "--out"
) -> None:
    """Raise ``RunError`` if one of ``outputs`` would replace a file that is read."""
    read = [path for path in inputs if path is not None and os.path.exists(path)]
    for output in outputs:
        if os.path.exists(output) and any(os.path.samefile(output, path) for path in read):
            raise RunError(f"{output}: expected another name for {option}: this file is read")
