"""What grows with the size of the data, and what does not: time and memory of extraction, and
steps on two workers.

Extraction runs in a fresh process for each size, on rows that repeat a few photographs of at most
96 pixels, through a network of a twentieth of the width at 67 pixels, so that 10^5 samples take
minutes. Steps are of a quarter of the width at full size, on one worker and on two that share the
cores.

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
REFERENCE, LARGEST = 1000, 100_000
MAX_GROWTH = 1.1
BATCH_SIZE, STEPS, SIDE, SHORTEST_SECONDS = 32, 24, 96, 600
SMALL = (
    "rows that repeat a few photographs of 96 pixels; network of 0.05 of the width at 67 pixels"
)


def lines(options: Options) -> Iterator[Line]:
    """Time a sample and resident memory at each size, then images a second of one worker and of
    two.
    """
    repetitions = min(options.repetitions, 3)
    found = {
        size: [
            _told(["extract", str(size), str(options.threads)])
            for _ in range(repetitions if size < LARGEST else 1)
        ]
        for size in SIZES
    }
    for measure, unit, key in (
        ("extraction, growth", "ms a sample", "milliseconds"),
        ("extraction, growth", "MB resident at most", "peak_megabytes"),
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
            _told(["steps"], TF_NUM_INTRAOP_THREADS=str(options.threads))["images_per_second"]
        )
        rates["two workers"].append(_two_workers(max(1, options.threads // 2)))
    yield Line(
        "training step, two workers on the same cores",
        "two workers",
        {name: Rate.of(values) for name, values in rates.items()},
        notes="a quarter of the width, batch 32 in all",
    )


def _name(size: int) -> str:
    return f"10^{len(str(size)) - 1}"


def _started(arguments: list[str], **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.growth", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )


def _result(process: subprocess.Popen) -> dict:
    printed, _ = process.communicate(timeout=SHORTEST_SECONDS)
    assert process.returncode == 0, f"{' '.join(process.args)}: ended with {process.returncode}"
    return json.loads(printed.splitlines()[-1])


def _told(arguments: list[str], **variables: str) -> dict:
    return _result(_started(arguments, **variables))


def _two_workers(threads: int) -> float:
    """Images a second of both together, as the first tells it."""
    addresses = [f"127.0.0.1:{port}" for port in _free_ports(2)]
    running = [
        _started(
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
    """Time a sample and resident memory of extracting ``size`` samples in this process."""
    from PIL import Image

    from alexnet_keras.configs.architecture import ALEXNET
    from alexnet_keras.configs.loading import Loading
    from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
    from alexnet_keras.data.layouts import Dataset
    from alexnet_keras.pretrained.loading import Pretrained, new_network
    from benchmarks.photographs import photographs, samples_of
    from benchmarks.steady import Clock
    from modes.extract import extract_features

    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [str(folder / f"{number}.jpg") for number in range(16)]
        for source, path in zip(photographs(folder)[0], paths, strict=False):
            image = Image.open(source).convert("RGB")
            image.thumbnail((SIDE, SIDE))
            image.save(path)
        samples = samples_of(paths, size)
        model = new_network(
            ALEXNET.widened(0.05), CAFFE_PREPROCESSING.for_input(67), samples.class_names
        )
        extract_features(
            Dataset("growth", "folder", folder, ("train",), {}, lambda split: samples),
            folder / "fc7.npy",
            source=Pretrained(model, "random", folder / "random", "0" * 64),
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
    """Images a second of training steps of all workers that TF_CONFIG names, this one alone
    without it.
    """
    from alexnet_keras.distribute.workers import open_workers

    workers = open_workers("auto", 60.0)
    import numpy as np
    import tensorflow as tf

    from alexnet_keras.configs.architecture import ALEXNET
    from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
    from alexnet_keras.configs.recipe import Recipe
    from alexnet_keras.data.batches import Batch
    from alexnet_keras.pretrained.loading import new_network
    from alexnet_keras.training.train_step import Updates
    from benchmarks.steady import Clock

    recipe, size = (
        Recipe("benchmark", BATCH_SIZE, steps=STEPS, learning_rate=1e-4),
        BATCH_SIZE // workers.count,
    )
    with workers.strategy.scope():
        model = new_network(
            ALEXNET.widened(0.25), CAFFE_PREPROCESSING, tuple(map(str, range(1000)))
        )
    updates, clock = Updates(model, recipe, BATCH_SIZE, seed=0, workers=workers), Clock()
    images = (
        np.random.default_rng(workers.index).normal(0, 60, (size, 227, 227, 3)).astype(np.float32)
    )
    batch = Batch(
        *map(
            tf.constant,
            (images, np.zeros(size, np.int32), np.ones(size, np.float32), np.arange(size)),
        )
    )
    for step in range(STEPS):
        updates(step, batch, recipe.learning_rate)
        clock(BATCH_SIZE)
    return {"images_per_second": clock.rate()}


if __name__ == "__main__":
    from alexnet_keras.cli.options import prepare

    prepare()
    print(json.dumps(extract(*map(int, sys.argv[2:])) if sys.argv[1] == "extract" else steps()))
