"""Options of the commands that read features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alexnet_keras.configs.option_fields import option


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Options of ``probe``."""

    layers: tuple[str, ...] = option(
        (), "Layer to probe (repeatable).  [default: all]", flag="--layer", metavar="NAME"
    )
    classifiers: tuple[str, ...] = option(
        ("logistic",),
        "Linear SVM, logistic regression or k nearest neighbours (repeatable).",
        flag="--classifier",
        choices=("svm", "logistic", "knn", "all"),
    )
    label: str | None = option(
        None, "Column of the table to predict.  [default: label, else class]", metavar="COLUMN"
    )
    group: str | None = option(
        None,
        "Column whose equal values stay together, all in train or all in test; row: every row by "
        "itself.  [default: image, that is path]",
        metavar="COLUMN",
    )
    folds: int | None = option(None, "Folds of cross-validation.  [default: 5]", minimum=2)
    split_by: str | None = option(
        None,
        "Instead of folds, train and test on the rows that this column calls train and val (or "
        "test).",
        metavar="COLUMN",
    )
    c: float | None = option(
        None,
        "svm, logistic: C times the number of features; smaller is a stronger penalty.  "
        "[default: 1]",
        minimum=1e-9,
    )
    n_neighbors: int | None = option(
        None, "knn: neighbours that vote.  [default: 5]", minimum=1, metavar="K"
    )
    tune: bool = option(
        False, "Choose C or the number of neighbours by folds within each fold's train rows."
    )
    skip_rare: bool = option(False, "Leave out classes in fewer groups than there are folds.")
    permutations: int = option(
        0, "Permute the labels N times for a p-value.", minimum=0, metavar="N"
    )
    seed: int = option(0, "Random seed of folds and permutations.", minimum=0, maximum=2**31 - 1)
    out: Path | None = option(
        None, "Also write probe.csv, confusion.csv and probe.json.", metavar="FOLDER"
    )
    overwrite: bool = option(False, "Replace existing files.")


@dataclass(frozen=True, kw_only=True)
class SimilarityOptions:
    """Options of ``similarity``."""

    layers: tuple[str, ...] = option(
        (), "Layer to compare (repeatable).  [default: all]", flag="--layer", metavar="NAME"
    )
    reference: tuple[str, ...] = option(
        (),
        "RDMs or responses to compare the layers with, .h5, .npy or .mat; or a column of the "
        "table, such as class: 0 where two stimuli agree in it, else 1 (repeatable).",
        metavar="FILE|COLUMN",
    )
    rdm: str = option(
        "correlation",
        "Distance of two stimuli; crossnobis is crossvalidated over repeats.",
        choices=("correlation", "euclidean", "cosine", "crossnobis"),
    )
    compare: tuple[str, ...] = option(
        ("spearman",),
        "How RDMs, or for CKA features, are compared (repeatable).",
        choices=("spearman", "tau-a", "pearson", "linear-cka", "rbf-cka", "all"),
    )
    bandwidth: float | None = option(
        None,
        "rbf-cka: standard deviation of the kernel, as a fraction of the median distance.  "
        "[default: 0.5]",
        minimum=1e-3,
        maximum=1e3,
    )
    repeats: str | None = option(
        None,
        "Column that names the stimulus of a row: rows in which it agrees are repeats.  "
        "[default: every row is a stimulus]",
        metavar="COLUMN",
    )
    bootstrap: int = option(
        1000, "Samples of stimuli, for 95% intervals; 0 for none.", minimum=0, metavar="N"
    )
    seed: int = option(0, "Random seed of the samples.", minimum=0, maximum=2**31 - 1)
    out: Path | None = option(
        None, "Also write similarity.csv and similarity.json.", metavar="FOLDER"
    )
    figure: bool = option(False, "Also draw similarity.png into --out.")
    rdm_file: Path | None = option(
        None,
        "Also write the layers' RDMs: .h5 as rsatoolbox does, .npy or .mat.",
        metavar="FILE",
    )
    overwrite: bool = option(False, "Replace existing files.")


@dataclass(frozen=True, kw_only=True)
class DistanceOptions:
    """Options of ``distance``."""

    weights: str = option(
        "torchvision",
        "Weights of owt by name, a weight file, a run, or untrained ones: random:SEED.",
        metavar="NAME|PATH|RUN",
    )
    heads: str = option(
        "lpips",
        "LPIPS's linear heads: those of the catalogue, or a file.",
        metavar="NAME|FILE",
    )
    partial: bool = option(False, "Accept weights without the layers above conv5.")
