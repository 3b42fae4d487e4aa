"""The operations of the layers in TensorFlow, faster than the generic ones."""

from __future__ import annotations

import functools
import zlib

import numpy as np
import tensorflow as tf

from alexnet_keras.models.backends import generic, winograd
from alexnet_keras.tensorflow_internals import in_save_context


@functools.cache
def should_split_groups(dtype: str) -> bool:
    """Whether to compute each group by a convolution of its own, because TensorFlow's grouped
    convolution has no gradient here: on a CPU only oneDNN has one, and in bfloat16 and float16
    only on processors that support them.

    Keras's own ``groups`` go through XLA on a CPU, where a training step is four times slower.
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


def normalize(
    x, depth_radius: int, bias: float, alpha: float, beta: float, fixed_size: bool, groups: int = 1
):
    """Local response normalization of (batch, height, width, channels) float32, in each group of
    channels by itself.

    On a CPU XLA compiles it, and its gradient, to a single loop, two to four times faster than
    TensorFlow's operations. XLA would compile again for each new size, and TensorFlow Serving
    cannot load an XLA-compiled SavedModel: inputs without a fixed size, and exports, use
    TensorFlow's operations.
    """
    if tf.config.list_logical_devices("GPU"):
        return generic.normalize(x, depth_radius, bias, alpha, beta, fixed_size, groups)
    towers = x
    if groups > 1:
        shape = tf.concat([tf.shape(x)[:-1], (groups, x.shape[-1] // groups)], 0)
        towers = tf.reshape(x, shape)
    towers = _normalize(towers, depth_radius, CHANNELS, bias, alpha, beta, fixed_size)
    return tf.reshape(towers, tf.shape(x)) if groups > 1 else towers


def normalize_within(x, size: int, bias: float, alpha: float, beta: float, fixed_size: bool):
    """Normalization of (batch, height, width, channels) float32 across ``size`` x ``size`` pixels
    of each channel, computed as :func:`normalize` is.
    """
    if tf.config.list_logical_devices("GPU"):
        return generic.normalize_within(x, size, bias, alpha, beta, fixed_size)
    return _normalize(x, size // 2, PIXELS, bias, alpha, beta, fixed_size)


def _normalize(x, radius: int, axes, bias: float, alpha: float, beta: float, fixed_size: bool):
    """``x`` normalized across the ``2 * radius + 1`` neighbours along each of ``axes``."""
    compiled = fixed_size and xla_is_available() and not in_save_context()
    signature = tf.TensorSpec(x.shape, x.dtype)
    return _differentiable(signature, radius, axes, bias, alpha, beta, compiled)(x)


# TensorFlow never frees a graph that calls a custom gradient: the graph of a function of its own
# holds no variables, as that of the network would.
@functools.cache
def _differentiable(signature: tf.TensorSpec, radius, axes, bias, alpha, beta, compiled: bool):
    normalize_, gradient = (_normalized, _gradient)
    if compiled:
        normalize_, gradient = COMPILED if axes == CHANNELS else COMPILED_WITHIN

    @tf.custom_gradient
    def normalized(x):
        return (
            normalize_(x, radius, axes, bias, alpha, beta),
            lambda upstream: gradient(x, upstream, radius, axes, bias, alpha, beta),
        )

    return tf.function(normalized, input_signature=[signature], autograph=False)


@functools.cache
def xla_is_available() -> bool:
    """Whether XLA is available and compiles; tested once per process."""
    with tf.init_scope():
        try:
            tf.function(lambda x: x + 1, jit_compile=True, autograph=False)(tf.constant(0.0))
        except tf.errors.OpError:
            return False
    return True


def _normalized(x, radius, axes, bias, alpha, beta):
    return x * _power(bias + alpha * _window_sum(x * x, radius, axes), beta)


def _gradient(x, upstream, radius, axes, bias, alpha, beta):
    denominator = bias + alpha * _window_sum(x * x, radius, axes)
    scaled = upstream * _power(denominator, beta)
    return scaled - 2 * alpha * beta * x * _window_sum(scaled * x / denominator, radius, axes)


CHANNELS, PIXELS = (-1,), (1, 2)
# Two pairs: TensorFlow warns of a function that is compiled for five shapes.
COMPILED, COMPILED_WITHIN = (
    [tf.function(each, jit_compile=True, autograph=False) for each in (_normalized, _gradient)]
    for _ in (CHANNELS, PIXELS)
)


def _window_sum(x, radius: int, axes: tuple[int, ...]):
    for axis in axes:
        pads = [(0, 0)] * x.shape.rank
        pads[axis] = (radius, radius)
        padded = tf.pad(x, pads)
        windows = [[slice(None)] * x.shape.rank for _ in range(2 * radius + 1)]
        for first, window in enumerate(windows):
            window[axis] = slice(first, first - 2 * radius or None)
        x = tf.add_n([padded[tuple(window)] for window in windows])
    return x


def _power(x, beta):
    """``x ** -beta`` in operations that XLA vectorizes on a CPU; it does not vectorize power."""
    if beta == 0.75:
        root = tf.math.rsqrt(x)
        return root * tf.sqrt(root)
    return tf.exp(-beta * tf.math.log(x))


def convolve(x, kernel, bias, strides: tuple[int, int], padding: str, training: bool):
    """Convolution of ``x`` (batch, height, width, in) with ``kernel`` (height, width, in / groups,
    out), plus ``bias``. ``padding``: ``"same"`` or ``"valid"``.

    In training it may be computed by :mod:`alexnet_keras.models.backends.winograd`.
    """
    if training and winograd.is_applicable(x, kernel, strides, padding) and xla_is_available():
        product = winograd.convolve(x, kernel)
    else:
        product = tf.nn.conv2d(x, kernel, strides, padding.upper())
    return tf.nn.bias_add(product, bias)


def sample_dropout(x, rate: float, seed: int, position, layer: str, scaled: bool = True):
    """Dropout of ``x`` (batch, ...), whose first row is the sample at ``position`` (int64 scalar)
    of the training stream. ``scaled``: whether what is kept is divided by ``1 - rate``.

    The masks of a layer are consecutive slices of one Philox stream, so they cost no more than
    those of plain dropout.
    """
    size = int(np.prod(x.shape[1:]))
    # The generator counts in blocks of four values.
    blocks = -(-size // 4)
    counter = tf.stack([tf.cast(position, tf.uint64) * blocks, tf.constant(0, tf.uint64)])
    key = tf.constant([seed << 32 | zlib.crc32(layer.encode())], tf.uint64)
    draws = tf.raw_ops.StatelessRandomUniformV2(
        shape=[tf.shape(x)[0], 4 * blocks],
        key=key,
        counter=counter,
        alg=tf.random.Algorithm.PHILOX.value,
    )
    kept = tf.reshape(draws[:, :size] >= rate, tf.shape(x))
    return tf.where(kept, x / (1 - rate) if scaled else x, tf.zeros((), x.dtype))
