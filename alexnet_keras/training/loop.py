"""The training loop, for one device, several, or several machines, with ordinary Keras
callbacks.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field

import keras

from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.batches import EvaluationBatches, TrainingBatches
from alexnet_keras.data.feature_batches import FeatureBatches
from alexnet_keras.distribute.workers import Workers, open_workers
from alexnet_keras.errors import TerminatedError, WorkerLostError
from alexnet_keras.evaluation.evaluator import Evaluation, evaluate, evaluation_step
from alexnet_keras.training.checkpoint_manager import CheckpointManager
from alexnet_keras.training.checkpoints import Checkpoint, Checkpoints
from alexnet_keras.training.running_steps import (
    InterruptedBySignal,
    RunningSteps,
    check_finite,
)
from alexnet_keras.training.signals import StopRequest, catch_stop_signals
from alexnet_keras.training.train_state import TrainState
from alexnet_keras.training.train_step import TrainStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionConfig:
    """The devices that train, and how often they save; none of it changes the trained weights
    (but for their last bits).

    ``accumulate``: the number of parts that each batch is computed in. ``save_seconds``: the
    shortest time between two checkpoints. ``resume``: resume from ``checkpoint``, which only the
    chief has. ``identity``: values (JSON-ready) that a checkpoint records, and that must be the
    same when it is resumed. ``config``: the config of the run, recorded in each checkpoint too.
    """

    workers: Workers = field(default_factory=lambda: open_workers("one"))
    accumulate: int = 1
    checkpoints: Checkpoints | None = None
    save_seconds: float = 60.0
    resume: bool = False
    checkpoint: Checkpoint | None = None
    identity: dict = field(default_factory=dict)
    config: dict = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingResult:
    """``steps`` taken, and the ``evaluation`` of the final weights; ``finished`` is False if
    Ctrl-C ended the run.
    """

    finished: bool
    steps: int
    evaluation: Evaluation | None


def train(
    model: keras.Model,
    batches: TrainingBatches | FeatureBatches,
    recipe: Recipe,
    *,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    val_batches: EvaluationBatches | None = None,
    execution: ExecutionConfig | None = None,
) -> TrainingResult:
    """Train ``model`` (ending in fc8 or prob, built under the strategy of ``execution``) for the
    epochs or steps of ``recipe``.

    Callbacks get the ``loss``, ``top1``, ``top5`` (fractions of the batch), ``learning_rate``,
    ``images_per_second`` and ``..._seconds`` of each step, and at the end of each epoch the means
    over the epoch, with ``val_...`` metrics. An epoch without a step of its own, because a batch
    is larger than the data set, is skipped. A callback ends the run by setting
    ``model.stop_training``; Ctrl-C ends it after the current step. Raises ``RunError`` as soon as
    a loss is not finite, ``TerminatedError`` after SIGTERM and ``WorkerLostError``, both after
    everything has been saved.
    """
    with catch_stop_signals() as request:
        loop = _Loop(
            model,
            batches,
            recipe,
            keras.callbacks.CallbackList(list(callbacks), model=model),
            val_batches,
            execution or ExecutionConfig(),
            request,
        )
        model.stop_training = False
        loop.callbacks.on_train_begin(
            {
                "epochs": loop.epochs,
                "steps": loop.last_step,
                "step": loop.train_state.step,
                "epoch": loop.train_state.epoch,
            }
        )
        try:
            finished = loop.run()
        finally:
            loop.callbacks.on_train_end()
        if val_batches is not None and loop.evaluation is None:
            loop.evaluate()
    return TrainingResult(finished, loop.train_state.step, loop.evaluation)


class _Loop:
    """The state of one call of :func:`train`.

    ``lag``: how many steps may be running after a new one was started, before the oldest result is
    read. With 1, a device that computes asynchronously never waits for the host.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: TrainingBatches | FeatureBatches,
        recipe: Recipe,
        callbacks: keras.callbacks.CallbackList,
        val_batches: EvaluationBatches | None,
        execution: ExecutionConfig,
        request: StopRequest,
    ):
        samples = len(batches.samples)
        self.model = model
        self.batches = batches
        self.recipe = recipe
        self.callbacks = callbacks
        self.val_batches = val_batches
        self.execution = execution
        self.request = request
        self.evaluation: Evaluation | None = None
        self.last_step = recipe.total_steps(samples)
        self.epochs = recipe.epochs or -(-self.last_step * batches.batch_size // samples)
        self.train_step = TrainStep(
            model,
            recipe,
            batches.batch_size,
            seed=batches.seed,
            workers=execution.workers,
            accumulate=execution.accumulate,
        )
        self.evaluation_step = evaluation_step(model, execution.workers)
        self.checkpoint_manager = CheckpointManager(
            execution.checkpoints,
            model,
            self.train_step,
            execution.workers,
            execution.identity,
            execution.config,
            execution.save_seconds,
        )
        self.train_state = (
            self.checkpoint_manager.restore(execution.checkpoint)
            if execution.resume
            else TrainState()
        )
        self.lag = 1 if self.train_step.returns_early else 0
        self.running = RunningSteps(self.train_state, callbacks)

    def run(self) -> bool:
        """Train all epochs; returns False if the run was interrupted. ``evaluation`` is then that
        of the current weights, or None.
        """
        try:
            while self.train_state.epoch < self.epochs and not (
                self.model.stop_training or self.train_state.stopped_by_plateau(self.recipe)
            ):
                self.epoch(self.train_state.epoch)
        except InterruptedBySignal as interrupted:
            self._interrupted(interrupted.args[0])
            return False
        except KeyboardInterrupt:
            # A second Ctrl-C may interrupt anything, so nothing can be saved.
            if self.request.signal is not None:
                raise
            self._interrupted(signal.SIGINT)
            return False
        except WorkerLostError as error:
            raise WorkerLostError(f"{error}; {self._saved()}") from None
        self.checkpoint_manager.save_now(self.train_state)
        return True

    def epoch(self, epoch: int) -> None:
        """Train the remaining steps of an epoch, and evaluate on val."""
        first, end = (
            min(self.batches.first_step_of(each), self.last_step) for each in (epoch, epoch + 1)
        )
        if first == end:
            self.train_state.end_epoch(None, self.recipe)
            return
        self.callbacks.on_epoch_begin(epoch)
        self._steps(self.train_state.step, end)
        logs = self.train_state.epoch_logs() | {
            "learning_rate": self._learning_rate(self.train_state.step - 1)
        }
        logs |= {} if self.val_batches is None else self.evaluate(self._after_val_batch)
        logger.info(
            "epoch %d of %d: %s",
            epoch + 1,
            self.epochs,
            ", ".join(f"{name} {value:.4g}" for name, value in logs.items()),
        )
        self.callbacks.on_epoch_end(epoch, logs)
        metrics = self.evaluation and self.evaluation.metrics()
        if self.train_state.end_epoch(metrics, self.recipe):
            logger.warning(
                "top-1 on val stopped improving after the last drop of the learning rate; "
                "training ends"
            )
            self.model.stop_training = True
        if self.train_state.is_best:
            self.checkpoint_manager.save_now(self.train_state)

    def evaluate(self, on_batch=lambda images: None) -> dict:
        """Evaluate the current weights on val; returns the ``val_...`` metrics."""
        evaluation = evaluate(
            self.model, self.val_batches, on_batch, self.evaluation_step, self.execution.workers
        )
        check_finite(
            f"after step {self.train_state.step}: val loss",
            evaluation.loss,
            self.recipe.learning_rate,
        )
        self.evaluation = evaluation
        return {f"val_{name}": value for name, value in evaluation.metrics().items()}

    def _steps(self, first: int, end: int) -> None:
        """Train the steps ``first <= step < end``, unless a callback or a signal ends the run."""
        batches = self.running.timed(self.batches.iterate(first, end))
        for step, batch in enumerate(batches, first):
            self.callbacks.on_train_batch_begin(step)
            learning_rate = self._learning_rate(step)
            signal_number = self.request.signal
            result = self.train_step(
                step, batch, learning_rate, signal_number, self._fractional_epoch(step)
            )
            self.running.add(step, learning_rate, result)
            self.evaluation = None
            self.running.finish(lag=self.lag if signal_number is None else 0)
            if self.checkpoint_manager.is_due:
                self.running.finish()
                self.checkpoint_manager.save(self.train_state)
            if self.model.stop_training:
                break
        self.running.finish()

    def _learning_rate(self, step: int) -> float:
        return self.recipe.learning_rate_at(
            step, self._fractional_epoch(step), self.train_state.plateaus
        )

    def _fractional_epoch(self, step: int) -> float:
        return step * self.batches.batch_size / len(self.batches.samples)

    def _after_val_batch(self, images: int) -> None:
        """Stop a single worker during the evaluation; several must finish it together."""
        if self.request.signal is not None and self.execution.workers.count == 1:
            raise InterruptedBySignal(self.request.signal)

    def _interrupted(self, number: int) -> None:
        self.running.finish()
        saved = self._saved()
        if number == signal.SIGTERM:
            raise TerminatedError(f"terminated after {self.train_state.step} steps; {saved}")
        logger.warning(
            "interrupted after %d steps; the weights so far are kept", self.train_state.step
        )

    def _saved(self) -> str:
        """Save, and return a message about it."""
        if not self.checkpoint_manager.checkpoints:
            return "this worker saves no checkpoints"
        if self.checkpoint_manager.save_now(self.train_state):
            return f"saved after step {self.train_state.step}"
        return "the last steps could not be saved"
