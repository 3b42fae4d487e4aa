"""The run folder: what was asked, what happened, what came out.

``config.json`` everything needed to repeat the run; ``samples.csv.gz`` what it learns from;
``metrics.jsonl`` a line every few steps and every epoch; ``run.log``; ``checkpoints`` to go on
from; and at the end ``model.keras`` and what describes it: ``result.json``, ``classes.csv``,
``confusion.csv``. A folder without ``result.json`` is a run that did not finish.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import filelock
import keras
import tensorflow as tf

from alexnet_keras import __version__
from alexnet_keras.atomic_files import atomic_write, is_partial
from alexnet_keras.data.demo import DEMONSTRATIONS
from alexnet_keras.data.manifest import check_unchanged, write_manifest
from alexnet_keras.errors import RunError
from alexnet_keras.evaluation.class_tables import FILES as TABLES
from alexnet_keras.evaluation.class_tables import write_tables
from alexnet_keras.evaluation.evaluator import evaluate
from alexnet_keras.pretrained.loading import float32_copy
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.loop import Outcome
from alexnet_keras.training.metrics_log import MetricsLog

logger = logging.getLogger(__name__)
FILES = (
    "config.json",
    "samples.csv.gz",
    "metrics.jsonl",
    "run.log",
    "model.keras",
    "result.json",
    ".lock",
    *TABLES,
)
FOLDERS = ("checkpoints", "tensorboard")
OPTION_TYPES = {
    "data": str,
    "layout": str,
    "classes": list | None,
    "min_size": int | float,
    "context": int | float,
    "square": bool,
}


class Run:
    """A run folder that this process alone uses; make one with :func:`new_run` or
    :func:`resumed_run`.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock = filelock.FileLock(folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(f"{folder}: another process is using this run") from None

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.release()

    def checkpoints(self, keep: int = 2) -> Checkpoints:
        """The checkpoints of this run, of which so many are kept."""
        return Checkpoints(self.folder / "checkpoints", keep)

    def write_config(self, config: dict, samples: str) -> None:
        """Record what was asked, on what it runs, and the manifest of its samples."""
        write_manifest(self.folder / "samples.csv.gz", samples)
        write_json(self.folder / "config.json", {**config, "environment": environment()})

    def note_continuation(self, changed: dict, recipe: dict) -> None:
        """Record in ``config.json`` that the run went on, with what; warn of what keeps the bits
        from being the same.
        """
        config, now = read_config(self.folder), environment()
        began = config.get("environment")
        for name, value in began.items() if isinstance(began, dict) else ():
            if now.get(name) != value:
                logger.warning(
                    "%s: began with %s, goes on with %s: weights may differ in their last bits",
                    name,
                    value,
                    now.get(name),
                )
        before = config.get("continued")
        history = [
            *(before if isinstance(before, list) else []),
            {"options": changed, "environment": now},
        ]
        write_json(self.folder / "config.json", {**config, "recipe": recipe, "continued": history})

    def check_unchanged_data(self, samples: str, root: Path) -> None:
        """Raise ``RunError`` if ``samples`` is not the manifest that the run began with."""
        check_unchanged(self.folder / "samples.csv.gz", samples, root)

    def metrics(self) -> keras.callbacks.Callback:
        """A callback that appends to ``metrics.jsonl``."""
        return MetricsLog(self.folder / "metrics.jsonl")

    def finish(self, model: keras.Model, outcome: Outcome, val_batches) -> None:
        """Save the final weights in float32, and then the result, so that it never describes
        others.
        """
        whole = float32_copy(model)
        if whole is not model:
            outcome = replace(outcome, evaluation=evaluate(whole, val_batches))
        with atomic_write(self.folder / "model.keras") as (partial,):
            whole.save(partial)
        write_tables(self.folder, outcome.evaluation, model.class_names)
        write_json(
            self.folder / "result.json",
            {**outcome.evaluation.figures(), "steps": outcome.steps, "finished": outcome.finished},
        )


class Follower:
    """The run of a worker that is not the chief: nothing is written."""

    folder = None

    def metrics(self) -> keras.callbacks.Callback:
        return keras.callbacks.Callback()

    def finish(self, model: keras.Model, outcome: Outcome, val_batches) -> None:
        pass


def new_run(folder: Path | None, mode: str, overwrite: bool = False) -> Run:
    """Make a run folder: ``folder``, or the first free ``runs/<mode>-<n>``.

    A folder that holds anything is refused with ``RunError``; ``overwrite`` clears it if it is a
    run's.
    """
    try:
        if folder is None:
            return Run(_next_free(Path("runs"), mode))
        folder.mkdir(parents=True, exist_ok=True)
        check_not_occupied(folder, overwrite)
        run = Run(folder)
        _clear(folder)
    except OSError as error:
        raise RunError(
            f"{folder or 'runs'}: expected a folder to write the run into, got: {error.strerror}"
        ) from None
    return run


def resumed_run(folder: Path, mode: str) -> tuple[Run, dict]:
    """A run to go on with, and its config. Raises ``RunError`` if there is none, or it is in use
    or another mode's.
    """
    config = read_config(folder)
    if config.get("mode") != mode:
        raise RunError(
            f"{folder / 'config.json'}: mode: expected {mode}, got {config.get('mode')}"
        )
    for name in ("options", "recipe"):
        if not isinstance(config.get(name), dict):
            raise RunError(
                f"{folder / 'config.json'}: {name}: expected those of the run, got "
                f"{config.get(name)!r}"
            )
    try:
        return Run(folder), config
    except OSError as error:
        raise RunError(f"{folder}: cannot be continued: {error.strerror}") from None


def read_config(folder: Path) -> dict:
    """The config of a run folder. Raises ``RunError``."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise RunError(f"{folder}: expected a run folder; got no config.json") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: expected the config of a run, got: {error}") from None
    if not isinstance(config, dict):
        raise RunError(f"{path}: expected the config of a run, got {type(config).__name__}")
    return config


def finished_steps(folder: Path) -> int | None:
    """After how many steps a run finished; None if it did not."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        return result["steps"] if result["finished"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def data_of(folder: Path) -> dict:
    """The data options of a run, as its config records them: ``data``, ``layout``, ``classes``,
    ``min_size`` and crops.
    """
    path = folder / "config.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["data"]
        built_in = (
            recorded["name"] in DEMONSTRATIONS and Path(recorded["root"]).name != recorded["name"]
        )
        options = {
            "data": recorded["name"] if built_in else recorded["root"],
            "layout": recorded["layout"],
        }
        if recorded["layout"] == "coco":
            options |= {
                "classes": recorded["classes"],
                "min_size": recorded["min_size"],
                **recorded["region"],
            }
        wrong = [
            name for name, value in options.items() if not isinstance(value, OPTION_TYPES[name])
        ]
    except OSError:
        raise RunError(f"{folder}: expected a run folder, or --data; got no config.json") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: expected the config of a run, got: {error!r}") from None
    if wrong:
        raise RunError(f"{path}: data.{wrong[0]}: got {options[wrong[0]]!r}, which no run writes")
    return options


def write_json(path: Path, content: dict) -> None:
    """Write JSON whole or not at all."""
    with atomic_write(path) as (partial,):
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def environment() -> dict:
    """Versions and threads: what a repetition needs to end with the same weights."""
    packages = ("tensorflow", "keras", "numpy")
    return {
        "alexnet_keras": __version__,
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
        "threads": threads(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default"),
    }


def threads() -> int:
    """How many threads one operation runs on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return (
        tf.config.threading.get_intra_op_parallelism_threads()
        or (int(asked) if asked.isdecimal() else 0)
        or usable
    )


def check_not_occupied(folder: Path, overwrite: bool) -> None:
    """Raise ``RunError`` if a new run cannot have this folder."""
    found = (
        sorted(path for path in folder.iterdir() if path.name != ".lock")
        if folder.is_dir()
        else []
    )
    if found and not overwrite:
        raise RunError(
            f"{folder}: already holds {found[0].name}; give another --output, or --overwrite"
        )
    foreign = [
        path
        for path in found
        if not (is_partial(path.name) or path.name in (FOLDERS if path.is_dir() else FILES))
    ]
    if foreign:
        raise RunError(
            f"{folder}: holds {foreign[0].name}, which no run writes, and is not overwritten"
        )


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
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
