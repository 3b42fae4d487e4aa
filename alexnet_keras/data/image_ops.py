"""Per-image operations in TensorFlow: resize, crop, mirror, normalize. All stateless.

Between the steps an image is (height, width, 3) RGB in grey levels, 0-255: uint8 as decoded,
float32 once it is resized. The mean is subtracted last, from the few pixels that are left.
"""

from __future__ import annotations

import tensorflow as tf

from alexnet_keras.configs.preprocessing import Preprocessing

MAX_ASPECT = 16


def resize(image, preprocessing: Preprocessing):
    """To ``resize_to`` pixels by the rule of ``preprocessing``: both sides (warp), the shorter
    one, or its central square.

    The longer side then gets at most ``MAX_ASPECT`` times as many: a picture one pixel high would
    fill the memory.
    """
    size, target = _resized_size(image, preprocessing), preprocessing.resize_to
    resized = scale_to(image, size, preprocessing.antialias)
    return (
        _window(resized, (size - target) // 2, target)
        if preprocessing.resize == "square"
        else resized
    )


def resize_and_crop(image, preprocessing: Preprocessing, place):
    """The (crop, crop, 3) float32 part of :func:`resize` whose (top, left) is ``place`` of the
    margin (2,) int32.

    Antialiasing is slow, so it is done for that part alone: the same to 0.01 of a grey level.
    """
    crop, target = preprocessing.crop, preprocessing.resize_to
    if not preprocessing.antialias:
        resized = resize(image, preprocessing)
        return _window(resized, place(tf.shape(resized)[:2] - crop), crop)
    size = _resized_size(image, preprocessing)
    if preprocessing.resize == "square":
        top_left = (size - target) // 2 + place(tf.fill([2], target - crop))
    else:
        top_left = place(size - crop)
    return tf.ensure_shape(_antialiased(image, size, (crop, crop), top_left), (crop, crop, 3))


def scale_to(image, size, antialias: bool):
    """An image of uint8 or float32 to ``size`` (height, width), bilinearly; float32."""
    if antialias:
        return _antialiased(image, size, size, (0, 0))
    return tf.image.resize(tf.cast(image, tf.float32), size)  # TensorFlow is slower at uint8


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


def _resized_size(image, preprocessing: Preprocessing):
    """(height, width) int32 that :func:`resize` scales an image to."""
    target = preprocessing.resize_to
    if preprocessing.resize == "warp":
        return tf.constant([target, target])
    height_width = tf.shape(image)[:2]
    size = tf.cast(target * height_width / tf.reduce_min(height_width), tf.int32)
    return tf.minimum(size, MAX_ASPECT * target)


def center_crop(image, preprocessing: Preprocessing):
    """The central (crop, crop, 3) window. Half a pixel is rounded down, as Caffe does, or to even,
    as torchvision does.
    """
    crop = preprocessing.crop
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
    """The last step, on (..., height, width, 3) grey levels: ``(image - mean) / std`` in
    ``channel_order``, float32.

    ``mirrored``, a bool scalar, exchanges left and right.
    """
    normalized = per_channel(tf.subtract, tf.cast(image, tf.float32), preprocessing.mean)
    if preprocessing.std != (1.0, 1.0, 1.0):
        normalized = per_channel(tf.divide, normalized, preprocessing.std)
    bgr = preprocessing.channel_order == "BGR"
    straight, turned = (
        (_reversed_channels, _reversed_rows) if bgr else (tf.identity, _reversed_pixels)
    )
    return (
        straight(normalized)
        if mirrored is None
        else tf.cond(mirrored, lambda: turned(normalized), lambda: straight(normalized))
    )


def _reversed_channels(image):
    """``image[..., ::-1]``, four times faster: all its numbers reversed, then its pixels."""
    pixels = tf.reshape(tf.reverse(tf.reshape(image, [-1]), [0]), [1, -1, 3])
    return tf.ensure_shape(tf.reshape(tf.reverse(pixels, [1]), tf.shape(image)), image.shape)


def _reversed_rows(image):
    """``image[..., ::-1, ::-1]`` at once: mirrored, and its channels reversed."""
    rows = tf.reshape(image, tf.stack([-1, tf.shape(image)[-2] * 3]))
    return tf.ensure_shape(tf.reshape(tf.reverse(rows, [1]), tf.shape(image)), image.shape)


def _reversed_pixels(image):
    """``image[..., ::-1, :]``, five times faster: mirrored."""
    return tf.reverse(image, [-2])


def from_network_input(batch, preprocessing: Preprocessing):
    """Inverse of normalization, for pictures: network input -> RGB float32, 0-255."""
    rgb = tf.reverse(batch, [-1]) if preprocessing.channel_order == "BGR" else batch
    return rgb * tf.constant(preprocessing.std) + tf.constant(preprocessing.mean)


def per_channel(operation, image, colour):
    """``operation(image, colour)`` of (..., width, 3) float32 and (3,), bit for bit, four times
    faster.

    TensorFlow is slow in broadcasting along an axis of three, and fast along the width * 3 numbers
    of a row.
    """
    image = tf.convert_to_tensor(image, tf.float32)
    shape = tf.shape(image)
    rows = tf.reshape(image, tf.concat([shape[:-2], [shape[-2] * 3]], 0))
    result = operation(rows, tf.tile(tf.convert_to_tensor(colour, tf.float32), shape[-2:-1]))
    return tf.ensure_shape(tf.reshape(result, shape), image.shape)
