"""Per-image operations in TensorFlow: resize, crop, mirror, normalize. All stateless.

Between the steps an image is (height, width, 3) RGB in grey levels, 0-255: uint8 as decoded,
float32 once it is resized. The mean is subtracted last, from the few pixels that are left.
"""

from __future__ import annotations

import tensorflow as tf

from alexnet_keras.configs.preprocessing import Preprocessing

MAX_ASPECT = 16


def resize(image, preprocessing: Preprocessing):
    """Resize an image (height, width, 3) to ``preprocessing.resize_to`` pixels: both sides
    (``"warp"``), the shorter side (``"short_side"``), the shorter side and then the central
    square (``"square"``), or the longer side and then a square filled with the mean (``"pad"``);
    or not at all (``"none"``). Returns float32.

    The longer side is limited to ``MAX_ASPECT`` times ``resize_to``, because an image one pixel
    high would exhaust the memory.
    """
    if preprocessing.resize == "none":
        return tf.cast(image, tf.float32)
    size = resized_size(image, preprocessing)
    target = preprocessing.resize_to
    resized = scale_to(image, size, preprocessing.antialias)
    if preprocessing.resize == "pad":
        before = tf.cast(tf.round((target - size) / 2), tf.int32)
        margins = tf.stack([before, target - size - before], 1)
        return tf.ensure_shape(pad_with_mean(resized, margins, preprocessing), (target, target, 3))
    return (
        _window(resized, (size - target) // 2, target)
        if preprocessing.resize == "square"
        else resized
    )


def resize_and_crop(image, preprocessing: Preprocessing, offset):
    """The (crop, crop, 3) float32 window of a resized image (:func:`resize`), or the whole of it
    without ``crop``.

    ``offset``: a function from the margin, (2,) int32, which is the resized size minus ``crop``,
    to the window's (top, left) int32. Antialiasing is slow, so only the window is computed: equal
    to :func:`resize` and a crop within 0.01 grey levels.
    """
    crop = preprocessing.crop
    target = preprocessing.resize_to
    if crop is None:
        return resize(image, preprocessing)
    if not preprocessing.antialias or preprocessing.resize in ("pad", "none"):
        resized = resize(image, preprocessing)
        return _window(resized, offset(tf.shape(resized)[:2] - crop), crop)
    size = resized_size(image, preprocessing)
    if preprocessing.resize == "square":
        top_left = (size - target) // 2 + offset(tf.fill([2], target - crop))
    else:
        top_left = offset(size - crop)
    return tf.ensure_shape(_antialiased(image, size, (crop, crop), top_left), (crop, crop, 3))


def scale_to(image, size, antialias: bool):
    """Resize an image of uint8 or float32 to ``size`` (height, width), bilinearly; float32."""
    if antialias:
        return _antialiased(image, size, size, (0, 0))
    # Cast first: TensorFlow resizes uint8 more slowly.
    return tf.image.resize(tf.cast(image, tf.float32), size)


def _antialiased(image, size, window, top_left):
    """The ``window`` (height, width) at ``top_left`` of an image scaled to ``size``, in one pass
    over uint8 or float32.
    """
    return tf.raw_ops.ScaleAndTranslate(
        images=image[None],
        size=window,
        scale=tf.cast(size / tf.shape(image)[:2], tf.float32),
        translation=-tf.cast(top_left, tf.float32),
        kernel_type="triangle",
        antialias=True,
    )[0]


def resized_size(image, preprocessing: Preprocessing):
    """(height, width) int32 of an image after :func:`resize`, before a central square is cut or a
    square is filled.
    """
    target = preprocessing.resize_to
    if preprocessing.resize == "warp":
        return tf.constant([target, target])
    height_width = tf.shape(image)[:2]
    if preprocessing.resize == "none":
        return height_width
    if preprocessing.resize == "pad":
        size = tf.round(target * height_width / tf.reduce_max(height_width))
        return tf.maximum(tf.cast(size, tf.int32), 1)
    size = tf.cast(target * height_width / tf.reduce_min(height_width), tf.int32)
    return tf.minimum(size, MAX_ASPECT * target)


def pad_with_mean(image, margins, preprocessing: Preprocessing):
    """Pad with the mean; ``margins``: (2, 2) int32, above and below, left and right."""
    centered = per_channel(tf.subtract, tf.cast(image, tf.float32), preprocessing.mean)
    return per_channel(
        tf.add, tf.pad(centered, tf.concat([margins, [[0, 0]]], 0)), preprocessing.mean
    )


def center_crop(image, preprocessing: Preprocessing):
    """The central (crop, crop, 3) window, or the whole image without ``crop``. Half a pixel is
    rounded down, as Caffe does, or to even, as torchvision does.
    """
    crop = preprocessing.crop
    if crop is None:
        return image
    return _window(image, center_offset(tf.shape(image)[:2] - crop, preprocessing), crop)


def center_offset(margin, preprocessing: Preprocessing):
    """(top, left) int32 of the central window that leaves a ``margin`` (2,) int32."""
    return (
        tf.cast(tf.round(margin / 2), tf.int32)
        if preprocessing.resize == "short_side"
        else margin // 2
    )


def _window(image, top_left, side: int):
    return tf.slice(image, tf.concat([top_left, [0]], 0), (side, side, 3))


def ten_crops(image, preprocessing: Preprocessing):
    """Four corners and the centre, then their mirror images: (10, crop, crop, 3) (paper, section
    4.1).
    """
    crop = preprocessing.crop
    corners = [
        image[:crop, :crop],
        image[:crop, -crop:],
        image[-crop:, :crop],
        image[-crop:, -crop:],
    ]
    five = tf.stack([*corners, center_crop(image, preprocessing)])
    return tf.ensure_shape(tf.concat([five, tf.reverse(five, [2])], 0), (10, crop, crop, 3))


def to_network_input(image, preprocessing: Preprocessing, mirrored=None):
    """Normalize (..., height, width, 3) RGB, 0-255: ``(image - mean) / std`` in
    ``channel_order``, float32. With a mean image, height and width are its own.

    ``mirrored``, a bool scalar, first flips the image from left to right, but never the mean
    image; None never does.
    """
    bgr = preprocessing.channel_order == "BGR"
    centered = _minus_mean(_ordered(tf.cast(image, tf.float32), bgr, mirrored), preprocessing, bgr)
    if preprocessing.std == (1.0, 1.0, 1.0):
        return centered
    return per_channel(tf.divide, centered, preprocessing.std[:: -1 if bgr else 1])


def _ordered(image, bgr: bool, mirrored):
    """The image as it is, or BGR; and mirrored or not."""
    plain = _reverse_channels if bgr else tf.identity
    flipped = _flip_and_reverse_channels if bgr else _flip
    if mirrored is None:
        return plain(image)
    return tf.cond(mirrored, lambda: flipped(image), lambda: plain(image))


def _minus_mean(image, preprocessing: Preprocessing, bgr: bool):
    order = slice(None, None, -1 if bgr else 1)
    if preprocessing.mean_image is None:
        return per_channel(tf.subtract, image, preprocessing.mean[order])
    return image - preprocessing.mean_image.array[..., order]


def _reverse_channels(image):
    """``image[..., ::-1]``, four times faster: reverses all values, then the pixels."""
    pixels = tf.reshape(tf.reverse(tf.reshape(image, [-1]), [0]), [1, -1, 3])
    return tf.ensure_shape(tf.reshape(tf.reverse(pixels, [1]), tf.shape(image)), image.shape)


def _flip_and_reverse_channels(image):
    """``image[..., ::-1, ::-1]`` in one pass over the values of each row."""
    rows = tf.reshape(image, tf.stack([-1, tf.shape(image)[-2] * 3]))
    return tf.ensure_shape(tf.reshape(tf.reverse(rows, [1]), tf.shape(image)), image.shape)


def _flip(image):
    """``image[..., ::-1, :]``, five times faster."""
    return tf.reverse(image, [-2])


def per_channel(operation, image, colour):
    """``operation(image, colour)`` for an image (..., width, 3) float32 and a colour (3,):
    bit-identical to broadcasting, and four times faster.

    TensorFlow broadcasts slowly along an axis of size 3, and fast along the width * 3 values of a
    row.
    """
    image = tf.convert_to_tensor(image, tf.float32)
    shape = tf.shape(image)
    rows = tf.reshape(image, tf.concat([shape[:-2], [shape[-2] * 3]], 0))
    result = operation(rows, tf.tile(tf.convert_to_tensor(colour, tf.float32), shape[-2:-1]))
    return tf.ensure_shape(tf.reshape(result, shape), image.shape)
