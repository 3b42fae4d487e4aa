"""The same network with the same weights in other libraries, one module for each peer.

``INFERENCE`` and ``TRAINING`` map the peers' names to the package that each needs. A peer's module
has ``network(architecture, weights, batch_size, threads)`` and, if it trains, ``trainer`` with the
same arguments.
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

LEARNING_RATE = 1e-4
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
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
PIXEL_STDDEV = np.float32(60)
"""Standard deviation of the random images, in grey levels."""


class Network(NamedTuple):
    """``convert`` turns a batch (batch, height, width, 3) float32 into the peer's own layout;
    ``infer`` computes fc8 from it, (batch, classes) float32 in host memory.
    """

    convert: Callable[[np.ndarray], object]
    infer: Callable[[object], np.ndarray]


class Trainer(NamedTuple):
    """``step`` takes the output of ``convert(images, labels)``, makes one update and returns the
    loss before it; ``kernels`` copies the kernels of all layers, in canonical form.
    """

    convert: Callable[[np.ndarray, np.ndarray], object]
    step: Callable[[object], float]
    kernels: Callable[[], dict[str, np.ndarray]]


def peer(name: str):
    """The module of a peer, or of this project (``ours``)."""
    return importlib.import_module(f"benchmarks.peers.{MODULES[name]}")


def random_weights(architecture: Architecture, classes: int = 1000) -> Layers:
    """Canonical layers that keep the scale of the images up to fc6, which makes it small enough to
    train.
    """
    rng = np.random.default_rng(0)
    size = architecture.input_size
    channels = 3
    layers = {}
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
    layers["fc6"] = (layers["fc6"][0] / PIXEL_STDDEV, layers["fc6"][1])
    return {**layers, FINAL_LAYER: (kernel, bias)}


def _random_layer(rng, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
    return scale * rng.standard_normal(shape, np.float32), np.float32(0.1) * rng.standard_normal(
        shape[-1], np.float32
    )


def random_images(count: int, size: int, seed: int = 1) -> np.ndarray:
    """(count, size, size, 3) float32 pixels with mean 0, as after subtracting the mean."""
    return PIXEL_STDDEV * np.random.default_rng(seed).standard_normal(
        (count, size, size, 3), np.float32
    )


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference, relative to that of ``expected``."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
