"""What the layers compute with ``keras.ops`` alone: for JAX and PyTorch, without TensorFlow."""

from __future__ import annotations

import keras
from keras import ops


def splits_groups(dtype: str) -> bool:
    """Whether each group is to be a convolution of its own: on a CPU, XLA's grouped one is five
    times slower than its parts, and PyTorch's is faster than its parts.
    """
    return keras.backend.backend() == "jax"


def normalize(
    x, depth_radius: int, bias: float, alpha: float, beta: float, fixed_size: bool = True
):
    """Local response normalization of (batch, height, width, channels) float32, of a fixed size
    or not.

    The window is summed by a matrix product, whose gradient on a CPU is four times faster than
    that of shifted sums.
    """
    channel = ops.arange(x.shape[-1])
    near = ops.abs(channel[:, None] - channel) <= depth_radius
    denominator = bias + ops.matmul(x * x, alpha * ops.cast(near, x.dtype))
    return x * ops.exp(
        -beta * ops.log(denominator)
    )  # XLA vectorizes these on a CPU, and not the power


def convolve(x, kernel, bias, strides: tuple[int, int], padding: str, training: bool):
    """Convolution of (batch, height, width, in) with an HWIO kernel, ``"same"`` or ``"valid"``,
    and its bias.

    The kernel's shape tells the number of groups.
    """
    return ops.conv(x, kernel, strides, padding, data_format="channels_last") + bias
