"""How good a network is on a split: every sample exactly once, centre crop."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import perf_counter

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.data.pipeline import Batch
from alexnet_keras.spec import FINAL_LAYER


@dataclass(frozen=True)
class Evaluation:
    """Fractions 0-1 over ``images`` readable samples; ``confusion[i, j]`` counts samples of class i told to be j.

    ``mean_per_class`` is the mean, over the classes that occur, of each class's top-1 fraction (balanced accuracy).
    """

    top1: float
    top5: float
    mean_per_class: float
    loss: float
    images: int
    seconds: float
    confusion: np.ndarray

    def figures(self) -> dict[str, float]:
        """The scalar figures, JSON-ready."""
        return {"top1": self.top1, "top5": self.top5, "mean_per_class": self.mean_per_class, "loss": self.loss,
                "images": self.images, "seconds": self.seconds, "images_per_second": self.images / self.seconds}


def evaluate(model: keras.Model, batches: Iterable[Batch],
             on_batch: Callable[[int], None] = lambda images: None, step: Callable | None = None) -> Evaluation:
    """Run ``model`` (ending in fc8 or prob) over ``batches``; ``on_batch`` is told the images of each batch.

    ``step``: an :func:`evaluation_step` of the same model, where it is evaluated often.
    """
    classes = model.get_layer(FINAL_LAYER).units
    step = step or evaluation_step(model)
    sums, confusion, began = np.zeros(4), np.zeros((classes, classes), np.int64), perf_counter()
    for batch in batches:
        batch_sums, batch_confusion = step(batch)
        sums += batch_sums.numpy()
        confusion += batch_confusion.numpy()
        on_batch(int(batch_sums[3]))
    loss, top1, top5, images = sums
    occurring = confusion.sum(axis=1) > 0
    per_class = confusion.diagonal()[occurring] / confusion.sum(axis=1)[occurring]
    total = max(images, 1)
    return Evaluation(top1 / total, top5 / total, float(per_class.mean()) if occurring.any() else 0.0, loss / total,
                      int(images), perf_counter() - began, confusion)


def correct_in_top(k: int, logits, labels):
    """1.0 where fewer than ``k`` others score as high as the label: (batch,) float32. Ties and NaN count against it."""
    own = tf.gather(logits, labels, axis=1, batch_dims=1)[:, None]
    lower = tf.reduce_sum(tf.cast(logits < own, tf.int32), axis=1)
    return tf.cast(tf.shape(logits)[1] - lower <= k, tf.float32)


def evaluation_step(model: keras.Model) -> Callable:
    """The compiled function over one batch: sums of loss, top-1 hits, top-5 hits and weights, and the confusion counts."""
    classes = model.get_layer(FINAL_LAYER).units
    network = keras.Model(model.input, model.get_layer(FINAL_LAYER).output)

    @tf.function
    def step(batch: Batch):
        logits = _logits(network, batch.images)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
        values = (losses, correct_in_top(1, logits, batch.labels), correct_in_top(5, logits, batch.labels),
                  tf.ones_like(losses))
        sums = tf.stack([tf.reduce_sum(batch.weights * value) for value in values])
        confusion = tf.math.confusion_matrix(batch.labels, tf.argmax(logits, axis=1), classes,
                                             weights=tf.cast(batch.weights, tf.int64), dtype=tf.int64)
        return sums, confusion
    return step


def _logits(network: keras.Model, images):
    """(batch, classes) float32; of (batch, 10, ...) crops the logarithm of the mean of their softmaxes."""
    if images.shape.rank != 5:
        return tf.cast(network(images, training=False), tf.float32)
    each = tf.nn.softmax(tf.cast(network(tf.reshape(images, (-1, *images.shape[2:])), training=False), tf.float32))
    mean = tf.reduce_mean(tf.reshape(each, (-1, images.shape[1], each.shape[-1])), axis=1)
    return tf.math.log(tf.maximum(mean, 1e-38))
