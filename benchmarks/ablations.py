"""Ablations of the 2012 paper in miniature, on the demonstration set over several seeds.

    python -m benchmarks.ablations [--seeds 3] [--epochs 6] [--only tanh] [--json FILE]

The network of Krizhevsky et al. 2012 with a quarter of its filters and an eighth of its fully
connected units, on 131 pixels, and variants of it that undo one choice, are trained from the same
seeds for equally many epochs. A seed fixes the order of the images, their crops and the dropout
masks, so networks are compared seed by seed: a claim ``held`` if the 95% confidence interval of
the mean difference (Student's t) is on the claimed side of zero, it is ``opposite`` if the
interval is on the other side, else ``not seen``. With 131 pixels the feature maps have odd sizes
(31, 15, 7, 3), so that pooling with and without overlap gives maps of the same size.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import numpy as np
from rich.console import Console

from alexnet_keras.cli.command import import_tensorflow
from alexnet_keras.configs.architecture import (
    Architecture,
    Convolution,
    Normalization,
    Pooling,
    demo_architecture,
)
from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.configs.recipe import DEMO_RECIPE, Recipe
from alexnet_keras.progress import console
from benchmarks.ablation_report import (
    CLAIMS,
    Trial,
    claims_table,
    difference,
    networks_table,
)

INPUT_SIZE = 131
TARGET_ERROR = 0.25
WINDOW_STEPS = 50
PREPROCESSING = CAFFE_PREPROCESSING.with_input_size(INPUT_SIZE)
FILE_WIDTH = 220


@dataclass(frozen=True)
class Network:
    """An architecture and the recipe that trains it."""

    architecture: Architecture
    recipe: Recipe

    def with_architecture(self, **fields) -> Network:
        """The same network with fields of its architecture replaced."""
        return replace(self, architecture=replace(self.architecture, **fields))


PAPER = Network(
    replace(
        demo_architecture().replace_each(Normalization, bias=2.0, alpha=1e-4),
        input_size=INPUT_SIZE,
    ),
    replace(DEMO_RECIPE, augmentation=AUGMENTATIONS["paper"]),
)


def one_tower(architecture: Architecture) -> Architecture:
    """Half the kernels in one group; conv5 and later layers are unchanged (section 3.2, footnote
    2).
    """
    return replace(
        architecture,
        layers=tuple(
            replace(
                layer,
                groups=1,
                filters=layer.filters if layer.name == "conv5" else layer.filters // 2,
            )
            if isinstance(layer, Convolution)
            else layer
            for layer in architecture.layers
        ),
    )


NETWORKS = {
    "paper": PAPER,
    "tanh": PAPER.with_architecture(activation="tanh"),
    "one-tower": replace(PAPER, architecture=one_tower(PAPER.architecture)),
    "no-lrn": replace(PAPER, architecture=PAPER.architecture.without("norm1", "norm2")),
    "no-overlap": replace(PAPER, architecture=PAPER.architecture.replace_each(Pooling, size=2)),
    "no-augmentation": replace(
        PAPER, recipe=replace(PAPER.recipe, augmentation=AUGMENTATIONS["none"])
    ),
    "no-dropout": replace(PAPER, architecture=PAPER.architecture.without("drop6", "drop7")),
}


def steps_to_target(errors: Sequence[float]) -> int | None:
    """The number of steps until the mean of the last 50 ``errors`` was at most 25%, or None."""
    means = np.lib.stride_tricks.sliding_window_view(errors, WINDOW_STEPS).mean(axis=1)
    reached = np.flatnonzero(means <= TARGET_ERROR)
    return int(reached[0]) + WINDOW_STEPS if len(reached) else None


@click.command(context_settings={"show_default": True})
@click.option("--seeds", type=click.IntRange(2), default=3, help="Number of seeds.")
@click.option("--epochs", type=click.IntRange(1), default=6, help="Epochs of each network.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(NETWORKS)[1:]),
    help="Compare only this network (repeatable).",
)
@click.option(
    "--json",
    "file",
    type=click.File("w", lazy=False),
    help="Also write the trials and verdicts to this file.",
)
def main(seeds: int, epochs: int, only: tuple[str, ...], file) -> None:
    """Train the networks and judge the paper's claims."""
    import_tensorflow()
    names = ["paper", *(name for name in NETWORKS if name in only or not only and name != "paper")]
    trials = train_all([(name, seed) for seed in range(seeds) for name in names], epochs)
    by_name = {name: [trial for trial in trials if trial.network == name] for name in names}
    rows = [
        (claim, difference(by_name, claim.network, claim.measure))
        for claim in CLAIMS
        if claim.network in by_name
    ]
    tables = Console(width=None if console.is_terminal else FILE_WIDTH)
    tables.print(networks_table(by_name), claims_table(rows, by_name), sep="\n")
    if file:
        verdicts = [
            {**asdict(claim), **asdict(difference), "verdict": difference.verdict(claim.larger)}
            for claim, difference in rows
        ]
        json.dump(
            {"epochs": epochs, "trials": list(map(asdict, trials)), "claims": verdicts},
            file,
            indent=1,
        )


def train_all(pairs: Sequence[tuple[str, int]], epochs: int) -> list[Trial]:
    """Train each (network, seed) and print a line for each."""
    trials = []
    began = perf_counter()
    for number, (name, seed) in enumerate(pairs, 1):
        trial = train_one(name, seed, epochs)
        trials.append(trial)
        remaining = (perf_counter() - began) / number * (len(pairs) - number)
        console.print(
            f"{number}/{len(pairs)}  seed {seed}  {name:15}  error {trial.error:.1%} val, "
            f"{trial.train_error:.1%} train  {trial.seconds:.0f} s  {remaining / 60:.0f} min left"
        )
    return trials


def train_one(name: str, seed: int, epochs: int) -> Trial:
    """Train a network in a temporary run folder and measure it on both splits."""
    import keras

    from alexnet_keras.data.batches import EvaluationBatches
    from alexnet_keras.data.layouts import open_dataset
    from alexnet_keras.evaluation.evaluator import evaluate
    from alexnet_keras.training.run_folder import new_run_folder
    from modes.scratch import train_from_scratch

    network = NETWORKS[name]
    dataset = open_dataset("demo")
    errors = []
    began = perf_counter()
    train = dataset.samples("train")
    keras.backend.clear_session()
    recorder = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: errors.append(1 - logs["top1"])
    )
    with TemporaryDirectory() as folder, new_run_folder(Path(folder, "run"), "scratch") as run:
        val = train_from_scratch(
            dataset,
            run,
            architecture=network.architecture,
            preprocessing=PREPROCESSING,
            seed=seed,
            recipe=network.recipe.with_length(len(train), epochs),
            callbacks=[recorder],
        ).evaluation
    fit = evaluate(
        recorder.model, EvaluationBatches(train, PREPROCESSING, network.recipe.batch_size)
    )
    steps = steps_to_target(errors)
    return Trial(
        name,
        seed,
        recorder.model.count_params(),
        1 - val.top1,
        1 - val.top5,
        1 - fit.top1,
        steps or len(errors),
        steps is not None,
        perf_counter() - began,
    )


if __name__ == "__main__":
    main()
