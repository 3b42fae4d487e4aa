"""Any data set by its name or path: its layout recognised, its splits read once and kept."""

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
    """A data set found, not yet read. ``layout``: coco, imagenet or folder. ``split_names``: train
    before val.

    ``chosen``: the options that chose among its samples.
    """

    name: str
    layout: str
    root: Path
    split_names: tuple[str, ...]
    chosen: dict
    _read: Callable[[str], Samples] = field(repr=False, compare=False)
    _loaded: dict[str, Samples] = field(default_factory=dict, repr=False, compare=False)

    def samples(self, split: str) -> Samples:
        """One split, by ``train``, ``val`` or the data set's own name; read at the first call and
        kept.

        Raises ``DataError`` for a split that is not there, and for one whose classes are not those
        of another split.
        """
        if split not in self._loaded:
            samples = self._read(split)
            for other in self._loaded.values():
                if other.class_names != samples.class_names:
                    raise DataError(
                        f"{self.root}: split {samples.split}: expected the "
                        f"{len(other.class_names)} "
                        f"classes of {other.split}, got {len(samples.class_names)} others"
                    )
            for message in samples.warnings:
                if message not in self.warnings:
                    logger.warning("%s", message)
            self._loaded[split] = samples
        return self._loaded[split]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the splits read so far warned of; each message was logged once."""
        found = (message for samples in self._loaded.values() for message in samples.warnings)
        return tuple(dict.fromkeys(found))

    def describe(self) -> dict:
        """What a run's config records of its data, JSON-ready: all that :func:`open_dataset`
        needs, and what it found.
        """
        names = self.class_names
        ids = self.samples(self.split_names[0]).class_ids or names
        return {
            "name": self.name,
            "root": str(self.root),
            "layout": self.layout,
            **self.chosen,
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
    """The data set at a path, or the built-in ``demo`` or ``demo-new``, which are generated at
    first use.

    ``layout`` is coco, imagenet or folder, and recognised where it is None. ``classes`` (names,
    two or more) and ``min_size`` (pixels of the box's shorter side, 32 unless given) choose among
    the objects of a COCO data set. Raises ``DataError`` if there is no data set, and
    ``ConfigurationError`` for an option that such a data set has no use for.
    """
    if layout is not None and layout not in LAYOUTS:
        raise ConfigurationError(f"layout: expected one of {', '.join(LAYOUTS)}, got {layout!r}")
    if data in DEMONSTRATIONS:
        if layout not in (None, "coco"):
            raise ConfigurationError(f"layout: {data} is built in and coco, got {layout!r}")
        name, root, layout = data, demo_root(data), "coco"
    else:
        root = _absolute(data)
        name, layout = root.name, layout or detect_layout(root)
    split_names, read = LAYOUTS[layout]
    options = {}
    if layout == "coco":
        options = {
            "classes": None if classes is None else tuple(classes),
            "min_size": coco.MIN_SIZE if min_size is None else min_size,
        }
    elif classes is not None or min_size is not None:
        raise ConfigurationError(
            f"{'min_size' if classes is None else 'classes'}: chooses objects of a coco data set; "
            f"{root} is {layout}, where it would have no effect"
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
    """The layout of a folder: coco, imagenet or folder, the first that fits; ``DataError`` if none
    does.
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
        f"{root}: no layout recognised; looked for annotations/instances_<split>.json (coco), "
        "train/<wnid>/ or val/<wnid>/ (imagenet), <split>/<class>/ or <class>/ with images "
        "(folder)"
    )
