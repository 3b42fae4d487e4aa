"""Data augmentation: random crops, horizontal flips and colour shifts. All stateless.

The same (seed, position in the stream) gives the same bits, eagerly, in a graph and on any thread.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.augmentation import Augmentation
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import image_ops

NUM_ATTEMPTS = 10
# Folded into the seed, so that these draws are independent of those of the window's offset; of
# 64 bits, so that no two positions share a seed.
AREA_STREAM = np.int64(1)
COLOUR_STREAM = np.int64(2)


def augment(image, preprocessing: Preprocessing, augmentation: Augmentation, seed, epoch=0.0):
    """The augmented crop of a decoded image, and whether to mirror it: a bool scalar, or None
    for never.

    ``image``: (height, width, 3) uint8 or float32 RGB, 0-255, not yet resized. ``seed``: (2,)
    int64, the run's seed and the image's position in the stream, the only randomness. ``epoch``:
    that of the position, a fraction, on which the end of the colour shift depends. The crop is
    (crop, crop, 3) float32 RGB; a colour shift may leave 0-255, because the paper clips nothing.
    It is not mirrored yet, because ``to_network_input`` does that at less cost.
    """
    if augmentation.crop == "resized":
        window = random_resized_crop(image, preprocessing, augmentation, seed)
    else:

        def offset(margin):
            if augmentation.crop == "center":
                return image_ops.center_offset(margin, preprocessing)
            return _random_offset(margin, seed)

        window = image_ops.resize_and_crop(image, preprocessing, offset)
    if augmentation.colour_sigma > 0:
        shift = colour_shift(augmentation, seed)
        if augmentation.colour_until is not None:
            shift = tf.where(epoch < augmentation.colour_until, shift, 0.0)
        window = image_ops.per_channel(tf.add, window, shift)
    return window, _draw_offset_and_flip(seed)[2] >= 0.5 if augmentation.mirror else None


def scale_colour_down(image, augmentation: Augmentation, epoch):
    """The network's input divided by ``colour_divisor``, as long as colours are shifted: so the
    code of 2012 keeps the spread of values that the shift widens.
    """
    if augmentation.colour_divisor == 1 or augmentation.colour_sigma == 0:
        return image
    if augmentation.colour_until is None:
        return image / augmentation.colour_divisor
    shifted = epoch < augmentation.colour_until
    return image / tf.where(shifted, augmentation.colour_divisor, 1.0)


def random_resized_crop(image, preprocessing: Preprocessing, augmentation: Augmentation, seed):
    """torchvision's RandomResizedCrop: a random region of an image of any size, resized to
    (crop, crop, 3) float32.
    """
    top, left, height, width = tf.unstack(random_region(tf.shape(image)[:2], augmentation, seed))
    return image_ops.scale_to(
        image[top : top + height, left : left + width],
        [preprocessing.crop] * 2,
        preprocessing.antialias,
    )


def random_region(size, augmentation: Augmentation, seed):
    """(top, left, height, width) int32 by torchvision's rule, in an image of ``size`` (height,
    width) int32.

    The first of ten shapes, drawn by area and aspect ratio, that fits, at a uniformly distributed
    offset; where none fits, the largest central region whose aspect ratio is in range.
    """
    area, aspect = tf.unstack(
        tf.cast(
            tf.random.stateless_uniform((2, NUM_ATTEMPTS), tf.random.fold_in(seed, AREA_STREAM)),
            tf.float64,
        )
    )
    area = _scale_to_range(area, *augmentation.area) * tf.cast(tf.reduce_prod(size), tf.float64)
    aspect = tf.exp(_scale_to_range(aspect, *map(math.log, augmentation.aspect)))
    shapes = tf.cast(tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], 1))), tf.int32)
    fits = tf.reduce_all((shapes > 0) & (shapes <= size), 1)
    drawn = shapes[tf.argmax(fits)]
    fallback = _largest_region(size, augmentation)
    return tf.where(
        tf.reduce_any(fits),
        tf.concat([_random_offset(size - drawn, seed), drawn], 0),
        tf.concat([(size - fallback) // 2, fallback], 0),
    )


def colour_shift(augmentation: Augmentation, seed):
    """The colour to add to all pixels of an image: (3,) float32 RGB, in grey levels (paper,
    section 4.1).
    """
    draws = tf.random.stateless_normal(
        (3, 1), tf.random.fold_in(seed, COLOUR_STREAM), stddev=augmentation.colour_sigma
    )
    return tf.reduce_sum(draws * tf.constant(augmentation.colour_axes), 0)


def _draw_offset_and_flip(seed):
    """Three numbers from [0, 1): the window's offset as a fraction of the margin, down and to the
    right, and the draw for mirroring.
    """
    return tf.random.stateless_uniform((3,), seed)


def _random_offset(margin, seed):
    """(top, left) int32 from 0 to ``margin``, all equally likely."""
    return tf.cast(_draw_offset_and_flip(seed)[:2] * tf.cast(margin + 1, tf.float32), tf.int32)


def _scale_to_range(draws, low: float, high: float):
    return low + draws * (high - low)


def _largest_region(size, augmentation: Augmentation):
    """(height, width) int32 of the largest region of the image whose aspect ratio is in range."""
    height, width = tf.unstack(tf.cast(size, tf.float64))
    low, high = augmentation.aspect
    shape = tf.round(tf.stack([tf.minimum(height, width / low), tf.minimum(width, height * high)]))
    return tf.maximum(tf.cast(shape, tf.int32), 1)
