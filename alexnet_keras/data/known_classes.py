"""The classes that published networks tell apart: ImageNet's and Places365's."""

from __future__ import annotations

import csv
import functools
from pathlib import Path

from alexnet_keras.data.imagenet import imagenet_classes

BACKGROUND = ("", "background")
"""What TF-Slim's networks of 1001 outputs put before ImageNet's classes."""


@functools.cache
def places365_classes() -> tuple[tuple[str, str], ...]:
    """The 365 classes ``(index, name)`` of Places365, such as ``("1", "airplane_cabin")``, in the
    order of their labels.

    From https://github.com/CSAILVision/places365 (MIT; ``places365_LICENSE.txt``), without the
    ``/a/`` before each name.
    """
    path = Path(__file__).with_name("places365_classes.csv")
    with open(path, encoding="utf-8", newline="") as file:
        return tuple((row["index"], row["name"]) for row in csv.DictReader(file))


def published_classes(kind: str | None, outputs: int) -> tuple[tuple[str, str], ...] | None:
    """``(id, name)`` of each output; None where ``outputs`` fits no class names.

    ``kind``: ``"imagenet"``, of 1000 or, with the background first, 1001 outputs;
    ``"places365"``; None for classes whose names are not published.
    """
    if kind == "places365" and outputs == len(places365_classes()):
        return places365_classes()
    if kind == "imagenet" and outputs == len(imagenet_classes()):
        return imagenet_classes()
    if kind == "imagenet" and outputs == len(imagenet_classes()) + 1:
        return (BACKGROUND, *imagenet_classes())
    return None
