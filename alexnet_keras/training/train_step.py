"""One update of the weights by one batch, whoever computes it: one device, several, or the workers
of many machines.

Loss and gradients are sums over the whole batch, divided by its size, and dropout masks belong to
the samples; so how the batch is cut into parts, for replicas or for the memory of one, changes
nothing but the order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.batches import Batch, check_batch_size
from alexnet_keras.distribute.workers import Workers
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.evaluation.evaluator import correct_in_top
from alexnet_keras.models.layers import masks_of
from alexnet_keras.training.optimizer import MomentumSGD
from alexnet_keras.training.signals import SIGNALS


class Result(NamedTuple):
    """Sums over the whole batch: ``loss``, ``top1`` and ``top5`` hits, ``images`` that counted.
    ``signal``: by which some worker was asked to stop, or None. ``all_reduce_seconds``: what the
    exchange took, None where there is one replica.
    """

    loss: float
    top1: float
    top5: float
    images: float
    signal: int | None
    all_reduce_seconds: float | None


@dataclass
class LossScale:
    """Gradients in half precision are computed ``value`` times too large, so that none vanishes
    (Micikevicius et al. 2018).

    The factor is halved when they overflow, and that update left out; it is doubled after
    ``patience`` that did not.
    """

    value: float = 1.0
    good_steps: int = 0
    patience: int = 2000

    @classmethod
    def for_network(cls, model: keras.Model) -> LossScale | None:
        return cls(2.0**15) if model.get_layer(FINAL_LAYER).compute_dtype == "float16" else None

    def overflowed(self, finite: bool) -> bool:
        """Take note of an update's gradients; whether it must be left out."""
        if not finite:
            self.value, self.good_steps = max(self.value / 2, 1.0), 0
        else:
            self.good_steps += 1
            if self.good_steps == self.patience:
                self.value, self.good_steps = self.value * 2, 0
        return not finite


class Updates:
    """Calling it makes one update of ``model`` (ending in fc8 or prob), whose variables live on
    ``workers.strategy``.

    ``accumulate``: the batch is computed in so many parts, one after the other, to fit a small
    memory. Gradients are computed, then summed over all replicas, then applied: three functions,
    so that nothing is changed when a worker is lost in between.
    """

    def __init__(
        self,
        model: keras.Model,
        recipe: Recipe,
        batch_size: int,
        *,
        seed: int,
        workers: Workers,
        accumulate: int = 1,
    ):
        check_layer_names(
            recipe.multipliers, [layer.name for layer in model.layers if layer.weights]
        )
        check_batch_size(batch_size, workers.strategy.num_replicas_in_sync * accumulate)
        self.workers, self.strategy, self.seed, self.accumulate = (
            workers,
            workers.strategy,
            seed,
            accumulate,
        )
        self.batch_size, self.clip_norm = batch_size, recipe.clip_norm
        self.variables, self.loss_scale = model.trainable_variables, LossScale.for_network(model)
        with self.strategy.scope():
            self.network = keras.Model(model.input, model.get_layer(FINAL_LAYER).output)
            self.optimizer = MomentumSGD(
                recipe.learning_rate,
                recipe.momentum,
                recipe.weight_decay,
                recipe.bias_multiplier,
                recipe.multipliers,
                recipe.decay_biases,
            )
            self.optimizer.build(self.variables)
        self._gradients = tf.function(self._on_replicas(self._gradients_of_piece), autograph=False)
        self._add = tf.function(
            self._on_replicas(lambda one, other: tf.nest.map_structure(tf.add, one, other))
        )
        self._reduce = tf.function(self._on_replicas(self._reduced), autograph=False)
        self._apply = tf.function(self._applied, autograph=False)

    def __call__(self, step: int, batch: Batch, rate: float, signal: int | None = None) -> Result:
        """Update by this worker's part of the batch of ``step``; ``signal``, if one came, is told
        to all workers.

        A loss that is not finite is returned without an update.
        """
        scale = tf.constant(self.loss_scale.value if self.loss_scale else 1.0)
        gradients, sums = self._accumulated(step, batch, scale)
        began = perf_counter() if self.strategy.num_replicas_in_sync > 1 else None
        with self.workers.guarded():
            came = tf.constant([float(signal == number) for number in SIGNALS])
            gradients, sums, finite = self._reduce(gradients, sums, came, scale)
            loss, top1, top5, images, *came = self.workers.gathered(sums)[0].numpy().tolist()
        seconds = None if began is None else perf_counter() - began
        left_out = self.loss_scale is not None and self.loss_scale.overflowed(
            bool(self.workers.gathered(finite)[0])
        )
        if np.isfinite(loss) and not left_out:
            self._apply(gradients, tf.constant(rate, tf.float32))
        told = [number for number, count in zip(SIGNALS, came, strict=True) if count]
        return Result(loss, top1, top5, images, told[-1] if told else None, seconds)

    def velocities(self) -> list[tuple]:
        """Each trained variable with its velocity."""
        return list(zip(self.variables, self.optimizer.velocities, strict=True))

    def _accumulated(self, step: int, batch: Batch, scale):
        replicas = self.workers.replicas
        size = len(batch.labels) // (replicas * self.accumulate)
        first = step * self.batch_size + self.workers.index * len(batch.labels)
        total = None
        for part in range(self.accumulate):
            starts = [(part * replicas + replica) * size for replica in range(replicas)]
            pieces = [
                (batch.part(start, size), tf.constant(first + start, tf.int64)) for start in starts
            ]
            found = self._gradients(*self.workers.spread(pieces), scale)
            total = found if total is None else self._add(total, found)
        if self.strategy.num_replicas_in_sync > 1:
            self.workers.gathered(total[1])[
                0
            ].numpy()  # waits for the device, so that the exchange is timed alone
        return total

    def _on_replicas(self, function):
        return lambda *arguments: self.strategy.run(function, args=arguments)

    def _gradients_of_piece(self, batch: Batch, position, scale):
        with tf.GradientTape() as tape, masks_of(self.seed, position):
            logits = tf.cast(self.network(batch.images, training=True), tf.float32)
            losses = batch.weights * tf.nn.sparse_softmax_cross_entropy_with_logits(
                batch.labels, logits
            )
            loss = tf.reduce_sum(losses) / self.batch_size * scale
        hits = (
            tf.reduce_sum(batch.weights * correct_in_top(k, logits, batch.labels)) for k in (1, 5)
        )
        sums = tf.stack([tf.reduce_sum(losses), *hits, tf.reduce_sum(batch.weights)])
        return tape.gradient(loss, [variable.value for variable in self.variables]), sums

    def _reduced(self, gradients, sums, came, scale):
        sums = tf.concat([sums, came], 0)
        if self.strategy.num_replicas_in_sync > 1:
            values = [
                tf.identity(value) for value in (*gradients, sums)
            ]  # all_reduce needs devices; arguments have none
            *gradients, sums = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, values
            )
        finite = tf.constant(True)
        if self.loss_scale is not None:
            gradients = [gradient / scale for gradient in gradients]
            finite = tf.reduce_all(
                [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]
            )
        if self.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        return gradients, sums, finite

    def _applied(self, gradients, rate):
        for variable, gradient in zip(self.variables, gradients, strict=True):
            self.optimizer.apply_summed(variable, gradient, rate, self.strategy)


def check_layer_names(multipliers: dict[str, float], known: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` if a multiplier is of no layer that learns."""
    for name in multipliers:
        if name not in known:
            raise ConfigurationError(
                f"lr-mult: expected one of the layers {', '.join(known)}, got {name}"
            )
