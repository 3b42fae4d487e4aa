"""The Keras initializers of a layer, from the initial values of an architecture."""

from __future__ import annotations

import hashlib
import math

import keras

from alexnet_keras.configs.layer_specs import InitialValues


def initializers(initial: InitialValues, layer: str, fan_in: int, seed: int | None = None) -> dict:
    """The initializers of a layer's kernel and bias, as keyword arguments of Keras's layers.

    With a ``seed`` the values are a function of it, the layer's name and its shape alone; without,
    they depend on Keras's global seed.
    """
    kernel_seed, bias_seed = (_seed_of(seed, layer, of) for of in ("kernel", "bias"))
    if initial.kernels == "torch":
        limit = 1 / math.sqrt(fan_in)
        kernel, bias = (
            keras.initializers.RandomUniform(-limit, limit, seed=each)
            for each in (kernel_seed, bias_seed)
        )
    else:
        kernel = _kernel_initializer(initial, layer, kernel_seed)
        bias = keras.initializers.Constant(initial.bias_of(layer))
    return {"kernel_initializer": kernel, "bias_initializer": bias}


def _kernel_initializer(
    initial: InitialValues, layer: str, seed: int | None
) -> keras.initializers.Initializer:
    if initial.kernels == "he":
        return keras.initializers.HeNormal(seed)
    if initial.kernels == "normal":
        return keras.initializers.RandomNormal(stddev=initial.stddev_of(layer), seed=seed)
    if layer.startswith("conv"):
        return keras.initializers.GlorotUniform(seed)
    return keras.initializers.TruncatedNormal(stddev=initial.hidden_stddev, seed=seed)


def _seed_of(seed: int | None, layer: str, of: str) -> int | None:
    """A seed of 31 bits for one array."""
    if seed is None:
        return None
    digest = hashlib.sha256(f"{seed}/{layer}/{of}".encode()).digest()
    return int.from_bytes(digest[:4], "little") >> 1
