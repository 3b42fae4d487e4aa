"""The run folder: what was asked, what happened, what came out.

``config.json`` everything needed to repeat the run; ``metrics.jsonl`` a line every few steps and every epoch;
``run.log``; and at the end ``model.keras`` and ``result.json``, which describes it. A folder without ``result.json``
is a run that did not finish.
"""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from alexnet_keras import __version__
from alexnet_keras.data.demo import DEMONSTRATIONS
from alexnet_keras.errors import RunError
from alexnet_keras.training import Outcome
from alexnet_keras.whole_files import is_partial, whole_files

STEPS_A_LINE = 10
FILES = ("config.json", "metrics.jsonl", "run.log", "model.keras", "result.json")
OPTION_TYPES = {"data": str, "layout": str, "classes": list | None, "min_size": int | float, "context": int | float,
                "square": bool}


class Run:
    """A run folder that this process owns; make one with :func:`new_run`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write_config(self, config: dict) -> None:
        """Record what was asked, and on what it ran."""
        write_json(self.folder / "config.json", {**config, "environment": environment()})

    def metrics(self) -> keras.callbacks.Callback:
        """A callback that appends to ``metrics.jsonl``."""
        return _MetricsLog(self.folder / "metrics.jsonl")

    def finish(self, model: keras.Model, outcome: Outcome) -> None:
        """Save the final weights, and then the result, so that it never describes others."""
        with whole_files(self.folder / "model.keras") as (partial,):
            model.save(partial)
        write_json(self.folder / "result.json", {
            **outcome.evaluation.figures(), "steps": outcome.steps, "finished": outcome.finished})


def new_run(folder: Path | None, mode: str, overwrite: bool = False) -> Run:
    """Make a run folder: ``folder``, or the first free ``runs/<mode>-<n>``.

    A folder that holds anything is refused with ``RunError``; ``overwrite`` clears it if it is a run's.
    """
    try:
        if folder is None:
            return Run(_next_free(Path("runs"), mode))
        folder.mkdir(parents=True, exist_ok=True)
        _clear(folder, overwrite)
    except OSError as error:
        raise RunError(f"{folder or 'runs'}: expected a folder to write the run into, found: {error.strerror}") from None
    return Run(folder)


def data_of(folder: Path) -> dict:
    """The data options of a run, as its config records them: ``data``, ``layout``, ``classes``, ``min_size`` and crops."""
    path = folder / "config.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["data"]
        built_in = recorded["name"] in DEMONSTRATIONS and Path(recorded["root"]).name != recorded["name"]
        options = {"data": recorded["name"] if built_in else recorded["root"], "layout": recorded["layout"]}
        if recorded["layout"] == "coco":
            options |= {"classes": recorded["classes"], "min_size": recorded["min_size"], **recorded["crops"]}
        wrong = [name for name, value in options.items() if not isinstance(value, OPTION_TYPES[name])]
    except OSError:
        raise RunError(f"{folder}: expected a run folder, or --data; found no config.json") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{path}: expected the config of a run, found: {error!r}") from None
    if wrong:
        raise RunError(f"{path}: data.{wrong[0]}: found {options[wrong[0]]!r}, which no run writes")
    return options


def write_json(path: Path, content: dict) -> None:
    """Write JSON whole or not at all."""
    with whole_files(path) as (partial,):
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def environment() -> dict:
    """Versions and threads: what a repetition needs to end with the same weights."""
    packages = ("tensorflow", "keras", "numpy")
    return {"alexnet_keras": __version__, "python": platform.python_version(),
            **{package: version(package) for package in packages},
            "threads": threads(), "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")}


def threads() -> int:
    """How many threads one operation runs on."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    asked = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    return tf.config.threading.get_intra_op_parallelism_threads() or (int(asked) if asked.isdecimal() else 0) or usable


def _clear(folder: Path, overwrite: bool) -> None:
    found = sorted(folder.iterdir())
    if found and not overwrite:
        raise RunError(f"{folder}: already holds {found[0].name}; give another --output, or --overwrite")
    foreign = [path for path in found if path.is_dir() or not (path.name in FILES or is_partial(path.name))]
    if foreign:
        raise RunError(f"{folder}: holds {foreign[0].name}, which no run writes, and is not overwritten")
    for path in found:
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


class _MetricsLog(keras.callbacks.Callback):
    def __init__(self, path: Path):
        super().__init__()
        self.path, self.epoch, self.steps = path, 0, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, step, logs=None):
        self.steps += 1
        if self.steps % STEPS_A_LINE == 0:
            self._append({"event": "step", "step": self.steps, "epoch": self.epoch, **logs})

    def on_epoch_end(self, epoch, logs=None):
        self._append({"event": "epoch", "step": self.steps, "epoch": epoch, **logs})

    def _append(self, line: dict) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {error.strerror}") from None
