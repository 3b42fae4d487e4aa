"""Ablations of the 2012 paper in miniature, on the demonstration set over several seeds.

    python -m benchmarks.ablations [--seeds 3] [--epochs 6] [--only tanh] [--json FILE]

The network of 2012 with a quarter of its filters and an eighth of its fully connected units, on
131 pixels, and variants of it that undo one choice, are trained from the same seeds for equally
many epochs. ``145-half``, ``146``, ``147`` and ``148`` are the ablations that the authors ran
(``alexnet_keras.configs.ablations``). A seed fixes the order of the images, their crops and the
dropout masks, so networks are compared seed by seed: a claim ``held`` if the 95% confidence
interval of the mean difference (Student's t) is on the claimed side of zero, it is ``opposite``
if the interval is on the other side, else ``not seen``. From 131 pixels, pooling with and without
overlap ends at maps of the same size (3 x 3).
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
from alexnet_keras.configs.ablations import ABLATIONS
from alexnet_keras.configs.architecture import KRIZHEVSKY, PAPER, Architecture
from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.preprocessing import KRIZHEVSKY_PREPROCESSING
from alexnet_keras.configs.recipe import DEMO_RECIPE, KRIZHEVSKY_RECIPE, Recipe
from alexnet_keras.progress import console
from benchmarks.ablation_report import (
    BASELINE,
    CLAIMS,
    Trial,
    claims_table,
    difference,
    networks_table,
)

INPUT_SIZE = 131
TARGET_ERROR = 0.25
WINDOW_STEPS = 50
PREPROCESSING = KRIZHEVSKY_PREPROCESSING.with_input_size(INPUT_SIZE)
FILE_WIDTH = 220


@dataclass(frozen=True)
class Network:
    """An architecture and the recipe that trains it."""

    architecture: Architecture
    recipe: Recipe


def narrow(architecture: Architecture) -> Architecture:
    """The network in miniature, with initial values from which one so narrow learns within a
    minute.
    """
    initial_values = replace(architecture.initial_values, stddev=0.03, hidden_stddev=0.03)
    return replace(
        architecture.with_width(0.25, 0.125),
        input_size=INPUT_SIZE,
        initial_values=initial_values,
    )


RECIPE = replace(
    DEMO_RECIPE,
    augmentation=KRIZHEVSKY_RECIPE.augmentation.scaled(
        DEMO_RECIPE.epochs / KRIZHEVSKY_RECIPE.epochs
    ),
)
NO_AUGMENTATION = replace(RECIPE, augmentation=AUGMENTATIONS["none"])
NETWORKS = {
    BASELINE: Network(narrow(KRIZHEVSKY), RECIPE),
    **{name: Network(narrow(each), RECIPE) for name, each in ABLATIONS.items()},
    "tanh": Network(narrow(replace(KRIZHEVSKY, activation="tanh")), RECIPE),
    "no-augmentation": Network(narrow(KRIZHEVSKY), NO_AUGMENTATION),
    "no-dropout": Network(narrow(KRIZHEVSKY.without("drop6", "drop7")), RECIPE),
    "paper": Network(narrow(PAPER), RECIPE),
    "paper-no-lrn": Network(narrow(PAPER.without("norm1", "norm2")), RECIPE),
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
    type=click.Choice([claim.network for claim in CLAIMS]),
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
    claims = [claim for claim in CLAIMS if not only or claim.network in only]
    compared = {name for claim in claims for name in (claim.network, claim.baseline)}
    names = [name for name in NETWORKS if name in compared]
    trials = train_all([(name, seed) for seed in range(seeds) for name in names], epochs)
    by_name = {name: [trial for trial in trials if trial.network == name] for name in names}
    rows = [
        (claim, difference(by_name, claim.network, claim.measure, claim.baseline))
        for claim in claims
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
