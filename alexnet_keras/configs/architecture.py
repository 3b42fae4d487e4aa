"""The variants of AlexNet as frozen dataclasses. No TensorFlow here."""

from __future__ import annotations

from dataclasses import replace

from alexnet_keras.configs.layer_specs import (
    Convolution,
    Dense,
    Dropout,
    Flatten,
    InitialValues,
    Normalization,
    Pooling,
    WithinChannelNormalization,
)
from alexnet_keras.configs.network import FINAL_LAYER as FINAL_LAYER
from alexnet_keras.configs.network import Architecture
from alexnet_keras.errors import ConfigurationError

ALEXNET = Architecture(
    "alexnet",
    (
        Convolution("conv1", 96, kernel=11, stride=4),
        Normalization("norm1"),
        Pooling("pool1"),
        Convolution("conv2", 256, kernel=5, padding=2, groups=2),
        Normalization("norm2"),
        Pooling("pool2"),
        Convolution("conv3", 384, kernel=3, padding=1),
        Convolution("conv4", 384, kernel=3, padding=1, groups=2),
        Convolution("conv5", 256, kernel=3, padding=1, groups=2),
        Pooling("pool5"),
        Flatten(),
        Dense("fc6", 4096),
        Dropout("drop6"),
        Dense("fc7", 4096),
        Dropout("drop7"),
    ),
)

# Pooling comes before normalization.
CAFFENET = Architecture(
    "caffenet",
    (
        Convolution("conv1", 96, kernel=11, stride=4),
        Pooling("pool1"),
        Normalization("norm1"),
        Convolution("conv2", 256, kernel=5, padding=2, groups=2),
        Pooling("pool2"),
        Normalization("norm2"),
        Convolution("conv3", 384, kernel=3, padding=1),
        Convolution("conv4", 384, kernel=3, padding=1, groups=2),
        Convolution("conv5", 256, kernel=3, padding=1, groups=2),
        Pooling("pool5"),
        Flatten(),
        Dense("fc6", 4096),
        Dropout("drop6"),
        Dense("fc7", 4096),
        Dropout("drop7"),
    ),
    initial_values=InitialValues(raised_bias=1.0),
)

# AlexNet's layers with the constants of the paper's text, which Caffe's replica changed.
PAPER = Architecture(
    "paper",
    (
        Convolution("conv1", 96, kernel=11, stride=4),
        Normalization("norm1", bias=2.0, alpha=1e-4),
        Pooling("pool1"),
        Convolution("conv2", 256, kernel=5, padding=2, groups=2),
        Normalization("norm2", bias=2.0, alpha=1e-4),
        Pooling("pool2"),
        Convolution("conv3", 384, kernel=3, padding=1),
        Convolution("conv4", 384, kernel=3, padding=1, groups=2),
        Convolution("conv5", 256, kernel=3, padding=1, groups=2),
        Pooling("pool5"),
        Flatten(),
        Dense("fc6", 4096),
        Dropout("drop6"),
        Dense("fc7", 4096),
        Dropout("drop7"),
    ),
    initial_values=InitialValues(hidden_stddev=0.01, raised_bias=1.0),
)

# torchvision's: one tower, no normalization, dropout before each fully connected layer. Source:
# Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014.
OWT = Architecture(
    "owt",
    (
        Convolution("conv1", 64, kernel=11, stride=4, padding=2),
        Pooling("pool1"),
        Convolution("conv2", 192, kernel=5, padding=2),
        Pooling("pool2"),
        Convolution("conv3", 384, kernel=3, padding=1),
        Convolution("conv4", 256, kernel=3, padding=1),
        Convolution("conv5", 256, kernel=3, padding=1),
        Pooling("pool5"),
        Flatten(),
        Dropout("drop6"),
        Dense("fc6", 4096),
        Dropout("drop7"),
        Dense("fc7", 4096),
    ),
    input_size=224,
    initial_values=InitialValues(kernels="torch"),
)

# The network that won in 2012, from its authors' layer file layers-145.cfg: pool1 and pool5 are
# activated instead of conv1 and conv5, and each tower is normalized by itself. Source:
# https://github.com/computerhistory/AlexNet-Source-Code. The constant 1 of cnorm2 is not in the
# released files but in cuda-convnet's kernels, their predecessor.
KRIZHEVSKY = Architecture(
    "krizhevsky",
    (
        Convolution("conv1", 96, kernel=11, stride=4, ceil_mode=True, activated=False),
        Normalization("norm1", bias=2.0, groups=2),
        Pooling("pool1", ceil_mode=True, activated=True),
        Convolution("conv2", 256, kernel=5, padding=2, groups=2),
        Normalization("norm2", bias=2.0, groups=2),
        WithinChannelNormalization("cnorm2"),
        Pooling("pool2", ceil_mode=True),
        Convolution("conv3", 384, kernel=3, padding=1),
        Convolution("conv4", 384, kernel=3, padding=1, groups=2),
        Convolution("conv5", 256, kernel=3, padding=1, groups=2, activated=False),
        Pooling("pool5", ceil_mode=True, activated=True),
        Flatten(),
        Dense("fc6", 4096),
        Dropout("drop6", scaled_at="inference"),
        Dense("fc7", 4096),
        Dropout("drop7", scaled_at="inference"),
    ),
    input_size=224,
    initial_values=InitialValues(
        hidden_stddev=0.01,
        raised_bias=1.0,
        layer_stddevs=(("conv3", 0.03), ("conv4", 0.03), ("conv5", 0.03)),
    ),
)

# TF-Slim's alexnet_v2, from "One weird trick" too: no padding in conv1, 384 filters in conv4, fc6
# over 5x5 (github.com/tensorflow/models, research/slim/nets/alexnet.py).
SLIM = Architecture(
    "slim",
    (
        Convolution("conv1", 64, kernel=11, stride=4),
        Pooling("pool1"),
        Convolution("conv2", 192, kernel=5, padding=2),
        Pooling("pool2"),
        Convolution("conv3", 384, kernel=3, padding=1),
        Convolution("conv4", 384, kernel=3, padding=1),
        Convolution("conv5", 256, kernel=3, padding=1),
        Pooling("pool5"),
        Flatten(),
        Dense("fc6", 4096),
        Dropout("drop6"),
        Dense("fc7", 4096),
        Dropout("drop7"),
    ),
    input_size=224,
    initial_values=InitialValues(
        kernels="glorot",
        raised=("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"),
    ),
)

VARIANTS = {
    architecture.name: architecture
    for architecture in (ALEXNET, CAFFENET, PAPER, OWT, KRIZHEVSKY, SLIM)
}


def get_architecture(variant: str | Architecture) -> Architecture:
    """The architecture of a variant's name. Raises ``ConfigurationError``, which lists the names,
    for another.
    """
    if isinstance(variant, Architecture):
        return variant
    if variant not in VARIANTS:
        raise ConfigurationError(
            f"variant: expected one of {', '.join(VARIANTS)}, got {variant!r}"
        )
    return VARIANTS[variant]


def demo_architecture(
    variant: str = "alexnet", filters: float = 0.25, units: float = 0.125
) -> Architecture:
    """A narrow network of a variant for the demonstration, with larger initial weights.

    A narrow layer sums fewer inputs: with weights from N(0, 0.01) the accuracy would stay at
    chance for most of the demonstration's two minutes.
    """
    network = VARIANTS[variant].with_width(filters, units)
    return replace(
        network, initial_values=replace(network.initial_values, stddev=0.03, hidden_stddev=0.03)
    )
