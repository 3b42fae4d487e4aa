"""Where training moves a kernel, as the kernels of later layers tell."""

from __future__ import annotations

import numpy as np

from weights.canonical import Layers

_MAX_OUTPUTS = 64


def output_directions(layers: Layers) -> dict[str, np.ndarray]:
    """For each layer, how its outputs act on the outputs of the last layer: (outputs, n), n at
    most 64; of convolutions the mean over positions.

    The gradient of a kernel is a sum of outer products of inputs with gradients of outputs, and
    those lie in the span of these directions, ReLUs left aside: this is where training moves it.
    Layers whose successor is missing from the file have none.
    """
    names = list(layers)
    directions = {}
    for name, later in zip(names[-2::-1], names[:0:-1], strict=True):
        kernel = layers[later][0]
        outputs = layers[name][0].shape[-1]
        if not _chained(outputs, kernel):
            break
        passed_on = directions.get(later)
        if passed_on is None:
            passed_on = _centred_identity(kernel.shape[-1])
        gradient = _through(kernel, passed_on, outputs)
        directions[name] = gradient / (np.linalg.norm(gradient) or 1)
    return {name: _by_group(found, name, layers) for name, found in directions.items()}


def _centred_identity(outputs: int) -> np.ndarray:
    """Directions of single outputs, less their mean: softmax ignores what is common to all."""
    kept = np.linspace(0, outputs - 1, min(outputs, _MAX_OUTPUTS)).round().astype(int)
    directions = np.zeros((outputs, len(kept)), np.float32)
    directions[kept, np.arange(len(kept))] = 1
    return directions - directions.mean(axis=1, keepdims=True)


def _through(kernel: np.ndarray, directions: np.ndarray, channels: int) -> np.ndarray:
    """Output directions of the layer below one with this kernel: (channels, n)."""
    if kernel.ndim == 4:
        kernel = kernel.sum(axis=(0, 1))
    groups = _groups(channels, kernel)
    parts = zip(np.split(kernel, groups, axis=1), np.split(directions, groups), strict=True)
    passed_on = np.concatenate([part @ rows for part, rows in parts])
    return passed_on.reshape(-1, channels, directions.shape[1]).sum(axis=0)


def _by_group(directions: np.ndarray, layer: str, layers: Layers) -> np.ndarray:
    """``directions`` of each group of a grouped convolution in columns of their own: its kernel
    holds different inputs in each.
    """
    names = list(layers)
    position = names.index(layer)
    kernel = layers[layer][0]
    before = layers[names[position - 1]][0].shape[-1] if position else kernel.shape[-2]
    groups = _groups(before, kernel) if _chained(before, kernel) else 1
    if groups == 1:
        return directions
    outputs = np.arange(len(directions)) * groups // len(directions)
    return np.concatenate(
        [directions * (outputs == group)[:, np.newaxis] for group in range(groups)], axis=1
    )


def _chained(channels: int, kernel: np.ndarray) -> bool:
    """Whether this kernel may follow a layer of so many output channels."""
    inputs, outputs = kernel.shape[-2:]
    if kernel.ndim == 2:
        return inputs % channels == 0
    return channels % inputs == 0 and outputs % (channels // inputs) == 0


def _groups(channels: int, kernel: np.ndarray) -> int:
    return max(1, channels // kernel.shape[-2])
