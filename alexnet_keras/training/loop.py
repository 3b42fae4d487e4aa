"""The one training loop: for one device, several, or the workers of many machines, driving
ordinary Keras callbacks.
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
from alexnet_keras.training.checkpoints import Checkpoint, Checkpoints
from alexnet_keras.training.running_steps import (
    InterruptedBySignal,
    RunningSteps,
    check_finite,
)
from alexnet_keras.training.signals import StopRequest, catch_stop_signals
from alexnet_keras.training.snapshots import Snapshots
from alexnet_keras.training.train_state import TrainState
from alexnet_keras.training.train_step import TrainStep

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecutionConfig:
    """The devices that train, and how often they save: nothing here changes what is learned.

    ``accumulate``: each batch is computed in so many parts. ``save_seconds``: the least time from
    one checkpoint to the next. ``resume``: resume from ``checkpoint``, which the chief alone
    has. ``about``: facts that a checkpoint records, and that must be the same when it is resumed;
    ``config``: the run's, which it records too.
    """

    workers: Workers = field(default_factory=lambda: open_workers("one"))
    accumulate: int = 1
    checkpoints: Checkpoints | None = None
    save_seconds: float = 60.0
    resume: bool = False
    checkpoint: Checkpoint | None = None
    about: dict = field(default_factory=dict)
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
    """Train ``model`` (ending in fc8 or prob, built under the strategy of ``execution``) as long
    as ``recipe`` says.

    Callbacks get the ``loss``, ``top1``, ``top5`` (fractions of the batch), ``learning_rate``,
    ``images_per_second`` and ``..._seconds`` of each step, and the epoch's means, with ``val_...``
    figures, at the end of each epoch; an epoch without a step of its own, where a batch is larger
    than the data set, is passed over. A callback ends the run by setting ``model.stop_training``;
    Ctrl-C ends it after the step under way. Raises ``RunError`` as soon as a loss is not finite,
    ``TerminatedError`` after SIGTERM and ``WorkerLostError``, both when everything has been saved.
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
        loop.calls.on_train_begin(
            {
                "epochs": loop.epochs,
                "steps": loop.last_step,
                "step": loop.progress.step,
                "epoch": loop.progress.epoch,
            }
        )
        try:
            finished = loop.run()
        finally:
            loop.calls.on_train_end()
        if val_batches is not None and loop.evaluation is None:
            loop.evaluate()
    return TrainingResult(finished, loop.progress.step, loop.evaluation)


class _Loop:
    """The state of one call of :func:`train`.

    ``lag``: how many steps may run before the result of the first of them is read. A device that
    computes while the host goes on is never kept waiting with 1.
    """

    def __init__(
        self,
        model: keras.Model,
        batches: TrainingBatches | FeatureBatches,
        recipe: Recipe,
        calls: keras.callbacks.CallbackList,
        val_batches: EvaluationBatches | None,
        execution: ExecutionConfig,
        request: StopRequest,
    ):
        samples = len(batches.samples)
        self.model = model
        self.batches = batches
        self.recipe = recipe
        self.calls = calls
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
        self.snapshots = Snapshots(
            execution.checkpoints,
            model,
            self.train_step,
            execution.workers,
            execution.about,
            execution.config,
            execution.save_seconds,
        )
        self.progress = (
            self.snapshots.restore(execution.checkpoint) if execution.resume else TrainState()
        )
        self.lag = 1 if self.train_step.returns_early else 0
        self.running = RunningSteps(self.progress, calls)

    def run(self) -> bool:
        """Train all epochs; False if the run was interrupted. ``evaluation`` is then of the
        present weights, or None.
        """
        try:
            while self.progress.epoch < self.epochs and not (
                self.model.stop_training or self.progress.is_over(self.recipe)
            ):
                self.epoch(self.progress.epoch)
        except InterruptedBySignal as interrupted:
            self._interrupted(interrupted.args[0])
            return False
        except KeyboardInterrupt:
            if (
                self.request.signal is not None
            ):  # a second Ctrl-C, which may come in the middle of anything
                raise
            self._interrupted(signal.SIGINT)
            return False
        except WorkerLostError as error:
            raise WorkerLostError(f"{error}; {self._saved()}") from None
        self.snapshots.save_now(self.progress)
        return True

    def epoch(self, epoch: int) -> None:
        """The rest of an epoch's steps, and its figures on val."""
        first, end = (
            min(self.batches.first_step_of(each), self.last_step) for each in (epoch, epoch + 1)
        )
        if first == end:
            self.progress.end_epoch(None, self.recipe)
            return
        self.calls.on_epoch_begin(epoch)
        self._steps(self.progress.step, end)
        logs = self.progress.means() | {"learning_rate": self._rate(self.progress.step - 1)}
        logs |= {} if self.val_batches is None else self.evaluate(self._after_val_batch)
        logger.info(
            "epoch %d of %d: %s",
            epoch + 1,
            self.epochs,
            ", ".join(f"{name} {value:.4g}" for name, value in logs.items()),
        )
        self.calls.on_epoch_end(epoch, logs)
        figures = self.evaluation and self.evaluation.metrics()
        if self.progress.end_epoch(figures, self.recipe):
            logger.warning(
                "top-1 on val stopped improving, and the rate has dropped as often as it may: "
                "training ends"
            )
            self.model.stop_training = True
        if self.progress.is_best:
            self.snapshots.save_now(self.progress)

    def evaluate(self, on_batch=lambda images: None) -> dict:
        """Measure the present weights on val; returns ``val_...`` figures."""
        evaluation = evaluate(
            self.model, self.val_batches, on_batch, self.evaluation_step, self.execution.workers
        )
        check_finite(
            f"after step {self.progress.step}: the loss on val",
            evaluation.loss,
            self.recipe.learning_rate,
        )
        self.evaluation = evaluation
        return {f"val_{name}": value for name, value in evaluation.metrics().items()}

    def _steps(self, first: int, end: int) -> None:
        """Run the steps ``first <= step < end``, unless a callback or a signal ends the run."""
        batches = self.running.timed(self.batches.iterate(first, end))
        for step, batch in enumerate(batches, first):
            self.calls.on_train_batch_begin(step)
            rate = self._rate(step)
            signal_number = self.request.signal
            self.running.add(step, rate, self.train_step(step, batch, rate, signal_number))
            self.evaluation = None
            self.running.finish(lag=self.lag if signal_number is None else 0)
            if self.snapshots.is_due:
                self.running.finish()
                self.snapshots.save(self.progress)
            if self.model.stop_training:
                break
        self.running.finish()

    def _rate(self, step: int) -> float:
        return self.recipe.learning_rate_at(
            step,
            step * self.batches.batch_size / len(self.batches.samples),
            self.progress.plateaus,
        )

    def _after_val_batch(self, images: int) -> None:
        """One worker alone need not finish the evaluation first."""
        if self.request.signal is not None and self.execution.workers.count == 1:
            raise InterruptedBySignal(self.request.signal)

    def _interrupted(self, number: int) -> None:
        self.running.finish()
        saved = self._saved()
        if number == signal.SIGTERM:
            raise TerminatedError(f"terminated after {self.progress.step} steps; {saved}")
        logger.warning(
            "interrupted after %d steps; what was learned so far is kept", self.progress.step
        )

    def _saved(self) -> str:
        """Save, and return what to tell the user of it."""
        if not self.snapshots.checkpoints:
            return "this worker has nothing to save"
        if self.snapshots.save_now(self.progress):
            return f"saved after step {self.progress.step}"
        return "the last steps could not be saved"
