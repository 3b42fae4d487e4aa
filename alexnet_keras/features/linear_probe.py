"""Linear probe: the accuracy of a linear classifier on frozen features."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_keras.data.layouts import Dataset
from alexnet_keras.errors import DataError
from alexnet_keras.features.feature_arrays import open_array


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies (fractions 0-1) on ``images`` rows of the val split."""

    accuracy: float
    balanced_accuracy: float
    images: int


def fit_linear_probe(features: Path, layer: str, rows: Path, dataset: Dataset) -> ProbeResult:
    """Fit multinomial logistic regression on the train rows of a feature file and measure it on
    the val rows.

    ``features``: a ``.npy`` or ``.h5`` of ``extract``; ``rows``: its ``.csv``. Rows of unreadable
    files are skipped. Raises ``DataError`` if the file lacks either split.
    """
    x = open_array(features, layer)
    x = x.reshape(len(x), -1)
    with open(rows, encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    splits = np.array([row["split"] for row in table])
    labels = np.array([int(row["label"]) for row in table])
    usable = ~np.isnan(x[:, 0])
    selected = [usable & (splits == dataset.samples(split).split) for split in ("train", "val")]
    for split, mask in zip(("train", "val"), selected, strict=True):
        if not mask.any():
            raise DataError(f"{features}: probe: expected rows of the {split} split, got none")
    train, val = selected
    if len(np.unique(labels[train])) < 2:
        raise DataError(
            f"{features}: probe: expected rows of two or more classes in the train split, got one"
        )
    classifier = fit_probe(x[train], labels[train])
    predicted = classifier.predict(x[val])
    return ProbeResult(
        float((predicted == labels[val]).mean()),
        float(balanced_accuracy(labels[val], predicted)),
        int(val.sum()),
    )


def fit_probe(x: np.ndarray, labels: np.ndarray):
    """Logistic regression on standardized (rows, features) float32, a fitted scikit-learn
    pipeline.

    Classes have equal weight, whatever their numbers of rows. C = 1 / features: the penalty grows
    with the number of features, so that a probe of 9,216 features does not overfit 500 crops.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import, and rarely needed
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = LogisticRegression(C=1 / x.shape[1], class_weight="balanced", max_iter=1000)
    probe = make_pipeline(StandardScaler(), classifier)
    return probe.fit(x, labels)


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean accuracy (0-1) of the classes that occur in ``labels``."""
    occurring = np.unique(labels)
    return float(np.mean([(predicted[labels == label] == label).mean() for label in occurring]))
