"""Steps that were started and whose results have not been read and reported yet."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator
from time import perf_counter
from typing import NamedTuple

import keras

from alexnet_keras.data.batches import Batch
from alexnet_keras.errors import RunError
from alexnet_keras.training.train_state import TrainState, mean_metrics
from alexnet_keras.training.train_step import PendingResult


class InterruptedBySignal(Exception):  # noqa: N818  not an error
    """Raised after a signal that asks to stop, when every started step has been reported."""


class _RunningStep(NamedTuple):
    step: int
    learning_rate: float
    input_seconds: float
    result: PendingResult


class RunningSteps:
    """Counts each finished step in ``train_state`` and reports it to ``callbacks``, in order."""

    def __init__(self, train_state: TrainState, callbacks: keras.callbacks.CallbackList):
        self.train_state = train_state
        self.callbacks = callbacks
        self._running: deque[_RunningStep] = deque()
        self._finished_at = perf_counter()
        self._input_seconds = 0.0
        self._waited_seconds = 0.0

    def timed(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Iterate ``batches``, and measure the wait for each.

        If reading one fails, all earlier steps are finished before the error is raised.
        """
        self._finished_at = perf_counter()
        batches = iter(batches)
        while True:
            began = perf_counter()
            try:
                batch = next(batches, None)
            except Exception:
                self.finish()
                raise
            self._input_seconds = perf_counter() - began
            self._waited_seconds += self._input_seconds
            if batch is None:
                return
            yield batch

    def add(self, step: int, learning_rate: float, result: PendingResult) -> None:
        """Add a step that was started, on the last batch of :meth:`timed`."""
        self._running.append(_RunningStep(step, learning_rate, self._input_seconds, result))

    def finish(self, lag: int = 0) -> None:
        """Wait for all steps but the last ``lag``, count and report them.

        Raises ``RunError`` for a loss that is not finite, ``InterruptedBySignal`` after a step
        during which a worker received a signal to stop.
        """
        while len(self._running) > lag:
            self._finish(self._running.popleft())

    def _finish(self, running: _RunningStep) -> None:
        result = running.result.fetch()
        check_finite(f"step {running.step}: loss", result.loss, running.learning_rate)
        now = perf_counter()
        seconds = now - self._finished_at
        self.train_state.add(result[:4], seconds)
        logs = (
            mean_metrics(result)
            | self.train_state.throughput()
            | {
                "learning_rate": running.learning_rate,
                "input_seconds": running.input_seconds,
                "step_seconds": seconds - self._waited_seconds,
            }
        )
        if result.all_reduce_seconds is not None:
            logs["all_reduce_seconds"] = result.all_reduce_seconds
        self._finished_at = now
        self._waited_seconds = 0.0
        self.callbacks.on_train_batch_end(running.step, logs)
        if result.signal is not None:
            raise InterruptedBySignal(result.signal)


def check_finite(field: str, loss: float, learning_rate: float) -> None:
    """Raise ``RunError`` if a loss is not a finite number."""
    if not math.isfinite(loss):
        raise RunError(
            f"{field}: expected a finite number, got {loss}; try a lower learning rate than "
            f"{learning_rate:g}"
        )
