"""One training step: gradients of a batch, their sum over all devices, and the update.

Loss and gradients are sums over the batch of all devices, divided by its size, and each sample has
its own dropout masks; so splitting the batch, over replicas or to save memory, changes only the
order of additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import NamedTuple

import keras
import tensorflow as tf

from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.batches import Batch
from alexnet_keras.data.steps import check_batch_size
from alexnet_keras.distribute.workers import Workers
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.evaluation.evaluator import in_top_k
from alexnet_keras.models.alexnet import logits_model
from alexnet_keras.models.layers import sample_masks
from alexnet_keras.training.loss_scale import LossScale
from alexnet_keras.training.optimizer import MomentumSGD
from alexnet_keras.training.signals import SIGNALS
from alexnet_keras.training.variable_rates import VariableRates

# loss, top1, top5 and images of StepResult
NUM_SUMS = 4


class StepResult(NamedTuple):
    """Sums over the batch of all workers: ``loss``, ``top1`` and ``top5`` hits, and ``images``,
    the sum of the sample weights.

    ``signal``: the signal that asked this or another worker to stop, or None.
    ``all_reduce_seconds``: time to sum the gradients over the workers; None for one worker.
    """

    loss: float
    top1: float
    top5: float
    images: float
    signal: int | None = None
    all_reduce_seconds: float | None = None


class PendingResult(NamedTuple):
    """The result of a step that a device may still be computing."""

    sums: tf.Tensor
    signal: int | None = None
    all_reduce_seconds: float | None = None

    def fetch(self) -> StepResult:
        """Wait for the device and read the sums."""
        return StepResult(*self.sums.numpy().tolist(), self.signal, self.all_reduce_seconds)


class TrainStep:
    """Updates ``model`` (ending in fc8 or prob), whose variables were created under
    ``workers.strategy``.

    ``accumulate``: the number of parts in which the batch is computed, one after the other, to
    save memory. In one process a step is one compiled function. Several workers run three, and
    wait between them: gradients, their sum, and the update, so that a lost worker never leaves the
    others in the middle of an update.

    The device itself checks that the loss is finite: after one that is not, this step and all
    later ones leave the weights and velocities unchanged.
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
        check_layer_names(recipe, [layer.name for layer in model.layers if layer.weights])
        check_batch_size(batch_size, workers.strategy.num_replicas_in_sync * accumulate)
        self.workers = workers
        self.strategy = workers.strategy
        self.seed = seed
        self.accumulate = accumulate
        self.batch_size = batch_size
        self.clip_norm = recipe.clip_norm
        self.variables = model.trainable_variables
        with self.strategy.scope():
            self.network = logits_model(model)
            self.optimizer = MomentumSGD(
                recipe.learning_rate,
                recipe.momentum,
                recipe.weight_decay,
                recipe.bias_multiplier,
                recipe.multipliers,
                recipe.decay_biases,
            )
            self.optimizer.build(self.variables)
        self.rates = VariableRates(recipe, self.variables, self.optimizer.rate_factors)
        self.loss_scale = LossScale.for_model(model)
        self._failed = tf.Variable(False, name="failed")
        self._compiled_step = tf.function(self._step, autograph=False)
        self._compiled_gradients = tf.function(self._gradients, autograph=False)
        self._compiled_reduce = tf.function(self._reduce, autograph=False)
        self._compiled_update = tf.function(self._update, autograph=False)

    def __call__(
        self,
        step: int,
        batch: Batch,
        learning_rate: float,
        signal: int | None = None,
        epoch: float = 0.0,
    ) -> PendingResult:
        """Start the step with this worker's part of the batch.

        ``learning_rate``: the recipe's at this step, after its drops; ``epoch``: the fractional
        epoch, for its rules. ``signal``: one that asked this worker to stop; it is sent to all
        workers, in the results.
        """
        first = step * self.batch_size + self.workers.index * len(batch.labels)
        position = tf.constant(first, tf.int64)
        rates = tf.constant(self.rates.at(learning_rate, epoch))
        if self.workers.count == 1:
            return PendingResult(self._compiled_step(batch, position, rates), signal)
        return self._step_of_workers(batch, position, rates, signal)

    @property
    def returns_early(self) -> bool:
        """Whether a call may return before the device has finished."""
        return self.workers.count == 1 and bool(tf.config.list_logical_devices("GPU"))

    def velocities(self) -> list[tuple]:
        """Each trained variable with its velocity."""
        return list(zip(self.variables, self.optimizer.velocities, strict=True))

    def _step(self, batch: Batch, position, rates):
        """The complete step, if there is one process; returns the sums."""
        gradients, sums = self._gradients(batch, position)
        gradients, sums, finite = self._reduce(gradients, sums, rates)
        return self._update(gradients, sums, finite, rates)

    def _step_of_workers(self, batch: Batch, position, rates, signal) -> PendingResult:
        gradients, sums = self._compiled_gradients(batch, position)
        # Wait, so that only the reduction is timed.
        self.workers.local_values(sums)[0].numpy()
        began = perf_counter()
        with self.workers.detect_lost_worker():
            signals = tf.constant([float(signal == number) for number in SIGNALS])
            gradients, sums, finite = self._compiled_reduce(gradients, sums, rates, signals)
            counts = self.workers.local_values(sums)[0].numpy()[NUM_SUMS:]
        seconds = perf_counter() - began
        sums = self._compiled_update(gradients, sums, finite, rates)
        received = [number for number, count in zip(SIGNALS, counts, strict=True) if count]
        return PendingResult(sums, received[-1] if received else None, seconds)

    def _gradients(self, batch: Batch, position):
        """Scaled gradients and sums of each device of this worker."""
        replicas = self.workers.replicas
        size = batch.labels.shape[0] // (replicas * self.accumulate)
        starts = position + tf.range(replicas * self.accumulate, dtype=tf.int64) * size
        starts = tf.reshape(starts, (self.accumulate, replicas))
        pieces = [
            (Batch(*(self._parts(column, replica) for column in batch)), starts[:, replica])
            for replica in range(replicas)
        ]
        scale = tf.constant(1.0) if self.loss_scale is None else self.loss_scale.value
        return self.strategy.run(
            self._gradients_on_replica, args=(*self.workers.per_replica(pieces), scale)
        )

    def _parts(self, column, replica: int):
        """What ``replica`` computes of a column of the batch: (accumulate, size, ...)."""
        replicas = self.workers.replicas
        parts = tf.reshape(column, (self.accumulate, replicas, -1, *column.shape[1:]))
        # A slice would copy the images, which are all of them where there is one device.
        return tf.squeeze(parts, 1) if replicas == 1 else parts[:, replica]

    def _gradients_on_replica(self, parts: Batch, positions, scale):
        """Sum over ``parts`` of shape (accumulate, size, ...), computed one after the other."""

        def of_part(part):
            batch = Batch(*(column[part] for column in parts))
            return self._gradients_of_part(batch, positions[part], scale)

        def add(part, total):
            return part + 1, tf.nest.map_structure(tf.add, total, of_part(part))

        total = of_part(0)
        if self.accumulate == 1:
            return total
        return tf.while_loop(
            lambda part, total: part < self.accumulate,
            add,
            (tf.constant(1), total),
            parallel_iterations=1,
        )[1]

    def _gradients_of_part(self, batch: Batch, position, scale):
        with tf.GradientTape() as tape, sample_masks(self.seed, position):
            logits = tf.cast(self.network(batch.images, training=True), tf.float32)
            losses = batch.weights * tf.nn.sparse_softmax_cross_entropy_with_logits(
                batch.labels, logits
            )
            loss = tf.reduce_sum(losses) / self.batch_size * scale
        hits = (tf.reduce_sum(batch.weights * in_top_k(k, logits, batch.labels)) for k in (1, 5))
        sums = tf.stack([tf.reduce_sum(losses), *hits, tf.reduce_sum(batch.weights)])
        return tape.gradient(loss, [variable.value for variable in self.variables]), sums

    def _reduce(self, gradients, sums, rates, signals=None):
        """On each device: the clipped gradients and the sums over all devices, and whether the
        gradients are finite. Those of frozen variables are 0.
        """
        scale = None if self.loss_scale is None else self.loss_scale.value
        return self.strategy.run(
            self._reduce_on_replica, args=(gradients, sums, rates, signals, scale)
        )

    def _reduce_on_replica(self, gradients, sums, rates, signals, scale):
        if signals is not None:
            sums = tf.concat([sums, signals], 0)
        if self.strategy.num_replicas_in_sync > 1:
            # all_reduce needs tensors that are placed on a device, which arguments are not.
            values = [tf.identity(value) for value in (*gradients, sums)]
            *gradients, sums = tf.distribute.get_replica_context().all_reduce(
                tf.distribute.ReduceOp.SUM, values
            )
        gradients = self._without_frozen(gradients, rates)
        finite = tf.constant(True)
        if scale is not None:
            gradients = [gradient / scale for gradient in gradients]
            finite = tf.reduce_all(
                [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients]
            )
        if self.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        return gradients, sums, finite

    def _without_frozen(self, gradients, rates) -> list:
        """The gradients, 0 where a rule freezes the variable, so that they count in no norm."""
        return [
            tf.where(rate > 0, gradient, tf.zeros_like(gradient)) if may_freeze else gradient
            for gradient, rate, may_freeze in zip(
                gradients, tf.unstack(rates), self.rates.may_freeze, strict=True
            )
        ]

    def _update(self, gradients, sums, finite, rates):
        """Apply the gradients, each at its rate of ``rates`` (variables,), if they and the loss
        are finite; returns the sums.
        """
        sums = self.workers.local_values(sums)[0][:NUM_SUMS]
        finite = self.workers.local_values(finite)[0]
        failed = self._failed.assign(self._failed | ~tf.math.is_finite(sums[0]), read_value=True)
        if self.loss_scale is not None:
            self.loss_scale.update(finite)
        tf.cond(finite & ~failed, lambda: self._apply(gradients, rates), lambda: None)
        return sums

    def _apply(self, gradients, rates):
        updated = []
        for variable, gradient, rate, may_freeze in zip(
            self.variables, gradients, tf.unstack(rates), self.rates.may_freeze, strict=True
        ):
            # One after the other: an update needs memory for another gradient.
            with tf.control_dependencies(updated):
                updated = [
                    self.optimizer.apply_reduced_gradient(
                        variable, gradient, rate, self.strategy, may_freeze
                    )
                ]


def check_layer_names(recipe: Recipe, known: Sequence[str]) -> None:
    """Raise ``ConfigurationError`` if a multiplier or a rule of ``recipe`` names none of the
    layers with weights.
    """
    ruled = [layer for rule in recipe.rate_rules for layer in rule.layers]
    for where, names in (
        ("lr_mult", recipe.multipliers),
        (f"recipe {recipe.name}: rate_rules", ruled),
    ):
        for name in names:
            if name not in known:
                raise ConfigurationError(
                    f"{where}: expected one of the layers {', '.join(known)}, got {name}"
                )
