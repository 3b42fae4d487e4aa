"""What a probe found, and the files that it is written to."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.configs.analysis_options import ProbeOptions
from alexnet_keras.errors import RunError
from alexnet_keras.features.probe_rows import ProbeRows
from alexnet_keras.features.probing import CrossValidation, p_value
from alexnet_keras.features.saved import Features

FILES = ("probe.csv", "confusion.csv", "probe.json")
COLUMNS = (
    "layer",
    "classifier",
    "balanced_accuracy",
    "interval_low",
    "interval_high",
    "accuracy",
    "p_value",
    "permuted_mean",
)


@dataclass(frozen=True)
class ProbeScore:
    """What one classifier reached on one layer, fractions 0-1.

    ``result``: the scores, choices and predictions of each fold. ``permuted``: the balanced
    accuracy with permuted labels, as often as asked.
    """

    layer: str
    classifier: str
    result: CrossValidation
    permuted: np.ndarray

    @property
    def balanced_accuracy(self) -> float:
        """The mean over folds."""
        return self.result.balanced_accuracy

    @property
    def interval(self) -> tuple[float, float] | None:
        """95%, over folds; None of a single split."""
        return self.result.interval

    @property
    def accuracy(self) -> float:
        """The mean over folds."""
        return self.result.accuracy

    @property
    def p_value(self) -> float | None:
        """None without permutations."""
        if not len(self.permuted):
            return None
        return p_value(self.balanced_accuracy, self.permuted)


@dataclass(frozen=True)
class ProbeReport:
    """The result of :func:`alexnet_keras.probe`.

    ``scores``: one for each layer and classifier, in the order of the layers. ``rows``: the rows
    that were used, with their labels, groups and the names of the classes.
    """

    scores: tuple[ProbeScore, ...]
    rows: ProbeRows
    features: Features
    options: ProbeOptions

    @property
    def best(self) -> ProbeScore:
        """The score of the highest balanced accuracy, the first of equals."""
        return max(self.scores, key=lambda score: score.balanced_accuracy)

    @property
    def tested(self) -> np.ndarray:
        """Which of ``rows`` are in a test fold: all, or those of val."""
        return self.scores[0].result.predicted >= 0

    @property
    def chance(self) -> float:
        """The balanced accuracy of any guess that does not look at the features."""
        return 1 / len(self.rows.class_names)

    @property
    def majority(self) -> float:
        """The accuracy, on the rows tested, of always naming their most frequent class."""
        tested = self.rows.labels[self.tested]
        return float(np.bincount(tested).max() / len(tested))

    def confusion(self, score: ProbeScore) -> np.ndarray:
        """(classes, classes) int64: rows of each class by the class predicted, over all folds."""
        classes = len(self.rows.class_names)
        tested = score.result.predicted >= 0
        counts = np.zeros((classes, classes), np.int64)
        np.add.at(counts, (self.rows.labels[tested], score.result.predicted[tested]), 1)
        return counts


def check_writable(folder: Path | None, overwrite: bool) -> None:
    """Raise ``RunError`` where the report cannot be written to ``folder``; None is no folder."""
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder}: expected a folder for the tables, got a file")
    existing = [folder / name for name in FILES if (folder / name).exists()]
    if existing and not overwrite:
        raise RunError(f"{existing[0]}: already exists; choose another --out or pass --overwrite")


def write_report(folder: Path, report: ProbeReport) -> None:
    """Write ``probe.csv``, ``confusion.csv`` and ``probe.json`` into ``folder``, which is created:
    all of them or none. Raises ``RunError``.

    ``probe.csv``: the columns :data:`COLUMNS`, fractions 0-1, a row for each layer and classifier.
    ``confusion.csv``: for each of these and each class, how many of its rows were predicted as
    each class. ``probe.json``: the same scores with those of every fold, what was chosen in it,
    the permuted scores, the options, and the description of the features.
    """
    names = report.rows.class_names
    with atomic_write(*(folder / name for name in FILES)) as (scores, confusion, about):
        folder.mkdir(parents=True, exist_ok=True)
        _write_csv(scores, COLUMNS, map(_score_row, report.scores))
        _write_csv(
            confusion,
            ("layer", "classifier", "class", *names),
            (
                (score.layer, score.classifier, name, *counts)
                for score in report.scores
                for name, counts in zip(names, report.confusion(score).tolist(), strict=True)
            ),
        )
        about.write_text(json.dumps(_described(report), indent=2) + "\n", encoding="utf-8")


def _score_row(score: ProbeScore) -> tuple:
    permuted = score.permuted.mean() if len(score.permuted) else ""
    return (
        score.layer,
        score.classifier,
        score.balanced_accuracy,
        *(score.interval or ("", "")),
        score.accuracy,
        "" if score.p_value is None else score.p_value,
        permuted,
    )


def _described(report: ProbeReport) -> dict:
    import sklearn

    rows = report.rows
    options = asdict(report.options)
    return {
        "features": {layer: str(path) for layer, path in report.features.files.items()},
        "options": options | {"out": str(options["out"])},
        "rows": len(rows.rows),
        "tested": int(report.tested.sum()),
        "groups": len(np.unique(rows.groups)),
        "classes": dict(zip(rows.class_names, np.bincount(rows.labels).tolist(), strict=True)),
        "chance": report.chance,
        "majority": report.majority,
        "scores": [_described_score(score) for score in report.scores],
        "scikit-learn": sklearn.__version__,
        "description": report.features.description,
    }


def _described_score(score: ProbeScore) -> dict:
    result = score.result
    setting = "n_neighbors" if score.classifier == "knn" else "c"
    return {
        "layer": score.layer,
        "classifier": score.classifier,
        "balanced_accuracy": score.balanced_accuracy,
        "interval": score.interval,
        "accuracy": score.accuracy,
        "p_value": score.p_value,
        "fold_balanced_accuracies": result.scores,
        "fold_accuracies": result.accuracies,
        setting: [getattr(classifier, setting) for classifier in result.chosen],
        "permuted": score.permuted.tolist(),
    }


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence]) -> None:
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
