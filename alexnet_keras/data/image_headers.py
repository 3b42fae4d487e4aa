"""What the header of an image file claims, read before anything is decoded."""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import tensorflow as tf

MAX_PIXELS = (
    178_956_970  # where Pillow, too, takes an image for a decompression bomb; 2 GB as float32
)


def within_limit(contents, size):
    """``contents``, which become available only once ``size``, by their header, is of no more than
    ``MAX_PIXELS``.
    """
    check = require(
        tf.reduce_prod(tf.cast(size, tf.float64)) <= MAX_PIXELS,
        f"more than {MAX_PIXELS} pixels; height and width are",
        size,
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(contents)


def require(condition, *message):
    """An operation that raises InvalidArgumentError; eagerly, where it has already done so,
    None.
    """
    return tf.raw_ops.Assert(condition=condition, data=message)


def size_of_jpeg(contents):
    """(height, width) int32 by the header."""
    return tf.io.extract_jpeg_shape(contents)[:2]


def size_of_other(contents):
    """(height, width) int64 of a PNG, GIF or BMP by the header, without decoding; (0, 0) where it
    is none of them.
    """

    def png():
        header = tf.io.decode_raw(
            tf.strings.substr(contents, 0, 24), tf.int32, little_endian=False, fixed_length=24
        )
        return tf.cast(tf.stack([header[5], header[4]]), tf.int64)

    def gif_or_bmp():
        data = tf.io.decode_raw(contents, tf.uint8)
        size = tf.numpy_function(
            lambda array: _size_of_gif_or_bmp(array.tobytes()), [data], tf.int64, stateful=False
        )
        return tf.ensure_shape(size, (2,))

    return tf.cond(tf.strings.substr(contents, 0, 4) == b"\x89PNG", png, gif_or_bmp)


def _size_of_gif_or_bmp(contents: bytes) -> np.ndarray:
    sizes = [(0, 0)]
    with contextlib.suppress(
        struct.error, IndexError
    ):  # what is cut off still claims what came before
        sizes.extend(_gif_frames(contents) if contents.startswith(b"GIF8") else ())
        sizes.extend(
            [struct.unpack_from("<ii", contents, 18)[::-1]] if contents.startswith(b"BM") else ()
        )
    return np.abs(sizes).max(axis=0)


def _gif_frames(contents: bytes):
    """(height, width) of each frame: TensorFlow's decoder goes by the largest, not by the screen
    that the header names.
    """
    place = 13 + _gif_palette(contents[10])
    while (
        contents[place] in b"\x21\x2c"
    ):  # an extension or a frame; blocks that begin with their length follow either
        if contents[place] == 0x2C:
            yield struct.unpack_from("<HH", contents, place + 5)[::-1]
            place += 9 + _gif_palette(contents[place + 9])
        place += 2
        while contents[place]:
            place += 1 + contents[place]
        place += 1


def _gif_palette(flags: int) -> int:
    """The bytes of a table of colours."""
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0
