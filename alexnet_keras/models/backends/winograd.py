"""3x3 convolution in 16 multiplications for each four outputs instead of 36: Winograd's minimal
filtering F(2x2, 3x3).

The result equals direct convolution up to rounding, a few 1e-6 of the largest output. The input is
cut into overlapping 4x4 tiles; tiles and kernels are transformed; sixteen matrix products, one for
each position in a tile, replace the convolution; and their results are transformed back into 2x2
outputs. TensorFlow multiplies the matrices, XLA compiles the transforms, and both are
differentiable. Source: Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016, section 4.1.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

MIN_BATCH = 16
"""With fewer images, the transforms take longer than the multiplications saved."""
MIN_CHANNELS = 128
"""Input and output channels of a group; fewer were not measured."""
KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
TILE_POSITIONS = [(row, column) for row in range(4) for column in range(4)]

_enabled = True


def set_enabled(enabled: bool) -> None:
    """Whether functions traced from now on may use Winograd's algorithm; functions that are traced
    already do not change.
    """
    global _enabled
    _enabled = enabled


def is_applicable(x, kernel, strides: tuple[int, int], padding: str) -> bool:
    """Whether this convolution is faster with Winograd's algorithm: 3x3, stride 1, many images and
    channels, float32, on a CPU.
    """
    inputs = kernel.shape[2]
    filters = kernel.shape[3] // _groups(x, kernel)
    return (
        _enabled
        and kernel.shape[:2] == (3, 3)
        and strides == (1, 1)
        and padding == "same"
        and (x.shape[0] or 0) >= MIN_BATCH
        and min(inputs, filters) >= MIN_CHANNELS
        and None not in x.shape
        and x.dtype == tf.float32
        and not tf.config.list_logical_devices("GPU")
    )


def convolve(x, kernel):
    """``tf.nn.conv2d(x, kernel, 1, "SAME")`` of ``x`` (batch, height, width, in), whose shape is
    static, and ``kernel`` (3, 3, in / groups, out).
    """
    groups = _groups(x, kernel)
    kernels = [tf.unstack(group) for group in tf.split(_transform_kernel(kernel), groups, -1)]
    products = [
        [tf.matmul(tiles, kernels[group][position]) for group, tiles in enumerate(of_position)]
        for position, of_position in enumerate(_transform_input(x, groups))
    ]
    return _transform_output(products, x.shape)


def _groups(x, kernel) -> int:
    return x.shape[-1] // kernel.shape[2]


def _transform_kernel(kernel):
    """(3, 3, in, out) -> (16, in, out)."""
    product = tf.matmul(np.kron(KERNEL_TRANSFORM, KERNEL_TRANSFORM), tf.reshape(kernel, (9, -1)))
    return tf.reshape(product, (len(TILE_POSITIONS), *kernel.shape[2:]))


@tf.function(jit_compile=True, autograph=False)
def _transform_input(x, groups: int):
    """For each position in the transformed tiles, and each group, the values there: (tiles of all
    images, in / groups).
    """
    batch, height, width, channels = x.shape
    down = _num_tiles(height)
    right = _num_tiles(width)
    padded = tf.pad(x, [(0, 0), (1, 2 * down + 1 - height), (1, 2 * right + 1 - width), (0, 0)])
    pairs = tf.reshape(padded, (batch, down + 1, 2, right + 1, 2, channels))
    tile = [
        [
            pairs[
                :,
                row // 2 : row // 2 + down,
                row % 2,
                column // 2 : column // 2 + right,
                column % 2,
            ]
            for row in range(4)
        ]
        for column in range(4)
    ]
    columns = [_input_transform(column) for column in tile]
    transformed = [_input_transform([column[row] for column in columns]) for row in range(4)]
    return [
        [
            tf.reshape(part, (-1, channels // groups))
            for part in tf.split(transformed[row][column], groups, -1)
        ]
        for row, column in TILE_POSITIONS
    ]


@tf.function(jit_compile=True, autograph=False)
def _transform_output(products, shape: tuple[int, ...]):
    """The values of :func:`_transform_input`, multiplied by the kernels -> (batch, height, width,
    out).
    """
    batch, height, width, _ = shape
    down = _num_tiles(height)
    right = _num_tiles(width)
    joined = [tf.concat(parts, -1) for parts in products]
    tile = [tf.reshape(part, (batch, down, right, part.shape[-1])) for part in joined]
    columns = [_output_transform(tile[column::4]) for column in range(4)]
    rows = [
        tf.stack(_output_transform([column[row] for column in columns]), 3) for row in range(2)
    ]
    return tf.reshape(tf.stack(rows, 2), (batch, 2 * down, 2 * right, -1))[:, :height, :width]


def _num_tiles(size: int) -> int:
    """The number of 2-pixel outputs that cover ``size`` pixels."""
    return -(-size // 2)


def _input_transform(tile):
    """Lavin and Gray's B^T along one axis: four inputs -> four values."""
    return [tile[0] - tile[2], tile[1] + tile[2], tile[2] - tile[1], tile[1] - tile[3]]


def _output_transform(tile):
    """Lavin and Gray's A^T along one axis: four values -> two outputs."""
    return [tile[0] + tile[1] + tile[2], tile[1] - tile[2] - tile[3]]
