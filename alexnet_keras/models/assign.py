"""Between canonical layers and a Keras network: strict on names and on shapes, in both
directions.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from alexnet_keras.errors import WeightsError
from weights.canonical import Layers, WeightSet

_CACHE_LINE_VALUES = 16  # float32


def assign_weights(
    model, weights: WeightSet, skip: Iterable[str] = (), partial: bool = False
) -> tuple[str, ...]:
    """Put every layer of ``weights`` into ``model`` (a ``keras.Model``), or change nothing and
    raise ``WeightsError``.

    The error lists every missing, extra and mis-shaped layer. ``skip`` names layers that are left
    alone on both sides; ``partial`` accepts layers that the file lacks. Returns the names of the
    weighted layers of ``model`` that keep their initial values.
    """
    wanted = _weighted_layers(model)
    skip = tuple(skip)
    unknown = [name for name in skip if name not in wanted and name not in weights.layers]
    if unknown:
        raise WeightsError(
            f"{weights.path}: skip: no layer {', '.join(unknown)}; expected some of "
            f"{', '.join(wanted)}"
        )
    found = {name: layer for name, layer in weights.layers.items() if name not in skip}
    absent = [name for name in wanted if name not in found]
    missing = [] if partial else [name for name in absent if name not in skip]
    extra = [name for name in found if name not in wanted]
    misshaped = [
        _mismatch(name, wanted[name], arrays)
        for name, arrays in found.items()
        if name in wanted and [v.shape for v in wanted[name]] != [a.shape for a in arrays]
    ]
    faults = [
        f"{title} {', '.join(names)}"
        for title, names in (
            ("missing:", missing),
            ("extra:", extra),
            ("of another shape:", misshaped),
        )
        if names
    ]
    if faults:
        raise WeightsError(
            f"{weights.path}: does not fit {model.name}; {'; '.join(faults)}{_hint(wanted, found)}"
        )
    for name, arrays in found.items():
        for variable, array in zip(wanted[name], arrays, strict=True):
            variable.assign(_contiguous(array))
    return tuple(absent)


def layer_weights(model) -> Layers:
    """The weights of ``model`` in canonical form, float32 copies."""
    return {
        name: tuple(np.asarray(variable.numpy(), np.float32) for variable in variables)
        for name, variables in _weighted_layers(model).items()
    }


def _contiguous(array: np.ndarray) -> np.ndarray:
    """``array`` in C order, itself where it is so; a transposed matrix is copied by cache lines,
    three times faster.
    """
    if array.ndim != 2 or array.flags.c_contiguous:
        return np.ascontiguousarray(array)
    copy = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[1], _CACHE_LINE_VALUES):
        copy[:, start : start + _CACHE_LINE_VALUES] = array[:, start : start + _CACHE_LINE_VALUES]
    return copy


def _weighted_layers(model) -> dict:
    return {
        layer.name: (layer.kernel, layer.bias)
        for layer in model.layers
        if layer.weights and hasattr(layer, "kernel")
    }


def _mismatch(name: str, variables, arrays) -> str:
    return f"{name} (expected {_shapes(variables)}, got {_shapes(arrays)})"


def _shapes(arrays) -> str:
    return " and ".join("x".join(map(str, array.shape)) for array in arrays)


def _hint(wanted: dict, found: dict) -> str:
    """What the first convolution says of the two families, whose names are the same."""
    filters = [side["conv1"][0].shape[-1] if "conv1" in side else None for side in (wanted, found)]
    if filters == [96, 64]:
        return "; this is torchvision's network (variant owt), not Caffe's"
    if filters == [64, 96]:
        return "; this is Caffe's network (variant alexnet or caffenet), not torchvision's"
    return ""
