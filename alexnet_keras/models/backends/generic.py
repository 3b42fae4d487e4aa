"""The operations of the layers in ``keras.ops`` alone, for the JAX and PyTorch backends."""

from __future__ import annotations

import keras
from keras import ops


def should_split_groups(dtype: str) -> bool:
    """Whether to compute each group by a convolution of its own: on a CPU, XLA's grouped
    convolution is five times slower than that, and PyTorch's is faster.
    """
    return keras.backend.backend() == "jax"


def normalize(
    x,
    depth_radius: int,
    bias: float,
    alpha: float,
    beta: float,
    fixed_size: bool = True,
    groups: int = 1,
):
    """Local response normalization of (batch, height, width, channels) float32, in each group of
    channels by itself.

    The window is summed by a matrix product, whose gradient on a CPU is four times faster than
    that of shifted sums. ``fixed_size`` is for the TensorFlow backend.
    """
    channel = ops.arange(x.shape[-1])
    group = channel // (x.shape[-1] // groups)
    near = ops.abs(channel[:, None] - channel) <= depth_radius
    near = ops.logical_and(near, group[:, None] == group)
    return _divided(x, bias + ops.matmul(x * x, alpha * ops.cast(near, x.dtype)), beta)


def normalize_within(
    x, size: int, bias: float, alpha: float, beta: float, fixed_size: bool = True
):
    """Normalization of (batch, height, width, channels) float32 across ``size`` x ``size`` pixels
    of each channel. ``fixed_size`` is for the TensorFlow backend.
    """
    margin = (size // 2, size // 2)
    squares = ops.pad(x * x, [(0, 0), margin, margin, (0, 0)])
    mean = ops.average_pool(squares, size, 1, "valid", data_format="channels_last")
    return _divided(x, bias + alpha * size**2 * mean, beta)


def _divided(x, denominator, beta: float):
    # On a CPU XLA vectorizes exp and log, but not power.
    return x * ops.exp(-beta * ops.log(denominator))


def convolve(x, kernel, bias, strides: tuple[int, int], padding: str, training: bool):
    """Convolution of ``x`` (batch, height, width, in) with ``kernel`` (height, width, in / groups,
    out), plus ``bias``. ``padding``: ``"same"`` or ``"valid"``.
    """
    return ops.conv(x, kernel, strides, padding, data_format="channels_last") + bias
