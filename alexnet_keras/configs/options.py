"""The options of all commands and Python calls: name, type, default and help, declared once.

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

NOT_RECORDED = ("output", "overwrite", "resume")
"""Options of a single call, not of the run."""


def recorded_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that a run's config records."""
    return {name: value for name, value in options.items() if name not in NOT_RECORDED}


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data set, and how it is read."""

    data: str = option("demo", "Data set.", metavar="demo|demo-new|PATH")
    layout: str | None = option(
        None,
        "Layout of the data set.  [default: detected]",
        flag="--format",
        choices=("coco", "imagenet", "folder"),
    )
    classes: tuple[str, ...] = option(
        (), "COCO: use only these classes (repeatable).", metavar="NAME"
    )
    min_size: float | None = option(
        None, "COCO: minimum length of a box's shorter side, in pixels.  [default: 32]"
    )
    context: float | None = option(
        None, "COCO: margin added on each side of a box, as a fraction of it.  [default: 0.1]"
    )
    square: bool | None = option(
        None, "COCO: cut out square regions, or the boxes as they are.  [default: square]"
    )
    num_threads: int = option(
        2, "Threads that load images.", flag="--threads", minimum=1, metavar="N", changeable=True
    )


@dataclass(frozen=True, kw_only=True)
class VariantOptions:
    variant: str | None = option(None, "Network variant.", choices=tuple(VARIANTS))


@dataclass(frozen=True, kw_only=True)
class PartialOptions(VariantOptions):
    partial: bool = option(False, "Accept weights with missing layers.")


@dataclass(frozen=True, kw_only=True)
class WeightsOptions(PartialOptions):
    """Weights to start from."""

    weights: str | None = option(
        None,
        "demo, published weights by name, a weight file or a run.  "
        "[default: demo on demonstration data, else caffe]",
        metavar="NAME|PATH|RUN",
    )


def _recipe_option(help: str, **about: Any) -> Any:  # noqa: A002
    """An option that replaces a field of the recipe."""
    return option(None, help, default_text="the recipe's", **about)


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """The recipe; every other option replaces one of its fields."""

    recipe: str | None = option(
        None, "Recipe; each option below replaces one of its fields.", choices=tuple(RECIPES)
    )
    epochs: int | None = _recipe_option(
        "Passes over the train split; learning-rate drops move in proportion.",
        metavar="N",
        changeable=True,
    )
    steps: int | None = option(
        None, "Training steps, instead of --epochs.", metavar="N", changeable=True
    )
    batch_size: int | None = _recipe_option(
        "Images per step, of all workers together.", metavar="N"
    )
    lr: float | None = _recipe_option("Initial learning rate.", changeable=True)
    lr_schedule: str | None = option(
        None,
        "Never drop, every --lr-step-size epochs, or when val top-1 stops improving.",
        choices=("constant", "step", "plateau"),
    )
    lr_step_size: float | None = option(
        None, "Epochs between drops, with --lr-schedule step.", metavar="EPOCHS"
    )
    lr_patience: int | None = option(
        None, "Epochs without a better val top-1, with plateau.", metavar="EPOCHS"
    )
    lr_drops: int | None = option(None, "Drops before training stops, with plateau.", metavar="N")
    lr_gamma: float | None = _recipe_option("Factor of the learning rate at each drop.")
    lr_mult: tuple[str, ...] = option(
        (),
        "Learning-rate multiplier of a layer (repeatable); 0 freezes it.",
        metavar="LAYER=FACTOR",
    )
    bias_lr_mult: float | None = _recipe_option("Learning-rate multiplier of biases.")
    momentum: float | None = _recipe_option("Momentum of SGD.")
    weight_decay: float | None = _recipe_option("Weight decay, coupled with the momentum.")
    decay_biases: bool | None = _recipe_option(
        "Apply weight decay to biases too, or to kernels only."
    )
    clip_norm: float | None = _recipe_option(
        "Clip the global norm of the gradients to this value.", changeable=True
    )
    dropout: float | None = _recipe_option("Rate of the dropout layers.")
    augment: str | None = option(
        None,
        "none; standard: crop and mirror; paper: standard and colour shift; torchvision: resized "
        "crop and mirror.  [default: the recipe's]",
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
        "Initial weights: as in a variant, or He's.  [default: the recipe's]",
        choices=(*VARIANTS, "he"),
    )
    resize: str | None = option(
        None,
        "Resize both sides (warp), the shorter side, or the shorter side and keep the central "
        "square.",
        choices=("warp", "short_side", "square"),
    )
    resize_to: int | None = option(
        None, "Size that images are resized to.  [default: the recipe's]", metavar="PIXELS"
    )


@dataclass(frozen=True, kw_only=True)
class TransferRecipeOptions(RecipeOptions):
    head_lr_mult: float | None = _recipe_option("Learning-rate multiplier of new layers.")
    feature_cache: str | None = option(
        None,
        "Keep the features that the head is trained on in this folder, for later runs.",
        metavar="FOLDER",
        changeable=True,
    )


@dataclass(frozen=True, kw_only=True)
class ExecutionOptions:
    """How a run is executed, and where it is written."""

    seed: int = option(0, "Random seed.", minimum=0, maximum=2**31 - 1)
    accumulate: int = option(
        1,
        "Split each batch into N parts and accumulate their gradients, to fit in limited memory.",
        minimum=1,
        metavar="N",
        changeable=True,
    )
    precision: str = option(
        "float32",
        "Keras dtype policy; weights stay float32.",
        choices=("float32", "mixed_float16", "mixed_bfloat16"),
    )
    deterministic: bool = option(
        False, "Deterministic operations on a GPU too; slower there. Holds for the whole process."
    )
    direct_convolution: bool = option(
        False,
        "Without Winograd's algorithm for 3x3 convolutions, which is faster on a CPU and the same "
        "up to rounding.",
    )
    strategy: str = option(
        "auto",
        "One device, all GPUs (mirrored) or several machines (docs/distributed.md).",
        choices=("auto", "one", "mirrored", "multiworker"),
        changeable=True,
    )
    worker_timeout: float = option(
        300.0, "Time to wait for another worker.", minimum=1, metavar="SECONDS", changeable=True
    )
    save_every: float = option(
        60.0, "Time between checkpoints.", minimum=0, metavar="SECONDS", changeable=True
    )
    keep: int = option(
        2, "Recent checkpoints to keep, besides the best.", minimum=1, metavar="N", changeable=True
    )
    tensorboard: bool = option(
        False,
        "Also write scalars and histograms into the run's tensorboard folder.",
        changeable=True,
    )
    output: str | None = option(None, "Run folder.  [default: runs/<mode>-<n>]", metavar="FOLDER")
    overwrite: bool = option(False, "Replace existing files.")
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
    """Options of ``scratch``."""


@dataclass(frozen=True, kw_only=True)
class TrainFromOptions(WeightsOptions):
    train_from: str = option(
        "fc6", "First layer to fine-tune; the layers below it are frozen.", metavar="LAYER"
    )


@dataclass(frozen=True, kw_only=True)
class TransferOptions(ExecutionOptions, TransferRecipeOptions, TrainFromOptions, DataOptions):
    """Options of ``transfer``."""

    data: str = option("demo-new", "Data set.", metavar="demo|demo-new|PATH")


@dataclass(frozen=True, kw_only=True)
class ExtractOptions(WeightsOptions, DataOptions):
    """Options of ``extract``."""

    layers: tuple[str, ...] = option(
        ("fc7",), "Layer whose output to extract (repeatable).", flag="--layer", metavar="NAME"
    )
    splits: tuple[str, ...] = option(
        (), "Split to extract (repeatable).  [default: all splits]", flag="--split", metavar="NAME"
    )
    out: Path = option(
        Path("feats.npy"), "Output file: .npy (one file per layer) or .h5.", metavar="FILE"
    )
    batch_size: int = option(32, "Images per batch.", metavar="N")
    skip_bad: bool = option(
        False, "Write NaN for unreadable files instead of stopping at the first."
    )
    probe: bool = option(
        False, "Train a linear classifier on the features of train and test it on those of val."
    )
    overwrite: bool = option(False, "Replace existing files.")


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(PartialOptions, DataOptions):
    """Options of ``evaluate``."""

    data: str | None = option(
        None, "Data set.", metavar="demo|demo-new|PATH", default_text="the run's own"
    )
    split: str = option(
        "val", "train, val, or a split of the data set by its own name.", metavar="NAME"
    )
    crops: int = option(1, "Centre crop, or the mean over the paper's ten crops.", choices=(1, 10))
    batch_size: int = option(64, "Images per batch.", metavar="N")
    out: Path | None = option(None, "Also write classes.csv and confusion.csv.", metavar="FOLDER")


@dataclass(frozen=True, kw_only=True)
class PredictOptions(PartialOptions):
    """Options of ``predict``."""

    weights: str = option(
        "caffe", "Published weights by name, a weight file or a run.", metavar="NAME|PATH|RUN"
    )
    crops: int = option(1, "Centre crop, or the mean over the paper's ten crops.", choices=(1, 10))
    top: int = option(5, "Number of classes to list for each image.", minimum=1, metavar="N")
