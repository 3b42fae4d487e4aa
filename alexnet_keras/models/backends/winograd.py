"""3x3 convolution in 16 multiplications for each four outputs instead of 36: Winograd's minimal
filtering F(2x2, 3x3).

The same convolution but for rounding, a few 1e-6 of the largest output. An input is cut into
overlapping tiles of 4x4, which like the kernels are transformed; then sixteen matrix products, one
for each place in a tile, do the work of the convolution; and each place of their results is
transformed back into 2x2 outputs. TensorFlow multiplies the matrices, XLA makes loops of the
transforms, and both know the gradients. Source: Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016, section 4.1.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

MIN_BATCH, MIN_CHANNELS = 16, 128
"""With fewer images, transforming takes longer than is saved; fewer channels, in or out of a
group, were not measured.
"""
KERNEL_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)
PLACES = [(row, column) for row in range(4) for column in range(4)]

_allowed = True


def allow(allowed: bool) -> None:
    """Whether networks traced from now on may use it; functions traced before keep what they
    have.
    """
    global _allowed
    _allowed = allowed


def suits(x, kernel, strides: tuple[int, int], padding: str) -> bool:
    """Whether this convolution is faster so: 3x3 in steps of one pixel, many images and channels,
    on a CPU in float32.
    """
    inputs, filters = kernel.shape[2], kernel.shape[3] // _groups(x, kernel)
    return (
        _allowed
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
    """``tf.nn.conv2d(x, kernel, 1, "SAME")``: (batch, height, width, in), of a known shape, by (3,
    3, in / groups, out).
    """
    groups = _groups(x, kernel)
    kernels = [tf.unstack(group) for group in tf.split(_transformed(kernel), groups, -1)]
    products = [
        [tf.matmul(tiles, kernels[group][place]) for group, tiles in enumerate(at_place)]
        for place, at_place in enumerate(_tiles(x, groups))
    ]
    return _outputs(products, x.shape)


def _groups(x, kernel) -> int:
    return x.shape[-1] // kernel.shape[2]


def _transformed(kernel):
    """(3, 3, in, out) -> (16, in, out)."""
    product = tf.matmul(np.kron(KERNEL_TRANSFORM, KERNEL_TRANSFORM), tf.reshape(kernel, (9, -1)))
    return tf.reshape(product, (len(PLACES), *kernel.shape[2:]))


@tf.function(jit_compile=True, autograph=False)
def _tiles(x, groups: int):
    """For each place of the transformed tiles, and each group, the values there: (tiles of all
    images, in / groups).
    """
    batch, height, width, channels = x.shape
    down, right = _tiled(height), _tiled(width)
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
    columns = [_differences(column) for column in tile]
    transformed = [_differences([column[row] for column in columns]) for row in range(4)]
    return [
        [
            tf.reshape(part, (-1, channels // groups))
            for part in tf.split(transformed[row][column], groups, -1)
        ]
        for row, column in PLACES
    ]


@tf.function(jit_compile=True, autograph=False)
def _outputs(products, shape: tuple[int, ...]):
    """From the values of :func:`_tiles`, multiplied by the kernels, to (batch, height, width,
    out).
    """
    batch, height, width, _ = shape
    down, right = _tiled(height), _tiled(width)
    joined = [tf.concat(parts, -1) for parts in products]
    tile = [tf.reshape(part, (batch, down, right, part.shape[-1])) for part in joined]
    columns = [_sums(tile[column::4]) for column in range(4)]
    rows = [tf.stack(_sums([column[row] for column in columns]), 3) for row in range(2)]
    return tf.reshape(tf.stack(rows, 2), (batch, 2 * down, 2 * right, -1))[:, :height, :width]


def _tiled(size: int) -> int:
    """How many outputs two pixels wide it takes."""
    return -(-size // 2)


def _differences(tile):
    """Along one axis of a tile of four: the transform of inputs."""
    return [tile[0] - tile[2], tile[1] + tile[2], tile[2] - tile[1], tile[1] - tile[3]]


def _sums(tile):
    """Along one axis of a tile of four, to two: the transform of outputs."""
    return [tile[0] + tile[1] + tile[2], tile[1] - tile[2] - tile[3]]
