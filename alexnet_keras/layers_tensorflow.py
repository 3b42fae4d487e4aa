"""What the layers compute with TensorFlow's own operations, which are faster than those that any backend has."""

from __future__ import annotations

import zlib

import numpy as np
import tensorflow as tf

SPLITS_GROUPS = True
"""Keras pushes ``groups > 1`` through XLA (a training step is four to five times slower), and TensorFlow's native grouped
convolution has no gradient on CPUs without oneDNN. A convolution of its own is fused with its bias and activation."""


def normalize(x, depth_radius: int, bias: float, alpha: float, beta: float):
    """Local response normalization of (batch, height, width, channels) float32.

    TensorFlow's forward pass with a gradient of our own: its LRNGrad is four times slower than this on a CPU.
    """
    channels = x.shape[-1]
    window = tf.constant(np.tri(channels, k=depth_radius) - np.tri(channels, k=-depth_radius - 1), x.dtype)

    @tf.custom_gradient
    def normalized(x):
        def gradient(upstream):
            denominator = bias + alpha * tf.linalg.matmul(x * x, window)
            scaled = upstream * tf.exp(-beta * tf.math.log(denominator))  # vectorized, where tf.pow is not
            return scaled - 2 * alpha * beta * x * tf.linalg.matmul(scaled * x / denominator, window)
        return tf.nn.local_response_normalization(x, depth_radius, bias, alpha, beta), gradient
    return normalized(x)


def convolve(x, kernel, bias, strides: tuple[int, int], padding: str):
    """Convolution of (batch, height, width, in) with an HWIO kernel, ``"same"`` or ``"valid"``, and its bias."""
    return tf.nn.bias_add(tf.nn.conv2d(x, kernel, strides, padding.upper()), bias)


def drop(x, rate: float, seed: int, position, layer: str):
    """Dropout of (batch, ...) whose first row is the sample at ``position`` (int64 scalar) of the training stream.

    The masks are consecutive pieces of one Philox stream for each layer, so a row costs what plain dropout costs.
    """
    size = int(np.prod(x.shape[1:]))
    blocks = -(-size // 4)  # the generator counts in blocks of four values
    counter = tf.stack([tf.cast(position, tf.uint64) * blocks, tf.constant(0, tf.uint64)])
    key = tf.constant([seed << 32 | zlib.crc32(layer.encode())], tf.uint64)
    draws = tf.raw_ops.StatelessRandomUniformV2(shape=[tf.shape(x)[0], 4 * blocks], key=key, counter=counter,
                                                alg=tf.random.Algorithm.PHILOX.value)
    kept = tf.reshape(draws[:, :size] >= rate, tf.shape(x))
    return tf.where(kept, x / (1 - rate), tf.zeros((), x.dtype))
