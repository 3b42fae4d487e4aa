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
    x, depth_radius: int, bias: float, alpha: float, beta: float, fixed_size: bool = True
):
    """Local response normalization of (batch, height, width, channels) float32.

    The window is summed by a matrix product, whose gradient on a CPU is four times faster than
    that of shifted sums. ``fixed_size`` is for the TensorFlow backend.
    """
    channel = ops.arange(x.shape[-1])
    near = ops.abs(channel[:, None] - channel) <= depth_radius
    denominator = bias + ops.matmul(x * x, alpha * ops.cast(near, x.dtype))
    # On a CPU XLA vectorizes exp and log, but not power.
    return x * ops.exp(-beta * ops.log(denominator))


def convolve(x, kernel, bias, strides: tuple[int, int], padding: str, training: bool):
    """Convolution of ``x`` (batch, height, width, in) with ``kernel`` (height, width, in / groups,
    out), plus ``bias``. ``padding``: ``"same"`` or ``"valid"``.
    """
    return ops.conv(x, kernel, strides, padding, data_format="channels_last") + bias
