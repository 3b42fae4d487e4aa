"""Recipes against the published solver files, and what they refuse."""

import json
import math
from dataclasses import replace

import pytest

from alexnet_keras.configs.architecture import (
    ALEXNET,
    PAPER,
    VARIANTS,
    Dropout,
    InitialValues,
)
from alexnet_keras.configs.augmentation import AUGMENTATIONS, IMAGENET_COLOUR_AXES, Augmentation
from alexnet_keras.configs.preprocessing import PREPROCESSING
from alexnet_keras.configs.recipe import (
    CAFFE_RECIPE,
    HEAD_RECIPE,
    PAPER_RECIPE,
    RECIPES,
    TORCHVISION_RECIPE,
    VARIANT_RECIPES,
    Recipe,
)
from alexnet_keras.configs.schedule import DropAt, DropEvery, Plateau, RateRule
from alexnet_keras.errors import ConfigurationError

IMAGENET = 1_281_167
SHORT = Recipe("short", batch_size=4, epochs=4, schedule=DropAt((1, 3.5)))


def test_caffe_is_the_published_solver():
    """bvlc_alexnet/solver.prototxt: base_lr 0.01, gamma 0.1, stepsize 100000, max_iter 450000,
    momentum .9, decay .0005.
    """
    assert CAFFE_RECIPE.total_steps(IMAGENET) == CAFFE_RECIPE.total_steps(10) == 450_000
    rates = [
        CAFFE_RECIPE.learning_rate_at(step, 0)
        for step in (0, 99_999, 100_000, 199_999, 200_000, 449_999)
    ]
    assert rates == pytest.approx([0.01, 0.01, 0.001, 0.001, 1e-4, 1e-6])
    assert (
        CAFFE_RECIPE.batch_size,
        CAFFE_RECIPE.momentum,
        CAFFE_RECIPE.weight_decay,
        CAFFE_RECIPE.bias_multiplier,
    ) == (256, 0.9, 5e-4, 2)
    assert CAFFE_RECIPE.total_steps(IMAGENET) * 256 / IMAGENET == pytest.approx(90, rel=0.01)


def test_torchvision_drops_every_thirty_epochs():
    rates = [TORCHVISION_RECIPE.learning_rate_at(0, epoch) for epoch in (0, 29.99, 30, 59, 60, 89)]
    assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4])
    assert (TORCHVISION_RECIPE.weight_decay, TORCHVISION_RECIPE.bias_multiplier) == (1e-4, 1)
    assert TORCHVISION_RECIPE.augmentation.crop == "resized"


def test_torchvision_alone_decays_biases():
    """Its reference script passes ``weight_decay`` to SGD with all parameters; Caffe's files have
    ``decay_mult: 0`` for every bias.
    """
    assert [name for name, recipe in RECIPES.items() if recipe.decay_biases] == ["torchvision"]


def test_paper_drops_three_times_at_plateaus():
    assert [
        PAPER_RECIPE.learning_rate_at(0, 0, plateaus) for plateaus in range(5)
    ] == pytest.approx([1e-2, 1e-3, 1e-4, 1e-5, 1e-5])
    assert (
        PAPER_RECIPE.batch_size,
        PAPER_RECIPE.epochs,
        PAPER_RECIPE.augmentation.colour_sigma,
    ) == (128, 90, 0.1)
    assert PAPER_RECIPE.initial_values == InitialValues(hidden_stddev=0.01, raised_bias=1.0)


def test_a_variants_own_recipe_is_the_published_one_of_that_name():
    assert {name: recipe.name for name, recipe in VARIANT_RECIPES.items()} == {
        "alexnet": "caffe",
        "caffenet": "caffe",
        "paper": "paper",
        "owt": "torchvision",
        "krizhevsky": "krizhevsky",
        "slim": "slim",
    }
    for name, recipe in VARIANT_RECIPES.items():
        assert recipe == RECIPES[recipe.name], name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_keeps_its_own_facts_under_its_own_recipe(variant):
    recipe = VARIANT_RECIPES[variant]
    assert recipe.apply_to(VARIANTS[variant]) == VARIANTS[variant]
    assert recipe.preprocessing == PREPROCESSING[variant]


@pytest.mark.parametrize("variant", VARIANTS)
def test_caffes_solver_leaves_initial_values_to_the_network(variant):
    network = VARIANTS[variant]
    assert CAFFE_RECIPE.apply_to(network).initial_values == network.initial_values


def test_a_recipe_written_before_a_field_was_added_takes_its_default():
    values = json.loads(json.dumps(TORCHVISION_RECIPE.to_dict()))
    for name in ("decay_biases", "rate_rules", "drop_bias_rates"):
        values.pop(name)
    for name in ("colour_divisor", "colour_until"):
        values["augmentation"].pop(name)
    assert Recipe.from_dict(values) == replace(TORCHVISION_RECIPE, decay_biases=False)


@pytest.mark.parametrize(
    ("schedule", "points", "drops"),
    [
        (DropAt(), [(0, 0), (10**6, 90)], [0, 0]),
        (DropAt((1, 2.5)), [(0, 0.99), (0, 1), (0, 2.5), (0, 9)], [0, 1, 2, 2]),
        (DropEvery(epochs=0.5), [(0, 0.49), (0, 0.5), (0, 1.75)], [0, 1, 3]),
        (DropEvery(steps=10), [(9, 8), (10, 0), (35, 0)], [0, 1, 3]),
    ],
)
def test_schedules(schedule, points, drops):
    assert [schedule.num_drops(step, epoch, 7) for step, epoch in points] == drops


def test_a_run_of_another_length_keeps_its_shape():
    assert SHORT.with_length(10) is SHORT
    longer = SHORT.with_length(10, epochs=8)
    assert (longer.epochs, longer.schedule) == (8, DropAt((2, 7)))
    by_steps = SHORT.with_length(10, steps=20)  # 10 steps before
    assert (by_steps.epochs, by_steps.steps, by_steps.schedule) == (None, 20, DropAt((2, 7)))
    assert CAFFE_RECIPE.with_length(256_000, epochs=9).schedule == DropEvery(
        steps=2000
    )  # 9,000 steps instead of 450,000
    assert replace(SHORT, schedule=Plateau()).with_length(10, epochs=8).schedule == Plateau()


def test_all_times_move_with_the_length():
    """91 epochs of 2012 in 9.1."""
    recipe = replace(RECIPES["krizhevsky"], epochs=910)
    shorter = recipe.with_length(1000, epochs=91)
    assert shorter.schedule.epochs == pytest.approx((2.5, 5.1, 7.9))
    assert [rule.from_epoch for rule in shorter.rate_rules] == pytest.approx([6.7, 7.2])
    assert shorter.augmentation.colour_until == pytest.approx(6.7)
    by_steps = recipe.with_length(1000, steps=711)  # 910,000 / 128 = 7,110 steps before
    assert by_steps.augmentation.colour_until == pytest.approx(6.7, rel=1e-4)
    assert by_steps.rate_rules[1].from_epoch == pytest.approx(7.2, rel=1e-4)
    assert PAPER_RECIPE.with_length(1000, epochs=9).augmentation == PAPER_RECIPE.augmentation


def test_the_recipe_of_2012_is_what_its_files_say():
    """layer-params-145.cfg: momW, momB 0.9; wcW 0.0005, wcB 0; epsB 0.02; its comments: the
    epochs.
    """
    recipe = RECIPES["krizhevsky"]
    assert (recipe.batch_size, recipe.epochs, recipe.momentum) == (128, 91, 0.9)
    assert (recipe.weight_decay, recipe.decay_biases, recipe.clip_norm) == (5e-4, False, None)
    assert (recipe.learning_rate * recipe.bias_multiplier, recipe.drop_bias_rates) == (0.02, False)
    assert (recipe.mean, recipe.augmentation.crop, recipe.augmentation.mirror) == (
        "image",
        "random",
        True,
    )
    rates = [recipe.learning_rate_at(0, epoch) for epoch in (0, 24.9, 25, 51, 78.9, 79, 90.9)]
    assert rates == pytest.approx([0.01, 0.01, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])


@pytest.mark.parametrize(("samples", "steps"), [(4, 4), (5, 5), (1, 1), (16, 16), (17, 17)])
def test_the_last_step_covers_every_epoch(samples, steps):
    assert SHORT.total_steps(samples) == steps


def test_applied_to_a_network():
    changed = replace(PAPER_RECIPE, dropout=0.2).apply_to(ALEXNET)
    assert {layer.rate for layer in changed.layers if isinstance(layer, Dropout)} == {0.2}
    assert changed.initial_values == PAPER.initial_values
    assert SHORT.apply_to(ALEXNET) == ALEXNET


@pytest.mark.parametrize(
    "recipe",
    [
        *RECIPES.values(),
        *VARIANT_RECIPES.values(),
        HEAD_RECIPE,
        replace(
            SHORT,
            multipliers={"fc8": 10.0},
            schedule=Plateau(1, 2),
            initial_values=VARIANTS["owt"].initial_values,
        ),
    ],
)
def test_survives_json(recipe):
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v.pop("schedule"),
        lambda v: v.update(schedule=3),
        lambda v: v["schedule"].pop("kind"),
        lambda v: v["schedule"].update(kind="Cosine"),
        lambda v: v["schedule"].update(size=2),
        lambda v: v.update(size=2),
        lambda v: v.update(augmentation={"name": "x", "colour": 2}),
        lambda v: v.update(augmentation=None),
        lambda v: v["augmentation"].update(crop="left"),
        lambda v: v.update(batch_size="many"),
        lambda v: v.update(epochs=0),
        lambda v: v.update(initial_values=[3]),
        lambda v: v.update(preprocessing={"crop": 3}),
        lambda v: v.pop("name"),
        lambda v: v.update(multipliers=None),
        lambda v: v.update(multipliers={"fc8\n": "fast"}),
        lambda v: v.update(rate_rules={"layers": ["fc8"], "factor": 0.1}),
        lambda v: v.update(rate_rules=[{"layers": "fc8", "factor": 0.1}]),
        lambda v: v.update(rate_rules=[{"layers": ["fc8"]}]),
        lambda v: v.update(rate_rules=[{"layers": ["fc8"], "factor": -1.0}]),
        lambda v: v.update(drop_bias_rates=1),
        lambda v: v["augmentation"].update(colour_until="late"),
        lambda v: v["augmentation"].update(colour_divisor=0.0),
    ],
)
def test_a_foreign_recipe_is_refused_in_one_line(edit):
    values = json.loads(json.dumps(SHORT.to_dict()))
    edit(values)
    with pytest.raises(ConfigurationError, match=r"^[^\n]+$"):
        Recipe.from_dict(values)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean": "picture"}, "recipe.mean: expected pixel or image, got 'picture'"),
        ({"batch_size": 0}, "batch_size: expected 1 to 1000000, got 0"),
        ({"epochs": 0}, "epochs: expected 1 to 1000000, got 0"),
        ({"epochs": 10**7}, "epochs: expected 1 to 1000000, got 10000000"),
        (
            {"epochs": None},
            "recipe short: expected either epochs or steps, got epochs=None and steps=None",
        ),
        ({"steps": 3}, "recipe short: expected either epochs or steps, got epochs=4 and steps=3"),
        ({"epochs": None, "steps": 0}, "steps: expected 1 to 1000000000, got 0"),
        *(
            ({"learning_rate": rate}, f"lr: expected a positive number, got {rate}")
            for rate in (0, -0.1, math.nan, math.inf)
        ),
        ({"gamma": 0}, "lr_gamma: expected a positive number, got 0"),
        ({"clip_norm": -1}, "clip_norm: expected a positive"),
        ({"momentum": 1}, "momentum: expected a number from 0 to below 1, got 1"),
        ({"momentum": math.nan}, "momentum: expected"),
        ({"dropout": 1.0}, "dropout: expected"),
        ({"weight_decay": -1}, "weight_decay: expected zero or a positive number, got -1"),
        ({"bias_multiplier": math.inf}, "bias_lr_mult: expected"),
        ({"head_multiplier": -1}, "head_lr_mult: expected"),
        ({"multipliers": {"fc8": -2}}, "lr_mult fc8: expected zero or a positive number, got -2"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        replace(SHORT, **fields)


@pytest.mark.parametrize(
    ("schedule", "options"),
    [
        (DropEvery, {}),
        (DropEvery, {"epochs": 0}),
        (DropEvery, {"steps": -1}),
        (DropEvery, {"epochs": math.inf}),
        (DropEvery, {"epochs": math.nan}),
        (Plateau, {"patience": 0}),
        (Plateau, {"times": -1}),
    ],
)
def test_a_schedule_that_means_nothing_is_refused(schedule, options):
    with pytest.raises(ConfigurationError, match="^schedule"):
        schedule(**options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"of": "weights"}, "of: expected all, kernels or biases, got 'weights'"),
        ({"factor": -0.1}, "factor: expected zero or a positive number, got -0.1"),
        ({"factor": math.nan}, "factor: expected zero or a positive number, got nan"),
        ({"from_epoch": math.inf}, "from_epoch: expected zero or a positive number, got inf"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(fields, message):
    with pytest.raises(ConfigurationError, match=f"^rate_rules.{message}$"):
        RateRule(**{"layers": ("conv1",), "factor": 1.0, **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"colour_divisor": 0.0}, "colour_divisor: expected a positive number, got 0.0"),
        ({"colour_until": -1.0}, "colour_until: expected zero or a positive number, got -1.0"),
    ],
)
def test_a_colour_shift_that_means_nothing_is_refused(fields, message):
    with pytest.raises(ConfigurationError, match=f"^augmentation.{message}$"):
        Augmentation("x", **fields)


def test_augmentations():
    assert list(AUGMENTATIONS) == ["none", "standard", "paper", "torchvision"]
    with pytest.raises(
        ConfigurationError,
        match=r"^augmentation.crop: expected center, random or resized, got 'left'",
    ):
        Augmentation("x", crop="left")
    lengths = [math.hypot(*axis) for axis in IMAGENET_COLOUR_AXES]
    assert lengths == pytest.approx(
        [121.78, 37.094, 19.721], rel=1e-3
    )  # cuda-convnet2's color_stdevs
