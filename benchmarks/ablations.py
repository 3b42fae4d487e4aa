"""The paper's claims in miniature: what each of its choices is worth on the demonstration set,
over several seeds.

    python -m benchmarks.ablations [--seeds 3] [--epochs 6] [--only tanh] [--json FILE]

The network of Krizhevsky et al. 2012 at a quarter of its width (fully connected layers: an eighth)
on 131 pixels, and the same with one choice taken back, are trained with the same seeds for as many
epochs. A seed fixes the order of the images, their crops and the dropout masks, so networks are
compared seed by seed: a claim ``held`` where the 95% interval of the mean difference (Student's t)
lies on its side of zero, it is ``opposite`` where it lies on the other, else ``not seen``. 131
pixels keep the grids odd (31, 15, 7, 3), so that pooling gives maps of the same size with and
without overlap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from scipy import stats

from alexnet_keras.cli.console import console
from alexnet_keras.cli.options import prepare
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

INPUT_SIZE, TARGET_ERROR, WINDOW_STEPS, CONFIDENCE = 131, 0.25, 50, 0.95
PREPROCESSING = CAFFE_PREPROCESSING.for_input(INPUT_SIZE)
FILE_WIDTH = 220


@dataclass(frozen=True)
class Network:
    """What is trained, and how."""

    architecture: Architecture
    recipe: Recipe

    def changed(self, **fields) -> Network:
        """With fields of the architecture replaced."""
        return replace(self, architecture=replace(self.architecture, **fields))


PAPER = Network(
    replace(
        demo_architecture().with_each(Normalization, bias=2.0, alpha=1e-4), input_size=INPUT_SIZE
    ),
    replace(DEMO_RECIPE, augmentation=AUGMENTATIONS["paper"]),
)


def one_tower(architecture: Architecture) -> Architecture:
    """Half the kernels, in one group; conv5 and the layers after it keep theirs (section 3.2,
    footnote 2).
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
    "tanh": PAPER.changed(activation="tanh"),
    "one-tower": replace(PAPER, architecture=one_tower(PAPER.architecture)),
    "no-lrn": replace(PAPER, architecture=PAPER.architecture.without("norm1", "norm2")),
    "no-overlap": replace(PAPER, architecture=PAPER.architecture.with_each(Pooling, size=2)),
    "no-augmentation": replace(
        PAPER, recipe=replace(PAPER.recipe, augmentation=AUGMENTATIONS["none"])
    ),
    "no-dropout": replace(PAPER, architecture=PAPER.architecture.without("drop6", "drop7")),
}


@dataclass(frozen=True)
class Trial:
    """One network from one seed. Errors are fractions 0-1 of the final weights, on centre crops
    without dropout.

    ``steps``: updates until the running error on the training batches, as they are augmented and
    dropped out, was 25%; the length of the run where it never was, and ``reached`` is then False.
    """

    network: str
    seed: int
    parameters: int
    error: float
    top5_error: float
    train_error: float
    steps: int
    reached: bool
    seconds: float

    @property
    def overfitting(self) -> float:
        """How much larger the error on val is than on the training images."""
        return self.error - self.train_error


@dataclass(frozen=True)
class Claim:
    """What the paper says of the choice that ``network`` lacks; there ``measure`` should be larger
    (or smaller).
    """

    network: str
    section: str
    says: str
    measure: str
    larger: bool = True


CLAIMS = (
    Claim("tanh", "3.1", "ReLU reaches 25% training error six times faster (CIFAR-10)", "steps"),
    Claim("one-tower", "3.2", "two towers: 1.7 points less top-1 error, 1.2 top-5", "error"),
    Claim("no-lrn", "3.3", "LRN: 1.4 points less top-1 error, 1.2 top-5", "error"),
    Claim("no-overlap", "3.4", "overlapping: 0.4 points less top-1 error, 0.3 top-5", "error"),
    Claim("no-overlap", "3.4", "overlapping is slightly more difficult to overfit", "overfitting"),
    Claim("no-augmentation", "4.1", "substantial overfitting without augmentation", "overfitting"),
    Claim("no-dropout", "4.2", "substantial overfitting without dropout", "overfitting"),
    Claim(
        "no-dropout",
        "4.2",
        "dropout doubles the steps to converge (here: to 25%)",
        "steps",
        larger=False,
    ),
)


@dataclass(frozen=True)
class Difference:
    """Of a network from the paper's, over paired seeds: the ``mean``, give or take ``margin`` at
    95% confidence.
    """

    mean: float
    margin: float

    @classmethod
    def of(cls, values: Sequence[float], baseline: Sequence[float]) -> Difference:
        each = np.subtract(values, baseline)
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1)
        return cls(float(each.mean()), float(quantile * each.std(ddof=1) / len(each) ** 0.5))

    def verdict(self, larger: bool) -> str:
        """On a claim that the network's values are ``larger`` than the paper's, or else
        smaller.
        """
        if abs(self.mean) <= self.margin:
            return "not seen"
        return "held" if (self.mean > 0) == larger else "opposite"


def steps_to_target(errors: Sequence[float]) -> int | None:
    """How many steps it took until the mean of the last 50 ``errors`` was at most 25%, or None."""
    means = np.lib.stride_tricks.sliding_window_view(errors, WINDOW_STEPS).mean(axis=1)
    reached = np.flatnonzero(means <= TARGET_ERROR)
    return int(reached[0]) + WINDOW_STEPS if len(reached) else None


@click.command(context_settings={"show_default": True})
@click.option("--seeds", type=click.IntRange(2), default=3, help="How many, from 0.")
@click.option("--epochs", type=click.IntRange(1), default=6, help="Of every network.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(list(NETWORKS)[1:]),
    help="Compare only this one (repeatable).",
)
@click.option(
    "--json",
    "file",
    type=click.File("w", lazy=False),
    help="Also write every trial and verdict here.",
)
def main(seeds: int, epochs: int, only: tuple[str, ...], file) -> None:
    """Train, measure and print what held."""
    prepare()
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
    """Train each (network, seed), a line each."""
    trials, began = [], perf_counter()
    for number, (name, seed) in enumerate(pairs, 1):
        trial = train_one(name, seed, epochs)
        trials.append(trial)
        left = (perf_counter() - began) / number * (len(pairs) - number)
        console.print(
            f"{number}/{len(pairs)}  seed {seed}  {name:15}  error {trial.error:.1%} val, "
            f"{trial.train_error:.1%} train  {trial.seconds:.0f} s  {left / 60:.0f} min left"
        )
    return trials


def train_one(name: str, seed: int, epochs: int) -> Trial:
    """Train a network in a temporary run folder and measure it on both splits."""
    import keras

    from alexnet_keras.data.batches import EvaluationBatches
    from alexnet_keras.data.layouts import open_dataset
    from alexnet_keras.evaluation.evaluator import evaluate
    from alexnet_keras.training.run_folder import new_run
    from modes.scratch import scratch

    network, dataset, errors, began = NETWORKS[name], open_dataset("demo"), [], perf_counter()
    train = dataset.samples("train")
    keras.backend.clear_session()
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: errors.append(1 - logs["top1"])
    )
    with TemporaryDirectory() as folder, new_run(Path(folder, "run"), "scratch") as run:
        val = scratch(
            dataset,
            run,
            architecture=network.architecture,
            preprocessing=PREPROCESSING,
            seed=seed,
            recipe=network.recipe.lasting(len(train), epochs),
            callbacks=[watch],
        ).evaluation
    fit = evaluate(watch.model, EvaluationBatches(train, PREPROCESSING, network.recipe.batch_size))
    steps = steps_to_target(errors)
    return Trial(
        name,
        seed,
        watch.model.count_params(),
        1 - val.top1,
        1 - val.top5,
        1 - fit.top1,
        steps or len(errors),
        steps is not None,
        perf_counter() - began,
    )


def values(trials: Sequence[Trial], measure: str) -> list[float]:
    """One measure of a network's trials, by seed."""
    return [getattr(trial, measure) for trial in trials]


def difference(by_name: dict[str, list[Trial]], name: str, measure: str) -> Difference:
    """How a measure of one network differs from the paper's."""
    return Difference.of(values(by_name[name], measure), values(by_name["paper"], measure))


def networks_table(by_name: dict[str, list[Trial]]) -> Table:
    """The networks' figures: means over the seeds and their standard deviations."""
    table = _table(
        "network",
        "parameters",
        "top-1 error on val",
        "difference",
        "top-5 error",
        "training error",
        "overfitting",
        "steps to 25%",
        "seconds",
    )
    for name, trials in by_name.items():
        spread = partial(_mean_and_deviation, trials)
        against = "" if name == "paper" else _shown(difference(by_name, name, "error"), "error")
        unreached = sum(not trial.reached for trial in trials)
        table.add_row(
            name,
            f"{trials[0].parameters:,}",
            spread("error", _percent),
            against,
            spread("top5_error", _percent),
            spread("train_error", _percent),
            spread("overfitting", _percent),
            spread("steps", _whole) + (f", {unreached} never" if unreached else ""),
            _whole(np.mean(values(trials, "seconds"))),
        )
    return table


def claims_table(
    rows: Sequence[tuple[Claim, Difference]], by_name: dict[str, list[Trial]]
) -> Table:
    """What the paper says, what was found, and whether it held."""
    table = _table("section", "the paper says", "measured", "without it", "verdict")
    for claim, found in rows:
        shown = _shown(found, claim.measure)
        if claim.measure == "steps":
            ratio = np.mean(values(by_name[claim.network], "steps")) / np.mean(
                values(by_name["paper"], "steps")
            )
            shown += f" (x{ratio:.2f})"
        table.add_row(
            claim.section,
            claim.says,
            f"{claim.measure}, {claim.network}",
            shown,
            found.verdict(claim.larger),
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.MARKDOWN)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == "network")
    return table


def _mean_and_deviation(
    trials: Sequence[Trial], measure: str, shown: Callable[[float], str]
) -> str:
    numbers = values(trials, measure)
    return f"{shown(np.mean(numbers))} ± {shown(np.std(numbers, ddof=1))}"


def _shown(found: Difference, measure: str) -> str:
    scale, unit, decimals = (1, "steps", 0) if measure == "steps" else (100, "points", 1)
    return f"{found.mean * scale:+.{decimals}f} ± {found.margin * scale:.{decimals}f} {unit}"


def _percent(fraction: float) -> str:
    return f"{fraction:.1%}"


def _whole(number: float) -> str:
    return f"{number:.0f}"


if __name__ == "__main__":
    main()
