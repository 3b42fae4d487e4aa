"""Files of a run: :func:`weights.atomic_files.atomic_write`, whose failures are ``RunError``."""

from __future__ import annotations

from functools import partial

from alexnet_keras.errors import RunError
from weights import atomic_files
from weights.atomic_files import PARTIAL_PREFIX, is_partial, partial_name

__all__ = ["PARTIAL_PREFIX", "atomic_write", "is_partial", "partial_name"]

atomic_write = partial(atomic_files.atomic_write, raises=RunError)
