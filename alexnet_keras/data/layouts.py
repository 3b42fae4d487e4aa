"""Open a data set by its name or path: detect its layout, and read each split once."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_keras.data import coco, folder, imagenet
from alexnet_keras.data.demo import DEMONSTRATIONS, demo_root
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError, DataError

logger = logging.getLogger(__name__)

LAYOUTS = {
    "coco": (coco.splits, coco.read_coco),
    "imagenet": (imagenet.splits, imagenet.read_imagenet),
    "folder": (folder.splits, folder.read_folder),
}


@dataclass(frozen=True)
class Dataset:
    """A data set whose splits are read when they are needed. ``layout``: coco, imagenet or folder.
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
        ids = self.samples(self.split_names[0]).class_ids or names
        return {
            "name": self.name,
            "root": str(self.root),
            "layout": self.layout,
            **self.options,
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
    def class_names(self) -> tuple[str, ...]:
        """Class names by label, the same for every split."""
        return self.samples(self.split_names[0]).class_names


def open_dataset(
    data: str | Path,
    layout: str | None = None,
    *,
    classes: Iterable[str] | None = None,
    min_size: float | None = None,
) -> Dataset:
    """Open the data set at a path, or the built-in ``demo`` or ``demo-new``, which are generated
    at first use.

    ``layout`` is coco, imagenet or folder, and detected if it is None. ``classes`` (two or more
    names) and ``min_size`` (pixels of the box's shorter side, by default 32) select objects of a
    COCO data set. Raises ``DataError`` if there is no data set, and ``ConfigurationError`` for an
    option that does not apply to its layout.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigurationError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if data in DEMONSTRATIONS:
        if layout not in (None, "coco"):
            raise ConfigurationError(
                f"layout: expected coco for the built-in {data}, got {layout!r}"
            )
        name = data
        root = demo_root(data)
        layout = "coco"
    else:
        root = _absolute(data)
        name = root.name
        layout = layout or detect_layout(root)
    split_names, read = LAYOUTS[layout]
    options = {}
    if layout == "coco":
        options = {
            "classes": None if classes is None else tuple(classes),
            "min_size": coco.MIN_SIZE if min_size is None else min_size,
        }
    elif classes is not None or min_size is not None:
        raise ConfigurationError(
            f"{'min_size' if classes is None else 'classes'}: expected data of the coco layout, "
            f"which has objects to select; {root} has the {layout} layout"
        )
    return Dataset(
        name, layout, root, split_names(root), options, lambda split: read(root, split, **options)
    )


def _absolute(data: str | Path) -> Path:
    path = os.path.abspath(data)
    try:
        path.encode()
    except UnicodeEncodeError:
        raise DataError(f"{path}: expected a path in UTF-8, got one that is not") from None
    return Path(path)


def detect_layout(root: Path) -> str:
    """The layout of a folder: coco, imagenet or folder, the first that matches; ``DataError`` if
    none does.
    """
    if not os.path.isdir(root):
        raise DataError(
            f"{root}: expected a folder, got {'a file' if os.path.exists(root) else 'nothing'}"
        )
    for layout, (split_names, _) in LAYOUTS.items():
        try:
            split_names(root)
        except DataError:
            continue
        return layout
    raise DataError(
        f"{root}: expected annotations/instances_<split>.json (coco), train/<wnid>/ or "
        "val/<wnid>/ (imagenet), or <split>/<class>/ or <class>/ with images (folder), got none "
        "of these"
    )
