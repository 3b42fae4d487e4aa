"""The one training loop: steps of a compiled function over batches, driving ordinary Keras callbacks."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from time import perf_counter

import keras
import tensorflow as tf

from alexnet_keras.data.pipeline import Batch, EvaluationBatches, FeatureBatches, TrainingBatches
from alexnet_keras.errors import RunError
from alexnet_keras.evaluation import Evaluation, correct_in_top, evaluate, evaluation_step
from alexnet_keras.optimizer import MomentumSGD
from alexnet_keras.spec import FINAL_LAYER, Recipe

logger = logging.getLogger(__name__)


def optimizer_for(recipe: Recipe, multipliers: dict[str, float] | None = None) -> MomentumSGD:
    """The recipe's optimizer; ``multipliers`` maps layer names to factors of the learning rate."""
    return MomentumSGD(recipe.learning_rate, recipe.momentum, recipe.weight_decay, recipe.bias_multiplier, multipliers,
                       global_clipnorm=recipe.clip_norm)


@dataclass(frozen=True)
class Outcome:
    """What a training run came to: ``finished`` is False if Ctrl-C ended it; ``evaluation`` is of the final weights."""

    finished: bool
    steps: int
    evaluation: Evaluation | None


def train(model: keras.Model, batches: TrainingBatches | FeatureBatches, recipe: Recipe, *,
          optimizer: MomentumSGD | None = None, callbacks: Iterable[keras.callbacks.Callback] = (),
          val_batches: EvaluationBatches | None = None) -> Outcome:
    """Train ``model`` (ending in fc8 or prob) for ``recipe.epochs`` passes over the samples of ``batches``.

    Callbacks get ``loss``, ``top1``, ``top5`` (fractions of the batch), ``learning_rate`` and ``images_per_second`` at the
    end of each step, and the epoch's means, with ``val_...`` figures, at the end of each epoch; an epoch without a step of
    its own, where a batch is larger than the data set, is passed over. A callback ends the run by setting
    ``model.stop_training``; Ctrl-C ends it after the step under way. Raises ``RunError`` as soon as a loss is not finite.
    """
    optimizer = optimizer or optimizer_for(recipe)
    loop = _Loop(model, batches, recipe, optimizer, keras.callbacks.CallbackList(list(callbacks), model=model), val_batches)
    model.stop_training = False
    loop.calls.on_train_begin({"epochs": recipe.epochs, "steps": batches.first_step_of(recipe.epochs)})
    try:
        finished = loop.run()
    finally:
        loop.calls.on_train_end()
    if val_batches is not None and loop.evaluation is None:
        loop.evaluate()
    return Outcome(finished, loop.steps, loop.evaluation)


@dataclass
class _Loop:
    model: keras.Model
    batches: TrainingBatches | FeatureBatches
    recipe: Recipe
    optimizer: MomentumSGD
    calls: keras.callbacks.CallbackList
    val_batches: EvaluationBatches | None
    steps: int = 0
    evaluation: Evaluation | None = None

    def __post_init__(self):
        self.step_function = _compiled_step(self.model, self.optimizer)
        self.evaluation_step = evaluation_step(self.model)

    def run(self) -> bool:
        """All epochs; whether they were not interrupted. ``evaluation`` is then of the present weights, or None."""
        try:
            for epoch in range(self.recipe.epochs):
                first, last = self.batches.first_step_of(epoch), self.batches.first_step_of(epoch + 1)
                if first < last:
                    self.evaluation = None
                    logs = self.epoch(epoch, first, last)
                    logs |= {} if self.val_batches is None else self.evaluate()
                    logger.info("epoch %d of %d: %s", epoch + 1, self.recipe.epochs,
                                ", ".join(f"{name} {value:.4g}" for name, value in logs.items()))
                    self.calls.on_epoch_end(epoch, logs)
                if self.model.stop_training:
                    break
        except KeyboardInterrupt:
            logger.warning("interrupted after %d steps; what was learned so far is kept", self.steps)
            return False
        return True

    def evaluate(self) -> dict:
        """Measure the present weights on val; returns ``val_...`` figures."""
        evaluation = evaluate(self.model, self.val_batches, step=self.evaluation_step)
        _refuse_not_finite(f"after step {self.steps}: the loss on val", evaluation.loss, self.recipe.learning_rate)
        self.evaluation = evaluation
        return {f"val_{name}": value for name, value in evaluation.figures().items()}

    def epoch(self, epoch: int, first: int, last: int) -> dict:
        """The steps ``first <= step < last``; returns their means."""
        self.calls.on_epoch_begin(epoch)
        sums, began = [0.0] * 4, perf_counter()
        for step, batch in enumerate(self.batches.between(first, last), first):
            self.calls.on_train_batch_begin(step)
            rate = self.recipe.rate_at(step * self.batches.batch_size / len(self.batches.samples))
            values = self._update(step, batch, rate)
            sums = [total + value for total, value in zip(sums, values, strict=True)]
            speed = {"images_per_second": sums[3] / (perf_counter() - began), "learning_rate": rate}
            self.calls.on_train_batch_end(step, _means(values) | speed)
            if self.model.stop_training:
                break
        return _means(sums) | {"images_per_second": sums[3] / (perf_counter() - began)}

    def _update(self, step: int, batch: Batch, rate: float) -> list[float]:
        self.optimizer.learning_rate.assign(rate)
        values = [float(value) for value in self.step_function(batch)]
        _refuse_not_finite(f"step {step}: the loss", values[0], rate)
        self.steps = step + 1
        return values


def _refuse_not_finite(what: str, loss: float, rate: float) -> None:
    if not math.isfinite(loss):
        raise RunError(f"{what} is {loss}, expected a finite number; try a lower learning rate than {rate:g}")


def _means(sums: list[float]) -> dict:
    loss, top1, top5, images = sums
    return {name: value / max(images, 1) for name, value in (("loss", loss), ("top1", top1), ("top5", top5))}


def _compiled_step(model: keras.Model, optimizer: MomentumSGD):
    """One update: returns the sums over the batch of loss, top-1 hits, top-5 hits and weights.

    The loss is divided by the batch size, not by the weights, so a skipped file takes its part of the step with it.
    """
    network = keras.Model(model.input, model.get_layer(FINAL_LAYER).output)
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
