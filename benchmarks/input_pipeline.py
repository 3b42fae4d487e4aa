"""From JPEG files to batches, against Pillow and NumPy in threads and against decoding alone.

Decoding alone is libjpeg-turbo at full size, from files already in memory into a reused buffer.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import numpy as np

from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PAPER_PREPROCESSING,
    TORCHVISION_PREPROCESSING,
)
from alexnet_keras.data.batches import Batches, EvaluationBatches, TrainingBatches
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.data.samples import Samples
from benchmarks.measure import Line, Options, Rate, installed
from benchmarks.photographs import SHARED, find_photographs, make_samples
from benchmarks.pillow_loading import pillow_batches
from benchmarks.steady import Clock, steady_rates

DECODING = "decoding alone"
PILLOW = "Pillow, NumPy"
BATCH_SIZE = 32
STEPS = 20
COUNT = BATCH_SIZE * STEPS
# Measure, preprocessing, training augmentation (None: evaluation), target ratio to decoding.
MEASURES = (
    ("training input, caffe", CAFFE_PREPROCESSING, "standard", 0.7),
    ("training input, paper (antialiased)", PAPER_PREPROCESSING, "paper", None),
    ("training input, torchvision (antialiased)", TORCHVISION_PREPROCESSING, "torchvision", None),
    ("evaluation input, bilinear", CAFFE_PREPROCESSING, None, 0.7),
    ("evaluation input, antialiased", TORCHVISION_PREPROCESSING, None, 0.4),
)


def lines(options: Options) -> Iterator[Line]:
    """A line for each kind of batches, from whole photographs and from COCO objects."""
    with tempfile.TemporaryDirectory() as folder:
        paths, origin = find_photographs(Path(folder))
        click.echo(f"input from {origin}")
        samples = make_samples(paths, COUNT)
        for measure, rule, augmentation, target in MEASURES:
            yield _line(measure, samples, rule, augmentation, target, options, origin)
        objects, origin = _objects(paths, origin)
        yield _line(
            "training input, COCO objects",
            objects,
            CAFFE_PREPROCESSING,
            "standard",
            None,
            options,
            origin,
        )


def _line(measure, samples, rule, augmentation, target, options, origin) -> Line:
    if augmentation is None:
        batches = EvaluationBatches(samples, rule, BATCH_SIZE, num_threads=options.threads)
    else:
        batches = TrainingBatches(
            samples,
            rule,
            BATCH_SIZE,
            seed=0,
            augmentation=AUGMENTATIONS[augmentation],
            num_threads=options.threads,
        )
    pillow = pillow_batches(samples, rule, BATCH_SIZE, options.threads, augmentation is not None)
    available, _ = installed({DECODING: "simplejpeg"})
    runs = {
        "ours": lambda clock: read(batches, STEPS, clock),
        PILLOW: lambda clock: _timed(pillow(), clock),
    }
    if available:
        decoded = _decoding(samples, options.threads)
        runs[DECODING] = lambda clock: _timed(decoded(), clock)
    rates = {
        name: Rate.of(values) for name, values in steady_rates(runs, options.repetitions).items()
    }
    return Line(
        measure, "ours", rates, {DECODING: target} if target and available else {}, notes=origin
    )


def read(batches: Batches, steps: int, clock: Clock) -> None:
    """Build the first ``steps`` batches."""
    for _ in batches.iterate(0, steps):
        clock(batches.batch_size)


def _timed(pieces: Iterator, clock: Clock) -> None:
    for piece in pieces:
        clock(len(piece))


def _decoding(samples: Samples, threads: int) -> Callable[[], Iterator]:
    import simplejpeg

    contents = {path: Path(path).read_bytes() for path in set(samples.paths)}
    max_pixels = max(
        np.prod(simplejpeg.decode_jpeg_header(data)[:2]) for data in contents.values()
    )
    local = threading.local()
    pool = ThreadPoolExecutor(threads)

    def decode(path: str) -> tuple:
        if not hasattr(local, "pixels"):
            local.pixels = np.empty(max_pixels * 3, np.uint8)
        return (simplejpeg.decode_jpeg(contents[path], "RGB", buffer=local.pixels),)

    return lambda: pool.map(decode, samples.paths)


def _objects(paths: list[str], origin: str) -> tuple[Samples, str]:
    """Several objects per image: those of COCO or, if it is not there, nine boxes in each
    photograph.
    """
    if (SHARED / "coco128").is_dir():
        found = open_dataset(SHARED / "coco128").samples("train")
        rows = np.arange(COUNT) % len(found)
        return Samples(
            np.arange(COUNT).astype(str).astype(object),
            found.paths[rows],
            found.labels[rows],
            found.boxes[rows],
            found.class_names,
            "train",
            {},
        ), f"{len(found)} objects of {len(set(found.paths))} images of COCO"
    boxes = np.array(
        [(40 + 90 * (row % 3), 40 + 60 * (row // 3 % 3), 100, 80) for row in range(COUNT)],
        np.float32,
    )
    return make_samples(
        [path for path in paths for _ in range(9)], COUNT, boxes
    ), f"nine boxes in each of {origin}"
