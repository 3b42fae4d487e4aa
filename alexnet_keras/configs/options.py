"""The options of all commands and Python calls: name, type, default and help, declared once.

A group of options that several commands share is a dataclass, in ``option_groups`` or
``recipe_options``; a command's own class inherits its groups, the last base first in ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_keras.configs.feature_options import (
    FeatureFileOptions,
    LayerOptions,
    ProjectionOptions,
)
from alexnet_keras.configs.option_fields import option
from alexnet_keras.configs.option_groups import (
    DataOptions,
    ExecutionOptions,
    FolderOptions,
    NetworkOptions,
    PartialOptions,
    PreprocessingOptions,
    TrainFromOptions,
    WeightsOptions,
)
from alexnet_keras.configs.recipe_options import ScratchRecipeOptions, TransferRecipeOptions

NOT_RECORDED = ("output", "overwrite", "resume")
"""Options of a single call, not of the run."""


def recorded_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run's config records."""
    return {name: value for name, value in options.items() if name not in NOT_RECORDED}


@dataclass(frozen=True, kw_only=True)
class ScratchOptions(ExecutionOptions, ScratchRecipeOptions, NetworkOptions, DataOptions):
    """Options of ``scratch``."""


@dataclass(frozen=True, kw_only=True)
class TransferOptions(ExecutionOptions, TransferRecipeOptions, TrainFromOptions, DataOptions):
    """Options of ``transfer``."""

    data: str = option("demo-new", "Data set.", metavar="demo|demo-new|PATH")


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(
    ProjectionOptions,
    FeatureFileOptions,
    LayerOptions,
    PreprocessingOptions,
    WeightsOptions,
    FolderOptions,
    DataOptions,
):
    """Options of ``extract``."""

    data: str = option(
        "demo",
        "Data set; or images: a folder, a file, a glob, a list (.txt), a table (.csv) or an array "
        "(.npy, .npz, .h5).",
        metavar="demo|demo-new|PATH",
        or_images=True,
    )
    splits: tuple[str, ...] = option(
        (), "Split to extract (repeatable).  [default: all splits]", flag="--split", metavar="NAME"
    )
    batch_size: int = option(32, "Images per batch.", metavar="N")
    probe: bool = option(
        False, "Train a linear classifier on the features of train and test it on those of val."
    )


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(PreprocessingOptions, PartialOptions, FolderOptions, DataOptions):
    """Options of ``evaluate``."""

    data: str | None = option(
        None,
        "Data set.",
        metavar="demo|demo-new|PATH",
        default_text="the run's own",
        or_images=True,
    )
    split: str = option(
        "val", "train, val, or a split of the data set by its own name.", metavar="NAME"
    )
    crops: int = option(1, "Centre crop, or the mean over the paper's ten crops.", choices=(1, 10))
    batch_size: int = option(64, "Images per batch.", metavar="N")
    out: Path | None = option(None, "Also write classes.csv and confusion.csv.", metavar="FOLDER")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PreprocessingOptions, PartialOptions, FolderOptions):
    """Options of ``predict``."""

    weights: str = option(
        "caffe",
        "Published weights by name, a weight file, a run, or untrained ones: random:SEED.",
        metavar="NAME|PATH|RUN",
    )
    crops: int = option(1, "Centre crop, or the mean over the paper's ten crops.", choices=(1, 10))
    top: int = option(5, "Number of classes to list for each image.", minimum=1, metavar="N")
    out: Path | None = option(
        None,
        "Write the predictions to this file, .csv or .json, instead of printing them.",
        metavar="FILE",
    )
    batch_size: int = option(32, "Crops per batch.", minimum=1, metavar="N")
    num_threads: int = option(
        2, "Threads that load images.", flag="--threads", minimum=1, metavar="N"
    )
    skip_bad: bool = option(
        False,
        "Mark unreadable files and go on, as with --out, instead of stopping at the first.",
    )
    overwrite: bool = option(False, "Replace an existing file.")
