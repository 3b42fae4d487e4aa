"""How extraction scales with the number of samples, and training steps with the number of workers.

Extraction runs in a fresh process for each size, on rows that repeat a few photographs of at most
96 pixels, through a network of 0.05 times the width at 67 pixels, so that 10^5 samples take
minutes. Training steps use a quarter of the width at full input size, on one worker and on two
that share the cores.

    python -m benchmarks.growth extract SAMPLES THREADS
    python -m benchmarks.growth steps
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measure import Line, Options, Rate

SIZES = (100, 1000, 10_000, 100_000)
REFERENCE = 1000
LARGEST = 100_000
MAX_GROWTH = 1.1
BATCH_SIZE = 32
STEPS = 24
MAX_SIDE = 96
TIMEOUT_SECONDS = 600
SMALL = "rows repeat a few photographs of 96 pixels; network of 0.05 times the width at 67 pixels"


def lines(options: Options) -> Iterator[Line]:
    """Time per sample and resident memory at each size, then images per second of one worker and
    of two.
    """
    repetitions = min(options.repetitions, 3)
    found = {
        size: [
            _run_and_report(["extract", str(size), str(options.threads)])
            for _ in range(repetitions if size < LARGEST else 1)
        ]
        for size in SIZES
    }
    for measure, unit, key in (
        ("extraction, growth", "ms per sample", "milliseconds"),
        ("extraction, growth", "peak MB resident", "peak_megabytes"),
        ("extraction, growth", "MB resident at the end", "megabytes"),
    ):
        rates = {
            _name(size): Rate.of(report[key] for report in reports)
            for size, reports in found.items()
        }
        yield Line(
            measure,
            _name(LARGEST),
            rates,
            {_name(REFERENCE): 1 / MAX_GROWTH},
            notes=SMALL,
            unit=unit,
            less_is_better=True,
        )
    rates = {"two workers": [], "one worker": []}
    for _ in range(repetitions):
        rates["one worker"].append(
            _run_and_report(["steps"], TF_NUM_INTRAOP_THREADS=str(options.threads))[
                "images_per_second"
            ]
        )
        rates["two workers"].append(_two_workers(max(1, options.threads // 2)))
    yield Line(
        "training step, two workers on the same cores",
        "two workers",
        {name: Rate.of(values) for name, values in rates.items()},
        notes="a quarter of the width, global batch 32",
    )


def _name(size: int) -> str:
    return f"10^{len(str(size)) - 1}"


def _start(arguments: list[str], **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.growth", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def _result(process: subprocess.Popen) -> dict:
    printed, _ = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 0, (
        f"{' '.join(process.args)}: expected exit code 0, got {process.returncode}"
    )
    return json.loads(printed.splitlines()[-1])


def _run_and_report(arguments: list[str], **variables: str) -> dict:
    return _result(_start(arguments, **variables))


def _two_workers(threads: int) -> float:
    """Images per second of both workers together, as reported by the first."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    running = [
        _start(
            ["steps"],
            TF_NUM_INTRAOP_THREADS=str(threads),
            TF_CONFIG=json.dumps(
                {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            ),
        )
        for index in range(2)
    ]
    try:
        return [_result(process) for process in running][0]["images_per_second"]
    finally:
        for process in running:
            process.kill()


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def extract(size: int, threads: int) -> dict:
    """Time per sample and resident memory of extracting ``size`` samples in this process."""
    from PIL import Image

    from alexnet_keras.configs.architecture import ALEXNET
    from alexnet_keras.configs.loading import Loading
    from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
    from alexnet_keras.data.layouts import Dataset
    from alexnet_keras.models.alexnet import new_model
    from alexnet_keras.pretrained.loading import Pretrained
    from benchmarks.photographs import find_photographs, make_samples
    from benchmarks.steady import Clock
    from modes.extract import extract_features

    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [str(folder / f"{number}.jpg") for number in range(16)]
        for source, path in zip(find_photographs(folder)[0], paths, strict=False):
            image = Image.open(source).convert("RGB")
            image.thumbnail((MAX_SIDE, MAX_SIDE))
            image.save(path)
        samples = make_samples(paths, size)
        model = new_model(
            ALEXNET.with_width(0.05), CAFFE_PREPROCESSING.with_input_size(67), samples.class_names
        )
        path = folder / "random.keras"
        model.save(path)
        extract_features(
            Dataset("growth", "folder", folder, ("train",), {}, lambda split: samples),
            folder / "fc7.npy",
            source=Pretrained(model, "random", path),
            batch_size=BATCH_SIZE,
            loading=Loading(num_threads=threads),
            on_batch=clock,
        )
    return {
        "milliseconds": 1e3 / clock.rate(),
        "peak_megabytes": _resident("VmHWM"),
        "megabytes": _resident("VmRSS"),
    }


def _resident(key: str) -> float:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(
        float(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith(key)
    )


def steps() -> dict:
    """Images per second of training steps, of all workers in TF_CONFIG or of this process
    alone.
    """
    from alexnet_keras.distribute.workers import open_workers

    workers = open_workers("auto", 60.0)
    import numpy as np

    from alexnet_keras.configs.architecture import ALEXNET
    from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
    from alexnet_keras.configs.recipe import Recipe
    from alexnet_keras.models.alexnet import new_model
    from alexnet_keras.training.train_step import TrainStep
    from benchmarks.peers import random_images
    from benchmarks.peers.ours import make_batch
    from benchmarks.steady import Clock

    recipe = Recipe("benchmark", BATCH_SIZE, steps=STEPS, learning_rate=1e-4)
    size = BATCH_SIZE // workers.count
    with workers.strategy.scope():
        model = new_model(
            ALEXNET.with_width(0.25), CAFFE_PREPROCESSING, tuple(map(str, range(1000)))
        )
    train_step = TrainStep(model, recipe, BATCH_SIZE, seed=0, workers=workers)
    clock = Clock()
    images = random_images(size, ALEXNET.input_size, seed=workers.index)
    batch = make_batch(images, np.zeros(size, np.int32))
    for step in range(STEPS):
        train_step(step, batch, recipe.learning_rate).fetch()
        clock(BATCH_SIZE)
    return {"images_per_second": clock.rate()}


if __name__ == "__main__":
    from alexnet_keras.cli.command import import_tensorflow

    import_tensorflow()
    print(json.dumps(extract(*map(int, sys.argv[2:])) if sys.argv[1] == "extract" else steps()))
