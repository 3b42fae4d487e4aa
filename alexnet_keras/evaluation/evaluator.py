"""Accuracy and loss of a network on a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.data.batches import Batch
from alexnet_keras.distribute.workers import Workers
from alexnet_keras.models.alexnet import logits_model


@dataclass(frozen=True)
class Evaluation:
    """Fractions 0-1 over ``images`` readable samples; ``confusion[i, j]`` counts samples of class
    i predicted as j.

    ``mean_per_class`` is the mean, over the classes that occur, of each class's top-1 fraction
    (balanced accuracy). ``confusion`` is (classes, classes) int64; ``top5_per_class``, (classes,)
    int64, counts the samples of each class that are among the top 5 by :func:`in_top_k`.
    """

    top1: float
    top5: float
    mean_per_class: float
    loss: float
    images: int
    seconds: float
    confusion: np.ndarray
    top5_per_class: np.ndarray

    def metrics(self) -> dict[str, float]:
        """The scalar metrics, JSON-ready."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "mean_per_class": self.mean_per_class,
            "loss": self.loss,
            "images": self.images,
            "seconds": self.seconds,
            "images_per_second": self.images / self.seconds,
        }


class Counts(NamedTuple):
    """The sums that an :class:`Evaluation` is computed from, of one batch or of several; those of
    several batches or workers are added.

    ``sums`` (4,) float64: loss, top-1 hits, top-5 hits and images; ``confusion`` (classes,
    classes) int64; ``top5_per_class`` (classes,) int64.
    """

    sums: tf.Tensor
    confusion: tf.Tensor
    top5_per_class: tf.Tensor


def evaluate(
    model: keras.Model,
    batches: Iterable[Batch],
    on_batch: Callable[[int], None] = lambda images: None,
    step: Callable | None = None,
    workers: Workers | None = None,
) -> Evaluation:
    """Evaluate ``model``, which ends in fc8 or prob, on ``batches``; ``on_batch`` is called with
    the number of images of each batch.

    ``step``: an :func:`evaluation_step` of the same model, to reuse between evaluations.
    ``workers``: the workers that each evaluate their share of the batches; all return the
    evaluation of all shares.
    """
    step = step or evaluation_step(model, workers)
    counts = zero_counts(model)
    began = perf_counter()
    for batch in batches:
        of_batch = step(batch)
        counts = Counts(*map(tf.add, counts, of_batch))
        on_batch(int(of_batch.sums[3]))
    if workers is not None:
        counts = Counts(*workers.all_reduce_sum(list(counts)))
    return _figures(counts, perf_counter() - began)


def zero_counts(model: keras.Model) -> Counts:
    """The counts before the first batch."""
    classes = model.get_layer(FINAL_LAYER).units
    return Counts(
        tf.zeros(4, tf.float64),
        tf.zeros((classes, classes), tf.int64),
        tf.zeros(classes, tf.int64),
    )


def _figures(counts: Counts, seconds: float) -> Evaluation:
    (loss, top1, top5, images), confusion, top5_per_class = map(np.asarray, counts)
    of_class = confusion.sum(axis=1)
    total = max(images, 1)
    per_class = confusion.diagonal()[of_class > 0] / of_class[of_class > 0]
    return Evaluation(
        float(top1 / total),
        float(top5 / total),
        float(per_class.mean()) if images else 0.0,
        float(loss / total),
        int(images),
        seconds,
        confusion,
        top5_per_class,
    )


def in_top_k(k: int, logits, labels):
    """(batch,) float32: 1.0 where fewer than ``k`` other classes score at least as high as the
    label. Unlike in ``tf.math.in_top_k``, ties and NaN count against the label.
    """
    own = tf.gather(logits, labels, axis=1, batch_dims=1)[:, None]
    lower = tf.reduce_sum(tf.cast(logits < own, tf.int32), axis=1)
    return tf.cast(tf.shape(logits)[1] - lower <= k, tf.float32)


def evaluation_step(model: keras.Model, workers: Workers | None = None) -> Callable:
    """A compiled function from a ``Batch`` to its :class:`Counts`, on all devices of this
    worker.
    """
    if workers is None or workers.replicas == 1:
        return tf.function(_count_function(model), autograph=False)
    with workers.strategy.scope():
        count = _count_function(model)
    on_replicas = tf.function(
        lambda batch: workers.strategy.run(count, args=(batch,)), autograph=False
    )

    def step(batch: Batch) -> Counts:
        size = len(batch.labels) // workers.replicas
        pieces = [batch.part(replica * size, size) for replica in range(workers.replicas)]
        return Counts(
            *(
                tf.add_n(workers.local_values(count))
                for count in on_replicas(workers.per_replica(pieces))
            )
        )

    return step


def _count_function(model: keras.Model) -> Callable:
    classes = model.get_layer(FINAL_LAYER).units
    network = logits_model(model)

    def counts(batch: Batch) -> Counts:
        logits = _logits(network, batch.images)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
        in_top5 = batch.weights * in_top_k(5, logits, batch.labels)
        values = (
            batch.weights * losses,
            batch.weights * in_top_k(1, logits, batch.labels),
            in_top5,
            batch.weights,
        )
        confusion = tf.math.confusion_matrix(
            batch.labels,
            tf.argmax(logits, axis=1),
            classes,
            weights=tf.cast(batch.weights, tf.int64),
            dtype=tf.int64,
        )
        top5_per_class = tf.math.unsorted_segment_sum(
            tf.cast(in_top5, tf.int64), batch.labels, classes
        )
        return Counts(
            tf.stack([tf.reduce_sum(tf.cast(value, tf.float64)) for value in values]),
            confusion,
            top5_per_class,
        )

    return counts


def _logits(network: keras.Model, images):
    """(batch, classes) float32. For images (batch, crops, ...), the logarithm of the mean softmax
    over the crops, which stays finite for a confident network.
    """
    if images.shape.rank != 5:
        return tf.cast(network(images, training=False), tf.float32)
    crops = images.shape[1]
    logits = network(tf.reshape(images, (-1, *images.shape[2:])), training=False)
    logs = tf.nn.log_softmax(tf.cast(logits, tf.float32))
    of_image = tf.reshape(logs, (-1, crops, logs.shape[-1]))
    return tf.reduce_logsumexp(of_image, axis=1) - math.log(crops)
