"""What of a training loop goes into a checkpoint, and back."""

from __future__ import annotations

from time import perf_counter

import keras
import numpy as np

from alexnet_keras.distribute.workers import Workers
from alexnet_keras.errors import RunError
from alexnet_keras.training.checkpoints import Checkpoint, Checkpoints
from alexnet_keras.training.train_state import TrainState
from alexnet_keras.training.train_step import TrainStep


class Snapshots:
    """Saves the weights, velocities and progress of a run; the chief writes, and sends to every
    worker what it restores.

    ``about``: facts (JSON-ready) that a checkpoint must share with the run that resumes from it;
    ``config``: that of the run, so that a checkpoint explains itself without its run folder.
    """

    def __init__(
        self,
        checkpoints: Checkpoints | None,
        model: keras.Model,
        train_step: TrainStep,
        workers: Workers,
        about: dict,
        config: dict,
        save_seconds: float,
    ):
        self.checkpoints = checkpoints if workers.is_chief else None
        self.train_step = train_step
        self.workers = workers
        self.save_seconds = save_seconds
        self.about = about
        self.config = config
        self.variables = {variable.path: variable for variable in model.weights}
        self.variables |= {
            f"velocity/{variable.path}": velocity for variable, velocity in train_step.velocities()
        }
        self.saved = perf_counter()
        self.saved_progress = None

    def restore(self, checkpoint: Checkpoint | None) -> TrainState:
        """Restore on every worker the checkpoint that the chief passes. Raises ``RunError`` if it
        is another run's.
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
        """Whether the last checkpoint is old enough for another."""
        return bool(self.checkpoints) and perf_counter() - self.saved >= self.save_seconds

    def save(self, progress: TrainState) -> None:
        """Save in the background, unless an earlier checkpoint is still being written.

        Every step that was started must be counted in ``progress``. Raises ``RunError`` if a
        variable holds values that are not finite.
        """
        # No copy: a variable that is updated while its value is written takes a new buffer.
        arrays = {
            name: np.asarray(variable.value.read_value())
            for name, variable in self.variables.items()
        }
        for name, array in arrays.items():
            if not np.isfinite(array.sum(dtype=np.float64)):
                raise RunError(
                    f"after step {progress.step}: {name} holds values that are not finite, and "
                    "is not saved; try a lower learning rate"
                )
        scale = self.train_step.loss_scale
        state = {
            "step": progress.step,
            "best": progress.best,
            "about": self.about,
            "progress": progress.to_dict(),
            "loss_scale": scale and scale.to_dict(),
            "config": self.config,
        }
        if self.checkpoints.save(arrays, state):
            self.saved = perf_counter()
            self.saved_progress = progress.to_dict()

    def save_now(self, progress: TrainState) -> bool:
        """Save and wait for the disk; whether ``progress`` is saved when it returns."""
        if not self.checkpoints:
            return True
        complete = self.checkpoints.wait()
        if complete and self.saved_progress == progress.to_dict():
            return True
        self.save(progress)
        return self.checkpoints.wait()

    def _check_belongs(self, checkpoint: Checkpoint) -> None:
        about = checkpoint.state.get("about")
        for name, expected in self.about.items():
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
