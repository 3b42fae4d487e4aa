"""Batches of images from samples, with tf.data. A batch is a pure function of (seed, step).

Shuffling is a permutation of indices, and augmentation is seeded with the sample's position in the
stream, so any step can be recomputed without reading the steps before it, with any number of
threads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.augmentation import AUGMENTATIONS, Augmentation
from alexnet_keras.configs.loading import BoxRegion, Shard
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import image_ops
from alexnet_keras.data.augment_ops import augment, scale_colour_down
from alexnet_keras.data.bad_files import BadFiles, BadRows, reason_of
from alexnet_keras.data.input_size import InputSize
from alexnet_keras.data.sample_loader import SampleLoader
from alexnet_keras.data.samples import Samples
from alexnet_keras.data.steps import check_batch_size, epoch_start
from alexnet_keras.errors import ConfigurationError, DataError


class Batch(NamedTuple):
    """``images`` (batch, crop, crop, 3) float32, the network's input; ``labels`` (batch,)
    int32; ``weights`` (batch,) float32, 0 for padding and unreadable files, else 1; ``rows``
    (batch,) int64, the rows of the samples.
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    rows: tf.Tensor

    def part(self, start: int, size: int) -> Batch:
        """The ``size`` samples from ``start`` on."""
        return Batch(*(column[start : start + size] for column in self))


class Batches:
    """An iterable of :class:`Batch`. ``TrainingBatches`` shuffles and augments,
    ``EvaluationBatches`` reads in order.

    ``shard`` is the part of each batch that this worker reads; ``batch_size`` counts the samples
    of all workers.

    The samples of a file that cannot be read, or whose image has another size than its boxes were
    drawn on, get weight 0, and the file is named in the log; more than 1% of the files raise
    ``DataError``. ``bad="error"`` raises at the first one, ``bad="mark"`` accepts any number.
    ``bad_rows`` lists these samples. Those already in ``bad_files`` are not read again; those
    found are added to it.
    """

    def __init__(
        self,
        samples: Samples,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        region: BoxRegion | None = None,
        bad: str = "skip",
        bad_files: BadFiles | None = None,
        num_threads: int = 2,
        shard: Shard = Shard(),  # noqa: B008  frozen
        input_size: tuple[int, int] | None = None,
    ):
        check_batch_size(batch_size, shard.count)
        if num_threads < 1:
            raise ConfigurationError(f"num_threads: expected at least 1, got {num_threads}")
        self.samples = samples
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.num_threads = num_threads
        self.shard = shard
        self._bad = BadRows(samples, bad, bad_files)
        self._size = batch_size // shard.count
        self._loader = SampleLoader(samples, preprocessing, region or BoxRegion())
        self._labels = tf.constant(samples.labels, tf.int32)
        self._input_size = InputSize(self._loader, preprocessing, len(samples), input_size)
        self._image_shape = (*self._input_size.shape, 3)
        # Traced once, not on every pass.
        self._traced_sample = tf.function(self._sample, autograph=False)

    @property
    def region(self) -> BoxRegion:
        """How boxes become regions."""
        return self._loader.region

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's inputs."""
        return self._input_size.shape

    @property
    def bad_rows(self) -> np.ndarray:
        """Rows found unreadable so far, ascending (k,) int64."""
        return np.flatnonzero(self._bad.mask)

    @property
    def bad_reasons(self) -> dict[int, str]:
        """Why each row of ``bad_rows`` that was found here is unreadable."""
        return self._bad.reasons

    def iterate(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """The batches of the steps ``first_step <= step < last_step``."""
        step = first_step
        while step < last_step:
            try:
                for images, weights, rows, failed in self._dataset(step, last_step):
                    if failed.numpy().any():
                        self._note_failures(rows.numpy()[failed.numpy()])
                    yield Batch(images, tf.gather(self._labels, rows), weights, rows)
                    step += 1
            except tf.errors.OpError as error:
                self._find_failures(step, error)

    def _dataset(self, first_step: int, last_step: int) -> tf.data.Dataset:
        readable = tf.constant(~self._bad.mask)
        options = tf.data.Options()
        options.deterministic = True
        options.autotune.enabled = False  # all parallelism is set explicitly
        options.threading.private_threadpool_size = self.num_threads

        @tf.autograph.experimental.do_not_convert  # no Python control flow to convert
        def sample(index):
            return self._traced_sample(self.shard.stream_position(index, self._size), readable)

        indices = tf.data.Dataset.range(first_step * self._size, last_step * self._size)
        return (
            indices.map(sample, num_parallel_calls=self.num_threads)
            .batch(self._size, drop_remainder=True)
            .prefetch(2)
            .with_options(options)
        )

    def _sample(self, position, readable):
        """The network input at a position of the stream, its weight, its row, and whether reading
        it failed.
        """
        row, is_sample = self._row(position)
        to_load = is_sample & tf.gather(readable, row)
        pixels, loaded = tf.cond(
            to_load, lambda: self._loader.try_to_load(row), self._loader.placeholder
        )
        loaded = self._input_size.is_fitting(pixels, loaded)
        image = tf.cond(
            loaded,
            lambda: self._network_input(position, pixels),
            lambda: tf.zeros(self._image_shape),
        )
        return image, tf.cast(loaded, tf.float32), row, to_load & ~loaded

    def _network_input(self, position, pixels):
        window, mirrored = self._crop(position, pixels)
        return image_ops.to_network_input(window, self.preprocessing, mirrored)

    def _row(self, position):
        """The row of the sample at a position of the stream, and False if it is padding."""
        raise NotImplementedError

    def _crop(self, position, image):
        """Crops of the resized image, of shape ``_image_shape``, and whether to mirror them (a
        bool scalar, or None for never).
        """
        raise NotImplementedError

    def _note_failures(self, rows: np.ndarray) -> None:
        """Record rows that the pipeline skipped."""
        new = [int(row) for row in dict.fromkeys(rows) if not self._bad.mask[row]]
        self._bad.add({row: self._input_size.skip_reason(row) for row in new})

    def _find_failures(self, step: int, error: tf.errors.OpError) -> None:
        """Find the samples of this step that stopped the pipeline, by reading them one by one.

        Some boxes of a damaged file may be intact, so every sample is tried: no batch may depend
        on the batches before it.
        """
        reasons = {}
        for index in range(step * self._size, (step + 1) * self._size):
            row, is_sample = self._row(np.int64(self.shard.stream_position(index, self._size)))
            if is_sample and not self._bad.mask[int(row)]:
                reasons[int(row)] = self._loader.failure(int(row))
        reasons = {row: reason for row, reason in reasons.items() if reason is not None}
        if not reasons:
            raise DataError(
                f"{self.samples.split}: step {step}: expected a batch, got: {reason_of(error)}"
            )
        self._bad.add(reasons)


class TrainingBatches(Batches):
    """An endless stream: each epoch is a new permutation of all samples; a batch may contain
    samples of two epochs.
    """

    def __init__(
        self,
        samples: Samples,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        seed: int,
        augmentation: Augmentation = AUGMENTATIONS["standard"],
        **options,
    ):
        super().__init__(samples, preprocessing, batch_size, **options)
        self.seed = seed
        self.augmentation = augmentation

    def first_step_of(self, epoch: int) -> int:
        """The first step without a sample of an earlier epoch."""
        return epoch_start(epoch, len(self.samples), self.batch_size)

    def _row(self, position):
        epoch = position // len(self.samples)
        index = position % len(self.samples)
        seed = tf.stack([tf.cast(self.seed, tf.int64), epoch])
        return tf.random.experimental.index_shuffle(index, seed, len(self.samples) - 1), True

    def _network_input(self, position, pixels):
        image = super()._network_input(position, pixels)
        return scale_colour_down(image, self.augmentation, self._fractional_epoch(position))

    def _crop(self, position, image):
        seed = tf.stack([tf.cast(self.seed, tf.int64), position])
        epoch = self._fractional_epoch(position)
        return augment(image, self.preprocessing, self.augmentation, seed, epoch)

    def _fractional_epoch(self, position):
        return tf.cast(position, tf.float64) / len(self.samples)


class EvaluationBatches(Batches):
    """Every sample exactly once, in order; the last batch is padded with weight 0.

    ``crops``: 1 is the centre crop; 10 gives ``images`` the shape (batch, 10, crop, crop, 3), the
    paper's ten crops of each sample. ``only``: these rows alone, by default all.
    """

    def __init__(
        self,
        samples: Samples,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        crops: int = 1,
        only: range | None = None,
        **options,
    ):
        super().__init__(samples, preprocessing, batch_size, **options)
        if crops not in (1, 10):
            raise ConfigurationError(f"crops: expected 1 or 10, got {crops}")
        if crops == 10 and preprocessing.crop is None:
            raise ConfigurationError("crops: expected 1 where images are taken whole, got 10")
        self.crops = crops
        self.only = range(len(samples)) if only is None else only
        if crops == 10:
            self._image_shape = (10, *self._image_shape)

    @property
    def steps(self) -> int:
        return -(-len(self.only) // self.batch_size)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate(0, self.steps)

    def _row(self, position):
        row = position + self.only.start
        return tf.minimum(row, self.only.stop - 1), row < self.only.stop

    def _crop(self, position, image):
        rule = self.preprocessing
        if self.crops == 10:
            return image_ops.ten_crops(image_ops.resize(image, rule), rule), None
        window = image_ops.resize_and_crop(
            image, rule, lambda margin: image_ops.center_offset(margin, rule)
        )
        return tf.ensure_shape(window, self._image_shape), None
