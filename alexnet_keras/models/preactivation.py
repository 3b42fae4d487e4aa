"""The values of a layer before its activation, which share the layer's weights."""

from __future__ import annotations

import keras
from keras import ops

LINEAR = keras.activations.linear


def has_preactivation(layer: keras.layers.Layer) -> bool:
    """Whether the layer applies an activation to values of its own."""
    computes = isinstance(layer, keras.layers.Dense) or hasattr(layer, "preactivation")
    return computes and layer.activation not in (None, LINEAR)


class Preactivation(keras.layers.Layer):
    """``layer`` without its activation. It has no weights but those of ``layer``."""

    def __init__(self, layer: keras.layers.Layer):
        super().__init__(name=f"{layer.name}_pre", dtype=layer.dtype_policy)
        self.layer = layer

    def call(self, inputs):
        if isinstance(self.layer, keras.layers.Dense):
            return ops.add(ops.matmul(inputs, self.layer.kernel), self.layer.bias)
        return self.layer.preactivation(inputs)

    def compute_output_shape(self, input_shape):
        return self.layer.compute_output_shape(input_shape)
