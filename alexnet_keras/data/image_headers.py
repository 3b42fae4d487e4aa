"""Facts about an image file without decoding it: its size, whether it is complete, and its Exif
orientation.
"""

from __future__ import annotations

import contextlib
import struct
import zlib

import numpy as np
import tensorflow as tf

# Pillow's limit for decompression bombs; an image of this size takes 2 GB as float32.
MAX_PIXELS = 178_956_970
PNG_START = b"\x89PNG"
JPEG_END = b"\xff\xd9"
# Exif is at the start of a file, and the orientation among its first entries.
EXIF_BYTES = 4096
# Tag 0x0112, of type 3 (16 bits), once, with a value from 2 to 8, in either byte order.
ROTATED = (
    rb"(?s)\C*Exif\x00\x00(II\C*\x12\x01\x03\x00\x01\x00\x00\x00[\x02-\x08]"
    rb"|MM\C*\x01\x12\x00\x03\x00\x00\x00\x01\x00[\x02-\x08])\C*"
)


def within_limit(contents, size):
    """``contents``, after a check that ``size``, from the header, is at most ``MAX_PIXELS``."""
    check = require(
        tf.reduce_prod(tf.cast(size, tf.float64)) <= MAX_PIXELS,
        f"expected at most {MAX_PIXELS} pixels, got height and width",
        size,
    )
    with tf.control_dependencies([] if check is None else [check]):
        return tf.identity(contents)


def require(condition, *message):
    """An operation that raises ``InvalidArgumentError`` unless ``condition``; None when called
    eagerly, which raises at once.
    """
    return tf.raw_ops.Assert(condition=condition, data=message)


def in_python(function, contents, dtype, *arguments):
    """Call ``function(contents, *arguments)`` in Python, with ``contents`` as bytes."""

    def call(data, *values):
        # ``data`` is bytes in a graph, an array of one object when called eagerly.
        return function(data if isinstance(data, bytes) else data.item(), *values)

    return tf.numpy_function(call, [contents, *arguments], dtype, stateful=False)


def size_of_jpeg(contents):
    """(height, width) int32 from the header."""
    return tf.io.extract_jpeg_shape(contents)[:2]


def size_of_other(contents):
    """(height, width) int64 of a PNG, GIF or BMP from the header; (0, 0) for another format."""

    def png():
        header = tf.io.decode_raw(
            tf.strings.substr(contents, 0, 24), tf.int32, little_endian=False, fixed_length=24
        )
        return tf.cast(tf.stack([header[5], header[4]]), tf.int64)

    def gif_or_bmp():
        return tf.ensure_shape(in_python(_size_of_gif_or_bmp, contents, tf.int64), (2,))

    return tf.cond(tf.strings.substr(contents, 0, 4) == PNG_START, png, gif_or_bmp)


def is_complete_jpeg(contents):
    """Whether a file begins and ends as a JPEG does: a bool scalar, in microseconds.

    True for nearly all JPEGs that can be decoded; False for a truncated or empty file and for a
    web page. :func:`is_intact` checks other formats and JPEGs followed by other bytes.
    """
    start = tf.maximum(tf.strings.length(contents) - len(JPEG_END), 0)
    return tf.io.is_jpeg(contents) & (
        tf.strings.substr(contents, start, len(JPEG_END)) == JPEG_END
    )


def is_intact(contents: bytes) -> bool:
    """Whether a PNG, a GIF, a BMP, or a JPEG that other bytes may follow, is complete from start
    to end; the checksums of a PNG are verified.
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
    view = memoryview(contents)
    offset = 8
    chunk_type = b""
    while chunk_type != b"IEND" and offset + 12 <= len(contents):
        end = offset + 8 + int.from_bytes(view[offset : offset + 4], "big")
        chunk_type = bytes(view[offset + 4 : offset + 8])
        if zlib.crc32(view[offset + 4 : end]) != int.from_bytes(view[end : end + 4], "big"):
            return False
        offset = end + 4
    return chunk_type == b"IEND"


def is_rotated(contents):
    """Whether the Exif orientation of a JPEG rotates or mirrors its pixels: a bool scalar."""
    return tf.strings.regex_full_match(tf.strings.substr(contents, 0, EXIF_BYTES), ROTATED)


def orientation(contents):
    """The Exif orientation of a JPEG, 1 to 8, int64; 1 if it has none.

    Source: Exif 2.32 (CIPA DC-008), section 4.6.4.
    """
    return tf.ensure_shape(in_python(_orientation, contents, tf.int64), ())


def upright(image, orientation):
    """An image (height, width, 3) rotated and mirrored by its Exif ``orientation``."""

    def transformed():
        transposed = tf.cond(
            orientation >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image
        )
        bottom_first = tf.reduce_any(orientation == [3, 4, 7, 8])
        right_first = tf.reduce_any(orientation == [2, 3, 6, 7])
        result = transposed[:: tf.where(bottom_first, -1, 1), :: tf.where(right_first, -1, 1)]
        return tf.ensure_shape(result, (None, None, 3))

    return tf.cond(orientation == 1, lambda: image, transformed)


def _orientation(contents: bytes) -> np.int64:
    for marker, start in _jpeg_segments(contents):
        if marker == 0xE1 and contents[start : start + 6] == b"Exif\0\0":
            with contextlib.suppress(struct.error):  # truncated, or not TIFF
                return np.int64(_tiff_orientation(contents[start + 6 :]))
    return np.int64(1)


def _tiff_orientation(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
    for offset in range(directory + 2, directory + 2 + 12 * entries, 12):
        tag, kind, count, value = struct.unpack_from(f"{order}HHIH", tiff, offset)
        if (tag, kind, count) == (0x0112, 3, 1):
            return value if 1 <= value <= 8 else 1
    return 1


def _jpeg_segments(contents: bytes):
    """(marker, offset of its payload) of each segment of a JPEG up to its first scan, 0xDA."""
    offset = 2
    marker = 0
    while contents[:2] == b"\xff\xd8" and marker != 0xDA and offset + 4 <= len(contents):
        if contents[offset] != 0xFF:
            return
        marker = contents[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        yield marker, offset + 4
        offset += 2 + int.from_bytes(contents[offset + 2 : offset + 4], "big")


def _size_of_gif_or_bmp(contents: bytes) -> np.ndarray:
    sizes = [(0, 0)]
    with contextlib.suppress(struct.error, IndexError):  # of a truncated file: the frames so far
        sizes.extend(_gif_frames(contents) if contents.startswith(b"GIF8") else ())
        sizes.extend(
            [struct.unpack_from("<ii", contents, 18)[::-1]] if contents.startswith(b"BM") else ()
        )
    return np.abs(sizes).max(axis=0)


def _gif_frames(contents: bytes):
    """(height, width) of each frame: TensorFlow's decoder allocates the largest, not the screen
    size in the header.
    """
    offset = 13 + _gif_palette_size(contents[10])
    # Each block is an extension or a frame, followed by sub-blocks with their lengths.
    while contents[offset] in b"\x21\x2c":
        if contents[offset] == 0x2C:
            yield struct.unpack_from("<HH", contents, offset + 5)[::-1]
            offset += 9 + _gif_palette_size(contents[offset + 9])
        offset += 2
        while contents[offset]:
            offset += 1 + contents[offset]
        offset += 1


def _gif_palette_size(flags: int) -> int:
    """The size of a colour table in bytes."""
    return 3 << (flags % 8 + 1) if flags & 0x80 else 0
