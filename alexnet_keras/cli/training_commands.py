"""The commands that train: from options, or from a run that goes on, to a run folder."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from alexnet_keras.cli.options import (
    DEMONSTRATIONS,
    command,
    data_options,
    default_weights,
    open_pretrained,
    partial_option,
    seed_option,
    variant_option,
    weights_option,
)
from alexnet_keras.cli.printing import say
from alexnet_keras.cli.recipe_options import (
    execution_options,
    recipe_options,
    scratch_recipe_options,
    starting_point,
)
from alexnet_keras.training.session import open_session

training_group = click.Group()


@command(training_group)
@data_options("demo")
@variant_option
@click.option(
    "--width",
    type=float,
    help="Multiplies filters and units.  [default: 0.25 and 0.125 on demonstration data, else 1]",
)
@scratch_recipe_options
@seed_option
@execution_options
def scratch(**given):
    """Train a network end to end, from random initial values."""
    from alexnet_keras.configs import recipe as recipes
    from alexnet_keras.configs.architecture import VARIANTS, demo_architecture
    from modes.scratch import scratch

    with open_session("scratch", given) as session:
        options, demo = session.options, session.options["data"] in DEMONSTRATIONS
        variant, width = options["variant"] or "alexnet", options["width"]
        widths = () if width is None else (width, width)
        network = (
            demo_architecture(variant, *widths)
            if demo
            else VARIANTS[variant].widened(*widths or (1.0,))
        )
        base = recipes.DEMO_RECIPE if demo else recipes.VARIANT_RECIPES[variant]
        recipe = session.recipe(base, lambda recipe: starting_point(recipe, network, options))
        architecture = recipe.applied_to(network)
        with session.run(
            recipe, architecture=architecture.to_dict(), preprocessing=asdict(recipe.preprocessing)
        ) as run:
            if demo and width is None and session.workers.is_chief:
                say(
                    "The demonstration has a thousandth of ImageNet's images and two minutes: "
                    "the real "
                    f"{architecture.input_size}x{architecture.input_size} network at a quarter "
                    "of its filters and an eighth "
                    "of its hidden units."
                )
            outcome = scratch(
                session.dataset,
                run,
                architecture=architecture,
                preprocessing=recipe.preprocessing,
                recipe=recipe,
                seed=options["seed"],
                loading=session.loading,
                callbacks=session.callbacks,
                execution=session.execution,
            )
        session.report(outcome)


@command(training_group)
@data_options("demo-new")
@weights_option
@variant_option
@partial_option
@click.option(
    "--train-from", default="fc6", metavar="LAYER", help="Lowest layer that fine-tuning changes."
)
@recipe_options
@click.option(
    "--head-lr-mult",
    type=float,
    show_default="the recipe's",
    help="Factor of the rate of new layers.",
)
@click.option(
    "--feature-cache",
    metavar="FOLDER",
    help="Keep the features that the head is trained on for the next run.",
)
@seed_option
@execution_options
def transfer(**given):
    """Give a trained network a new head for your classes, and fine-tune it."""
    from alexnet_keras.configs import recipe as recipes
    from modes.transfer import layers_below, transfer

    with open_session("transfer", given) as session:
        options = session.options
        demo = options["data"] in DEMONSTRATIONS
        recipe = session.recipe(recipes.DEMO_FINETUNE_RECIPE if demo else recipes.FINETUNE_RECIPE)
        base = open_pretrained(
            default_weights(options["weights"], options["data"]),
            options["variant"],
            options["partial"],
        )
        layers_below(base.model, options["train_from"])
        session.check_same_weights(base.describe())
        with session.run(
            recipe,
            train_from=options["train_from"],
            weights=base.describe(),
            head_recipe=recipes.HEAD_RECIPE.to_dict(),
            architecture=base.model.architecture.to_dict(),
            preprocessing=asdict(base.model.preprocessing),
        ) as run:
            outcome = transfer(
                session.dataset,
                run,
                base=base,
                head_recipe=recipes.HEAD_RECIPE,
                recipe=recipe,
                train_from=options["train_from"],
                seed=options["seed"],
                loading=session.loading,
                callbacks=session.callbacks,
                execution=session.execution,
                feature_cache=options["feature_cache"] and Path(options["feature_cache"]),
            )
        session.report(outcome)
