"""Per-image operations in TensorFlow: decode, crop a box, resize, crop, mirror, normalize. All stateless.

Between the steps an image is (height, width, 3) float32 RGB with the mean already subtracted, so that zero *is* the mean
and what leaves an image is filled with it.
"""

from __future__ import annotations

import contextlib
import struct

import numpy as np
import tensorflow as tf

from alexnet_keras.spec import Preprocessing

LONGEST_SIDE = 16
MOST_PIXELS = 178_956_970  # where Pillow, too, takes an image for a decompression bomb; 2 GB as float32


def load_image(contents, preprocessing: Preprocessing):
    """Encoded bytes (JPEG, PNG, GIF, BMP; grey, CMYK and palette too) -> (height, width, 3) float32 RGB, mean-subtracted.

    JPEG is decoded with the exact integer transform, as Pillow and libjpeg do by default. An image of more than
    ``MOST_PIXELS`` raises ``InvalidArgumentError`` by what its header claims, before anything is decoded.
    """
    contents = _within_limit(contents)

    def jpeg():
        return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
    return _subtract_mean(tf.cond(tf.io.is_jpeg(contents), jpeg, lambda: _decode_other(contents)), preprocessing)


def load_box(contents, box, preprocessing: Preprocessing, context: float, square: bool):
    """The region of ``box`` (x, y, width, height in pixels, float32) with ``context`` times its size added on each side.

    ``square`` grows the shorter side to the longer around the same centre. Of a JPEG only the region is decoded.
    What leaves the image is the mean. Returns (height, width, 3) float32 RGB, mean-subtracted.
    """
    contents = _within_limit(contents)
    is_jpeg = tf.io.is_jpeg(contents)
    whole = tf.cond(is_jpeg, lambda: tf.zeros((0, 0, 3), tf.uint8), lambda: _decode_other(contents))
    size = tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(contents)[:2], lambda: tf.shape(whole)[:2])
    start, end = _region(box, context, square)
    inside_start, inside_end = tf.clip_by_value(start, 0, size - 1), tf.clip_by_value(end, 1, size)

    def jpeg():
        # two columns more on each side: at its edges a decoder would guess the neighbours of subsampled colours
        left, right = tf.maximum(inside_start[1] - 2, 0), tf.minimum(inside_end[1] + 2, size[1])
        window = tf.stack([inside_start[0], left, inside_end[0] - inside_start[0], right - left])
        decoded = tf.image.decode_and_crop_jpeg(contents, window, channels=3, dct_method="INTEGER_ACCURATE")
        return decoded[:, inside_start[1] - left:inside_end[1] - left]

    def other():
        return whole[inside_start[0]:inside_end[0], inside_start[1]:inside_end[1]]
    crop = _subtract_mean(tf.cond(is_jpeg, jpeg, other), preprocessing)
    margins = tf.stack([inside_start - start, end - inside_end], 1)
    return tf.pad(crop, tf.concat([margins, [[0, 0]]], 0))


def resize(image, preprocessing: Preprocessing):
    """To ``resize_to`` pixels by the rule of ``preprocessing``: both sides (warp), the shorter one, or its central square.

    The longer side then gets at most ``LONGEST_SIDE`` times as many: a picture one pixel high would fill the memory.
    """
    target = preprocessing.resize_to
    if preprocessing.resize == "warp":
        size = [target, target]
    else:
        height_width = tf.shape(image)[:2]
        size = tf.cast(target * height_width / tf.reduce_min(height_width), tf.int32)
        size = tf.minimum(size, LONGEST_SIDE * target)
    resized = tf.image.resize(image, size, antialias=preprocessing.antialias)
    return _window(resized, (size - target) // 2, target) if preprocessing.resize == "square" else resized


def center_crop(image, preprocessing: Preprocessing):
    """The central (crop, crop, 3) window. Half a pixel is rounded down, as Caffe does, or to even, as torchvision does."""
    crop, to_even = preprocessing.crop, preprocessing.resize == "short_side"
    margin = tf.shape(image)[:2] - crop
    return _window(image, tf.cast(tf.round(margin / 2), tf.int32) if to_even else margin // 2, crop)


def _window(image, top_left, side: int):
    top, left = tf.unstack(top_left)
    return tf.ensure_shape(image[top:top + side, left:left + side], (side, side, 3))


def ten_crops(image, preprocessing: Preprocessing):
    """Four corners and the centre, then their mirror images: (10, crop, crop, 3) (paper, section 4.1)."""
    crop = preprocessing.crop
    corners = [image[:crop, :crop], image[:crop, -crop:], image[-crop:, :crop], image[-crop:, -crop:]]
    five = tf.stack([*corners, center_crop(image, preprocessing)])
    return tf.ensure_shape(tf.concat([five, tf.reverse(five, [2])], 0), (10, crop, crop, 3))


def to_network_input(image, preprocessing: Preprocessing):
    """The last step, on (..., height, width, 3) mean-subtracted RGB: divided by ``std``, in ``channel_order``."""
    scaled = by_rows(tf.divide, image, preprocessing.std) if preprocessing.std != (1.0, 1.0, 1.0) else image
    return tf.reverse(scaled, [-1]) if preprocessing.channel_order == "BGR" else scaled


def from_network_input(batch, preprocessing: Preprocessing):
    """Inverse of normalization, for pictures: network input -> RGB float32, 0-255."""
    rgb = tf.reverse(batch, [-1]) if preprocessing.channel_order == "BGR" else batch
    return rgb * tf.constant(preprocessing.std) + tf.constant(preprocessing.mean)


def by_rows(operation, image, colour):
    """``operation(image, colour)`` of (..., width, 3) float32 and (3,), bit for bit, four times faster.

    TensorFlow is slow in broadcasting along an axis of three, and fast along the width * 3 numbers of a row.
    """
    image = tf.convert_to_tensor(image, tf.float32)
    shape = tf.shape(image)
    rows = tf.reshape(image, tf.concat([shape[:-2], [shape[-2] * 3]], 0))
    result = operation(rows, tf.tile(tf.convert_to_tensor(colour, tf.float32), shape[-2:-1]))
    return tf.ensure_shape(tf.reshape(result, shape), image.shape)


def _subtract_mean(image, preprocessing: Preprocessing):
    return by_rows(tf.subtract, tf.cast(image, tf.float32), preprocessing.mean)


def _within_limit(contents):
    """``contents``, which become available only once their header is known to claim no more than ``MOST_PIXELS``."""
    size = _claimed_size(contents)
    checks = [_require(tf.reduce_all(size > 0), "no JPEG, PNG, GIF or BMP with a whole header"),
              _require(tf.reduce_prod(tf.cast(size, tf.float64)) <= MOST_PIXELS,
                       f"expected at most {MOST_PIXELS} pixels; height and width are", size)]
    with tf.control_dependencies([check for check in checks if check is not None]):
        return tf.identity(contents)


def _require(condition, *message):
    """An operation that raises InvalidArgumentError; eagerly, where it has already done so, None."""
    return tf.raw_ops.Assert(condition=condition, data=message)


def _claimed_size(contents):
    """(height, width) int64 by the header, without decoding; (0, 0) where that is of no known format."""
    def jpeg():
        return tf.cast(tf.io.extract_jpeg_shape(contents)[:2], tf.int64)

    def png():
        header = tf.io.decode_raw(tf.strings.substr(contents, 0, 24), tf.int32, little_endian=False, fixed_length=24)
        return tf.cast(tf.stack([header[5], header[4]]), tf.int64)

    def other():
        data = tf.io.decode_raw(contents, tf.uint8)
        size = tf.numpy_function(lambda array: _size_of_gif_or_bmp(array.tobytes()), [data], tf.int64, stateful=False)
        return tf.ensure_shape(size, (2,))
    is_png = tf.strings.substr(contents, 0, 4) == b"\x89PNG"
    return tf.case([(tf.io.is_jpeg(contents), jpeg), (is_png, png)], default=other)


def _size_of_gif_or_bmp(contents: bytes) -> np.ndarray:
    sizes = [(0, 0)]
    with contextlib.suppress(struct.error, IndexError):  # what is cut off still claims what came before
        sizes.extend(_gif_frames(contents) if contents.startswith(b"GIF8") else ())
        sizes.extend([struct.unpack_from("<ii", contents, 18)[::-1]] if contents.startswith(b"BM") else ())
    return np.abs(sizes).max(axis=0)


def _gif_frames(contents: bytes):
    """(height, width) of each frame: TensorFlow's decoder goes by the largest, not by the screen that the header names."""
    place = 13 + _gif_palette(contents[10])
    while contents[place] in b"\x21\x2c":  # an extension or a frame; blocks that begin with their length follow either
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


def _decode_other(contents):
    header = tf.io.decode_raw(tf.strings.substr(contents, 0, 29), tf.uint8, fixed_length=29)
    palette_bmp = tf.reduce_all(header[:2] == list(b"BM")) & (header[28] <= 8)
    _require(~palette_bmp, "a BMP with a palette, which would decode to wrong colours")
    image = tf.io.decode_image(contents, channels=3, expand_animations=False)
    return tf.ensure_shape(image, (None, None, 3))


def _region(box, context, square):
    """The wanted region as (top, left) and (bottom, right) int32, which may leave the image; never empty."""
    center = box[1::-1] + box[:1:-1] / 2
    extent = box[:1:-1] * (1 + 2 * context)
    if square:
        extent = tf.fill([2], tf.reduce_max(extent))
    start = tf.cast(tf.round(center - extent / 2), tf.int32)
    return start, tf.maximum(tf.cast(tf.round(center + extent / 2), tf.int32), start + 1)
