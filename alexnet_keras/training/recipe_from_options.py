"""Recipes from options: a published recipe, and the fields that options replace."""

from __future__ import annotations

from dataclasses import replace

from alexnet_keras.configs.architecture import VARIANTS, Architecture, InitialValues
from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.option_fields import options_of
from alexnet_keras.configs.options import ScratchOptions
from alexnet_keras.configs.preprocessing import PREPROCESSING
from alexnet_keras.configs.recipe import RECIPES, Recipe
from alexnet_keras.configs.recipe_options import RecipeOptions
from alexnet_keras.configs.schedule import DropAt, DropEvery, Plateau, Schedule
from alexnet_keras.data.colour_pca import colour_axes
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError

FIELDS = {
    "batch_size": "batch_size",
    "lr": "learning_rate",
    "lr_gamma": "gamma",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "decay_biases": "decay_biases",
    "bias_lr_mult": "bias_multiplier",
    "head_lr_mult": "head_multiplier",
    "clip_norm": "clip_norm",
    "dropout": "dropout",
}


def new_recipe(base: Recipe, options: RecipeOptions, train: Samples) -> Recipe:
    """The recipe that ``options`` name, otherwise ``base``, with the fields that they replace and
    with its length for the ``train`` samples.
    """
    recipe = RECIPES[options.recipe] if options.recipe else base
    values = {field: getattr(options, name, None) for name, field in FIELDS.items()}
    recipe = replace(
        recipe, **{field: value for field, value in values.items() if value is not None}
    )
    if options.lr_mult:
        multipliers = recipe.multipliers | dict(map(_multiplier, options.lr_mult))
        recipe = replace(recipe, multipliers=multipliers)
    _check_one_length(options.epochs, options.steps)
    recipe = replace(
        recipe.with_length(len(train), options.epochs, options.steps), **_schedule(options)
    )
    return replace(recipe, augmentation=_augmentation(recipe, options, train))


def resumed_recipe(recipe: Recipe, changed: dict) -> Recipe:
    """The recipe of a resumed run with the options that were ``changed``; its learning rate drops
    at the same steps as before.
    """
    changeable = options_of(ScratchOptions)
    values = {
        field: changed[name]
        for name, field in FIELDS.items()
        if name in changed and changeable[name].changeable
    }
    length = {name: changed[name] for name in ("epochs", "steps") if changed.get(name) is not None}
    _check_one_length(**length)
    if length:
        values |= {"epochs": None, "steps": None, **length}
    return replace(recipe, **values)


def with_init_and_resizing(
    recipe: Recipe, architecture: Architecture, options: ScratchOptions
) -> Recipe:
    """The recipe with the initialization and the resizing of the options, for the input size of
    ``architecture``.
    """
    if options.init == "he":
        recipe = replace(recipe, initial_values=InitialValues(kernels="he"))
    elif options.init:
        recipe = replace(recipe, initial_values=VARIANTS[options.init].initial_values)
    rule = recipe.preprocessing or PREPROCESSING[architecture.name]
    sizes = {"resize": options.resize, "resize_to": options.resize_to}
    sizes = {name: value for name, value in sizes.items() if value is not None}
    return replace(recipe, preprocessing=replace(rule, crop=architecture.input_size, **sizes))


def _check_one_length(epochs: int | None = None, steps: int | None = None) -> None:
    if epochs is not None and steps is not None:
        raise ConfigurationError("steps: expected either epochs or steps, got both")


def _augmentation(recipe: Recipe, options: RecipeOptions, train: Samples):
    augmentation = AUGMENTATIONS[options.augment] if options.augment else recipe.augmentation
    if options.colour != "data":
        return augmentation
    if not augmentation.colour_sigma:
        raise ConfigurationError(
            f"augment: expected paper, which shifts colours, with colour, got {augmentation.name}"
        )
    return replace(augmentation, colour_axes=colour_axes(train.paths, options.num_threads))


def _schedule(options: RecipeOptions) -> dict[str, Schedule]:
    """The schedule of the options; empty if they keep the recipe's."""
    kind = options.lr_schedule
    schedules = {"lr_step_size": "step", "lr_patience": "plateau", "lr_drops": "plateau"}
    for name, schedule in schedules.items():
        if getattr(options, name) is not None and kind != schedule:
            raise ConfigurationError(
                f"lr_schedule: expected {schedule} with {name}, got {kind or 'none'}"
            )
    if kind is None:
        return {}
    if kind == "constant":
        return {"schedule": DropAt()}
    if kind == "step":
        if options.lr_step_size is None:
            raise ConfigurationError(
                "lr_step_size: expected the epochs between drops with lr_schedule step, got none"
            )
        return {"schedule": DropEvery(epochs=options.lr_step_size)}
    values = {"patience": options.lr_patience, "times": options.lr_drops}
    return {
        "schedule": Plateau(**{name: value for name, value in values.items() if value is not None})
    }


def _multiplier(text: str) -> tuple[str, float]:
    layer, equals, factor = text.partition("=")
    try:
        return layer, float(factor)
    except ValueError:
        raise ConfigurationError(f"lr_mult: expected LAYER=FACTOR, got {text!r}") from None
