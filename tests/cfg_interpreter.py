"""The network of a ``.cfg`` layer file of 2012, forward and backward, in NumPy and float64.

Written from what the words of these files mean (``../shared/facts.md``, "The network of 2012"),
and from nothing of this project. Arrays are (batch, height, width, channels), kernels (height,
width, in, out) and, of fully connected layers, (in, out) with the inputs in height, width, channel
order: a list with one for each of the ``inputs``, whose contributions add up.
"""

from __future__ import annotations

import configparser
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

MIN_DIV_OF_RNORM = 1.0
"""Of the predecessor's kernels: the released files do not say."""
CLOSE = 1e-5
"""Two values of a layer, relative to its largest, between which float32 may choose either."""


@dataclass
class Layer:
    """A section of the file: its ``type``, its ``inputs`` and its numbers."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    numbers: dict[str, float]
    relu: bool

    def __getattr__(self, word):
        return self.numbers[word]


class CfgNetwork:
    """The layers of ``layers-<name>.cfg`` with the constants of ``layer-params-<name>.cfg``.

    ``width`` multiplies the numbers of filters and outputs, that of the classes excepted.
    """

    def __init__(self, folder: Path, name: str, width: float = 1):
        sections, parameters = configparser.ConfigParser(), configparser.ConfigParser()
        for parser, file in ((sections, "layers"), (parameters, "layer-params")):
            parser.optionxform = str
            parser.read_string((folder / f"{file}-{name}.cfg").read_text(encoding="utf-8"))
        self.layers = {}
        for each in sections.sections():
            constants = parameters[each] if parameters.has_section(each) else {}
            values = {**sections[each], **constants}
            if values["type"] in ("data", "cost.logreg"):
                continue
            layer = _layer(each, values)
            self.layers[each] = layer
            for word in ("filters", "outputs"):
                if word in layer.numbers:
                    layer.numbers[word] = round(layer.numbers[word] * width)
        self.logits = next(
            each.inputs[0] for each in self.layers.values() if each.kind == "softmax"
        )

    def forward(self, images, weights, masks=None) -> dict[str, np.ndarray]:
        """The output of every layer. ``weights``: name -> (kernels, bias). ``masks``: 0 and 1 of
        every ``hs`` layer, in training; None tests.
        """
        values = {"data": np.asarray(images, np.float64)}
        for layer in self.layers.values():
            inputs = [values[name] for name in layer.inputs]
            outputs = self._outputs(layer, inputs, weights, masks)
            values[layer.name] = np.maximum(outputs, 0) if layer.relu else outputs
        return values

    def _outputs(self, layer: Layer, inputs, weights, masks):
        x = inputs[0]
        match layer.kind:
            case "conv":
                kernels, bias = weights[layer.name]
                return bias + sum(
                    _patches(each, layer, kernel.shape[0]) @ kernel.reshape(-1, kernel.shape[-1])
                    for each, kernel in zip(inputs, kernels, strict=True)
                )
            case "fc":
                kernels, bias = weights[layer.name]
                return bias + sum(
                    each.reshape(len(each), -1) @ kernel
                    for each, kernel in zip(inputs, kernels, strict=True)
                )
            case "cmrnorm" | "rnorm":
                return x * _denominator(x, layer) ** -layer.pow
            case "pool":
                return _pool_windows(x, layer).max(-1)
            case "hs":
                return x * (layer.keep if masks is None else masks[layer.name])
            case "softmax":
                exponentials = np.exp(x - x.max(-1, keepdims=True))
                return exponentials / exponentials.sum(-1, keepdims=True)
        raise AssertionError(layer)

    def gradients(self, values, weights, labels, masks, choices=None) -> dict:
        """Those of the mean negative log-probability of ``labels`` with respect to ``weights``, in
        their form; ``values`` are of :meth:`forward`.

        ``choices``: the outputs of every layer as another program computed them. Where two values
        are so close that rounding decides, between the candidates of a maximum or at the corner of
        a ReLU, the gradient follows that program.
        """
        choices = values if choices is None else choices
        upstream = {name: np.zeros(array.shape) for name, array in values.items()}
        logits = upstream[self.logits]
        logits += values["probs"]
        logits[np.arange(len(labels)), labels] -= 1
        logits /= len(labels)
        found = {}
        for layer in reversed(self.layers.values()):
            if layer.kind == "softmax":
                continue
            gradient = upstream[layer.name]
            if layer.relu:
                gradient = gradient * _on(layer, values, weights, self, choices)
            self._backward(layer, gradient, values, weights, masks, choices, upstream, found)
        return found

    def _backward(self, layer, gradient, values, weights, masks, choices, upstream, found):
        x = values[layer.inputs[0]]
        match layer.kind:
            case "conv" | "fc":
                bias = gradient.sum(tuple(range(gradient.ndim - 1)))
                kernels = []
                for name, kernel in zip(layer.inputs, weights[layer.name][0], strict=True):
                    kernels.append(_kernel_gradient(layer, values[name], kernel, gradient))
                    if name != "data":
                        upstream[name] += _input_gradient(layer, values[name], kernel, gradient)
                found[layer.name] = (kernels, bias)
            case "cmrnorm" | "rnorm":
                upstream[layer.inputs[0]] += _normalization_gradient(x, gradient, layer)
            case "pool":
                chosen = choices[layer.inputs[0]]
                upstream[layer.inputs[0]] += _pool_gradient(x, gradient, layer, chosen)
            case "hs":
                upstream[layer.inputs[0]] += gradient * masks[layer.name]


def _layer(name: str, values: dict) -> Layer:
    numbers = {}
    for word, text in values.items():
        first = text.split(",")[0]
        if first.replace(".", "", 1).replace("-", "", 1).isdigit():
            numbers[word] = float(first) if "." in first else int(first)
    inputs = tuple(values["inputs"].split(","))
    return Layer(name, values["type"], inputs, numbers, values.get("neuron") == "relu")


def _patches(x, layer: Layer, size: int):
    """(batch, out, out, size * size * in): the number of outputs is rounded up, and zeros are what
    lies beyond the edges.
    """
    windows = sliding_window_view(_padded(x, layer, size), (size, size), (1, 2))
    windows = windows[:, :: layer.stride, :: layer.stride].transpose(0, 1, 2, 4, 5, 3)
    return windows.reshape(*windows.shape[:3], -1)


def _padded(x, layer: Layer, size: int):
    pad = layer.padding
    outputs = 1 + -(-(2 * pad + x.shape[1] - size) // layer.stride)
    beyond = (outputs - 1) * layer.stride + size - x.shape[1] - pad
    return np.pad(x, [(0, 0), (pad, beyond), (pad, beyond), (0, 0)])


def _kernel_gradient(layer, x, kernel, gradient):
    if layer.kind == "fc":
        return x.reshape(len(x), -1).T @ gradient
    patches = _patches(x, layer, kernel.shape[0])
    product = patches.reshape(-1, patches.shape[-1]).T @ gradient.reshape(-1, kernel.shape[-1])
    return product.reshape(kernel.shape)


def _input_gradient(layer, x, kernel, gradient):
    if layer.kind == "fc":
        return (gradient @ kernel.T).reshape(x.shape)
    size, stride, pad = kernel.shape[0], layer.stride, layer.padding
    total, outputs = np.zeros(_padded(x, layer, size).shape), gradient.shape[1]
    for row in range(size):
        for column in range(size):
            last = stride * (outputs - 1) + 1
            total[:, row : row + last : stride, column : column + last : stride] += (
                gradient @ kernel[row, column].T
            )
    return total[:, pad : pad + x.shape[1], pad : pad + x.shape[2]]


def _denominator(x, layer: Layer):
    if layer.kind == "cmrnorm":
        return layer.minDiv + layer.scale / layer.size * _window_sum(x * x, (3,), layer.size)
    return MIN_DIV_OF_RNORM + layer.scale / layer.size**2 * _window_sum(x * x, (1, 2), layer.size)


def _window_sum(x, axes, size: int, transposed: bool = False):
    """At every place the sum from ``size // 2`` places before, ``size`` places along each axis."""
    for axis in axes:
        before, after = size // 2, size - 1 - size // 2
        pads = [(0, 0)] * x.ndim
        pads[axis] = (after, before) if transposed else (before, after)
        x = sliding_window_view(np.pad(x, pads), size, axis).sum(-1)
    return x


def _normalization_gradient(x, gradient, layer: Layer):
    axes, share = ((3,), 1) if layer.kind == "cmrnorm" else ((1, 2), 2)
    scale = layer.scale / layer.size**share
    denominator = _denominator(x, layer)
    through = gradient * x * denominator ** (-layer.pow - 1)
    windows = _window_sum(through, axes, layer.size, transposed=True)
    return gradient * denominator**-layer.pow - 2 * layer.pow * scale * x * windows


def _pool_windows(x, layer: Layer):
    """(batch, out, out, channels, size * size): the number of windows is rounded up, and what lies
    beyond the edge is never the maximum.
    """
    windows = 1 + -(-(x.shape[1] - layer.sizeX) // layer.stride)
    beyond = (windows - 1) * layer.stride + layer.sizeX - x.shape[1]
    padded = np.pad(x, [(0, 0), (0, beyond), (0, beyond), (0, 0)], constant_values=-np.inf)
    view = sliding_window_view(padded, (layer.sizeX, layer.sizeX), (1, 2))
    view = view[:, :: layer.stride, :: layer.stride]
    return view.reshape(*view.shape[:4], -1)


def _pool_gradient(x, gradient, layer: Layer, chosen):
    windows = _pool_windows(x, layer)
    place = _pool_windows(chosen, layer).argmax(-1)
    lost = windows.max(-1) - np.take_along_axis(windows, place[..., None], -1)[..., 0]
    assert lost.max() <= CLOSE * np.abs(x).max(), layer
    batch, row, column, channel = np.indices(place.shape)
    down, right = np.divmod(place, layer.sizeX)
    total = np.zeros(x.shape)
    rows, columns = row * layer.stride + down, column * layer.stride + right
    np.add.at(total, (batch, rows, columns, channel), gradient)
    return total


def _on(layer: Layer, values, weights, network: CfgNetwork, choices):
    """Where the ReLU of a layer lets through."""
    on = choices[layer.name] > 0
    differs = on != (values[layer.name] > 0)
    if differs.any():
        inputs = [values[name] for name in layer.inputs]
        before = network._outputs(layer, inputs, weights, None)
        assert np.abs(before[differs]).max() <= CLOSE * np.abs(before).max(), layer
    return on
