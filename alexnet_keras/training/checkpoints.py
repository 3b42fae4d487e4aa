"""The checkpoints of one run: written atomically, and verified before use. No TensorFlow here.

A checkpoint is a folder such as ``000012-step-340``, which gets this name only when all of it is
on the disk.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from concurrent import futures
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import PARTIAL_PREFIX, partial_name
from alexnet_keras.errors import ConfigurationError, RunError, error_reason
from alexnet_keras.training.checkpoint_files import (
    STATE,
    as_run_error,
    read_checkpoint,
    sync_folder,
    write_checkpoint,
)

CHECKPOINT_NAME = re.compile(r"([0-9]{6,})-step-([0-9]+)")
PARTIAL_NAME = re.compile(re.escape(PARTIAL_PREFIX) + "[0-9a-f]+-" + CHECKPOINT_NAME.pattern)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A verified checkpoint: ``arrays`` by name, bit for bit as saved, and the JSON ``state`` with
    its ``"step"``.
    """

    path: Path
    number: int
    arrays: dict[str, np.ndarray]
    state: dict


class Checkpoints:
    """The checkpoints in ``folder``: the newest ``keep`` and the best. Only one process at a time
    may write them.

    The first save creates ``folder``; its parent must exist. Raises ``ConfigurationError`` if
    ``keep`` is below 1.
    """

    def __init__(self, folder: Path, keep: int = 2):
        if keep < 1:
            raise ConfigurationError(f"keep: expected at least 1 checkpoint, got {keep}")
        self.folder = Path(folder)
        self.keep = keep
        self._executor = futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing: futures.Future | None = None
        self._last_is_complete = True
        self._damaged: set[Path] = set()

    def save(self, arrays: dict[str, np.ndarray], state: dict) -> bool:
        """Start to write a checkpoint in the background; does nothing and returns False while an
        earlier one is being written.

        ``arrays``: of any shape and any NumPy dtype except objects; do not change them before the
        write has ended. ``state``: JSON-ready, with an int ``"step"`` from 0 and, if one is known,
        the ``"step"`` of ``"best"``. Errors of the file system are logged as warnings, so that
        training continues; any other error of the previous write is raised here.
        """
        if self._writing is not None and not self._writing.done():
            return False
        self.wait()
        best = state.get("best") or {}
        text = json.dumps(state, indent=2) + "\n"
        self._writing = self._executor.submit(
            self._try_to_save, arrays, text, state["step"], best.get("step")
        )
        return True

    def wait(self) -> bool:
        """Wait for the write in progress; returns whether the last checkpoint is complete (True
        before the first).

        Raises an error of the write, once, unless the file system caused it.
        """
        if self._writing is not None:
            futures.wait([self._writing])
            ended = self._writing
            self._writing = None
            self._last_is_complete = False
            self._last_is_complete = ended.result()
        return self._last_is_complete

    def newest(self) -> Checkpoint | None:
        """The newest complete checkpoint, every byte verified; None if there is none.

        Each damaged one is skipped with a warning, and removed by a later save. Raises
        ``RunError`` if the folder cannot be listed, or a complete checkpoint does not fit into
        memory.
        """
        with as_run_error(self.folder):
            found = _checkpoints_in(self.folder)
        for checkpoint in reversed(found):
            try:
                return checkpoint.read()
            except MemoryError:
                raise RunError(f"{checkpoint.path}: does not fit into memory") from None
            except RunError as damage:
                logger.warning("%s; skipping this checkpoint", damage)
                self._damaged.add(checkpoint.path)
        return None

    def _try_to_save(
        self, arrays: dict[str, np.ndarray], state: str, step: int, best_step: int | None
    ) -> bool:
        try:
            self._add(arrays, state, step)
        except OSError as error:
            logger.warning(
                "%s: step %d cannot be saved: %s; training continues, the next save will retry",
                self.folder,
                step,
                error_reason(error),
            )
            return False
        self._prune(best_step)
        return True

    def _add(self, arrays: dict[str, np.ndarray], state: str, step: int) -> None:
        """Write a checkpoint under a temporary name and rename it; when this returns, it survives
        a power failure.
        """
        if not self.folder.is_dir():
            self.folder.mkdir()
            sync_folder(self.folder.parent)
        with suppress(OSError):
            _remove_partial(self.folder)
        number = (
            max((checkpoint.number for checkpoint in _checkpoints_in(self.folder)), default=0) + 1
        )
        path = self.folder / f"{number:06d}-step-{step}"
        partial = partial_name(path)
        try:
            write_checkpoint(partial, arrays, state)
            os.rename(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        sync_folder(self.folder)

    def _prune(self, best_step: int | None) -> None:
        try:
            found = _checkpoints_in(self.folder)
            complete = [checkpoint for checkpoint in found if checkpoint.path not in self._damaged]
            best = [checkpoint for checkpoint in complete if checkpoint.step == best_step]
            kept = complete[-self.keep :] + best[-1:]
            for checkpoint in found:
                if checkpoint not in kept:
                    # A kill while it is removed leaves nothing that looks like a checkpoint.
                    os.rename(checkpoint.path, partial_name(checkpoint.path))
            _remove_partial(self.folder)
        except OSError as error:
            logger.warning(
                "%s: an old checkpoint cannot be removed: %s", self.folder, error_reason(error)
            )


@dataclass(frozen=True)
class _CheckpointFolder:
    """A checkpoint on the disk, complete or damaged, as its name describes it."""

    number: int
    step: int
    path: Path

    def read(self) -> Checkpoint:
        """Verify and load. Raises ``RunError``, which names the file and the damage."""
        arrays, state = read_checkpoint(self.path)
        step = state.get("step") if isinstance(state, dict) else None
        if type(step) is not int or step != self.step:
            raise RunError(
                f"{self.path / STATE}: step: expected {self.step}, as in the folder's name, got "
                f"{step!r}"
            )
        return Checkpoint(self.path, self.number, arrays, state)


def _checkpoints_in(folder: Path) -> list[_CheckpointFolder]:
    """Oldest first."""
    matches = _folders(folder, CHECKPOINT_NAME) if folder.exists() else []
    return sorted(
        (_CheckpointFolder(int(match[1]), int(match[2]), folder / match[0]) for match in matches),
        key=lambda checkpoint: (checkpoint.number, checkpoint.step),
    )


def _folders(parent: Path, name: re.Pattern) -> list[re.Match]:
    """The folders in ``parent`` whose names match ``name``."""
    with os.scandir(parent) as entries:
        matches = [
            name.fullmatch(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)
        ]
    return [match for match in matches if match]


def _remove_partial(folder: Path) -> None:
    """Remove pruned checkpoints, and those that a killed process left unfinished."""
    for match in _folders(folder, PARTIAL_NAME):
        shutil.rmtree(folder / match[0])
