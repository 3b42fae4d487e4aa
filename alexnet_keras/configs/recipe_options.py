"""The options of a training recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.option_fields import option
from alexnet_keras.configs.recipe import RECIPES


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
        "Passes over the train split; the recipe's times move in proportion.",
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
    """The recipe of a network that starts from initial weights."""

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
    mean: str | None = _recipe_option(
        "Subtract a mean colour (pixel), the train split's mean image, computed in one pass "
        "(image), or that of a file or a run.",
        metavar="pixel|image|FILE|RUN",
    )


@dataclass(frozen=True, kw_only=True)
class TransferRecipeOptions(RecipeOptions):
    """The recipe of a network that starts from trained weights."""

    head_lr_mult: float | None = _recipe_option("Learning-rate multiplier of new layers.")
    feature_cache: str | None = option(
        None,
        "Keep the features that the head is trained on in this folder, for later runs.",
        metavar="FOLDER",
        changeable=True,
    )
