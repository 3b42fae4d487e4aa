"""The names that arrays have in PyTorch's state dicts of this network."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from weights.errors import WeightsError

TORCHVISION_NAMES = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}
_ROLES = {"weight": "kernel", "bias": "bias"}


def by_layer(tensors: dict[str, np.ndarray], path: Path) -> dict[str, dict[str, np.ndarray]]:
    """``{"features.0.weight" or "conv1.weight": array}`` to ``{"conv1": {"kernel": array, ...}}``.

    Raises ``WeightsError`` for a name of another network, and for two names of one array.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        layer, _, role = name.removeprefix("module.").rpartition(".")
        layer = TORCHVISION_NAMES.get(layer, layer)
        if role not in _ROLES or "." in layer:
            raise WeightsError(
                f"{path}: tensor {name[:80]!r}: expected a name of torchvision's AlexNet such as "
                "features.0.weight, or a public one such as conv1.weight"
            )
        if _ROLES[role] in found.setdefault(layer, {}):
            raise WeightsError(
                f"{path}: tensor {name[:80]!r}: expected one tensor for {layer}'s {role}, got two"
            )
        found[layer][_ROLES[role]] = array
    return found
