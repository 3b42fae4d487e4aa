"""Loads the pixels of a sample in the input pipeline, which an unreadable file does not stop."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.loading import BoxRegion
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import decoding, image_headers
from alexnet_keras.data.bad_files import reason_of
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import error_reason


class SampleLoader:
    """Loads samples by their row: entire images, or the regions of their boxes."""

    def __init__(self, samples: Samples, preprocessing: Preprocessing, region: BoxRegion):
        self.preprocessing = preprocessing
        self.region = region
        self.image_sizes = samples.image_sizes
        self._reasons = {}
        self._paths = tf.constant(samples.paths.astype(object), tf.string)
        self._boxes = _tensor(samples.boxes, tf.float32)
        self._sizes = _tensor(samples.image_sizes, tf.int32)
        self._pixels = samples.pixels

    def try_to_load(self, row):
        """Like :meth:`load`, but False for a file that cannot be read. An error in the pipeline
        would discard everything it has prefetched, so a file that looks incomplete is loaded in
        Python first.
        """
        if self._pixels is not None:
            return self._load_row(row)
        contents = tf.io.read_file(tf.gather(self._paths, row))
        is_readable = tf.cond(
            image_headers.is_complete_jpeg(contents),
            lambda: True,
            lambda: tf.ensure_shape(
                image_headers.in_python(self._is_loadable, contents, tf.bool, row), ()
            ),
        )
        pixels, loaded = tf.cond(is_readable, lambda: self.load(contents, row), self.placeholder)
        return tf.ensure_shape(pixels, (None, None, 3)), loaded

    def _load_row(self, row):
        """The pixels of a row of the array, and True."""
        pixels = tf.numpy_function(self._pixels.row, [row], self._pixels.dtype, stateful=False)
        return tf.ensure_shape(pixels, (None, None, 3)), tf.constant(True)

    def _is_loadable(self, contents: bytes, row: np.int64) -> np.bool_:
        if image_headers.is_intact(contents):
            return np.True_
        reason = self.failure(row)
        if reason is not None:
            self._reasons[int(row)] = reason
        return np.bool_(reason is None)

    def skip_reason(self, row: int) -> str:
        """Why :meth:`try_to_load` did not load a sample."""
        return self._reasons.pop(row, None) or self.failure(row) or "it was not readable at first"

    def load(self, contents, row):
        """The pixels of a sample (height, width, 3), and whether its image has the size that its
        box was drawn on.
        """
        if self._boxes is None:
            return decoding.decode_image(contents), tf.constant(True)
        box = tf.gather(self._boxes, row)
        if self._sizes is None:
            image, _ = decoding.decode_region(contents, box, self.preprocessing, self.region)
            return image, tf.constant(True)
        annotated_size = tf.gather(self._sizes, row)
        image, size = decoding.decode_region(
            contents, box, self.preprocessing, self.region, annotated_size
        )
        return image, tf.reduce_all(size == annotated_size)

    def placeholder(self):
        """The pixels of a sample that is not loaded, and False."""
        dtype = tf.uint8 if self._boxes is None else tf.float32
        if self._pixels is not None:
            dtype = self._pixels.dtype
        return tf.zeros((1, 1, 3), dtype), tf.constant(False)

    def failure(self, row: int) -> str | None:
        """Why a sample cannot be read, or None if it can; reads it eagerly."""
        try:
            if self._pixels is not None:
                self._load_row(row)
                return None
            with tf.device("CPU"):
                contents = tf.io.read_file(tf.gather(self._paths, row))
                _, size_matches = self.load(contents, row)
        except tf.errors.OpError as error:
            return reason_of(error)
        except OSError as error:  # of an array's file
            return error_reason(error)
        if size_matches:
            return None
        height, width, _ = decoding.decode_image(contents).shape
        expected = "{} x {}".format(*self.image_sizes[row])
        return f"expected {expected} pixels as annotated, got {width} x {height}"


def _tensor(column: np.ndarray | None, dtype):
    return None if column is None else tf.constant(column, dtype)
