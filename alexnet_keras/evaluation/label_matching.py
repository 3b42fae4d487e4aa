"""The labels of a table of images in the numbers of a network's classes."""

from __future__ import annotations

import dataclasses
import difflib
from collections import Counter

import numpy as np

from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import DataError


def match_labels(samples: Samples, class_names: tuple[str, ...], place: str) -> Samples:
    """``samples`` with labels that number ``class_names``, those of a network.

    A class of ``samples`` is named as there, or by its wnid if they are ImageNet's, or by its
    number. Raises ``DataError`` that begins with ``place`` for a class that the network does not
    have, and for a name that two of its classes have.
    """
    labels_by_name = _labels_by_name(class_names)
    labels = np.full(len(samples.class_names) + 1, -1, np.int32)  # the last is for no label
    for label, name in enumerate(samples.class_names):
        if name not in labels_by_name:
            near = difflib.get_close_matches(name, labels_by_name, 3)
            raise DataError(
                f"{place}: label {name!r}: expected one of the {len(class_names)} classes of the "
                f"network{', such as ' + ', '.join(near) if near else ''}, got another"
            )
        if labels_by_name[name] is None:
            raise DataError(
                f"{place}: label {name!r}: expected a name of one class, got one of several; use "
                "its id or its number"
            )
        labels[label] = labels_by_name[name]
    return dataclasses.replace(
        samples, labels=labels[samples.labels], class_names=class_names, class_ids=()
    )


def _labels_by_name(class_names: tuple[str, ...]) -> dict[str, int | None]:
    """The label of each name, id and number; None for a name that several classes have."""
    known = {str(label): label for label in range(len(class_names))}
    if class_names == tuple(name for _, name in imagenet_classes()):
        known |= {wnid: label for label, (wnid, _) in enumerate(imagenet_classes())}
    counts = Counter(class_names)
    names = {name: label for label, name in enumerate(class_names)}
    return known | {name: label if counts[name] == 1 else None for name, label in names.items()}
