"""Every option of every command and of its Python call: name, type, default and help, declared
once.

A group of options that several commands share is a dataclass; a command's own class inherits its
groups, the last base first in ``--help``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.option_fields import option
from alexnet_keras.configs.recipe import RECIPES

RECIPES_OWN = "the recipe's"
UNRECORDED = ("output", "overwrite", "resume")  # of one call, not of the run


def recorded(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that a run's config records."""
    return {name: value for name, value in options.items() if name not in UNRECORDED}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Which samples, and how many threads read them."""

    data: str = option("demo", "The data set.", metavar="demo|demo-new|PATH")
    layout: str | None = option(
        None,
        "Layout of PATH.  [default: recognised]",
        flag="--format",
        choices=("coco", "imagenet", "folder"),
    )
    classes: tuple[str, ...] = option((), "COCO: only these classes (repeatable).", metavar="NAME")
    min_size: float | None = option(None, "COCO: pixels of a box's shorter side.  [default: 32]")
    context: float | None = option(
        None, "COCO: fraction of a box added on each side.  [default: 0.1]"
    )
    square: bool | None = option(
        None, "COCO: square regions or the boxes' own shape.  [default: square]"
    )
    num_threads: int = option(
        2, "Loader threads.", flag="--threads", low=1, metavar="N", changeable=True
    )


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    variant: str | None = option(None, "Which AlexNet.", choices=tuple(VARIANTS))


@dataclass(frozen=True, kw_only=True)
class PartialOptions(VariantOptions):
    partial: bool = option(False, "Accept weights that lack layers.")


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(PartialOptions):
    """A trained network to start from."""

    weights: str | None = option(
        None,
        "demo, a name of the catalogue, a weight file or a run.  "
        "[default: demo on demonstration data, else caffe]",
        metavar="NAME|PATH|RUN",
    )


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """How a network is trained; each option replaces one field of the recipe."""

    recipe: str | None = option(
        None, "Published; each option below replaces one field.", choices=tuple(RECIPES)
    )
    epochs: int | None = option(
        None,
        "Passes over the train split; drops of the rate move in proportion.",
        metavar="N",
        shown=RECIPES_OWN,
        changeable=True,
    )
    steps: int | None = option(None, "Updates, instead of --epochs.", metavar="N", changeable=True)
    batch_size: int | None = option(
        None, "Images a step, of all workers.", metavar="N", shown=RECIPES_OWN
    )
    lr: float | None = option(None, "Initial learning rate.", shown=RECIPES_OWN, changeable=True)
    lr_schedule: str | None = option(
        None,
        "When the rate drops: never, every --lr-step-size epochs, or when val stops improving.",
        choices=("constant", "step", "plateau"),
    )
    lr_step_size: float | None = option(
        None, "Epochs between drops, with --lr-schedule step.", metavar="EPOCHS"
    )
    lr_patience: int | None = option(
        None, "Epochs without a better val top-1, with plateau.", metavar="EPOCHS"
    )
    lr_drops: int | None = option(None, "Drops before the run ends, with plateau.", metavar="N")
    lr_gamma: float | None = option(None, "What a drop multiplies the rate by.", shown=RECIPES_OWN)
    lr_mult: tuple[str, ...] = option(
        (), "A layer's factor of the rate (repeatable); 0 freezes it.", metavar="LAYER=FACTOR"
    )
    bias_lr_mult: float | None = option(None, "Factor of the rate of biases.", shown=RECIPES_OWN)
    momentum: float | None = option(None, "Of past gradients in the update.", shown=RECIPES_OWN)
    weight_decay: float | None = option(
        None, "Of kernels, through the momentum.", shown=RECIPES_OWN
    )
    decay_biases: bool | None = option(
        None, "Apply weight decay to biases too, or to kernels only.", shown=RECIPES_OWN
    )
    clip_norm: float | None = option(
        None, "Largest norm of the whole gradient.", shown=RECIPES_OWN, changeable=True
    )
    dropout: float | None = option(None, "Rate of both dropout layers.", shown=RECIPES_OWN)
    augment: str | None = option(
        None,
        "Nothing; crop and mirror; and colour; or resized crop and mirror.  [default: the "
        "recipe's]",
        choices=tuple(AUGMENTATIONS),
    )
    colour: str = option(
        "imagenet",
        "Axes of the paper's colour shift: ImageNet's, or computed from the train split.",
        choices=("imagenet", "data"),
    )


@dataclass(frozen=True, kw_only=True)
class ScratchRecipeOptions(RecipeOptions):
    init: str | None = option(
        None,
        "Initial values: those of a variant, or He's.  [default: the recipe's]",
        choices=(*VARIANTS, "he"),
    )
    resize: str | None = option(
        None,
        "How an image becomes --resize-to pixels.",
        choices=("warp", "short_side", "square"),
    )
    resize_to: int | None = option(
        None, "Sides, or the shorter side.  [default: the recipe's]", metavar="PIXELS"
    )


@dataclass(frozen=True, kw_only=True)
class TransferRecipeOptions(RecipeOptions):
    head_lr_mult: float | None = option(
        None, "Factor of the rate of new layers.", shown=RECIPES_OWN
    )
    feature_cache: str | None = option(
        None,
        "Keep the features that the head is trained on for the next run.",
        metavar="FOLDER",
        changeable=True,
    )


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How a run is carried out and where it is written."""

    seed: int = option(0, "Of all randomness.", low=0, high=2**31 - 1)
    accumulate: int = option(
        1,
        "Parts that a batch is computed in, to fit a small memory.",
        low=1,
        metavar="N",
        changeable=True,
    )
    precision: str = option(
        "float32",
        "Of activations; weights stay float32.",
        choices=("float32", "mixed_float16", "mixed_bfloat16"),
    )
    deterministic: bool = option(
        False, "Bit for bit the same on a GPU too; slower there. Holds for the whole process."
    )
    direct_convolution: bool = option(
        False,
        "No 3x3 convolution by Winograd's algorithm: on a CPU faster, and the same but for "
        "rounding.",
    )
    strategy: str = option(
        "auto",
        "One device, all GPUs, or many machines (docs/distributed.md).",
        choices=("auto", "one", "mirrored", "multiworker"),
        changeable=True,
    )
    worker_timeout: float = option(
        300.0,
        "How long another worker is waited for.",
        low=1,
        metavar="SECONDS",
        changeable=True,
    )
    save_every: float = option(
        60.0, "Between checkpoints.", low=0, metavar="SECONDS", changeable=True
    )
    keep: int = option(
        2, "Checkpoints to keep, and the best.", low=1, metavar="N", changeable=True
    )
    tensorboard: bool = option(
        False,
        "Also write scalars and histograms into the run's tensorboard folder.",
        changeable=True,
    )
    output: str | None = option(None, "Run folder.  [default: runs/<mode>-<n>]", metavar="FOLDER")
    overwrite: bool = option(False, "Replace what is there.")
    resume: str | None = option(
        None,
        "Resume a run with its own options; docs/usage.md lists what may change.",
        metavar="RUN",
    )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions(VariantOptions):
    width: float | None = option(
        None,
        "Multiplies filters and units.  [default: 0.25 and 0.125 on demonstration data, else 1]",
    )


@dataclass(frozen=True, kw_only=True)
class ScratchOptions(ExecutionOptions, ScratchRecipeOptions, NetworkOptions, DataOptions):
    """Of ``scratch``."""


@dataclass(frozen=True, kw_only=True)
class TrainFromOptions(WeightsOptions):
    train_from: str = option("fc6", "Lowest layer that fine-tuning changes.", metavar="LAYER")


@dataclass(frozen=True, kw_only=True)
class TransferOptions(ExecutionOptions, TransferRecipeOptions, TrainFromOptions, DataOptions):
    """Of ``transfer``."""

    data: str = option("demo-new", "The data set.", metavar="demo|demo-new|PATH")


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(WeightsOptions, DataOptions):
    """Of ``extract``."""

    layers: tuple[str, ...] = option(
        ("fc7",), "Public layer name (repeatable).", flag="--layer", metavar="NAME"
    )
    splits: tuple[str, ...] = option(
        (), "Repeatable.  [default: every split in turn]", flag="--split", metavar="NAME"
    )
    out: Path = option(
        Path("feats.npy"), ".npy (several layers: one file each) or .h5.", metavar="FILE"
    )
    batch_size: int = option(32, "Images a step.", metavar="N")
    skip_bad: bool = option(False, "Rows of unreadable files become NaN instead of an error.")
    probe: bool = option(
        False, "Train a linear classifier on the train rows, test it on the val rows."
    )
    overwrite: bool = option(False, "Replace what is there.")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(PartialOptions, DataOptions):
    """Of ``evaluate``."""

    data: str | None = option(
        None, "The data set.", metavar="demo|demo-new|PATH", shown="the run's own"
    )
    split: str = option("val", "train, val or the data set's own name.", metavar="NAME")
    crops: int = option(1, "Centre crop, or the mean over the paper's ten.", choices=(1, 10))
    batch_size: int = option(64, "Images a step.", metavar="N")
    out: Path | None = option(None, "Also write classes.csv and confusion.csv.", metavar="FOLDER")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PartialOptions):
    """Of ``predict``."""

    weights: str = option(
        "caffe", "A name of the catalogue, a weight file or a run.", metavar="NAME|PATH|RUN"
    )
    crops: int = option(1, "Centre crop, or the mean over the paper's ten.", choices=(1, 10))
    top: int = option(5, "Classes to name for each image.", low=1, metavar="N")
