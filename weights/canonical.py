"""The one form that every reader returns: ``{layer: (kernel, bias)}`` as Keras holds it.

Convolution kernels are (height, width, in / groups, out), dense kernels (in, out), and fc6's rows
run in height, width, channel order, as the network flattens. Names are the public layer names,
conv1 ... fc8.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from weights.errors import WeightsError

Layers = dict[str, tuple[np.ndarray, np.ndarray]]
_CACHE_LINE_VALUES = 16
_BLOCK_VALUES = 1 << 21


@dataclass(frozen=True)
class WeightSet:
    """The content of a weight file.

    Args:
        layers: in canonical form.
        path: the file.
        file_format: as :func:`weights.formats.detect_format` calls it.
        layer_order: the names of all layers in the file's own order, norm and pool included;
            empty where the format does not record it.
        variant: the name of the network that the file itself records, as our writers do; None
            where it records none.
        channel_order: that of conv1's inputs, ``RGB``, where the format has one for all networks.
        mean: what the file says is subtracted from its inputs, (height, width, 3) or (3,) float32
            in RGB order and grey levels (0-255); None where it says nothing.
        class_names: of the outputs, where the file names them.
    """

    layers: Layers
    path: Path
    file_format: str
    layer_order: tuple[str, ...] = field(default=())
    variant: str | None = None
    channel_order: str | None = None
    mean: np.ndarray | None = None
    class_names: tuple[str, ...] = ()


def check_variant(name: object, place: str) -> str:
    """``name`` where it may name a variant. Raises ``WeightsError`` that begins with ``place``."""
    if type(name) is not str or not re.fullmatch(r"[\w-]{1,64}", name, re.ASCII):
        found = repr(name[:80]) if type(name) is str else type(name).__name__
        raise WeightsError(f"{place}: expected the name of a variant, got {found}")
    return name


def from_channels_first(layers: Layers, path: Path) -> Layers:
    """Caffe's and PyTorch's order to the canonical one: OIHW -> HWIO, (out, in) -> (in, out), fc6
    C,H,W -> H,W,C.

    All but fc6 are views. The spatial size of fc6's input follows from its rows and conv5's
    filters. Raises ``WeightsError`` where they do not fit together.
    """
    canonical = {}
    for name, (kernel, bias) in layers.items():
        if kernel.ndim == 4:
            kernel = kernel.transpose(2, 3, 1, 0)
        elif name == "fc6":
            kernel = _height_first(kernel, layers, path)
        else:
            kernel = kernel.T
        canonical[name] = (kernel, bias)
    return canonical


def to_channels_first(layers: Layers, path: Path) -> Layers:
    """Inverse of :func:`from_channels_first`: what Caffe and PyTorch store. ``path`` is for
    errors.
    """
    caffe = {}
    for name, (kernel, bias) in layers.items():
        if kernel.ndim == 4:
            kernel = kernel.transpose(3, 2, 0, 1)
        elif name == "fc6":
            inputs, out = kernel.shape
            channels = fc6_channels(inputs, layers, -1, path)
            kernel = kernel.reshape(-1, channels, out).transpose(2, 1, 0).reshape(out, inputs)
        else:
            kernel = kernel.T
        caffe[name] = (kernel, bias)
    return caffe


def channels_first_shape(kernel: np.ndarray) -> tuple[int, ...]:
    """The shape of a canonical kernel in Caffe's and PyTorch's order."""
    axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
    return tuple(kernel.shape[axis] for axis in axes)


def channels_first_blocks(name: str, layers: Layers, path: Path) -> Iterator[np.ndarray]:
    """The kernel of layer ``name`` in Caffe's and PyTorch's order, 8 MB of filters at a time, so
    that a writer holds no second fc6.
    """
    kernel, bias = layers[name]
    # fc6's order follows from conv5.
    around = {"conv5": layers["conv5"]} if "conv5" in layers else {}
    filters = kernel.shape[-1]
    step = max(1, _BLOCK_VALUES * filters // kernel.size)
    for start in range(0, filters, step):
        part = {**around, name: (kernel[..., start : start + step], bias)}
        yield to_channels_first(part, path)[name][0]


def _height_first(kernel: np.ndarray, layers: Layers, path: Path) -> np.ndarray:
    """fc6 (out, C*H*W) -> (H*W*C, out), in C order, copied by cache lines."""
    out, inputs = kernel.shape
    channels = fc6_channels(inputs, layers, 0, path)
    by_filter = kernel.reshape(out, channels, -1)
    copy = np.empty((inputs // channels, channels, out), kernel.dtype)
    for start in range(0, out, _CACHE_LINE_VALUES):
        copy[:, :, start : start + _CACHE_LINE_VALUES] = by_filter[
            start : start + _CACHE_LINE_VALUES
        ].transpose(2, 1, 0)
    return copy.reshape(inputs, out)


def fc6_channels(inputs: int, layers: Layers, axis: int, path: Path) -> int:
    """The number of filters of conv5, the size of its kernel along ``axis``; it determines the
    order of fc6's inputs.
    """
    if "conv5" not in layers:
        raise WeightsError(
            f"{path}: fc6: expected conv5 beside it, whose filters determine the order of fc6's "
            f"inputs; got {', '.join(layers)}"
        )
    channels = layers["conv5"][0].shape[axis]
    if math.isqrt(inputs // channels) ** 2 * channels != inputs:
        raise WeightsError(
            f"{path}: fc6: expected a multiple of conv5's {channels} filters times a square, got "
            f"{inputs} inputs"
        )
    return channels
