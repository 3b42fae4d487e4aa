"""The same network, with the same weights, in what a user would pick instead: a module a peer.

``PEERS`` maps its name to the module that it needs. Each has ``network(architecture, weights,
batch_size, threads)`` and, where it trains, ``trainer(architecture, weights, threads)``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    Architecture,
    Convolution,
    Dense,
    Flatten,
    Pooling,
)
from weights.canonical import Layers

RATE, MOMENTUM, DECAY = 1e-4, 0.9, 5e-4
INFERENCE = {
    "PyTorch": "torch",
    "ONNX Runtime": "onnxruntime",
    "OpenVINO": "openvino",
    "OpenCV": "cv2",
    "stock Keras": "keras",
}
TRAINING = {"PyTorch": "torch", "stock Keras": "keras"}
MODULES = {
    "ours": "ours",
    "PyTorch": "pytorch",
    "ONNX Runtime": "onnx_runtime",
    "OpenVINO": "openvino_runtime",
    "OpenCV": "opencv",
    "stock Keras": "stock_keras",
}
GREY_LEVELS = np.float32(60)
"""The deviation of images from their mean."""


class Network(NamedTuple):
    """``convert`` brings a batch (batch, height, width, 3) float32 into the peer's own layout;
    ``infer`` computes fc8, (batch, classes) float32 in host memory, from that.
    """

    convert: Callable[[np.ndarray], object]
    infer: Callable[[object], np.ndarray]


class Trainer(NamedTuple):
    """``step`` of an input of ``convert`` (images, labels) makes one update and returns the loss
    before it; ``kernels`` copies those of the convolutions and dense layers, in canonical form.
    """

    convert: Callable[[np.ndarray, np.ndarray], object]
    step: Callable[[object], float]
    kernels: Callable[[], dict[str, np.ndarray]]


def peer(name: str):
    """The module of a peer, or of ``ours``."""
    return importlib.import_module(f"benchmarks.peers.{MODULES[name]}")


def random_weights(architecture: Architecture, classes: int = 1000, seed: int = 0) -> Layers:
    """Canonical layers whose activations keep the size of the images up to fc6, which makes them
    small enough to train.
    """
    rng, size, channels, layers = np.random.default_rng(seed), architecture.input_size, 3, {}
    for layer in architecture.layers:
        match layer:
            case Convolution(name, filters, kernel, stride, padding, groups):
                layers[name] = _random_layer(rng, (kernel, kernel, channels // groups, filters))
                size, channels = (size + 2 * padding - kernel) // stride + 1, filters
            case Pooling(_, window, stride):
                size = (size - window) // stride + 1
            case Flatten():
                size, channels = 1, channels * size * size
            case Dense(name, units):
                layers[name] = _random_layer(rng, (channels, units))
                channels = units
    kernel, bias = _random_layer(rng, (channels, classes))
    layers["fc6"] = (layers["fc6"][0] / GREY_LEVELS, layers["fc6"][1])
    return {**layers, FINAL_LAYER: (kernel, bias)}


def _random_layer(rng, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    return scale * rng.standard_normal(shape, np.float32), np.float32(0.1) * rng.standard_normal(
        shape[-1], np.float32
    )


def random_images(count: int, size: int, seed: int = 1) -> np.ndarray:
    """(count, size, size, 3) float32 grey levels about their mean."""
    return GREY_LEVELS * np.random.default_rng(seed).standard_normal(
        (count, size, size, 3), np.float32
    )


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference, as a fraction of that of what is expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
