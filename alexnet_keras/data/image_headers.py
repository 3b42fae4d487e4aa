"""What an image file says of itself before anything is decoded: its size, whether it is complete,
and which way up it is.
"""

from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
import tensorflow as tf

# From here on Pillow, too, takes an image for a decompression bomb; it is 2 GB as float32.
MAX_PIXELS = 178_956_970
PNG_START = b"\x89PNG"
JPEG_END = b"\xff\xd9"
# Exif stands first in a file, and the orientation among its first entries.
EXIF_BYTES = 4096
# Tag 0x0112, of type 3 (16 bits), once, with a value from 2 to 8, in either byte order.
ROTATED = (
    rb"(?s)\C*Exif\x00\x00(II\C*\x12\x01\x03\x00\x01\x00\x00\x00[\x02-\x08]"
    rb"|MM\C*\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08])\C*"
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


def in_python(function, contents, dtype, *arguments):
    """``function(contents, *arguments)`` in Python, of the bytes of ``contents``."""

    def call(data, *values):
        # Bytes in a graph, an array of an object when called eagerly.
        return function(data if isinstance(data, bytes) else data.item(), *values)

    return tf.numpy_function(call, [contents, *arguments], dtype, stateful=False)


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
        return tf.ensure_shape(in_python(_size_of_gif_or_bmp, contents, tf.int64), (2,))

    return tf.cond(tf.strings.substr(contents, 0, 4) == PNG_START, png, gif_or_bmp)


def is_complete_jpeg(contents):
    """Whether a file begins and ends as a JPEG does: a bool scalar, for microseconds.

    True for nearly all JPEGs that can be decoded, and False for what was cut off, is empty or is a
    web page. Other formats, and files with something after their end, are for :func:`is_intact`.
    """
    start = tf.maximum(tf.strings.length(contents) - len(JPEG_END), 0)
    return tf.io.is_jpeg(contents) & (
        tf.strings.substr(contents, start, len(JPEG_END)) == JPEG_END
    )


def is_intact(contents: bytes) -> bool:
    """Whether a PNG, a GIF, a BMP, or a JPEG that other bytes may follow, is there from its start
    to its end; of a PNG the checksums too.
    """
    if contents.startswith(PNG_START):
        return _is_intact_png(contents)
    if contents.startswith(b"GIF8"):
        return contents.endswith(b";")
    if contents.startswith(b"BM"):
        return contents[2:6] == struct.pack("<I", len(contents))
    for marker, start in _jpeg_segments(contents):
        if marker == 0xDA:
            return contents.find(JPEG_END, start) > 0
    return False


def _is_intact_png(contents: bytes) -> bool:
    view, place, kind = memoryview(contents), 8, b""
    while kind != b"IEND" and place + 12 <= len(contents):
        end = place + 8 + int.from_bytes(view[place : place + 4], "big")
        kind = bytes(view[place + 4 : place + 8])
        if zlib.crc32(view[place + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return False
        place = end + 4
    return kind == b"IEND"


def is_rotated(contents):
    """Whether the Exif header of a JPEG asks for its pixels to be turned or mirrored: a bool
    scalar.
    """
    return tf.strings.regex_full_match(tf.strings.substr(contents, 0, EXIF_BYTES), ROTATED)


def orientation(contents):
    """The Exif orientation of a JPEG, 1 to 8, int64: 1 where there is none.

    Source: Exif 2.32 (CIPA DC-008), section 4.6.4.
    """
    return tf.ensure_shape(in_python(_orientation, contents, tf.int64), ())


def upright(image, orientation):
    """An image (height, width, 3) as its Exif ``orientation`` says that it is to be seen."""

    def turned():
        straight = tf.cond(orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        bottom_first = tf.reduce_any(orientation == [3, 4, 7, 8])
        right_first = tf.reduce_any(orientation == [2, 3, 6, 7])
        seen = straight[:: tf.where(bottom_first, -1, 1), :: tf.where(right_first, -1, 1)]
        return tf.ensure_shape(seen, (None, None, 3))

    return tf.cond(orientation == 1, lambda: image, turned)


def _orientation(contents: bytes) -> np.int64:
    for marker, start in _jpeg_segments(contents):
        if marker == 0xE1 and contents[start : start + 6] == b"Exif\0\0":
            with contextlib.suppress(struct.error):  # cut off or of no known structure
                return np.int64(_tiff_orientation(contents[start + 6 :]))
    return np.int64(1)


def _tiff_orientation(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for place in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, place)
        if (tag, kind, count) == (0x0112, 3, 1):
            return value if 1 <= value <= 8 else 1
    return 1


def _jpeg_segments(contents: bytes):
    """(marker, where its content starts) of each segment of a JPEG up to its first scan, 0xDA."""
    place, marker = 2, 0
    while contents[:2] == b"\xff\xd8" and marker != 0xDA and place + 4 <= len(contents):
        if contents[place] != 0xFF:
            return
        marker = contents[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        yield marker, place + 4
        place += 2 + int.from_bytes(contents[place + 2 : place + 4], "big")


def _size_of_gif_or_bmp(contents: bytes) -> np.ndarray:
    sizes = [(0, 0)]
    with contextlib.suppress(struct.error, IndexError):  # what is cut off claims what came before
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
    ):  # an extension or a frame, then blocks with their lengths
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
