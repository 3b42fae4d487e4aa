"""Linear probe: the accuracy of a linear classifier on frozen features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_keras.data.layouts import Dataset
from alexnet_keras.errors import DataError
from alexnet_keras.features.classifiers import Classifier
from alexnet_keras.features.probe_rows import finite_rows, read_probe_rows, split_indices
from alexnet_keras.features.probing import cross_validate
from alexnet_keras.features.saved import Features


@dataclass(frozen=True)
class ProbeResult:
    """Accuracies (fractions 0-1) on ``images`` rows of the val split."""

    accuracy: float
    balanced_accuracy: float
    images: int


def fit_linear_probe(features: Path, layer: str, rows: Path, dataset: Dataset) -> ProbeResult:
    """Fit multinomial logistic regression on the train rows of a feature file and measure it on
    the val rows, as ``probe`` does by default.

    ``features``: a file of ``extract``; ``rows``: its ``.csv``. Rows of unreadable files are left
    out. Raises ``DataError`` if the file lacks either split.
    """
    saved = Features({layer: features}, rows)
    splits = np.array(saved.rows["split"])
    masks = [splits == dataset.samples(split).split for split in ("train", "val")]
    for split, mask in zip(("train", "val"), masks, strict=True):
        if not mask.any():
            raise DataError(f"{features}: probe: expected rows of the {split} split, got none")
    labelled = read_probe_rows(saved, None, "row", masks[0] | masks[1])
    used = finite_rows(saved, (layer,), labelled)
    train, val = split_indices(f"{features}: probe", used, *masks)
    if len(np.unique(used.labels[train])) < 2:
        raise DataError(
            f"{features}: probe: expected rows of two or more classes in the train split, got one"
        )
    result = cross_validate(
        saved[layer],
        used.rows,
        used.labels,
        used.groups,
        lambda labels: [(train, val)],
        Classifier("logistic"),
    )
    return ProbeResult(result.accuracy, result.balanced_accuracy, len(val))
