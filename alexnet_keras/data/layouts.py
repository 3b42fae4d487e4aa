"""Open a data set by its name, path or files: detect its layout, and read each split once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from alexnet_keras.data import coco, folder, image_arrays, imagenet
from alexnet_keras.data.demo import demo_root, is_demonstration
from alexnet_keras.data.image_files import is_glob, read_images
from alexnet_keras.data.image_list import STANDARD_INPUT, read_list
from alexnet_keras.data.image_table import read_table, table_splits
from alexnet_keras.data.listing import (
    IMAGE_SUFFIXES,
    find_split,
    image_names,
    list_folder,
    subfolders,
)
from alexnet_keras.data.samples import ALL, Samples
from alexnet_keras.errors import ConfigurationError, DataError

logger = logging.getLogger(__name__)

Source = str | os.PathLike | Sequence | np.ndarray
"""A data set: its name or path, or in Python several images or an array of images."""

FOLDERS = {
    "coco": (coco.splits, coco.read_coco),
    "imagenet": (imagenet.splits, imagenet.read_imagenet),
    "folder": (folder.splits, folder.read_folder),
}
"""Layouts of folders with classes."""

LAYOUTS = (*FOLDERS, "images", "list", "table", "array")

_SUFFIXES = {".txt": "list", ".csv": "table"} | dict.fromkeys(image_arrays.SUFFIXES, "array")


@dataclass(frozen=True)
class Dataset:
    """A data set whose splits are read when they are needed. ``layout``: one of ``LAYOUTS``.
    ``split_names``: train before val. ``options``: those that select samples.
    """

    name: str
    layout: str
    root: Path
    split_names: tuple[str, ...]
    options: dict
    _read: Callable[[str], Samples] = field(repr=False, compare=False)
    _loaded: dict[str, Samples] = field(default_factory=dict, repr=False, compare=False)

    def samples(self, split: str) -> Samples:
        """One split, by ``train``, ``val`` or the data set's own name; read on the first call.

        Raises ``DataError`` for a split that does not exist, and for one whose classes differ from
        those of another split.
        """
        if split not in self._loaded:
            samples = self._read(split)
            for other in self._loaded.values():
                if other.class_names != samples.class_names:
                    raise DataError(
                        f"{self.root}: split {samples.split}: expected the "
                        f"{len(other.class_names)} "
                        f"classes of {other.split}, got {len(samples.class_names)} different ones"
                    )
            for message in samples.warnings:
                if message not in self.warnings:
                    logger.warning("%s", message)
            self._loaded[split] = samples
        return self._loaded[split]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings of the splits read so far; each was logged once."""
        found = (message for samples in self._loaded.values() for message in samples.warnings)
        return tuple(dict.fromkeys(found))

    def describe(self) -> dict:
        """The data set as a run's config records it, JSON-ready: the arguments of
        :func:`open_dataset`, the classes, and the numbers of samples.
        """
        names = self.class_names
        first = self.samples(self.split_names[0])
        ids = first.class_ids or names
        return {
            "name": self.name,
            "root": str(self.root),
            "layout": self.layout,
            **self.options,
            **({} if first.pixels is None else {"pixels": first.pixels.describe()}),
            "classes_by_label": [
                {"label": label, "id": class_id, "name": name}
                for label, (class_id, name) in enumerate(zip(ids, names, strict=True))
            ],
            "samples": {samples.split: len(samples) for samples in self._loaded.values()},
            "skipped": {
                samples.split: samples.skipped
                for samples in self._loaded.values()
                if samples.skipped
            },
        }

    @property
    def file(self) -> Path:
        """The list, table or array that it is read from; or its folder."""
        return Path(image_arrays.array_file(str(self.root)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by label, the same for every split."""
        return self.samples(self.split_names[0]).class_names


def open_dataset(
    data: Source,
    layout: str | None = None,
    *,
    classes: Iterable[str] | None = None,
    min_size: float | None = None,
    recursive: bool = False,
) -> Dataset:
    """Open the data set ``data``, or the built-in ``demo`` or ``demo-new``, which are generated at
    first use.

    ``layout`` is one of ``LAYOUTS``, and detected if it is None: a folder is coco, imagenet or
    folder, or images if it has no classes (:func:`~.image_files.read_images`), as are files and
    globs; a ``.txt`` or ``-`` (standard input) is a list (:func:`~.image_list.read_list`); a
    ``.csv`` a table (:func:`~.image_table.read_table`); ``.npy``, ``.npz``, ``.h5:name`` and NumPy
    arrays are arrays (:func:`~.image_arrays.read_array`). Several images are a list or tuple.

    ``classes`` (two or more names) and ``min_size`` (pixels of the box's shorter side, by default
    32) select objects of a COCO data set. ``recursive``: all images in a folder, whatever its
    folders are. Raises ``DataError`` if there is no data set, and ``ConfigurationError`` for an
    option that does not apply to its layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigurationError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    data = os.fspath(data) if isinstance(data, os.PathLike) else data
    if isinstance(data, str) and not data:
        raise ConfigurationError("data: expected the path of a data set, got an empty one")
    if is_demonstration(data):
        if layout not in (None, "coco"):
            raise ConfigurationError(
                f"layout: expected coco for the built-in {data}, got {layout!r}"
            )
        return _open_folder(data, demo_root(data), "coco", classes, min_size)
    if recursive and layout not in (None, "images"):
        raise ConfigurationError(f"recursive: expected the images layout, got {layout}")
    layout = layout or detect_layout(data, recursive)
    if layout in FOLDERS:
        root = _absolute(data)
        return _open_folder(root.name, root, layout, classes, min_size)
    _check_no_objects(layout, data, classes, min_size)
    return _open_images(data, layout, recursive)


def open_images(images: Source, recursive: bool = False) -> Dataset:
    """The data set that ``images`` name, as :func:`open_dataset`; several files, folders and globs
    may be named, but only one list, table or folder with classes.
    """
    if isinstance(images, str | os.PathLike):
        images = os.fspath(images)
        return open_dataset(images, _layout_of_any_file(images), recursive=recursive)
    if isinstance(images, np.ndarray):
        return open_dataset(images)
    if len(images) == 1:
        return open_images(images[0], recursive)
    others = {each: _layout_of_any_file(each) or detect_layout(each, recursive) for each in images}
    for each, layout in others.items():
        if layout != "images":
            raise DataError(
                f"{each}: expected image files, globs and folders of images, or one data set "
                f"alone, got a {layout} among others"
            )
    return open_dataset(images, recursive=recursive)


def _layout_of_any_file(path: str | os.PathLike) -> str | None:
    """``images`` for what can only be the name of a file, whatever its suffix."""
    is_other = path == STANDARD_INPUT or is_demonstration(path) or os.path.isdir(path)
    suffix = Path(image_arrays.array_file(os.fspath(path))).suffix.lower()
    return None if is_other or suffix in _SUFFIXES else "images"


def _open_folder(name: str, root: Path, layout: str, classes, min_size) -> Dataset:
    split_names, read = FOLDERS[layout]
    options = {}
    if layout == "coco":
        options = {
            "classes": None if classes is None else tuple(classes),
            "min_size": coco.MIN_SIZE if min_size is None else min_size,
        }
    else:
        _check_no_objects(layout, root, classes, min_size)
    return Dataset(
        name, layout, root, split_names(root), options, lambda split: read(root, split, **options)
    )


def _check_no_objects(layout: str, place: Source, classes, min_size) -> None:
    if classes is not None or min_size is not None:
        raise ConfigurationError(
            f"{'min_size' if classes is None else 'classes'}: expected data of the coco layout, "
            f"which has objects to select; {place} has the {layout} layout"
        )


def _open_images(data: Source, layout: str, recursive: bool) -> Dataset:
    """A data set without folders of classes."""
    is_path = isinstance(data, str | os.PathLike) and data != STANDARD_INPUT
    root = _absolute(data) if is_path else Path.cwd()
    name = root.name if is_path else layout
    if layout == "table":
        names = table_splits(root)
        return Dataset(name, layout, root, names, {}, lambda split: read_table(root, split))
    read = {
        "images": lambda: read_images(data, recursive),
        "list": lambda: read_list(data),
        "array": lambda: image_arrays.read_array(data),
    }
    options = {"recursive": True} if recursive else {}

    def read_all(split: str) -> Samples:
        find_split(split, (ALL,), root)
        return read[layout]()

    return Dataset(name, layout, root, (ALL,), options, read_all)


def _absolute(data: str | os.PathLike) -> Path:
    path = os.path.abspath(data)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: expected a path in UTF-8, got one that is not") from None
    return Path(path)


def detect_layout(data: Source, recursive: bool = False) -> str:
    """The layout of a data set, the first that matches; ``DataError`` if none does."""
    if isinstance(data, np.ndarray):
        return "array"
    if isinstance(data, list | tuple):
        return "images"
    if not isinstance(data, str | os.PathLike):
        raise ConfigurationError(
            f"data: expected a path, a list of paths or an array, got {type(data).__name__}"
        )
    if data == STANDARD_INPUT:
        return "list"
    if os.path.isdir(data):
        return "images" if recursive else _detect_folder(_absolute(data))
    if is_glob(os.fspath(data)):
        return "images"
    path = _absolute(image_arrays.array_file(os.fspath(data)))
    if not os.path.isfile(path):
        found = "a pipe or device" if os.path.exists(path) else "nothing"
        raise DataError(f"{path}: expected a folder or a file, got {found}")
    suffix = path.suffix.lower()
    if suffix not in _SUFFIXES and suffix not in IMAGE_SUFFIXES:
        raise DataError(
            f"{path}: expected a folder, an image or one of {' '.join(_SUFFIXES)}, got a file "
            "that is none of them by its suffix"
        )
    return _SUFFIXES.get(suffix, "images")


def _detect_folder(root: Path) -> str:
    has_images = bool(image_names(list_folder(root)))
    if has_images and len(subfolders(root)) < 2:
        return "images"
    for layout, (split_names, _) in FOLDERS.items():
        try:
            split_names(root)
        except DataError:
            continue
        return layout
    if has_images:
        return "images"
    raise DataError(
        f"{root}: expected images, annotations/instances_<split>.json (coco), train/<wnid>/ or "
        "val/<wnid>/ (imagenet), or <split>/<class>/ or <class>/ with images (folder), got none "
        "of these; recursive reads the images in all of its folders"
    )
