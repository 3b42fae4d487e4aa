"""Dynamic loss scaling for float16."""

from __future__ import annotations

import keras
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER

INITIAL_SCALE = 2.0**15
PATIENCE = 2000


class LossScale:
    """Scales the loss by ``value``, so that small float16 gradients do not underflow to zero.

    When gradients overflow, that update is skipped and the factor halved; after ``patience``
    updates in a row without an overflow it is doubled. ``value`` (float32) and ``good_steps``
    (int64) are scalar variables of the compiled step. Source: Micikevicius et al. 2018, section
    3.2.
    """

    def __init__(self, value: float = INITIAL_SCALE, patience: int = PATIENCE):
        self.value = tf.Variable(value, name="loss_scale")
        self.good_steps = tf.Variable(0, dtype=tf.int64, name="good_steps")
        self.patience = patience

    @classmethod
    def for_model(cls, model: keras.Model) -> LossScale | None:
        """A loss scale; None for a model that does not compute in float16."""
        return cls() if model.get_layer(FINAL_LAYER).compute_dtype == "float16" else None

    def update(self, finite) -> None:
        """Adapt to the gradients of one step; ``finite``: whether all are, a bool scalar."""
        good_steps = self.good_steps + 1
        doubles = good_steps >= self.patience
        grown = tf.where(doubles, self.value * 2, self.value)
        self.value.assign(tf.where(finite, grown, tf.maximum(self.value / 2, 1.0)))
        self.good_steps.assign(tf.where(finite & ~doubles, good_steps, 0))

    def to_dict(self) -> dict:
        """The state that is saved in a checkpoint, JSON-ready."""
        return {
            "value": float(self.value.numpy()),
            "good_steps": int(self.good_steps.numpy()),
        }

    def restore(self, state: dict) -> None:
        """Inverse of :meth:`to_dict`."""
        self.value.assign(state["value"])
        self.good_steps.assign(state["good_steps"])
