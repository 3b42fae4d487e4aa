"""Per-image operations in TensorFlow: decode, crop a box, resize, crop, mirror, normalize. All stateless.

Between the steps an image is (height, width, 3) float32 RGB with the mean already subtracted, so that zero *is* the mean
and what leaves an image is filled with it.
"""

from __future__ import annotations

import tensorflow as tf

from alexnet_keras.spec import Preprocessing

LONGEST_SIDE = 16


def load_image(contents, preprocessing: Preprocessing):
    """Encoded bytes (JPEG, PNG, GIF, BMP; grey, CMYK and palette too) -> (height, width, 3) float32 RGB, mean-subtracted.

    JPEG is decoded with the exact integer transform, as Pillow and libjpeg do by default.
    """
    def jpeg():
        return tf.io.decode_jpeg(contents, channels=3, dct_method="INTEGER_ACCURATE")
    return _subtract_mean(tf.cond(tf.io.is_jpeg(contents), jpeg, lambda: _decode_other(contents)), preprocessing)


def load_box(contents, box, preprocessing: Preprocessing, context: float, square: bool):
    """The region of ``box`` (x, y, width, height in pixels, float32) with ``context`` times its size added on each side.

    ``square`` grows the shorter side to the longer around the same centre. Of a JPEG only the region is decoded.
    What leaves the image is the mean. Returns (height, width, 3) float32 RGB, mean-subtracted.
    """
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
    """To ``resize_to`` pixels by the rule of ``preprocessing``: both sides (warp), or the shorter one.

    The longer side then gets at most ``LONGEST_SIDE`` times as many: a picture one pixel high would fill the memory.
    """
    target = preprocessing.resize_to
    if preprocessing.resize == "warp":
        size = [target, target]
    else:
        height_width = tf.shape(image)[:2]
        size = tf.cast(target * height_width / tf.reduce_min(height_width), tf.int32)
        size = tf.minimum(size, LONGEST_SIDE * target)
    return tf.image.resize(image, size, antialias=preprocessing.antialias)


def center_crop(image, preprocessing: Preprocessing):
    """The central (crop, crop, 3) window. Half a pixel is rounded down, as Caffe does, or to even, as torchvision does."""
    crop = preprocessing.crop
    margin = tf.shape(image)[:2] - crop
    top_left = margin // 2 if preprocessing.resize == "warp" else tf.cast(tf.round(margin / 2), tf.int32)
    return tf.ensure_shape(image[top_left[0]:top_left[0] + crop, top_left[1]:top_left[1] + crop], (crop, crop, 3))


def random_crop_and_mirror(image, preprocessing: Preprocessing, seed):
    """A uniformly placed (crop, crop, 3) window, mirrored half of the time. ``seed``: (2,) integers, the only randomness."""
    crop = preprocessing.crop
    top, left, mirror = tf.unstack(tf.random.stateless_uniform((3,), seed))
    margin = tf.cast(tf.shape(image)[:2] - crop + 1, tf.float32)
    top, left = tf.cast(top * margin[0], tf.int32), tf.cast(left * margin[1], tf.int32)
    window = tf.ensure_shape(image[top:top + crop, left:left + crop], (crop, crop, 3))
    return tf.cond(mirror < 0.5, lambda: window, lambda: tf.reverse(window, [1]))  # five times faster than [:, ::-1]


def ten_crops(image, preprocessing: Preprocessing):
    """Four corners and the centre, then their mirror images: (10, crop, crop, 3) (paper, section 4.1)."""
    crop = preprocessing.crop
    corners = [image[:crop, :crop], image[:crop, -crop:], image[-crop:, :crop], image[-crop:, -crop:]]
    five = tf.stack([*corners, center_crop(image, preprocessing)])
    return tf.ensure_shape(tf.concat([five, tf.reverse(five, [2])], 0), (10, crop, crop, 3))


def to_network_input(image, preprocessing: Preprocessing):
    """The last step, on (..., height, width, 3) mean-subtracted RGB: divided by ``std``, in ``channel_order``."""
    scaled = image / tf.constant(preprocessing.std) if preprocessing.std != (1.0, 1.0, 1.0) else image
    return tf.reverse(scaled, [-1]) if preprocessing.channel_order == "BGR" else scaled


def from_network_input(batch, preprocessing: Preprocessing):
    """Inverse of normalization, for pictures: network input -> RGB float32, 0-255."""
    rgb = tf.reverse(batch, [-1]) if preprocessing.channel_order == "BGR" else batch
    return rgb * tf.constant(preprocessing.std) + tf.constant(preprocessing.mean)


def _subtract_mean(image, preprocessing: Preprocessing):
    return tf.cast(image, tf.float32) - tf.constant(preprocessing.mean)


def _decode_other(contents):
    header = tf.io.decode_raw(tf.strings.substr(contents, 0, 29), tf.uint8, fixed_length=29)
    palette_bmp = tf.reduce_all(header[:2] == list(b"BM")) & (header[28] <= 8)
    tf.debugging.Assert(~palette_bmp, ["a BMP with a palette, which would decode to wrong colours"])
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
