"""From image files to fc7 of torchvision's AlexNet on disk, here and by thingsvision.

thingsvision needs a virtual environment of its own (``pip install thingsvision``), whose Python
``THINGSVISION_PYTHON`` names; without it the comparison is skipped.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from alexnet_keras.configs.architecture import OWT
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.preprocessing import TORCHVISION_PREPROCESSING
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.models.alexnet import new_model
from alexnet_keras.pretrained.loading import Pretrained
from benchmarks.measure import Candidate, Line, Options, interleaved
from benchmarks.photographs import find_photographs, make_samples
from modes.extract import extract_features

PYTHON = "THINGSVISION_PYTHON"
PROGRAM = Path(__file__).parent / "peers" / "thingsvision_extraction.py"
BATCH_SIZES = (32,)
IMAGES = 500
MAX_REPETITIONS = 5
TARGET = 1.8
LAYERS = {"fc7": "classifier.5", "pool5": "features.12"}
"""Our names and torchvision's; fc7 with its ReLU."""


def lines(options: Options) -> Iterator[Line]:
    """A line for each layer and batch size."""
    python = os.environ.get(PYTHON)
    if not python:
        click.echo(f"thingsvision: skipped, since {PYTHON} names no Python that has it")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, origin = find_photographs(folder)
        (folder / "images").mkdir()
        for row in range(IMAGES):
            link = folder / "images" / f"{row:04d}.jpg"
            link.symlink_to(paths[row % len(paths)])
        for batch_size in options.sizes(BATCH_SIZES):
            for layer in LAYERS:
                yield _line(python, folder, layer, batch_size, options, origin)


def _line(
    python: str, folder: Path, layer: str, batch_size: int, options: Options, origin: str
) -> Line:
    with _thingsvision(python, folder, LAYERS[layer], batch_size, options.threads) as (run, about):
        candidates = [
            Candidate("ours", _ours(folder, layer, batch_size, options.threads), IMAGES),
            Candidate("thingsvision", run, IMAGES),
        ]
        rates = interleaved(candidates, min(options.repetitions, MAX_REPETITIONS), warm_up=1)
    return Line(
        f"extraction of owt's {layer}, batch {batch_size}",
        "ours",
        rates,
        {"thingsvision": TARGET},
        notes=f"{IMAGES} images from {origin}; {about}",
    )


def _ours(folder: Path, layer: str, batch_size: int, threads: int) -> Callable[[], object]:
    model = new_model(OWT, TORCHVISION_PREPROCESSING, tuple(map(str, range(1000))))
    path = folder / "random.keras"
    model.save(path)
    source = Pretrained(model, "random", path)
    images = sorted(map(str, (folder / "images").iterdir()))
    samples = make_samples(images, len(images))
    dataset = Dataset("photographs", "folder", folder, ("train",), {}, lambda split: samples)
    return lambda: extract_features(
        dataset,
        folder / f"{layer}.npy",
        source=source,
        layers=(layer,),
        flatten=True,
        batch_size=batch_size,
        overwrite=True,
        loading=Loading(num_threads=threads),
    )


@contextmanager
def _thingsvision(
    python: str, folder: Path, layer: str, batch_size: int, threads: int
) -> Iterator[tuple[Callable[[], object], str]]:
    """A function that lets thingsvision extract all images once, and its version."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    errors = (folder / "thingsvision.log").open("w")
    process = subprocess.Popen(
        [python, PROGRAM, folder, layer, str(batch_size), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=clean,
    )

    def run() -> None:
        process.stdin.write("\n")
        process.stdin.flush()
        found = process.stdout.readline()
        assert found == f"{IMAGES}\n", f"expected {IMAGES} rows, got {found!r}"

    try:
        about = process.stdout.readline().strip()
        if not about:
            raise click.ClickException((folder / "thingsvision.log").read_text().strip()[-500:])
        yield run, about
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
        errors.close()
