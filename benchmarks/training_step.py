"""A training step of the BVLC AlexNet: forward, backward, and momentum SGD with coupled weight
decay.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import click
import numpy as np

from alexnet_keras.configs.architecture import ALEXNET, Dropout
from benchmarks.engines import training_flops
from benchmarks.measure import (
    SGEMM,
    Candidate,
    Line,
    Options,
    Rate,
    ceilings,
    installed,
    interleaved,
    rotating,
    run_json,
)
from benchmarks.peers import (
    TRAINING,
    Trainer,
    peer,
    random_images,
    random_weights,
    relative_difference,
)

BATCH_SIZES = (32, 128)
TARGETS = {128: {"PyTorch": 2.5, "stock Keras": 4.0, SGEMM: 0.65}}
MAX_DIFFERENCE = 5e-3
"""Of the change made by two steps, which is small enough for the rounding of weights to show."""
AGREEMENT_BATCH = 16  # large enough for Winograd's algorithm
INPUTS = 2


def lines(options: Options) -> Iterator[Line]:
    """Speed at each batch size, then peak memory at each batch size."""
    available, missing = installed(TRAINING)
    if missing:
        click.echo(f"skipped, not installed: {', '.join(missing)}")
    names = ("ours", *available)
    check_agreement(names, options.threads)
    flops = _flops()
    for batch_size in options.sizes(BATCH_SIZES):
        candidates = [_candidate(name, batch_size, options.threads) for name in names]
        rates = interleaved(candidates + ceilings(options.threads), options.repetitions, warm_up=1)
        yield Line(
            f"training step, batch {batch_size}", "ours", rates, TARGETS.get(batch_size, {}), flops
        )
    for batch_size in options.sizes(BATCH_SIZES):
        yield _memory(names, batch_size, options.threads)


def check_agreement(names: tuple[str, ...], threads: int) -> None:
    """Raise ``AssertionError`` unless two steps without dropout change every kernel as in ours."""
    architecture = ALEXNET.replace_each(Dropout, rate=0.0)
    labels = np.arange(AGREEMENT_BATCH, dtype=np.int32)
    weights = random_weights(architecture)
    images = random_images(AGREEMENT_BATCH, architecture.input_size)
    changes = {
        name: _changes(
            peer(name).trainer(architecture, weights, AGREEMENT_BATCH, threads),
            images,
            labels,
            weights,
        )
        for name in names
    }
    for name, layers in changes.items():
        for layer, change in layers.items():
            difference = relative_difference(change, changes["ours"][layer])
            assert difference <= MAX_DIFFERENCE, (
                f"{name}: change of {layer} in two steps: expected a difference of at most "
                f"{MAX_DIFFERENCE:g}, got {difference:.1e}"
            )


def _changes(trainer: Trainer, images, labels, weights) -> dict[str, np.ndarray]:
    batch = trainer.convert(images, labels)
    for _ in range(2):
        trainer.step(batch)
    return {name: kernel - weights[name][0] for name, kernel in trainer.kernels().items()}


def _candidate(name: str, batch_size: int, threads: int) -> Candidate:
    trainer = peer(name).trainer(ALEXNET, random_weights(ALEXNET), batch_size, threads)
    labels = make_labels(batch_size)
    batches = [
        trainer.convert(random_images(batch_size, ALEXNET.input_size, seed), labels)
        for seed in range(INPUTS)
    ]
    return Candidate(
        name, rotating(lambda batch: _check_finite(name, trainer.step(batch)), batches), batch_size
    )


def _check_finite(name: str, loss: float) -> None:
    """Ours skips the update after a loss that is not finite, which would look fast."""
    assert math.isfinite(loss), f"{name}: loss: expected a finite number, got {loss}"


def make_labels(batch_size: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 1000, batch_size, np.int32)


def _flops() -> float:
    import keras

    from alexnet_keras.models.alexnet import build

    return training_flops(build(ALEXNET, keras.Input((ALEXNET.input_size, ALEXNET.input_size, 3))))


def _memory(names: tuple[str, ...], batch_size: int, threads: int) -> Line:
    """Peak resident memory of three steps above that of imports and inputs, in a fresh process for
    each peer.
    """
    found = {
        name: run_json(
            ["-c", _STEPS, name, str(batch_size), str(threads)], OMP_NUM_THREADS=str(threads)
        )
        for name in names
    }
    imports = ", ".join(f"{name} {report['before']:.2f}" for name, report in found.items())
    weights = (
        sum(array.nbytes for pair in random_weights(ALEXNET).values() for array in pair) / 1e9
    )
    return Line(
        f"memory of a step, batch {batch_size}",
        "ours",
        {name: Rate.of([report["peak"] - report["before"]]) for name, report in found.items()},
        notes=f"above the memory in use before ({imports}); weights, gradients and velocities "
        f"take {weights:.2f} each",
        unit="GB",
        less_is_better=True,
    )


_STEPS = """
import json, re, sys
from pathlib import Path
from alexnet_keras.cli.command import import_tensorflow
import_tensorflow()
from alexnet_keras.configs.architecture import ALEXNET
from benchmarks.peers import peer, random_images, random_weights
from benchmarks.training_step import make_labels
def gigabytes(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(field + r":\\s+(\\d+) kB", status)[1]) / 1e6
name, batch_size, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
images, weights = random_images(batch_size, ALEXNET.input_size), random_weights(ALEXNET)
module = peer(name)
before = gigabytes("VmRSS")
trainer = module.trainer(ALEXNET, weights, batch_size, threads)
del weights
batch = trainer.convert(images, make_labels(batch_size))
for _ in range(3):
    trainer.step(batch)
print(json.dumps({"before": before, "peak": gigabytes("VmHWM")}))
"""
