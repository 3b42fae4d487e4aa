"""The learning rates of all variables at every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from alexnet_keras.configs.recipe import Recipe


class VariableRates:
    """The learning rates of ``variables`` as ``recipe`` has them; ``factors`` are those that never
    change, one for each variable.
    """

    def __init__(self, recipe: Recipe, variables: Sequence, factors: Sequence[float]):
        names = [variable.path.split("/")[-2:] for variable in variables]
        self._recipe = recipe
        self._factors = np.array(factors)
        self._drops = np.array([kind != "bias" or recipe.drop_bias_rates for _, kind in names])
        self._applies = [
            np.array([rule.applies_to(layer, kind == "bias") for layer, kind in names])
            for rule in recipe.rate_rules
        ]

    def at(self, learning_rate: float, epoch: float) -> np.ndarray:
        """(variables,) float32 at a fractional epoch, where the recipe's rate, after its drops, is
        ``learning_rate``.
        """
        factors = self._factors
        for rule, applies in zip(self._recipe.rate_rules, self._applies, strict=True):
            if epoch >= rule.from_epoch:
                factors = np.where(applies, factors * rule.factor, factors)
        rates = np.where(
            self._drops, np.float32(learning_rate), np.float32(self._recipe.learning_rate)
        )
        return np.float32(factors) * rates

    @property
    def may_freeze(self) -> list[bool]:
        """For each variable, whether a rule freezes it."""
        freezing = [
            applies
            for rule, applies in zip(self._recipe.rate_rules, self._applies, strict=True)
            if rule.factor == 0
        ]
        return np.any([np.zeros(len(self._factors), bool), *freezing], axis=0).tolist()
