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
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "_orig_mod",
    "net",
    "network",
    "backbone",
    "alexnet",
)
"""Keys under which a checkpoint holds the state dict, and what may stand anywhere in its names:
``nn.DataParallel``'s ``module``, ``torch.compile``'s ``_orig_mod``, an attribute of a Lightning
module ...
"""
TORCHVISION_VARIANT = "owt"
"""What is recorded as the variant of a network with :data:`TORCHVISION_NAMES`."""
VARIANT_OWNER = "alexnet_keras"
"""The key of a state dict's ``_metadata`` under which ``{"variant": name}`` is noted."""
_ROLES = {"weight": "kernel", "bias": "bias"}
_MAX_WRAPPERS = 8


def unwrap(saved: object) -> object:
    """The state dict within a checkpoint: what stands under the keys that wrap it, nested in any
    order.
    """
    for _ in range(_MAX_WRAPPERS):
        key = next((key for key in WRAPPERS if isinstance(saved, dict) and key in saved), None)
        if key is None:
            break
        saved = saved[key]
    return saved


def is_parameter(name: object) -> bool:
    """Whether an entry of a state dict must be a tensor; what else stands there is of no use."""
    return type(name) is str and name.rpartition(".")[2] in _ROLES


def by_layer(tensors: dict[str, np.ndarray], path: Path) -> dict[str, dict[str, np.ndarray]]:
    """``{"features.0.weight" or "conv1.weight": array}`` to ``{"conv1": {"kernel": array, ...}}``;
    :data:`WRAPPERS` within names are left out.

    Raises ``WeightsError`` for a name of another network, and for two names of one array.
    """
    found: dict[str, dict[str, np.ndarray]] = {}
    for name, array in tensors.items():
        *parts, role = (part for part in name.split(".") if part not in WRAPPERS)
        layer = ".".join(parts)
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
