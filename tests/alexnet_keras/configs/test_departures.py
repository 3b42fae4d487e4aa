"""What is told of a run that does not follow the published recipe."""

from dataclasses import fields, replace

import pytest

from alexnet_keras.configs.architecture import VARIANTS, Dropout, demo_architecture
from alexnet_keras.configs.departures import departures_from
from alexnet_keras.configs.preprocessing import KRIZHEVSKY_PREPROCESSING
from alexnet_keras.configs.recipe import KRIZHEVSKY_DEMO_RECIPE, RECIPES, VARIANT_RECIPES
from alexnet_keras.configs.schedule import DropAt, DropEvery

RECIPE, NETWORK = RECIPES["krizhevsky"], VARIANTS["krizhevsky"]


def told(recipe=RECIPE, network=NETWORK):
    return departures_from(recipe, network, RECIPE, NETWORK)


@pytest.mark.parametrize("variant", VARIANT_RECIPES)
def test_a_published_recipe_does_not_depart_from_itself(variant):
    recipe, network = VARIANT_RECIPES[variant], VARIANTS[variant]
    narrow = recipe.apply_to(network.with_width(0.1))
    assert departures_from(recipe, narrow, recipe, network) == []


def test_the_demonstration_of_2012():
    """Every line is a field of the published recipe, so that none is told by a rule for it
    alone.
    """
    recipe = replace(KRIZHEVSKY_DEMO_RECIPE, preprocessing=KRIZHEVSKY_PREPROCESSING)
    assert told(recipe, recipe.apply_to(demo_architecture("krizhevsky"))) == [
        "batch_size: 16 instead of 128",
        "epochs: 6 instead of 91",
        "schedule.epochs: 5 instead of 25, 51, 79",
        "clip_norm: 1 instead of none",
        "augmentation.colour_sigma: 0 instead of 0.1",
        "augmentation.colour_divisor: 1 instead of 1.1",
        "augmentation.colour_until: none instead of 67",
        "initial_values.stddev: 0.03 instead of 0.01",
        "initial_values.hidden_stddev: 0.03 instead of 0.01",
        "mean: pixel instead of image",
        "rate_rules: none instead of conv1 kernels x 0.1 from epoch 67, conv1 x 0 from epoch 72",
        "drop_bias_rates: yes instead of no",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"schedule": DropEvery(epochs=3)},
            "schedule: DropEvery(epochs=3, steps=None) instead of",
        ),
        ({"multipliers": {"fc8": 2.0}}, "multipliers: {'fc8': 2.0} instead of {}"),
        ({"epochs": None, "steps": 7}, "epochs: none instead of 91"),
        ({"schedule": DropAt()}, "schedule.epochs: none instead of 25, 51, 79"),
    ],
)
def test_options_that_depart(changes, line):
    assert told(replace(RECIPE, **changes))[0].startswith(line)


def test_dropout_is_that_of_the_network():
    assert told(network=NETWORK.replace_each(Dropout, rate=0.25)) == [
        "dropout: 0.25 instead of 0.5"
    ]


def test_every_field_is_compared():
    """But for the name of a recipe, and the preprocessing's own image of the mean."""
    other = RECIPES["torchvision"]
    differing = {
        field.name
        for field in fields(RECIPE)
        if getattr(RECIPE, field.name) != getattr(other, field.name)
    } - {"name"}
    lines = told(other, other.apply_to(NETWORK))
    assert {line.split(":")[0].split(".")[0] for line in lines} == differing
