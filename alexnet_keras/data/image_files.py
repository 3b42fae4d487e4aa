"""Images without classes: files, globs and folders; one sample per image, in a stated order."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from alexnet_keras.data.listing import (
    FOLDER,
    IMAGE_SUFFIXES,
    NO_SUFFIX,
    ignored_files_warning,
    image_names,
    list_folder,
    resolves,
)
from alexnet_keras.data.samples import ALL, Samples
from alexnet_keras.errors import DataError

if TYPE_CHECKING:
    from alexnet_keras.data.pixel_arrays import PixelArray

_PATTERN = re.compile(r"[*?]|\[[^/\]]+\]")


def read_images(source: str | Path | Sequence, recursive: bool = False) -> Samples:
    """The images of a folder, a glob, a file, or several of these.

    Several are read in the order given, duplicates kept. The images of a folder and the matches of
    a glob are sorted naturally by name (``2.png`` before ``10.png``); hidden files are left out.
    ``recursive``: with the folders in a folder. ``ids`` are the paths as given, and for the images
    of a folder relative to it; a second one is called ``name#2``. Raises ``DataError``.
    """
    several = not isinstance(source, str | os.PathLike)
    sources = list(map(os.fspath, source)) if several else [os.fspath(source)]
    if not sources:
        raise DataError("images: expected one or more files, got an empty list")
    ignored = Counter()
    names = []
    paths = []
    for each in sources:
        for name, path in _expand(each, recursive, ignored):
            names.append(name)
            paths.append(path)
    place = sources[0] if len(sources) == 1 else f"{sources[0]} and {len(sources) - 1} others"
    return unlabelled_samples(names, paths, tuple(ignored_files_warning(place, ignored)))


def unlabelled_samples(
    names: Sequence[str],
    paths: Sequence[str],
    warnings: tuple[str, ...] = (),
    pixels: PixelArray | None = None,
) -> Samples:
    """Samples without labels, in the split ``all``."""
    return Samples(
        np.array(unique_ids(names), object),
        np.array(paths, object),
        np.full(len(paths), -1, np.int32),
        None,
        (),
        ALL,
        {},
        warnings=warnings,
        pixels=pixels,
    )


def unique_ids(names: Iterable[str]) -> list[str]:
    """``names``, where the second of a name is ``name#2``, and so on."""
    taken = set()
    counts = Counter()
    ids = []
    for name in names:
        unique = name
        while unique in taken:
            counts[name] += 1
            unique = f"{name}#{counts[name] + 1}"
        taken.add(unique)
        ids.append(unique)
    return ids


def natural_key(name: str) -> tuple:
    """A sorting key that compares numbers in names by their value, then names as text."""
    parts = re.split(r"(\d+)", name, flags=re.ASCII)
    return tuple(_value(part) if i % 2 else (0, part) for i, part in enumerate(parts)), name


def _value(digits: str) -> tuple[int, str]:
    """Sorts as the number does, which int() refuses to read if it is thousands of digits long."""
    significant = digits.lstrip("0")
    return len(significant), significant


def is_glob(source: str) -> bool:
    """Whether ``source`` is a pattern such as ``photographs/*.jpg``, and no file's name."""
    return bool(_PATTERN.search(source)) and not os.path.lexists(source)


def _expand(source: str, recursive: bool, ignored: Counter) -> Iterator[tuple[str, str]]:
    """(id, absolute path) of each image of a source."""
    if os.path.isdir(source):
        root = os.path.abspath(source)
        names = sorted(_images_below(Path(root), "", recursive, ignored, set()), key=natural_key)
        if not names:
            raise DataError(
                f"{source}: expected a folder with images ({' '.join(IMAGE_SUFFIXES)}), got "
                + (", ".join(f"{kind} {count}" for kind, count in ignored.items()) or "none")
                + ("" if recursive else "; recursive reads the folders in it too")
            )
        yield from ((name, os.path.join(root, name)) for name in names)
    elif is_glob(source):
        found = [path for path in glob.glob(source, recursive=True) if os.path.isfile(path)]
        if not found:
            raise DataError(
                f"{source}: expected a folder or a file, got nothing, and no match as a pattern"
            )
        yield from ((path, os.path.abspath(path)) for path in sorted(found, key=natural_key))
    elif not os.path.lexists(source):
        raise DataError(f"{source}: expected an image file, got nothing")
    elif os.path.exists(source) and not os.path.isfile(source):
        raise DataError(f"{source}: expected an image file, got a pipe or device")
    else:
        yield source, os.path.abspath(source)


def _images_below(
    folder: Path, prefix: str, recursive: bool, ignored: Counter, visited: set
) -> Iterator[str]:
    """Names of the images in a folder, relative to the first one; a loop of links is followed
    once.
    """
    visited.add(os.path.realpath(folder))
    entries = list_folder(folder)
    images = set(image_names(entries))
    for entry in entries:
        if entry.name in images:
            yield prefix + entry.name
        elif not resolves(entry.is_dir):
            ignored[os.path.splitext(entry.name)[1].lower() or NO_SUFFIX] += 1
        elif not recursive:
            ignored[FOLDER] += 1
        elif os.path.realpath(entry.path) not in visited:
            below = f"{prefix}{entry.name}/"
            yield from _images_below(Path(entry.path), below, recursive, ignored, visited)
