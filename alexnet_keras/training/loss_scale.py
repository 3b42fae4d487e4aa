"""Dynamic loss scaling for float16."""

from __future__ import annotations

import keras
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER

INITIAL_SCALE = 2.0**15
PATIENCE = 2000


class LossScale:
    """Gradients in float16 are computed ``value`` times too large, so that none vanishes.

    The factor is halved when they overflow, and that update skipped; it is doubled after
    ``patience`` updates in a row that did not. ``value`` (float32) and ``good_steps`` (int64) are
    scalar variables of the compiled step. Source: Micikevicius et al. 2018, section 3.2.
    """

    def __init__(self, value: float = INITIAL_SCALE, patience: int = PATIENCE):
        self.value = tf.Variable(value, name="loss_scale")
        self.good_steps = tf.Variable(0, dtype=tf.int64, name="good_steps")
        self.patience = patience

    @classmethod
    def for_network(cls, model: keras.Model) -> LossScale | None:
        """None for a network that does not compute in float16."""
        return cls() if model.get_layer(FINAL_LAYER).compute_dtype == "float16" else None

    def update(self, finite) -> None:
        """Adapt to the gradients of one step; ``finite``: a bool scalar, whether all were."""
        good_steps = self.good_steps + 1
        doubles = good_steps >= self.patience
        grown = tf.where(doubles, self.value * 2, self.value)
        self.value.assign(tf.where(finite, grown, tf.maximum(self.value / 2, 1.0)))
        self.good_steps.assign(tf.where(finite & ~doubles, good_steps, 0))

    def to_dict(self) -> dict:
        """The state that a checkpoint keeps, JSON-ready."""
        return {
            "value": float(self.value.numpy()),
            "good_steps": int(self.good_steps.numpy()),
        }

    def restore(self, state: dict) -> None:
        """Inverse of :meth:`to_dict`."""
        self.value.assign(state["value"])
        self.good_steps.assign(state["good_steps"])
