"""A validation split for data sets that have none: a fifth of the images of every class."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np


def hold_out(names: Sequence[str], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(len(names),) bool mask of the images held out: a fifth of each class, at least one of two.

    ``images`` and ``labels``, (N,) each: the image (a row of ``names``) and the class of each
    object. An image with objects of several classes is never divided; it counts for its rarest
    class. Of the images of a class, those whose names have the smallest SHA-256 are held out.
    A class can then lack an image on one side, because all its images count for other classes:
    from the rarest class on, it gets the first image, by hash, that no other class needs on its
    side.

    The result does not depend on the order of the rows, the platform, or classes that share no
    image. A class of one image is in train only, and rarely one of a few images that other classes
    need.
    """
    hashes = _hashes(names)
    pairs = np.unique(np.stack([images, labels], axis=1).reshape(-1, 2), axis=0)
    group = _rarest_class(len(names), pairs)
    order = np.lexsort((hashes, group))
    sizes = np.bincount(group + 1)
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    # Rounded; one of two, none of one.
    num_held = np.minimum(np.maximum((sizes + 2) // 5, 1), sizes - 1)
    held = rank < num_held[group + 1]
    _complete(held, pairs, hashes)
    return held


def missing_classes(held: np.ndarray, images: np.ndarray, labels: np.ndarray) -> list[int]:
    """The labels that occur, but not among the images held out."""
    return sorted(set(labels.tolist()) - set(labels[held[images]].tolist()))


def missing_warning(source: Path, names: Sequence[str]) -> tuple[str, ...]:
    """A warning that names the classes without an image in val, if there are any."""
    return (f"{source}: classes with too few images for val: {', '.join(names)}",) if names else ()


def _hashes(names: Sequence[str]) -> np.ndarray:
    """(N,) uint64, the same on every machine."""
    digests = (hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest() for name in names)
    return np.array([int.from_bytes(digest[:8], "big") for digest in digests], np.uint64)


def _rarest_class(count: int, pairs: np.ndarray) -> np.ndarray:
    """The label of each image that the fewest images have, or -1 if it has none; (count,) int."""
    frequency = np.bincount(pairs[:, 1])
    common_first = np.lexsort((-pairs[:, 1], -frequency[pairs[:, 1]]))
    rarest = np.full(count, -1)
    rarest[pairs[common_first, 0]] = pairs[common_first, 1]  # the last assignment wins
    return rarest


def _complete(held: np.ndarray, pairs: np.ndarray, hashes: np.ndarray) -> None:
    """Move single images so that every class of two or more has one on each side if possible."""
    frequency = np.bincount(pairs[:, 1])
    sides = [
        np.bincount(pairs[held[pairs[:, 0]] == side, 1], minlength=len(frequency))
        for side in (False, True)
    ]
    for label in np.argsort(frequency, kind="stable"):
        for side in (False, True):
            if frequency[label] < 2 or sides[side][label]:
                continue
            members = pairs[pairs[:, 1] == label, 0]
            for image in members[np.argsort(hashes[members])]:
                others = pairs[pairs[:, 0] == image, 1]
                if all(sides[not side][other] > 1 or frequency[other] == 1 for other in others):
                    held[image] = side
                    sides[side][others] += 1
                    sides[not side][others] -= 1
                    break
