"""What the layers compute with TensorFlow's own operations, which are faster than those that any
backend has.
"""

from __future__ import annotations

import functools
import zlib

import numpy as np
import tensorflow as tf

from alexnet_keras.models.backends import generic, winograd
from alexnet_keras.tensorflow_internals import in_save_context


@functools.cache
def splits_groups(dtype: str) -> bool:
    """Whether each group has to be a convolution of its own: TensorFlow's grouped one trains only
    where oneDNN computes it.

    That takes a processor for bfloat16 and float16. Keras's own ``groups`` go through XLA on a
    CPU, where a training step is four times slower.
    """
    with tf.init_scope():
        try:
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=(1, 1, 1, 4),
                filter=tf.ones((1, 1, 2, 4), dtype),
                out_backprop=tf.ones((1, 1, 1, 4), dtype),
                strides=[1] * 4,
                padding="VALID",
            )
        except tf.errors.OpError:
            return True
    return False


def normalize(x, depth_radius: int, bias: float, alpha: float, beta: float, fixed_size: bool):
    """Local response normalization of (batch, height, width, channels) float32.

    On a CPU XLA makes one loop of it, and one of its gradient: both are two to four times faster
    than TensorFlow's. XLA compiles again for each size, and a SavedModel that it compiles is one
    that a stock TensorFlow Serving refuses: images of any size, and exports, are computed by
    TensorFlow's own operations.
    """
    if tf.config.list_logical_devices("GPU"):
        return generic.normalize(x, depth_radius, bias, alpha, beta, fixed_size)
    compiled = fixed_size and xla_compiles() and not in_save_context()
    normalize_, gradient = COMPILED if compiled else (_normalized, _gradient)

    @tf.custom_gradient
    def normalized(x):
        return (
            normalize_(x, depth_radius, bias, alpha, beta),
            lambda upstream: gradient(x, upstream, depth_radius, bias, alpha, beta),
        )

    return normalized(x)


@functools.cache
def xla_compiles() -> bool:
    """Whether XLA is there and compiles; tried once in a process."""
    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(0.0))
        except tf.errors.OpError:
            return False
    return True


def _normalized(x, depth_radius, bias, alpha, beta):
    return x * _power(bias + alpha * _window_sum(x * x, depth_radius), beta)


def _gradient(x, upstream, depth_radius, bias, alpha, beta):
    denominator = bias + alpha * _window_sum(x * x, depth_radius)
    scaled = upstream * _power(denominator, beta)
    return scaled - 2 * alpha * beta * x * _window_sum(scaled * x / denominator, depth_radius)


COMPILED = [
    tf.function(each, jit_compile=True, autograph=False) for each in (_normalized, _gradient)
]


def _window_sum(x, depth_radius):
    channels, padded = x.shape[-1], tf.pad(x, [(0, 0)] * 3 + [(depth_radius, depth_radius)])
    return tf.add_n(
        [padded[..., first : first + channels] for first in range(2 * depth_radius + 1)]
    )


def _power(x, beta):
    """``x ** -beta``, of operations that XLA vectorizes on a CPU, as it does not the power."""
    if beta == 0.75:
        root = tf.math.rsqrt(x)
        return root * tf.sqrt(root)
    return tf.exp(-beta * tf.math.log(x))


def convolve(x, kernel, bias, strides: tuple[int, int], padding: str, training: bool):
    """Convolution of (batch, height, width, in) with an HWIO kernel, ``"same"`` or ``"valid"``,
    and its bias.

    The kernel's shape tells the number of groups. In training it may be computed by
    :mod:`alexnet_keras.models.backends.winograd`.
    """
    if training and winograd.suits(x, kernel, strides, padding) and xla_compiles():
        product = winograd.convolve(x, kernel)
    else:
        product = tf.nn.conv2d(x, kernel, strides, padding.upper())
    return tf.nn.bias_add(product, bias)


def drop(x, rate: float, seed: int, position, layer: str):
    """Dropout of (batch, ...) whose first row is the sample at ``position`` (int64 scalar) of the
    training stream.

    The masks are consecutive pieces of one Philox stream for each layer, so a row costs what plain
    dropout costs.
    """
    size = int(np.prod(x.shape[1:]))
    blocks = -(-size // 4)  # the generator counts in blocks of four values
    counter = tf.stack([tf.cast(position, tf.uint64) * blocks, tf.constant(0, tf.uint64)])
    key = tf.constant([seed << 32 | zlib.crc32(layer.encode())], tf.uint64)
    draws = tf.raw_ops.StatelessRandomUniformV2(
        shape=[tf.shape(x)[0], 4 * blocks],
        key=key,
        counter=counter,
        alg=tf.random.Algorithm.PHILOX.value,
    )
    kept = tf.reshape(draws[:, :size] >= rate, tf.shape(x))
    return tf.where(kept, x / (1 - rate), tf.zeros((), x.dtype))
