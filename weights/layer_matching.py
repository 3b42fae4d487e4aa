"""AlexNet's layers in a file that calls them otherwise, found by their shapes and their order."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
DENSE = ("fc6", "fc7", "fc8")
PUBLIC_NAMES = CONVOLUTIONS + DENSE
_KERNEL_SIZES = (11, 5, 3, 3, 3)
_MAX_GROUPS = 2
_PUBLIC_NAME = re.compile("conv[1-5]|norm[12]|cnorm2|pool[125]|fc[678]|prob")
_Layer = TypeVar("_Layer")

logger = logging.getLogger(__name__)


def match_layers(shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
    """``{name in the file: public name}`` of layers that make an AlexNet.

    Args:
        shapes: of the kernels by name, in the file's order: (height, width, in / groups, out) or
            (in, out).

    All names map to themselves where each is a public one, and where the layers are no AlexNet:
    five convolutions of 11, 5, 3, 3 and 3 pixels, each fed by the one before in one group or two,
    then fc6, fc7 and fc8, or the last of them left out.
    """
    same = {name: name for name in shapes}
    if set(shapes) <= set(PUBLIC_NAMES):
        return same
    kernels = list(shapes.values())
    convolutions, dense = kernels[: len(CONVOLUTIONS)], kernels[len(CONVOLUTIONS) :]
    ranks = [len(shape) for shape in kernels]
    if ranks not in ([4] * len(CONVOLUTIONS) + [2] * count for count in range(len(DENSE) + 1)):
        return same
    if not _are_alexnets(convolutions, dense):
        return same
    found = dict(zip(shapes, PUBLIC_NAMES, strict=False))
    out_of_order = any(name in PUBLIC_NAMES and name != found[name] for name in found)
    return same if out_of_order else found


def renamed_layers(
    layers: Mapping[str, _Layer], names: Mapping[str, str], path: Path
) -> dict[str, _Layer]:
    """``layers`` under the names that :func:`match_layers` found; one line of the log tells which
    name became what.
    """
    renamed = [f"{name} is {names[name]}" for name in layers if name != names[name]]
    if renamed:
        logger.warning("%s: layers found by shape and order: %s", path, ", ".join(renamed))
    return {names[name]: layer for name, layer in layers.items()}


def public_order(kinds: Mapping[str, str | None], names: Mapping[str, str]) -> tuple[str, ...]:
    """The public names of a file's layers in its order.

    Args:
        kinds: of all layers by name: ``norm`` or ``pool``, which have the number of the weighted
            layer that they follow where their name is no public one; None of the others.
        names: the public names of weighted layers.
    """
    order, number = {}, ""
    for name, kind in kinds.items():
        public = names.get(name, name)
        if not _PUBLIC_NAME.fullmatch(public) and kind and number:
            public = kind + number
        if _PUBLIC_NAME.fullmatch(public):
            order[public] = None
            number = public[-1]
    return tuple(order)


def _are_alexnets(convolutions: list[Sequence[int]], dense: list[Sequence[int]]) -> bool:
    """Whether kernels have AlexNet's sizes, and each the inputs that the one before puts out."""
    if [tuple(shape[:2]) for shape in convolutions] != [(size, size) for size in _KERNEL_SIZES]:
        return False
    outputs = 3
    for _, _, inputs, filters in convolutions:
        if outputs not in (inputs, inputs * _MAX_GROUPS):
            return False
        outputs = filters
    fed = all(before[1] == after[0] for before, after in pairwise(dense))
    return fed and not (dense and dense[0][0] % outputs)
