"""The size of network inputs, and which images have it where not all are resized to one size."""

from __future__ import annotations

import tensorflow as tf

from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import image_ops
from alexnet_keras.data.sample_loader import SampleLoader
from alexnet_keras.errors import DataError


class InputSize:
    """The (height, width) of network inputs: the crop, else the size of images taken whole, which
    is that of the first readable one as resized unless it is ``known``. Raises ``DataError`` if
    none of the ``rows`` samples is readable.
    """

    def __init__(
        self,
        loader: SampleLoader,
        preprocessing: Preprocessing,
        rows: int,
        known: tuple[int, int] | None = None,
    ):
        self._loader = loader
        self._rule = preprocessing
        crop = preprocessing.crop
        self._all_fit = crop is not None and preprocessing.resize != "none"
        self.shape = (crop, crop) if crop else known or self._first_size(rows)

    def is_fitting(self, image, loaded):
        """Whether an image (height, width, 3) that was ``loaded``, once resized, is large enough
        for the crop, or exactly of the size; a bool scalar.
        """
        if self._all_fit:
            return loaded
        size = image_ops.resized_size(image, self._rule)
        compare = tf.equal if self._rule.crop is None else tf.greater_equal
        return loaded & tf.reduce_all(compare(size, self.shape))

    def skip_reason(self, row: int) -> str:
        """Why a sample was skipped: it does not fit, or the loader's reason."""
        image = None if self._all_fit else self._load(row)
        if image is None or self.is_fitting(image, True):
            return self._loader.skip_reason(row)
        found = "{1} x {0}".format(*image_ops.resized_size(image, self._rule).numpy())
        expected = f"{self.shape[1]} x {self.shape[0]} pixels"
        if self._rule.crop is None:
            return f"expected {expected} like the first image, as there is no crop, got {found}"
        return f"expected at least {expected} for the crop, got {found}"

    def _first_size(self, rows: int) -> tuple[int, int]:
        for row in range(rows):
            image = self._load(row)
            if image is not None:
                return tuple(map(int, image_ops.resized_size(image, self._rule)))
        raise DataError("crop: expected a readable image, whose size is taken, got none")

    def _load(self, row: int):
        """The pixels of a sample, or None if it is unreadable."""
        try:
            with tf.device("CPU"):
                pixels, loaded = self._loader.try_to_load(tf.constant(row, tf.int64))
        except tf.errors.OpError:
            return None
        return pixels if loaded else None
