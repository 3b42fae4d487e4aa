"""ImageNet (ILSVRC-2012) as folders, ``train/<wnid>/*`` and ``val/<wnid>/*``; a sample per image.

Source: Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge,
https://arxiv.org/abs/1409.0575
"""

from __future__ import annotations

import csv
import functools
import re
from pathlib import Path

from alexnet_keras.data.listing import find_split, read_class_folders, sort_splits, subfolders
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import DataError

WNID = re.compile(r"n\d{8}")


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """The 1000 classes ``(wnid, name)`` in the order of their labels: wnids sorted, as in Caffe
    and Keras.

    Two names, crane and maillot, are used by two classes each: only the wnid is unique.
    """
    with open(
        Path(__file__).with_name("imagenet_classes.csv"), encoding="utf-8", newline=""
    ) as file:
        return tuple((row["wnid"], row["name"]) for row in csv.DictReader(file))


def splits(root: Path) -> tuple[str, ...]:
    """The names of the folders that contain wnid folders, train before val before others;
    ``DataError`` if there is none.
    """
    names = [
        name for name in subfolders(root) if any(map(WNID.fullmatch, subfolders(Path(root, name))))
    ]
    if not names:
        raise DataError(
            f"{root}: expected train/<wnid>/ or val/<wnid>/, such as train/n01440764/, got neither"
        )
    return sort_splits(names)


def read_imagenet(root: Path, split: str) -> Samples:
    """The images of one split, ordered by wnid and file name; ``ids`` are ``<wnid>/<file name>``.

    A label is the wnid's index in the table of 1000 even if only some of the wnids have folders,
    and ``class_names`` are always the 1000 names. Raises ``DataError`` for a folder that is not
    one of these wnids or contains no image.
    """
    name = find_split(split, splits(root), root)
    labels = {wnid: label for label, (wnid, _) in enumerate(imagenet_classes())}
    folder = Path(root, name)
    unknown = [each for each in subfolders(folder) if each not in labels]
    if unknown:
        raise DataError(f"{folder}: expected the wnids of ILSVRC-2012, got {unknown[0]}")
    images = read_class_folders(folder, labels)
    return Samples(
        images.ids,
        images.paths,
        images.labels,
        None,
        tuple(name for _, name in imagenet_classes()),
        name,
        {},
        tuple(wnid for wnid, _ in imagenet_classes()),
        warnings=images.warnings,
    )
