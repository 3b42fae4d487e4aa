"""A sample's file -> its pixels, within the input pipeline, which a bad file does not end."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.loading import BoxRegion
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import decoding, image_headers
from alexnet_keras.data.bad_files import reason_of
from alexnet_keras.data.samples import Samples


class SampleLoader:
    """Loads the samples of one set by their row: whole images, or the regions of their boxes."""

    def __init__(self, samples: Samples, preprocessing: Preprocessing, region: BoxRegion):
        self.preprocessing = preprocessing
        self.region = region
        self.image_sizes = samples.image_sizes
        self._paths = tf.constant(samples.paths.astype(object), tf.string)
        self._boxes = _tensor(samples.boxes, tf.float32)
        self._sizes = _tensor(samples.image_sizes, tf.int32)

    def try_to_load(self, row):
        """What :meth:`load` gives. A failure within the pipeline would cost it all that it has
        read ahead, so what looks incomplete is tried in Python first.
        """
        contents = tf.io.read_file(tf.gather(self._paths, row))
        is_sound = tf.cond(
            image_headers.is_complete_jpeg(contents),
            lambda: True,
            lambda: tf.ensure_shape(
                image_headers.in_python(self._is_loadable, contents, tf.bool, row), ()
            ),
        )
        pixels, is_meant = tf.cond(is_sound, lambda: self.load(contents, row), self.nothing)
        return tf.ensure_shape(pixels, (None, None, 3)), is_meant

    def _is_loadable(self, contents: bytes, row: np.int64) -> np.bool_:
        return np.bool_(image_headers.is_intact(contents) or self.failure(row) is None)

    def load(self, contents, row):
        """The pixels of a sample (height, width, 3), and whether they are those that its box
        means.
        """
        if self._boxes is None:
            return decoding.decode_image(contents), tf.constant(True)
        box = tf.gather(self._boxes, row)
        if self._sizes is None:
            image, _ = decoding.decode_region(contents, box, self.preprocessing, self.region)
            return image, tf.constant(True)
        annotated = tf.gather(self._sizes, row)
        image, size = decoding.decode_region(
            contents, box, self.preprocessing, self.region, annotated
        )
        return image, tf.reduce_all(size == annotated)

    def nothing(self):
        """What stands for a sample that is not loaded."""
        dtype = tf.uint8 if self._boxes is None else tf.float32
        return tf.zeros((1, 1, 3), dtype), tf.constant(False)

    def failure(self, row: int) -> str | None:
        """Why a sample cannot be read, tried by itself; None if it can."""
        try:
            with tf.device("CPU"):
                contents = tf.io.read_file(tf.gather(self._paths, row))
                _, is_meant = self.load(contents, row)
        except tf.errors.OpError as error:
            return reason_of(error)
        if is_meant:
            return None
        height, width, _ = decoding.decode_image(contents).shape
        expected = "{} x {}".format(*self.image_sizes[row])
        return f"{width} x {height} pixels, where its annotation says {expected}"


def _tensor(column: np.ndarray | None, dtype):
    return None if column is None else tf.constant(column, dtype)
