"""Saving and restoring the state of a training loop."""

from __future__ import annotations

from time import perf_counter

import keras
import numpy as np

from alexnet_keras.distribute.workers import Workers
from alexnet_keras.errors import RunError
from alexnet_keras.training.checkpoints import Checkpoint, Checkpoints
from alexnet_keras.training.train_state import TrainState
from alexnet_keras.training.train_step import TrainStep


class CheckpointManager:
    """Saves and restores the weights, the velocities and the :class:`TrainState` of a run; only
    the chief reads and writes checkpoints, and it sends what it restores to every worker.

    ``identity``: values (JSON-ready) that a checkpoint must share with the run that resumes from
    it; ``config``: that of the run, so that a checkpoint can be understood without its run folder.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        model: keras.Model,
        train_step: TrainStep,
        workers: Workers,
        identity: dict,
        config: dict,
        save_seconds: float,
    ):
        self.checkpoints = checkpoints if workers.is_chief else None
        self.train_step = train_step
        self.workers = workers
        self.save_seconds = save_seconds
        self.identity = identity
        self.config = config
        self.variables = {variable.path: variable for variable in model.weights}
        self.variables |= {
            f"velocity/{variable.path}": velocity for variable, velocity in train_step.velocities()
        }
        self._saved_at = perf_counter()
        self._saved_state = None

    def restore(self, checkpoint: Checkpoint | None) -> TrainState:
        """Restore, on every worker, the checkpoint that the chief passes. Raises ``RunError`` if
        it belongs to another run.
        """
        if checkpoint is not None:
            self._check_belongs(checkpoint)
        arrays, state = self.workers.broadcast(
            checkpoint and checkpoint.arrays, checkpoint and checkpoint.state
        )
        for name, variable in self.variables.items():
            variable.assign(arrays[name])
        if self.train_step.loss_scale and state.get("loss_scale"):
            self.train_step.loss_scale.restore(state["loss_scale"])
        return TrainState.from_dict(state.get("progress"))

    @property
    def is_due(self) -> bool:
        """Whether it is time for another checkpoint."""
        return bool(self.checkpoints) and perf_counter() - self._saved_at >= self.save_seconds

    def save(self, train_state: TrainState) -> None:
        """Save in the background, unless an earlier checkpoint is still being written.

        ``train_state`` must count every step that was started. Raises ``RunError`` if a variable
        has values that are not finite.
        """
        # No copy is needed: a variable that is updated during the write gets a new buffer.
        arrays = {
            name: np.asarray(variable.value.read_value())
            for name, variable in self.variables.items()
        }
        for name, array in arrays.items():
            if not np.isfinite(array.sum(dtype=np.float64)):
                raise RunError(
                    f"after step {train_state.step}: {name}: expected finite values, got others; "
                    "they are not saved; try a lower learning rate"
                )
        scale = self.train_step.loss_scale
        state = {
            "step": train_state.step,
            "best": train_state.best,
            "about": self.identity,
            "progress": train_state.to_dict(),
            "loss_scale": scale and scale.to_dict(),
            "config": self.config,
        }
        if self.checkpoints.save(arrays, state):
            self._saved_at = perf_counter()
            self._saved_state = train_state.to_dict()

    def save_now(self, train_state: TrainState) -> bool:
        """Save and wait for the disk; returns whether ``train_state`` has been saved."""
        if not self.checkpoints:
            return True
        complete = self.checkpoints.wait()
        if complete and self._saved_state == train_state.to_dict():
            return True
        self.save(train_state)
        return self.checkpoints.wait()

    def _check_belongs(self, checkpoint: Checkpoint) -> None:
        about = checkpoint.state.get("about")
        for name, expected in self.identity.items():
            found = about.get(name) if isinstance(about, dict) else None
            if found != expected:
                raise RunError(f"{checkpoint.path}: {name}: expected {expected}, got {found}")
        for name, variable in self.variables.items():
            array = checkpoint.arrays.get(name)
            if array is None or array.shape != tuple(variable.shape):
                raise RunError(
                    f"{checkpoint.path}: {name}: expected an array of shape "
                    f"{tuple(variable.shape)}, got "
                    f"{'none' if array is None else array.shape}"
                )
