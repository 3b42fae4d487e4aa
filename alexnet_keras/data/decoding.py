"""Decoding of encoded bytes to RGB pixels: an entire image, or the region of a box."""

from __future__ import annotations

import tensorflow as tf

from alexnet_keras.configs.loading import BoxRegion
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import image_headers
from alexnet_keras.data.image_ops import pad_with_mean


def decode_image(contents):
    """Decode a JPEG, PNG, GIF or BMP (grey, CMYK and palette too, except palette BMP) to
    (height, width, 3) uint8 RGB, rotated by the Exif orientation of a JPEG.

    JPEG is decoded with the exact integer transform, as Pillow and libjpeg do by default. Raises
    ``InvalidArgumentError`` for what cannot be decoded, and, before decoding, for more than
    ``MAX_PIXELS`` by the header.
    """

    def other():
        image, orientation = _decode(contents)
        return image_headers.upright(image, orientation)

    return tf.cond(_is_plain_jpeg(contents), lambda: _decode_jpeg(contents), other)


def decode_region(
    contents, box, preprocessing: Preprocessing, region: BoxRegion, annotated_size=None
):
    """Decode the region of ``box`` (x, y, width, height in pixels, float32), with
    ``region.context`` times its size added on each side.

    ``region.square`` extends the shorter side to the longer around the same centre. Of a JPEG only
    the region is decoded. Pixels outside the image are filled with the mean.

    The box refers to the displayed image, after its Exif orientation. If only the stored image has
    the ``annotated_size``, (width, height) int32, the annotation tool ignored the orientation, and
    so does this function.

    Returns the region (height, width, 3) float32 RGB, and the size (width, height) int32 of the
    image: if it differs from ``annotated_size``, the region is meaningless.
    """
    start, end = _box_region(box, region)

    def plain_jpeg():
        size = image_headers.size_of_jpeg(contents)
        first, last = _clip_to_image(start, end, size)
        return _decode_jpeg_window(contents, size, first, last), first, last, size

    def other():
        full_image = _decode_as_annotated(contents, annotated_size)
        size = tf.shape(full_image)[:2]
        first, last = _clip_to_image(start, end, size)
        return full_image[first[0] : last[0], first[1] : last[1]], first, last, size

    image, first, last, size = tf.cond(_is_plain_jpeg(contents), plain_jpeg, other)
    margins = tf.stack([first - start, end - last], 1)
    return pad_with_mean(image, margins, preprocessing), size[::-1]


def _is_plain_jpeg(contents):
    """Whether it is a JPEG that is displayed as it is stored."""
    return tf.io.is_jpeg(contents) & ~image_headers.is_rotated(contents)


def _decode_as_annotated(contents, annotated_size):
    """(height, width, 3) uint8: as displayed, or as stored if only that has the annotated
    size.
    """
    stored, orientation = _decode(contents)
    displayed = image_headers.upright(stored, orientation)
    if annotated_size is None:
        return displayed
    expected = annotated_size[::-1]
    is_of_stored = tf.reduce_any(tf.shape(displayed)[:2] != expected) & tf.reduce_all(
        tf.shape(stored)[:2] == expected
    )
    return tf.cond(is_of_stored, lambda: stored, lambda: displayed)


def _decode(contents):
    """The stored pixels (height, width, 3) uint8 of any format, and their Exif orientation."""
    return tf.cond(
        tf.io.is_jpeg(contents),
        lambda: (_decode_jpeg(contents), image_headers.orientation(contents)),
        lambda: (_decode_other(contents), tf.constant(1, tf.int64)),
    )


def _decode_jpeg(contents):
    checked = image_headers.within_limit(contents, image_headers.size_of_jpeg(contents))
    return tf.io.decode_jpeg(checked, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_jpeg_window(contents, size, first, last):
    """The pixels of a JPEG of ``size`` (height, width) from ``first`` to ``last``, (2,) int32."""
    # Two more columns on each side: at the edges of its window a decoder has to guess the
    # neighbours of subsampled colours.
    left = tf.maximum(first[1] - 2, 0)
    right = tf.minimum(last[1] + 2, size[1])
    decoded = tf.image.decode_and_crop_jpeg(
        image_headers.within_limit(contents, size),
        tf.stack([first[0], left, last[0] - first[0], right - left]),
        channels=3,
        dct_method="INTEGER_ACCURATE",
    )
    return decoded[:, first[1] - left : last[1] - left]


def _clip_to_image(start, end, size):
    """The part of the region from ``start`` to ``end`` inside an image of ``size``, at least one
    pixel; all (2,) int32.
    """
    return tf.clip_by_value(start, 0, size - 1), tf.clip_by_value(end, 1, size)


def _decode_other(contents):
    size = image_headers.size_of_other(contents)
    image_headers.require(
        tf.reduce_all(size > 0), "expected a JPEG, PNG, GIF or BMP with an intact header"
    )
    header = tf.io.decode_raw(tf.strings.substr(contents, 0, 29), tf.uint8, fixed_length=29)
    palette_bmp = tf.reduce_all(header[:2] == list(b"BM")) & (header[28] <= 8)
    image_headers.require(
        ~palette_bmp, "expected an image without a palette, got a BMP with one (decoded wrongly)"
    )
    image = tf.io.decode_image(
        image_headers.within_limit(contents, size), channels=3, expand_animations=False
    )
    return tf.ensure_shape(image, (None, None, 3))


def _box_region(box, region: BoxRegion):
    """The region of a box as (top, left) and (bottom, right) int32; it may extend beyond the
    image, and is never empty.
    """
    center = box[1::-1] + box[:1:-1] / 2
    extent = box[:1:-1] * (1 + 2 * region.context)
    if region.square:
        extent = tf.fill([2], tf.reduce_max(extent))
    start = tf.cast(tf.round(center - extent / 2), tf.int32)
    return start, tf.maximum(tf.cast(tf.round(center + extent / 2), tf.int32), start + 1)
