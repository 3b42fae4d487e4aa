"""The options that say how a network is trained and carried out, and the recipe they make."""

from __future__ import annotations

from dataclasses import replace

import click

from alexnet_keras.cli.options import VARIANT_NAMES, options, overwrite_option
from alexnet_keras.errors import ConfigurationError

RECIPE_NAMES = ("paper", "caffe", "torchvision", "finetune", "demo")
FIELDS = {
    "batch_size": "batch_size",
    "lr": "learning_rate",
    "lr_gamma": "gamma",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "bias_lr_mult": "bias_multiplier",
    "head_lr_mult": "head_multiplier",
    "clip_norm": "clip_norm",
    "dropout": "dropout",
}
# What a continued run may change: how long it goes on, how carefully, and on what.
CHANGEABLE = (
    "epochs",
    "steps",
    "lr",
    "clip_norm",
    "accumulate",
    "strategy",
    "worker_timeout",
    "save_every",
    "keep",
    "tensorboard",
    "num_threads",
    "feature_cache",
    "resume",
)

recipe_options = options(
    click.option(
        "--recipe",
        type=click.Choice(RECIPE_NAMES),
        help="Published; each option below replaces one field.",
    ),
    click.option(
        "--epochs",
        type=int,
        metavar="N",
        show_default="the recipe's",
        help="Passes over the train split; drops of the rate move in proportion.",
    ),
    click.option("--steps", type=int, metavar="N", help="Updates, instead of --epochs."),
    click.option(
        "--batch-size",
        type=int,
        show_default="the recipe's",
        metavar="N",
        help="Images a step, of all workers.",
    ),
    click.option("--lr", type=float, show_default="the recipe's", help="Initial learning rate."),
    click.option(
        "--lr-schedule",
        type=click.Choice(["constant", "step", "plateau"]),
        help="When the rate drops: never, every --lr-step-size epochs, or when val stops "
        "improving.",
    ),
    click.option(
        "--lr-step-size",
        type=float,
        metavar="EPOCHS",
        help="Epochs between drops, with --lr-schedule step.",
    ),
    click.option(
        "--lr-patience",
        type=int,
        metavar="EPOCHS",
        help="Epochs without a better val top-1, with plateau.",
    ),
    click.option(
        "--lr-drops", type=int, metavar="N", help="Drops before the run ends, with plateau."
    ),
    click.option(
        "--lr-gamma",
        type=float,
        show_default="the recipe's",
        help="What a drop multiplies the rate by.",
    ),
    click.option(
        "--lr-mult",
        multiple=True,
        metavar="LAYER=FACTOR",
        help="A layer's factor of the rate (repeatable); 0 freezes it.",
    ),
    click.option(
        "--bias-lr-mult",
        type=float,
        show_default="the recipe's",
        help="Factor of the rate of biases.",
    ),
    click.option("--momentum", type=float, show_default="the recipe's"),
    click.option(
        "--weight-decay",
        type=float,
        show_default="the recipe's",
        help="Of kernels, through the momentum.",
    ),
    click.option(
        "--clip-norm",
        type=float,
        show_default="the recipe's",
        help="Largest norm of the whole gradient.",
    ),
    click.option(
        "--dropout", type=float, show_default="the recipe's", help="Rate of both dropout layers."
    ),
    click.option(
        "--augment",
        type=click.Choice(["none", "standard", "paper", "torchvision"]),
        help="Nothing; crop and mirror; and colour; or resized crop and mirror.  [default: the "
        "recipe's]",
    ),
    click.option(
        "--colour",
        type=click.Choice(["imagenet", "data"]),
        default="imagenet",
        help="Axes of the paper's colour shift: ImageNet's, or computed from the train split.",
    ),
)

scratch_recipe_options = options(
    recipe_options,
    click.option(
        "--init",
        type=click.Choice([*VARIANT_NAMES, "he"]),
        help="Initial values: those of a variant, or He's.  [default: the recipe's]",
    ),
    click.option(
        "--resize",
        type=click.Choice(["warp", "short_side", "square"]),
        help="How an image becomes --resize-to pixels.",
    ),
    click.option(
        "--resize-to",
        type=int,
        metavar="PIXELS",
        help="Sides, or the shorter side.  [default: the recipe's]",
    ),
)

execution_options = options(
    click.option(
        "--accumulate",
        type=click.IntRange(1),
        default=1,
        metavar="N",
        help="Parts that a batch is computed in, to fit a small memory.",
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "mixed_float16", "mixed_bfloat16"]),
        default="float32",
    ),
    click.option(
        "--deterministic", is_flag=True, help="Bit for bit the same on a GPU too; slower there."
    ),
    click.option(
        "--direct-convolution",
        is_flag=True,
        help="No 3x3 convolution by Winograd's algorithm: on a CPU faster, and the same but for "
        "rounding.",
    ),
    click.option(
        "--strategy",
        type=click.Choice(["auto", "one", "mirrored", "multiworker"]),
        default="auto",
        help="One device, all GPUs, or many machines (docs/distributed.md).",
    ),
    click.option(
        "--worker-timeout",
        type=click.FloatRange(1),
        default=300.0,
        metavar="SECONDS",
        help="How long another worker is waited for.",
    ),
    click.option(
        "--save-every",
        type=click.FloatRange(0),
        default=60.0,
        metavar="SECONDS",
        help="Between checkpoints.",
    ),
    click.option(
        "--keep",
        type=click.IntRange(1),
        default=2,
        metavar="N",
        help="Generations to keep, and the best.",
    ),
    click.option(
        "--tensorboard",
        is_flag=True,
        help="Also write scalars and histograms into the run's tensorboard folder.",
    ),
    click.option("--output", metavar="FOLDER", help="Run folder.  [default: runs/<mode>-<n>]"),
    overwrite_option,
    click.option(
        "--resume",
        metavar="RUN",
        help="Go on with a run by its own options; docs/usage.md lists what may change.",
    ),
)


def recipe_of(base, samples: int, given: dict):
    """``base`` with the fields that options replace, as long as they say on so many samples."""
    base = replace(
        base,
        **{
            field: given[option]
            for option, field in FIELDS.items()
            if given.get(option) is not None
        },
    )
    if given["lr_mult"]:
        base = replace(
            base, multipliers={**base.multipliers, **dict(map(_multiplier, given["lr_mult"]))}
        )
    if given["epochs"] is not None and given["steps"] is not None:
        raise ConfigurationError("steps: expected --epochs or --steps, got both")
    return replace(base.lasting(samples, given["epochs"], given["steps"]), **_schedule(given))


def continued(recipe, given: dict):
    """A run's own recipe with what a continuation may change; its drops stay where they were."""
    changes = {
        field: given[option]
        for option, field in FIELDS.items()
        if option in CHANGEABLE and option in given
    }
    length = {name: given[name] for name in ("epochs", "steps") if given.get(name) is not None}
    if len(length) == 2:
        raise ConfigurationError("steps: expected --epochs or --steps, got both")
    return replace(
        recipe, **changes, **({"epochs": None, "steps": None, **length} if length else {})
    )


def augmentation_of(recipe, given: dict, paths):
    """The recipe with the augmentation that the options ask for; ``paths``: the files of the train
    split.
    """
    from alexnet_keras.configs.augmentation import AUGMENTATIONS

    augmentation = AUGMENTATIONS[given["augment"]] if given["augment"] else recipe.augmentation
    if given["colour"] == "data":
        if not augmentation.colour_sigma:
            raise ConfigurationError(
                f"colour: expected --augment paper, which shifts colours; {augmentation.name} "
                "does not"
            )
        from alexnet_keras.data.colour_pca import colour_axes

        augmentation = replace(augmentation, colour_axes=colour_axes(paths))
    return replace(recipe, augmentation=augmentation)


def starting_point(recipe, architecture, given: dict):
    """The recipe with the initial values and the resizing that the options ask for, for the input
    of ``architecture``.
    """
    from alexnet_keras.configs.architecture import VARIANTS, InitialValues
    from alexnet_keras.configs.preprocessing import PREPROCESSING

    if given["init"]:
        initial = (
            InitialValues(kernels="he")
            if given["init"] == "he"
            else VARIANTS[given["init"]].initial_values
        )
        recipe = replace(recipe, initial_values=initial)
    rule = recipe.preprocessing or PREPROCESSING[architecture.name]
    changes = {name: given[name] for name in ("resize", "resize_to") if given[name] is not None}
    return replace(recipe, preprocessing=replace(rule, crop=architecture.input_size, **changes))


def _schedule(given: dict) -> dict:
    """The schedule that the options ask for; empty where they leave the recipe's."""
    from alexnet_keras.configs.schedule import DropAt, DropEvery, Plateau

    kind = given["lr_schedule"]
    belongs = {"lr_step_size": "step", "lr_patience": "plateau", "lr_drops": "plateau"}
    for option, owner in belongs.items():
        if given[option] is not None and kind != owner:
            raise ConfigurationError(
                f"{option.replace('_', '-')}: belongs to --lr-schedule {owner}, got "
                f"{kind or 'none'}"
            )
    if kind == "step" and given["lr_step_size"] is None:
        raise ConfigurationError(
            "lr-step-size: expected the epochs between drops with --lr-schedule step, got none"
        )
    if kind == "plateau":
        named = {"patience": given["lr_patience"], "times": given["lr_drops"]}
        return {
            "schedule": Plateau(
                **{name: value for name, value in named.items() if value is not None}
            )
        }
    schedules = {
        "constant": DropAt(),
        "step": kind == "step" and DropEvery(epochs=given["lr_step_size"]),
    }
    return {"schedule": schedules[kind]} if kind else {}


def _multiplier(text: str) -> tuple[str, float]:
    layer, equals, factor = text.partition("=")
    try:
        return layer, float(factor)
    except ValueError:
        raise ConfigurationError(f"lr-mult: expected LAYER=FACTOR, got {text!r}") from None
