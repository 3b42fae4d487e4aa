"""Samples -> batches: the only tf.data code. A batch is a pure function of (seed, step).

Shuffling is a permutation of indices and augmentation is keyed by the sample's place in the
stream, so any step can be built again without reading what came before it, whatever the number of
threads.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.augmentation import AUGMENTATIONS, Augmentation
from alexnet_keras.configs.loading import BoxRegion, Shard
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import image_ops
from alexnet_keras.data.augment_ops import augment
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError, DataError

MAX_BAD_FRACTION = 0.01
logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    """``images`` (batch, crop, crop, 3) float32 as the network eats them; ``labels`` (batch,)
    int32; ``weights`` (batch,) float32, 0 for padding and unreadable files, else 1; ``rows``
    (batch,) int64 into the samples.
    """

    images: tf.Tensor
    labels: tf.Tensor
    weights: tf.Tensor
    rows: tf.Tensor

    def part(self, start: int, size: int) -> Batch:
        """``size`` of its samples, from ``start`` on."""
        return Batch(*(column[start : start + size] for column in self))


class Batches:
    """An iterable of :class:`Batch`. ``TrainingBatches`` shuffles and augments,
    ``EvaluationBatches`` reads in order.

    ``shard`` is the part of each batch that this worker reads; ``batch_size`` counts the samples
    of all workers.

    An unreadable file stops nothing by itself: its samples get weight 0 and it is named in the
    log, up to 1% of the files (``DataError`` beyond). ``bad="error"`` raises at the first one,
    ``bad="mark"`` accepts any number; ``bad_rows`` tells which samples they were.
    """

    def __init__(
        self,
        samples: Samples,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        region: BoxRegion | None = None,
        bad: str = "skip",
        num_threads: int = 2,
        shard: Shard = Shard(),  # noqa: B008  frozen
    ):
        check_batch_size(batch_size, shard.count)
        if num_threads < 1:
            raise ConfigurationError(f"num_threads: expected at least 1, got {num_threads}")
        self.samples, self.preprocessing, self.batch_size = samples, preprocessing, batch_size
        self.region, self.bad = region or BoxRegion(), bad
        self.num_threads, self.shard = num_threads, shard
        self._size = batch_size // shard.count
        self.unreadable = np.zeros(len(samples), bool)
        self._paths = tf.constant(samples.paths.astype(object), tf.string)
        self._labels = tf.constant(samples.labels, tf.int32)
        self._image_shape = (preprocessing.crop, preprocessing.crop, 3)
        # Traced once, not at every pass.
        self._traced_sample = tf.function(self._sample, autograph=False)
        self._boxes = None if samples.boxes is None else tf.constant(samples.boxes, tf.float32)

    @property
    def bad_rows(self) -> np.ndarray:
        """Rows found unreadable so far, ascending (k,) int64."""
        return np.flatnonzero(self.unreadable)

    def iterate(self, first_step: int, last_step: int) -> Iterator[Batch]:
        """Batches of the steps ``first_step <= step < last_step``."""
        step = first_step
        while step < last_step:
            try:
                for images, weights, rows in self._dataset(step, last_step):
                    yield Batch(images, tf.gather(self._labels, rows), weights, rows)
                    step += 1
            except tf.errors.OpError as error:
                self._mark_unreadable(step, error)

    def _dataset(self, first_step: int, last_step: int) -> tf.data.Dataset:
        readable = tf.constant(~self.unreadable)
        options = tf.data.Options()
        options.deterministic = True
        options.autotune.enabled = False  # nothing is left to it
        options.threading.private_threadpool_size = self.num_threads

        @tf.autograph.experimental.do_not_convert  # it has no control flow of Python
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
        row, wanted = self._row(position)
        usable = wanted & tf.gather(readable, row)
        image = tf.cond(
            usable, lambda: self._image(position, row), lambda: tf.zeros(self._image_shape)
        )
        return image, tf.cast(usable, tf.float32), row

    def _image(self, position, row):
        contents = tf.io.read_file(tf.gather(self._paths, row))
        if self._boxes is None:
            image = image_ops.load_image(contents)
        else:
            box, region = tf.gather(self._boxes, row), self.region
            image = image_ops.load_box(
                contents, box, self.preprocessing, region.context, region.square
            )
        window, mirrored = self._window(position, image)
        return image_ops.to_network_input(window, self.preprocessing, mirrored)

    def _row(self, position):
        """The sample at a place of the stream, and whether it is wanted there (or only fills up a
        batch).
        """
        raise NotImplementedError

    def _window(self, position, image):
        """What is cut out of the image once it is resized, of shape ``_image_shape``, and whether
        it is to be mirrored.
        """
        raise NotImplementedError

    def _mark_unreadable(self, step: int, error: tf.errors.OpError) -> None:
        """Find the samples of this step that cannot be read, by reading them one by one, and apply
        the policy to them.

        A damaged file can hold boxes that are whole: each sample is tried, so that no batch
        depends on those before it.
        """
        found = {}
        for index in range(step * self._size, (step + 1) * self._size):
            position = np.int64(self.shard.stream_position(index, self._size))
            row, wanted = self._row(position)
            if not wanted or self.unreadable[int(row)]:
                continue
            try:
                self._image(position, row)
            except tf.errors.OpError as reason:
                found[int(row)] = reason_of(reason)
        if not found:
            raise DataError(
                f"{self.samples.split}: step {step} could not be read: {reason_of(error)}"
            )
        for row, reason in found.items():
            path = self.samples.paths[row]
            if self.bad == "error":
                raise DataError(f"{path}: expected a readable image, got: {reason}")
            if path not in self.samples.paths[self.unreadable]:
                logger.warning("%s: skipped, not a readable image: %s", path, reason)
            self.unreadable[row] = True
        if self.bad == "skip":
            self._check_bad_fraction()

    def _check_bad_fraction(self) -> None:
        bad, files = (
            len(np.unique(self.samples.paths[self.unreadable])),
            len(np.unique(self.samples.paths)),
        )
        if bad > MAX_BAD_FRACTION * files:
            raise DataError(
                f"{self.samples.split}: {bad} of {files} image files cannot be read, expected at "
                "most "
                f"{MAX_BAD_FRACTION:.0%}; the first is {self.samples.paths[self.bad_rows[0]]}"
            )


class TrainingBatches(Batches):
    """An endless stream: each epoch is a new permutation of all samples, and batches run on across
    its end.
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
        self.seed, self.augmentation = seed, augmentation

    def first_step_of(self, epoch: int) -> int:
        """The first step that holds no sample of an earlier epoch: ceil(epoch * samples /
        batch_size).
        """
        return -(-epoch * len(self.samples) // self.batch_size)

    def _row(self, position):
        epoch, place = position // len(self.samples), position % len(self.samples)
        seed = tf.stack([tf.cast(self.seed, tf.int64), epoch])
        return tf.random.experimental.index_shuffle(place, seed, len(self.samples) - 1), True

    def _window(self, position, image):
        seed = tf.stack([tf.cast(self.seed, tf.int64), position])
        return augment(image, self.preprocessing, self.augmentation, seed)


class EvaluationBatches(Batches):
    """Every sample exactly once, in order; the last batch is filled up with weight 0.

    ``crops``: 1 is the centre crop; 10 makes ``images`` (batch, 10, crop, crop, 3), the paper's
    ten crops of each sample.
    """

    def __init__(
        self,
        samples: Samples,
        preprocessing: Preprocessing,
        batch_size: int,
        *,
        crops: int = 1,
        **options,
    ):
        super().__init__(samples, preprocessing, batch_size, **options)
        if crops not in (1, 10):
            raise ConfigurationError(f"crops: expected 1 or 10, got {crops}")
        self.crops = crops
        if crops == 10:
            self._image_shape = (10, *self._image_shape)

    @property
    def steps(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[Batch]:
        return self.iterate(0, self.steps)

    def _row(self, position):
        return tf.minimum(position, len(self.samples) - 1), position < len(self.samples)

    def _window(self, position, image):
        rule = self.preprocessing
        if self.crops == 10:
            return image_ops.ten_crops(image_ops.resize(image, rule), rule), None
        return image_ops.resized_window(
            image, rule, lambda margin: image_ops.central(margin, rule)
        ), None


def check_batch_size(batch_size: int, parts: int) -> None:
    """Raise ``ConfigurationError`` for a batch that is empty or that ``parts`` cannot share
    evenly.
    """
    if batch_size < 1:
        raise ConfigurationError(f"batch size: expected at least 1, got {batch_size}")
    if batch_size % parts:
        raise ConfigurationError(
            f"batch size: must be divisible by {parts} (devices x accumulate), got {batch_size}"
        )


def reason_of(error: tf.errors.OpError) -> str:
    """TensorFlow's message without the graph nodes around it, or what one of our own checks says,
    on one line.
    """
    message = re.sub(r"\{\{.*?\}\}", "", str(error.message)).split("[[")[0].split("[Op:")[0]
    line = " ".join(message.split())
    asserted = re.fullmatch(r"assertion failed: \[(.*)\]", line)
    return (asserted[1].replace("] [", " ") if asserted else line)[-200:]
