"""Text lists of images: one path a line, from a ``.txt`` file or standard input."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from alexnet_keras.data.image_files import unlabelled_samples
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import DataError, error_reason

STANDARD_INPUT = "-"


def read_list(source: str | Path) -> Samples:
    """The images that a text list names, in its order, duplicates kept; without labels.

    One path a line, in UTF-8, relative to the list's folder (of standard input, to the working
    directory); a line of ``find -print0`` ends with a NUL instead. Empty lines are left out.
    ``ids`` are the paths as they stand there. Raises ``DataError``, for a path that does not exist
    with its line number.
    """
    text = _text(source)
    separator = "\0" if "\0" in text else "\n"
    folder = "" if source == STANDARD_INPUT else os.path.dirname(os.path.abspath(source))
    names = []
    paths = []
    for number, line in enumerate(text.split(separator), start=1):
        name = line.removesuffix("\r")
        if name.strip():
            names.append(name)
            paths.append(existing_file(name, folder, f"{place_of(source)}: line {number}"))
    if not names:
        raise DataError(f"{place_of(source)}: expected one path a line, got an empty list")
    return unlabelled_samples(names, paths)


def place_of(source: str | Path) -> str:
    """What errors call a list."""
    return "standard input" if source == STANDARD_INPUT else str(source)


def existing_file(name: str, folder: str, place: str) -> str:
    """The absolute path of ``name``, relative to ``folder``; ``DataError`` that begins with
    ``place`` if no such file exists.
    """
    path = os.path.abspath(os.path.join(folder, name))
    if not os.path.isfile(path):
        found = "a folder" if os.path.isdir(path) else "nothing"
        raise DataError(f"{place}: expected an image file at {name[:200]!r}, got {found}")
    return path


def _text(source: str | Path) -> str:
    try:
        data = sys.stdin.buffer.read() if source == STANDARD_INPUT else Path(source).read_bytes()
        return data.decode("utf-8-sig")
    except OSError as error:
        reason = error_reason(error)
        raise DataError(f"{place_of(source)}: expected a text list, got: {reason}") from None
    except UnicodeDecodeError:
        raise DataError(
            f"{place_of(source)}: expected a text list in UTF-8, got other bytes"
        ) from None
