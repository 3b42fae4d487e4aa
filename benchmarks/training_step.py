"""A training step of the BVLC AlexNet: forward, backward, and momentum through which the decay
goes.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
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
"""Of a change by two steps, beside which the rounding of a weight is not small."""
AGREEMENT_BATCH, INPUTS = 16, 2  # as many as training by Winograd's algorithm takes


def lines(options: Options) -> Iterator[Line]:
    """Speed at each batch size, then the peak memory of a process that trains."""
    there, absent = installed(TRAINING)
    if absent:
        click.echo(f"left out, not installed: {', '.join(absent)}")
    names = ("ours", *there)
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
    """Raise ``AssertionError`` unless two steps without dropout change every kernel as ours do."""
    architecture, labels = (
        ALEXNET.with_each(Dropout, rate=0.0),
        np.arange(AGREEMENT_BATCH, dtype=np.int32),
    )
    weights, images = (
        random_weights(architecture),
        random_images(AGREEMENT_BATCH, architecture.input_size),
    )
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
            found = relative_difference(change, changes["ours"][layer])
            assert found <= MAX_DIFFERENCE, (
                f"{name}: two steps change {layer} by something else than ours, "
                f"{found:.1e} of it, expected {MAX_DIFFERENCE:g}"
            )


def _changes(trainer: Trainer, images, labels, weights) -> dict[str, np.ndarray]:
    batch = trainer.convert(images, labels)
    for _ in range(2):
        trainer.step(batch)
    return {name: kernel - weights[name][0] for name, kernel in trainer.kernels().items()}


def _candidate(name: str, batch_size: int, threads: int) -> Candidate:
    trainer, labels = (
        peer(name).trainer(ALEXNET, random_weights(ALEXNET), batch_size, threads),
        _labels(batch_size),
    )
    batches = [
        trainer.convert(random_images(batch_size, ALEXNET.input_size, seed), labels)
        for seed in range(INPUTS)
    ]
    return Candidate(
        name, rotating(lambda batch: _check_finite(name, trainer.step(batch)), batches), batch_size
    )


def _check_finite(name: str, loss: float) -> None:
    """After such a loss ours would leave out the update."""
    assert math.isfinite(loss), f"{name}: the loss is {loss}"


def _labels(batch_size: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 1000, batch_size, np.int32)


def _flops() -> float:
    import keras

    from alexnet_keras.models.alexnet import build

    return training_flops(build(ALEXNET, keras.Input((ALEXNET.input_size, ALEXNET.input_size, 3))))


def _memory(names: tuple[str, ...], batch_size: int, threads: int) -> Line:
    """Peak resident memory of three steps, less what importing and the inputs had taken, each in a
    fresh process.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    found = {
        name: json.loads(
            subprocess.run(
                [sys.executable, "-c", _STEPS, name, str(batch_size), str(threads)],
                check=True,
                text=True,
                env=environment,
                stdout=subprocess.PIPE,
            ).stdout.splitlines()[-1]
        )
        for name in names
    }
    imports = ", ".join(f"{name} {figures['before']:.2f}" for name, figures in found.items())
    weights = (
        sum(array.nbytes for pair in random_weights(ALEXNET).values() for array in pair) / 1e9
    )
    return Line(
        f"memory of a step, batch {batch_size}",
        "ours",
        {name: Rate.of([figures["peak"] - figures["before"]]) for name, figures in found.items()},
        notes=f"above what a process had before ({imports}); weights, gradients and velocities: "
        f"{weights:.2f} each",
        unit="GB",
        less_is_better=True,
    )


_STEPS = """
import json, re, sys
from pathlib import Path
from alexnet_keras.cli.options import prepare
prepare()
from alexnet_keras.configs.architecture import ALEXNET
from benchmarks.peers import peer, random_images, random_weights
from benchmarks.training_step import _labels
def gigabytes(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(field + r":\\s+(\\d+) kB", status)[1]) / 1e6
name, batch_size, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
images, weights = random_images(batch_size, ALEXNET.input_size), random_weights(ALEXNET)
module = peer(name)
before = gigabytes("VmRSS")
trainer = module.trainer(ALEXNET, weights, batch_size, threads)
del weights
batch = trainer.convert(images, _labels(batch_size))
for _ in range(3):
    trainer.step(batch)
print(json.dumps({"before": before, "peak": gigabytes("VmHWM")}))
"""
