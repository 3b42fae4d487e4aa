"""The rates of the recipe of 2012, by its files and the comments in them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet_keras.configs.recipe import RECIPES
from alexnet_keras.configs.schedule import RateRule
from alexnet_keras.training.variable_rates import VariableRates

RECIPE = RECIPES["krizhevsky"]
VARIABLES = [
    SimpleNamespace(path=f"krizhevsky/{layer}/{kind}")
    for layer in ("conv1", "conv2", "fc8")
    for kind in ("kernel", "bias")
]


def rates(epoch, recipe=RECIPE, factors=(1, 2) * 3):
    """Of conv1, conv2 and fc8: kernel, bias."""
    learning_rate = recipe.learning_rate_at(0, epoch)
    return VariableRates(recipe, VARIABLES, factors).at(learning_rate, epoch)


@pytest.mark.parametrize(
    ("epoch", "conv1", "others"),
    [
        (0, (0.01, 0.02), (0.01, 0.02)),
        (24.99, (0.01, 0.02), (0.01, 0.02)),
        (25, (1e-3, 0.02), (1e-3, 0.02)),
        (51, (1e-4, 0.02), (1e-4, 0.02)),
        (66.99, (1e-4, 0.02), (1e-4, 0.02)),
        (67, (1e-5, 0.02), (1e-4, 0.02)),
        (71.99, (1e-5, 0.02), (1e-4, 0.02)),
        (72, (0, 0), (1e-4, 0.02)),
        (79, (0, 0), (1e-5, 0.02)),
        (90.99, (0, 0), (1e-5, 0.02)),
    ],
)
def test_the_rates_of_2012(epoch, conv1, others):
    found = rates(epoch)
    assert found.dtype == np.float32
    assert found == pytest.approx([*conv1, *others, *others], rel=1e-6)


def test_options_multiply_them():
    """--lr-mult conv2=3, --bias-lr-mult 4 and --lr 0.1 of the same recipe, after the first
    drop.
    """
    found = rates(30, replace(RECIPE, learning_rate=0.1), factors=(1, 4, 3, 12, 1, 4))
    assert found == pytest.approx([0.01, 0.4, 0.03, 1.2, 0.01, 0.4], rel=1e-6)


@pytest.mark.parametrize("name", ["caffe", "paper", "torchvision", "finetune", "demo"])
def test_other_recipes_have_the_bits_of_one_rate_times_a_factor(name):
    recipe = RECIPES[name]
    factors = (1, recipe.bias_multiplier, 0.1, 0.3, 10, 20)
    learning_rate = np.float32(recipe.learning_rate_at(1, 1))
    expected = [np.float32(factor) * learning_rate for factor in factors]
    np.testing.assert_array_equal(rates(1, recipe, factors), expected)


def test_what_may_freeze():
    assert VariableRates(RECIPE, VARIABLES, [1] * 6).may_freeze == [True] * 2 + [False] * 4
    of_kernels = replace(RECIPE, rate_rules=(RateRule(("conv2",), 0.0, 3.0, "kernels"),))
    assert VariableRates(of_kernels, VARIABLES, [1] * 6).may_freeze == [
        False,
        False,
        True,
        False,
        False,
        False,
    ]
    assert not any(VariableRates(RECIPES["caffe"], VARIABLES, [1] * 6).may_freeze)
