"""A summary of the network, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras

from alexnet_keras.configs.architecture import Architecture, get_architecture
from alexnet_keras.models.alexnet import build
from alexnet_keras.models.layers import WithinChannelNormalization

PAPER_DIFFERENCES = {
    "krizhevsky": (
        "conv1: 224 pixels give 55 because sizes are rounded up, with three columns of zeros on "
        "the right and three rows at the bottom; the paper does not say how",
        "conv1, conv5: no ReLU; it follows pool1 and pool5. The paper has one after every "
        "convolution",
        "norm1, norm2: each tower by itself, and alpha is divided by the window of 5 (2e-5; the "
        "paper: 1e-4). norm1 gets negative values too",
        "cnorm2: normalization over 5x5 pixels of a channel, which the paper does not mention; "
        "its constant 1 is not in the released files but in cuda-convnet, their predecessor",
        "conv3, conv4, conv5: initial weights from N(0, 0.03); in the paper N(0, 0.01) everywhere",
    )
}
"""Where a variant differs from the paper's text, by its name. Source:
https://github.com/computerhistory/AlexNet-Source-Code, layers-145.cfg.
"""


@dataclass(frozen=True)
class LayerSummary:
    """One layer: its shapes and counts for one image.

    ``kernel``: (height, width, inputs of a group, filters) of a convolution, (inputs, units) of a
    fully connected layer, (height, width) of a window of pooling or of normalization within a
    channel, else empty. ``output_shape`` is without the batch. ``neurons`` counts the outputs of
    layers with weights.
    """

    layer: str
    kernel: tuple[int, ...]
    stride: int
    groups: int
    output_shape: tuple[int, ...]
    neurons: int
    parameters: int
    multiply_adds: int


def summarize(variant: str | Architecture = "alexnet", classes: int = 1000) -> list[LayerSummary]:
    """A row for each layer of a network, in order.

    Args:
        variant: a variant's name, or an ``Architecture``.
        classes: units of fc8.

    Raises:
        ConfigurationError: for an unknown variant.

    Example::

        rows = alexnet_keras.summarize("owt")
        sum(row.parameters for row in rows)  # 61,100,840
    """
    architecture = get_architecture(variant)
    size = architecture.input_size
    model = build(architecture, keras.Input((size, size, 3)), classes)
    return [
        _summary(layer) for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)
    ]


def _summary(layer: keras.layers.Layer) -> LayerSummary:
    output = layer.output.shape[1:]
    weighted = hasattr(layer, "kernel")
    kernel = _kernel(layer)
    positions = math.prod(output[:-1]) if len(kernel) == 4 else 1
    return LayerSummary(
        layer.name,
        kernel,
        getattr(layer, "strides", (1,))[0],
        getattr(layer, "groups", 1),
        output,
        neurons=math.prod(output) if weighted else 0,
        parameters=layer.count_params(),
        multiply_adds=positions * math.prod(kernel) if weighted else 0,
    )


def _kernel(layer: keras.layers.Layer) -> tuple[int, ...]:
    if isinstance(layer, keras.layers.MaxPooling2D):
        return layer.pool_size
    if isinstance(layer, WithinChannelNormalization):
        return (layer.size, layer.size)
    return tuple(layer.kernel.shape) if hasattr(layer, "kernel") else ()
