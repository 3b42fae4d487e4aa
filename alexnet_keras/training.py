"""The one training loop: steps of a compiled function over batches, driving ordinary Keras callbacks."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable
from time import perf_counter

import keras
import tensorflow as tf

from alexnet_keras.data.pipeline import Batch, TrainingBatches
from alexnet_keras.errors import RunError
from alexnet_keras.evaluation import correct_in_top
from alexnet_keras.optimizer import MomentumSGD
from alexnet_keras.spec import FINAL_LAYER, Recipe

logger = logging.getLogger(__name__)


def optimizer_for(recipe: Recipe, multipliers: dict[str, float] | None = None) -> MomentumSGD:
    """The recipe's optimizer; ``multipliers`` maps layer names to factors of the learning rate."""
    return MomentumSGD(recipe.learning_rate, recipe.momentum, recipe.weight_decay, recipe.bias_multiplier, multipliers)


def train(model: keras.Model, batches: TrainingBatches, recipe: Recipe, *, optimizer: MomentumSGD | None = None,
          callbacks: Iterable[keras.callbacks.Callback] = (), validate: Callable[[], dict] | None = None) -> None:
    """Train ``model`` (ending in fc8 or prob) for ``recipe.epochs`` passes over the samples of ``batches``.

    Callbacks get ``loss``, ``top1``, ``top5`` (fractions of the batch), ``learning_rate`` and ``images_per_second`` at the
    end of each step, and the epoch's means with ``val_...`` from ``validate()`` at the end of each epoch. A callback
    ends the run by setting ``model.stop_training``. Raises ``RunError`` at the first step whose loss is not finite.
    """
    optimizer = optimizer or optimizer_for(recipe)
    step_function = _compiled_step(model, optimizer)
    calls = keras.callbacks.CallbackList(list(callbacks), model=model)
    model.stop_training = False
    calls.on_train_begin()
    for epoch in range(recipe.epochs):
        first, last = batches.first_step_of(epoch), batches.first_step_of(epoch + 1)
        if first == last:
            continue
        calls.on_epoch_begin(epoch)
        logs = _epoch(step_function, batches, first, last, recipe, optimizer, calls, model)
        if validate and not model.stop_training:
            logs |= {f"val_{name}": value for name, value in validate().items()}
        calls.on_epoch_end(epoch, logs)
        if model.stop_training:
            break
    calls.on_train_end()


def _epoch(step_function, batches, first, last, recipe, optimizer, calls, model) -> dict:
    sums, began = [0.0] * 4, perf_counter()
    for step, batch in enumerate(batches.between(first, last), first):
        calls.on_train_batch_begin(step)
        rate = recipe.rate_at(step * batches.batch_size / len(batches.samples))
        optimizer.learning_rate.assign(rate)
        values = [float(value) for value in step_function(batch)]
        if not math.isfinite(values[0]):
            raise RunError(f"step {step}: the loss is {values[0]}, expected a finite number; try a lower learning rate "
                           f"than {rate:g}")
        sums = [total + value for total, value in zip(sums, values, strict=True)]
        speed = {"images_per_second": sums[3] / (perf_counter() - began)}
        calls.on_train_batch_end(step, _means(values) | speed | {"learning_rate": rate})
        if model.stop_training:
            break
    return _means(sums) | speed


def _means(sums: list[float]) -> dict:
    loss, top1, top5, images = sums
    return {name: value / max(images, 1) for name, value in (("loss", loss), ("top1", top1), ("top5", top5))}


def _compiled_step(model: keras.Model, optimizer: MomentumSGD):
    """One update: returns the sums over the batch of loss, top-1 hits, top-5 hits and weights.

    The loss is divided by the batch size, not by the weights, so a skipped file takes its part of the step with it.
    """
    network = keras.Model(model.inputs, model.get_layer(FINAL_LAYER).output)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(batch: Batch):
        with tf.GradientTape() as tape:
            logits = tf.cast(network(batch.images, training=True), tf.float32)
            losses = batch.weights * tf.nn.sparse_softmax_cross_entropy_with_logits(batch.labels, logits)
            loss = tf.reduce_sum(losses) / tf.cast(tf.shape(losses)[0], tf.float32)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        top1, top5 = (tf.reduce_sum(batch.weights * correct_in_top(k, logits, batch.labels)) for k in (1, 5))
        return tf.reduce_sum(losses), top1, top5, tf.reduce_sum(batch.weights)
    return step
