"""A small run from scratch in a process of its own, which can be killed at any place and goes on
from there.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py

from alexnet_keras.configs.architecture import (
    Architecture,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    InitialValues,
    Normalization,
    Pooling,
)
from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.loop import ExecutionConfig
from alexnet_keras.training.run_folder import new_run_folder, resume_run_folder
from modes.scratch import train_from_scratch

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [__name__]
)  # TensorFlow, imported once; no operation has run when it forks

NETWORK = Architecture(
    "alexnet",
    (
        Convolution("conv1", 4, kernel=5, stride=2),
        Normalization("norm1"),
        Pooling("pool1"),
        Convolution("conv2", 4, kernel=3, padding=1, groups=2),
        Flatten(),
        Dense("fc6", 12),
        Dropout("drop6"),
    ),
    input_size=19,
    initial_values=InitialValues(kernels="he"),
)
RULE = Preprocessing(crop=19, resize_to=23, std=(60.0, 60.0, 60.0))
RECIPE = Recipe(
    "small",
    batch_size=4,
    epochs=5,
    schedule=DropAt((2.6,)),
    learning_rate=0.02,
    augmentation=AUGMENTATIONS["paper"],
)
TIMES = {"seconds", "images_per_second", "input_seconds", "step_seconds"}
FILE_EVENTS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.scandir",
    "os.listdir",
    "shutil.rmtree",
}


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class AfterSeconds:
    """Kills the process so long after its start."""

    seconds: float

    def arm(self) -> None:
        timer = threading.Timer(self.seconds, kill_me)
        timer.daemon = True
        timer.start()


@dataclass(frozen=True)
class AtFileEvent:
    """Kills the process before its ``number``-th file operation (from 0), counted from the first
    whose file is ``begins``.

    ``thread``: only those of threads whose name begins so.
    """

    number: int
    begins: str = ""
    thread: str = ""

    def arm(self) -> None:
        left, begun, fsync = self.number, False, os.fsync

        def watch(event, arguments):
            nonlocal left, begun
            if event not in FILE_EVENTS or not threading.current_thread().name.startswith(
                self.thread
            ):
                return
            begun = begun or str(arguments[0]).endswith(self.begins)
            left -= begun
            if left < 0:
                kill_me()

        def watched_fsync(descriptor):
            watch("open", (descriptor,))
            fsync(descriptor)

        os.fsync = watched_fsync
        sys.addaudithook(watch)


@dataclass(frozen=True)
class AtTheSecondSave:
    """Ends the process, with exit code 7, when its first save is over and the second begins."""

    first: AtFileEvent

    def arm(self) -> None:
        begun, save = [], Checkpoints.save

        def watched_save(checkpoints, *arguments):
            if begun and checkpoints.wait():
                os._exit(7)
            begun.append(True)
            return save(checkpoints, *arguments)

        Checkpoints.save = watched_save
        self.first.arm()


def go_on(root: Path, folder: Path, recipe: Recipe = RECIPE, plan=None, **options) -> None:
    """Begin the run in ``folder``, or go on with what is there, until it is finished or ``plan``
    ends the process.
    """
    if plan:
        plan.arm()
    if (folder / "config.json").exists():
        run, _ = resume_run_folder(folder, "scratch")
    else:
        run = new_run_folder(folder, "scratch", overwrite=True)
        run.write_config({"mode": "scratch", "options": {}, "recipe": recipe.to_dict()}, "")
    with run:
        checkpoints = run.checkpoints()
        checkpoint = checkpoints.newest()
        train_from_scratch(
            open_dataset(root),
            run,
            architecture=NETWORK,
            preprocessing=RULE,
            recipe=recipe,
            seed=3,
            execution=ExecutionConfig(
                checkpoints=checkpoints,
                save_seconds=0,
                resume=checkpoint is not None,
                checkpoint=checkpoint,
                identity={"seed": 3},
                **options,
            ),
        )


def in_a_process(function: Callable, *arguments, **options) -> int:
    """The exit code of a process that calls ``function``."""
    process = PROCESSES.Process(target=function, args=arguments, kwargs=options)
    process.start()
    process.join(300)
    code = process.exitcode
    process.close()
    return code


def outcome_of(folder: Path) -> dict:
    """All that a finished run has learned and told, without what depends on the clock; arrays as
    their bytes.
    """
    checkpoint = Checkpoints(folder / "checkpoints").newest()
    progress = {
        name: value for name, value in checkpoint.state["progress"].items() if name != "seconds"
    }
    return {
        "checkpoint": {name: array.tobytes() for name, array in checkpoint.arrays.items()},
        "model": model_arrays(folder / "model.keras"),
        "progress": timeless(progress),
        "result": timeless(json.loads((folder / "result.json").read_text())),
        "metrics": metrics_of(folder),
        "tables": [(folder / name).read_text() for name in ("classes.csv", "confusion.csv")],
    }


def model_arrays(path: Path) -> dict[str, bytes]:
    with (
        zipfile.ZipFile(path) as archive,
        h5py.File(io.BytesIO(archive.read("model.weights.h5"))) as file,
    ):
        items = {}
        file.visititems(items.__setitem__)
        return {
            name: item[()].tobytes()
            for name, item in items.items()
            if isinstance(item, h5py.Dataset)
        }


def metrics_of(folder: Path) -> list[dict]:
    return [
        timeless(json.loads(line)) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]


def timeless(values: dict) -> dict:
    return {
        name: timeless(value) if isinstance(value, dict) else value
        for name, value in values.items()
        if name.removeprefix("val_") not in TIMES
    }
