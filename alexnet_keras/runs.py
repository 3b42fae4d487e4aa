"""The run folder: what was asked, what happened, what came out.

``config.json`` everything needed to repeat the run; ``metrics.jsonl`` a line every few steps and every epoch;
``run.log``; and at the end ``model.keras`` and ``result.json``, which describes it. A folder without ``result.json``
is a run that did not finish.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import keras
import tensorflow as tf

from alexnet_keras import __version__
from alexnet_keras.data.demo import DEMONSTRATIONS
from alexnet_keras.errors import RunError
from alexnet_keras.training import Outcome

STEPS_A_LINE = 10
FILES = ("config.json", "metrics.jsonl", "run.log", "model.keras", "result.json")


class Run:
    """A run folder that this process owns; make one with :func:`new_run`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write_config(self, config: dict) -> None:
        """Record what was asked, and on what it ran."""
        self._write_json("config.json", {**config, "environment": environment()})

    def metrics(self) -> keras.callbacks.Callback:
        """A callback that appends to ``metrics.jsonl``."""
        return _MetricsLog(self.folder / "metrics.jsonl")

    def finish(self, model: keras.Model, outcome: Outcome) -> None:
        """Save the final weights, and then the result, so that it never describes others."""
        partial = self.folder / "model.partial.keras"
        with _writing(self.folder / "model.keras"):
            model.save(partial)
            os.replace(partial, self.folder / "model.keras")
        self._write_json("result.json", {
            **outcome.evaluation.figures(), "steps": outcome.steps, "finished": outcome.finished})

    def _write_json(self, name: str, content: dict) -> None:
        write_json(self.folder / name, content)


def new_run(folder: Path | None, mode: str, overwrite: bool = False) -> Run:
    """Make a run folder: ``folder``, or the first free ``runs/<mode>-<n>``.

    A folder that holds anything is refused with ``RunError``; ``overwrite`` clears it if it is a run's.
    """
    try:
        if folder is None:
            return Run(_next_free(Path("runs"), mode))
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise RunError(f"{folder or 'runs'}: expected a folder to write the run into, found: {error.strerror}") from None
    if found and not overwrite:
        raise RunError(f"{folder}: already holds {found[0]}; give another --output, or --overwrite")
    foreign = [name for name in found if name not in FILES]
    if foreign:
        raise RunError(f"{folder}: holds {foreign[0]}, which no run writes, and is not overwritten")
    for name in found:
        (folder / name).unlink()
    return Run(folder)


def data_of(folder: Path) -> dict:
    """The data options of a run, as its config records them: ``data``, ``layout``, ``classes``, ``min_size`` and crops."""
    path = folder / "config.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))["data"]
        demonstration = recorded["name"] if recorded["name"] in DEMONSTRATIONS else None
        options = {"data": demonstration or recorded["root"], "layout": recorded["layout"]}
        if recorded["layout"] == "coco":
            options |= {"classes": recorded["classes"], "min_size": recorded["min_size"], **recorded["crops"]}
        return options
    except OSError:
        raise RunError(f"{folder}: expected a run folder, or --data; found no config.json") from None
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: expected the config of a run, found: {error!r}") from None


def write_json(path: Path, content: dict) -> None:
    """Write JSON under a temporary name and give it its own when it is whole."""
    partial = path.with_name(f".{path.name}.part")
    with _writing(path):
        try:
            with open(partial, "w", encoding="utf-8") as file:
                json.dump(content, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def environment() -> dict:
    """Versions and threads: what a repetition needs to end with the same weights."""
    packages = ("tensorflow", "keras", "numpy")
    return {"alexnet_keras": __version__, "python": platform.python_version(),
            **{package: version(package) for package in packages},
            "threads": threads(), "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")}


def threads() -> int:
    """How many threads one operation runs on."""
    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count()


def _next_free(parent: Path, mode: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        try:
            (parent / f"{mode}-{number}").mkdir()
            return parent / f"{mode}-{number}"
        except FileExistsError:
            number += 1


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}") from None


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
        with _writing(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
