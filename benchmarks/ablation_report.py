"""The paper's claims, how they are judged, and the tables of the ablations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from rich import box
from rich.table import Table
from scipy import stats

CONFIDENCE = 0.95
BASELINE = "krizhevsky"


@dataclass(frozen=True)
class Trial:
    """One network trained from one seed. Errors are fractions 0-1 of the final weights, on centre
    crops without dropout.

    ``steps``: updates until the running error on the training batches, with augmentation and
    dropout, reached 25%; if it never did, ``reached`` is False and ``steps`` the length of the
    run.
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
        """The error on val minus the error on the training images."""
        return self.error - self.train_error


@dataclass(frozen=True)
class Claim:
    """A claim of the paper about the choice that ``network`` lacks: compared with ``baseline``,
    its ``measure`` should be larger (or smaller).
    """

    network: str
    section: str
    says: str
    measure: str
    larger: bool = True
    baseline: str = BASELINE


CLAIMS = (
    Claim("tanh", "3.1", "ReLU reaches 25% training error six times faster (CIFAR-10)", "steps"),
    Claim("145-half", "3.2", "two towers: 1.7 points less top-1 error, 1.2 top-5", "error"),
    Claim("148", "3.3", "normalization: 1.4 points less top-1 error, 1.2 top-5", "error"),
    Claim(
        "paper-no-lrn",
        "3.3",
        "the same, with the normalization of the text",
        "error",
        baseline="paper",
    ),
    Claim("147", "3.4", "overlapping: 0.4 points less top-1 error, 0.3 top-5", "error"),
    Claim("147", "3.4", "overlapping is slightly more difficult to overfit", "overfitting"),
    Claim("no-augmentation", "4.1", "substantial overfitting without augmentation", "overfitting"),
    Claim("no-dropout", "4.2", "substantial overfitting without dropout", "overfitting"),
    Claim(
        "no-dropout",
        "4.2",
        "dropout doubles the steps to converge (here: to 25%)",
        "steps",
        larger=False,
    ),
    Claim(
        "146",
        "6",
        "a sixth convolution, pretrained: 1.7 points less top-1 error",
        "error",
        larger=False,
    ),
)


BASELINES = {claim.network: claim.baseline for claim in CLAIMS}


@dataclass(frozen=True)
class Difference:
    """The mean difference between a network and its baseline over paired seeds, with a 95%
    confidence interval of ``mean`` ± ``margin``.
    """

    mean: float
    margin: float

    @classmethod
    def of(cls, values: Sequence[float], baseline: Sequence[float]) -> Difference:
        each = np.subtract(values, baseline)
        quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(each) - 1)
        return cls(float(each.mean()), float(quantile * each.std(ddof=1) / len(each) ** 0.5))

    def verdict(self, larger: bool) -> str:
        """The verdict on the claim that the network's values are ``larger`` (else smaller) than
        its baseline's.
        """
        if abs(self.mean) <= self.margin:
            return "not seen"
        return "held" if (self.mean > 0) == larger else "opposite"


def values(trials: Sequence[Trial], measure: str) -> list[float]:
    """One measure of a network's trials, ordered by seed."""
    return [getattr(trial, measure) for trial in trials]


def difference(
    by_name: dict[str, list[Trial]], name: str, measure: str, baseline: str = BASELINE
) -> Difference:
    """How a measure of one network differs from its baseline's."""
    return Difference.of(values(by_name[name], measure), values(by_name[baseline], measure))


def networks_table(by_name: dict[str, list[Trial]]) -> Table:
    """The results of each network: means and standard deviations over the seeds."""
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
        baseline = BASELINES.get(name)
        against = _shown(difference(by_name, name, "error", baseline), "error") if baseline else ""
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
    """What the paper claims, what was measured, and the verdict."""
    table = _table("section", "the paper says", "measured", "without it", "verdict")
    for claim, found in rows:
        shown = _shown(found, claim.measure)
        if claim.measure == "steps":
            ratio = np.mean(values(by_name[claim.network], "steps")) / np.mean(
                values(by_name[claim.baseline], "steps")
            )
            shown += f" (x{ratio:.2f})"
        table.add_row(
            claim.section,
            claim.says,
            f"{claim.measure}, {claim.network} - {claim.baseline}",
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
