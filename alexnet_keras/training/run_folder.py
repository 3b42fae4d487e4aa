"""The run folder, which holds:

- ``config.json``: everything needed to repeat the run
- ``samples.csv.gz``: the manifest of its samples; ``bad_files.csv``: those that cannot be read
- ``metrics.jsonl``: a line every ten steps and every epoch
- ``run.log``; ``checkpoints`` to resume from; ``tensorboard``, if asked for
- at the end ``model.keras`` and its evaluation: ``result.json``, ``classes.csv`` and
  ``confusion.csv``

A folder without ``result.json`` is a run that did not finish.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import filelock
import keras

from alexnet_keras.atomic_files import atomic_write, is_partial
from alexnet_keras.data.manifest import check_unchanged, write_manifest
from alexnet_keras.errors import RunError, error_reason
from alexnet_keras.evaluation.class_tables import FILES as TABLES
from alexnet_keras.evaluation.class_tables import write_tables
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.loop import TrainingResult
from alexnet_keras.training.metrics_log import MetricsLog
from alexnet_keras.training.run_config import (
    CONFIG,
    RESULT,
    read_config,
    runtime_environment,
    write_json,
)

logger = logging.getLogger(__name__)
LOCK = ".lock"
MANIFEST = "samples.csv.gz"
BAD_FILES = "bad_files.csv"
FILES = (
    CONFIG,
    MANIFEST,
    BAD_FILES,
    "metrics.jsonl",
    "run.log",
    "model.keras",
    RESULT,
    LOCK,
    *TABLES,
)
FOLDERS = ("checkpoints", "tensorboard")


class RunFolder:
    """A run folder, locked for this process; get one from :func:`new_run_folder` or
    :func:`resume_run_folder`.
    """

    def __init__(self, path: Path):
        self.path = path
        self._lock = filelock.FileLock(path / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(f"{path}: another process is using this run") from None

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Release the lock, for other processes."""
        self._lock.release()

    def checkpoints(self, keep: int = 2) -> Checkpoints:
        """The checkpoints of this run: the newest ``keep`` and the best."""
        return Checkpoints(self.path / "checkpoints", keep)

    def write_config(self, config: dict, samples: str) -> None:
        """Write ``config``, the runtime environment and the manifest ``samples``."""
        write_manifest(self.path / MANIFEST, samples)
        write_json(self.path / CONFIG, {**config, "environment": runtime_environment()})

    def record_resumption(self, changed: dict, recipe: dict) -> None:
        """Record in ``config.json`` that the run was resumed, and the ``changed`` options; warn
        about differences in the environment, since results may not be bit-identical.
        """
        config = read_config(self.path)
        now = runtime_environment()
        began = config.get("environment")
        for name, value in began.items() if isinstance(began, dict) else ():
            if now.get(name) != value:
                logger.warning(
                    "%s: began with %s, resumed with %s: weights may differ in their last bits",
                    name,
                    value,
                    now.get(name),
                )
        before = config.get("continued")
        history = [
            *(before if isinstance(before, list) else []),
            {"options": changed, "environment": now},
        ]
        write_json(self.path / CONFIG, {**config, "recipe": recipe, "continued": history})

    def check_unchanged_data(self, samples: str, root: Path) -> None:
        """Raise ``RunError`` if ``samples`` is not the manifest that the run began with."""
        check_unchanged(self.path / MANIFEST, samples, root)

    def metrics(self) -> keras.callbacks.Callback:
        """A callback that appends to ``metrics.jsonl``."""
        return MetricsLog(self.path / "metrics.jsonl")

    def finish(self, model: keras.Model, outcome: TrainingResult) -> None:
        """Save the final model, then the result, which so never describes another model."""
        with atomic_write(self.path / "model.keras") as (partial,):
            model.save(partial)
        write_tables(self.path, outcome.evaluation, model.class_names)
        write_json(self.path / RESULT, result_of(outcome))


class NullRunFolder:
    """The run folder of a worker that is not the chief; writes nothing."""

    def metrics(self) -> keras.callbacks.Callback:
        return keras.callbacks.Callback()

    def finish(self, model: keras.Model, outcome: TrainingResult) -> None:
        pass


def result_of(outcome: TrainingResult) -> dict:
    """The content of ``result.json``."""
    return {**outcome.evaluation.metrics(), "steps": outcome.steps, "finished": outcome.finished}


def new_run_folder(folder: Path | None, mode: str, overwrite: bool = False) -> RunFolder:
    """Create a run folder: ``folder``, or the first free ``runs/<mode>-<n>``.

    Raises ``RunError`` if ``folder`` is not empty, unless all it holds was left by a run that was
    killed before it wrote its config. ``overwrite`` clears a folder that holds only files of a
    run.
    """
    try:
        if folder is None:
            return RunFolder(_next_free(Path("runs"), mode))
        folder.mkdir(parents=True, exist_ok=True)
        _check_not_occupied(folder, overwrite)
        run = RunFolder(folder)
        _clear(folder)
    except OSError as error:
        raise RunError(
            f"{folder or 'runs'}: expected a folder to write the run into, got: "
            f"{error_reason(error)}"
        ) from None
    return run


def resume_run_folder(folder: Path, mode: str) -> tuple[RunFolder, dict]:
    """The folder and the config of a run to resume. Raises ``RunError`` if there is no run, if it
    is in use, or if it is one of another mode.
    """
    config = read_config(folder)
    if config.get("mode") != mode:
        raise RunError(f"{folder / CONFIG}: mode: expected {mode}, got {config.get('mode')}")
    for name in ("options", "recipe"):
        if not isinstance(config.get(name), dict):
            raise RunError(
                f"{folder / CONFIG}: {name}: expected an object, got {config.get(name)!r}"
            )
    try:
        return RunFolder(folder), config
    except OSError as error:
        raise RunError(f"{folder}: cannot be resumed: {error_reason(error)}") from None


def is_unconfigured(folder: Path) -> bool:
    """Whether a folder is empty, but for files of a run that was killed before it wrote its
    config.
    """
    try:
        return all(
            path.name in (LOCK, MANIFEST, BAD_FILES) or is_partial(path.name)
            for path in folder.iterdir()
        )
    except OSError:
        return False


def _check_not_occupied(folder: Path, overwrite: bool) -> None:
    """Raise ``RunError`` if a new run cannot use this folder."""
    if is_unconfigured(folder):
        return
    found = sorted(path for path in folder.iterdir() if path.name != LOCK)
    if not overwrite:
        raise RunError(
            f"{folder}: expected an empty folder, got one with {found[0].name}; choose another "
            "output, or overwrite"
        )
    foreign = [
        path
        for path in found
        if not (is_partial(path.name) or path.name in (FOLDERS if path.is_dir() else FILES))
    ]
    if foreign:
        raise RunError(
            f"{folder}: expected only files of a run to overwrite, got {foreign[0].name}"
        )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != LOCK:
            path.unlink()


def _next_free(parent: Path, mode: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        try:
            (parent / f"{mode}-{number}").mkdir()
            return parent / f"{mode}-{number}"
        except FileExistsError:
            number += 1
