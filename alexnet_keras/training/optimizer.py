"""Stochastic gradient descent as in the paper and Caffe: weight decay is part of the gradient, so
that it goes through the momentum.
"""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("alexnet_keras")
class MomentumSGD(keras.optimizers.Optimizer):
    """``v = momentum * v - rate * (gradient + decay * w); w += v``, with a rate and a decay for
    each variable.

    ``decay`` applies to kernels, and with ``decay_biases`` to biases too. ``multipliers`` maps a
    layer's name to a factor of its learning rate (default 1); biases have ``bias_multiplier``
    times that. Keras's ``SGD(weight_decay=...)`` is decoupled from the momentum and has no
    multipliers; its ``weight_decay`` is another attribute than ``decay``.
    Source: Krizhevsky et al. 2012, section 5; Caffe's ``SGDSolver``.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        decay=5e-4,
        bias_multiplier=2.0,
        multipliers=None,
        decay_biases=False,
        name="momentum_sgd",
        **kwargs,
    ):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = momentum
        self.decay = decay
        self.bias_multiplier = bias_multiplier
        self.multipliers = dict(multipliers or {})
        self.decay_biases = decay_biases

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        names = [variable.path.split("/")[-2:] for variable in variables]
        self.rate_factors = [
            self.multipliers.get(layer, 1.0) * (self.bias_multiplier if kind == "bias" else 1.0)
            for layer, kind in names
        ]
        self._decays = [
            self.decay if kind != "bias" or self.decay_biases else 0.0 for _, kind in names
        ]

    def update_step(self, gradient, variable, learning_rate):
        """Keras calls it from ``apply`` and ``model.fit``."""
        index = self._get_variable_index(variable)
        rate = self.rate_factors[index] * learning_rate
        self._update(index, variable, self.velocities[index].value, gradient, rate)

    def apply_reduced_gradient(
        self, variable, gradient, rate, strategy: tf.distribute.Strategy, may_freeze: bool = False
    ):
        """Update one variable on all replicas of ``strategy`` by a gradient summed over them,
        outside ``strategy.run``. Returns the operation.

        ``rate``: the variable's own, a float32 scalar. With ``may_freeze``, a rate of 0 leaves the
        variable and its velocity as they are.
        """
        index = self._get_variable_index(variable)

        def update(*arguments):
            if not may_freeze:
                return self._update(index, *arguments)
            return tf.cond(arguments[-1] > 0, lambda: self._update(index, *arguments), tf.no_op)

        return strategy.extended.update(
            variable.value, update, args=(self.velocities[index].value, gradient, rate)
        )

    def _update(self, index, variable, velocity, gradient, rate):
        """Update in one pass over the variable, without the copies that assignments would make."""
        return tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=velocity.handle,
            lr=rate,
            grad=gradient + self._decays[index] * variable,
            momentum=self.momentum,
        )

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "decay": self.decay,
            "bias_multiplier": self.bias_multiplier,
            "multipliers": self.multipliers,
            "decay_biases": self.decay_biases,
        }
