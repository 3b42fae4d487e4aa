"""The principal axes of a data set's colours, for the colour shift of the 2012 paper (section
4.1).
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tensorflow as tf

from alexnet_keras.data.bad_files import reason_of
from alexnet_keras.data.decoding import decode_image
from alexnet_keras.errors import DataError

MAX_IMAGES = 1000
# On a regular grid: as many as the images of the paper had.
MAX_PIXELS_PER_IMAGE = 256**2
Axes = tuple[tuple[float, float, float], ...]
logger = logging.getLogger(__name__)


def colour_axes(paths: Iterable[str], num_threads: int = 2) -> Axes:
    """Principal axes of the RGB values of images, longest first, as ``Augmentation.colour_axes``
    wants them.

    Each axis is RGB in grey levels (0-255), as long as the standard deviation along it, its
    largest part positive. Every image counts the same whatever its size; where there are more than
    ``MAX_IMAGES``, they are evenly spaced among the sorted paths, so that the same files give the
    same axes whatever their order and the number of threads. Files that cannot be read are skipped
    and named in the log; ``DataError`` where none can.

    The paper multiplies its draws by the *eigenvalues* of the covariance. Of 0-255 values those
    are 14,830, 1,376 and 389: one sigma of 0.1 would move an image by 1,483 grey levels.
    Krizhevsky's code multiplies by standard deviations, their square roots (121.8, 37.1 and 19.7
    in cuda-convnet2's ``make-data/input_meta``): 12.2 levels. So does this. The widely copied
    0.2175, 0.0188 and 0.0045 (fb.resnet.torch; 55.46, 4.794 and 1.148 in MXNet) are eigenvalues of
    0-1 values applied to 0-1 values: 5.5 levels along the first axis, almost none along the
    others.
    """
    chosen = _evenly_spaced(sorted(set(map(str, paths))), MAX_IMAGES)
    moments = []
    with ThreadPoolExecutor(num_threads) as pool:
        for path, found in zip(chosen, pool.map(_moments, chosen), strict=True):
            if isinstance(found, tf.errors.OpError):
                logger.warning("%s: skipped, not a readable image: %s", path, reason_of(found))
            else:
                moments.append(found)
    if not moments:
        raise DataError(
            f"colour axes: expected readable images, got none among {len(chosen)} files"
        )
    mean, squares = (sum(each) / len(moments) for each in zip(*moments, strict=True))
    return _axes(squares - np.outer(mean, mean))


def _evenly_spaced(paths: list[str], limit: int) -> list[str]:
    if len(paths) <= limit:
        return paths
    return [paths[index * len(paths) // limit] for index in range(limit)]


def _moments(path: str) -> tuple[np.ndarray, np.ndarray] | tf.errors.OpError:
    """Means of the RGB values (3,) and of their products (3, 3) over an image: sums of integers,
    exact in any order. Returns the error if the image cannot be read.
    """
    try:
        image = _decoder()(tf.io.read_file(os.fsencode(path))).numpy()
    except tf.errors.OpError as error:
        return error
    stride = math.ceil(math.sqrt(image.shape[0] * image.shape[1] / MAX_PIXELS_PER_IMAGE))
    pixels = image[::stride, ::stride].reshape(-1, 3).astype(np.float64)
    return pixels.sum(0) / len(pixels), pixels.T @ pixels / len(pixels)


@functools.cache
def _decoder():
    """Traced once: encoded bytes -> (height, width, 3) uint8 RGB."""
    return tf.function(
        decode_image, autograph=False, input_signature=[tf.TensorSpec((), tf.string)]
    )


def _axes(covariance: np.ndarray) -> Axes:
    variances, vectors = np.linalg.eigh(covariance)
    axes = (vectors * np.sqrt(np.maximum(variances, 0))).T[::-1]
    return tuple(
        tuple(float(part) for part in axis * (1 if axis[np.argmax(abs(axis))] >= 0 else -1))
        for axis in axes
    )
