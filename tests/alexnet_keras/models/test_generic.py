"""What the layers compute in ``keras.ops`` alone, here on TensorFlow, against NumPy by hand and
TensorFlow's own.
"""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.models import layers
from alexnet_keras.models.backends import generic, tensorflow

NORMALIZATIONS = [
    (2, 1.0, 2e-5, 0.75),
    (2, 2.0, 1e-4, 0.75),
    (1, 1.5, 0.3, 0.5),
    (9, 1.0, 0.01, 1.0),
    (0, 1.0, 0.5, 0.75),
]
CONVOLUTIONS = [  # filters, kernel, padding, stride, groups, input channels
    (6, 3, 1, 1, 1, 4),
    (8, 5, 2, 1, 2, 6),
    (4, 11, 0, 4, 1, 3),
    (6, 11, 2, 4, 1, 3),
    (6, 3, 0, 2, 3, 6),
]


def activations(channels, scale=1.0, seed=0, size=(3, 4)):
    return np.random.default_rng(seed).standard_normal(
        (2, *size, channels), np.float32
    ) * np.float32(scale)


def normalized(x, depth_radius, bias, alpha, beta):
    """The paper's formula, channel by channel, in float64."""
    x, result = x.astype(np.float64), np.empty(x.shape)
    for channel in range(x.shape[-1]):
        neighbours = x[..., max(0, channel - depth_radius) : channel + depth_radius + 1]
        result[..., channel] = x[..., channel] / (bias + alpha * (neighbours**2).sum(-1)) ** beta
    return result


def gradients_of(function, upstream, *arrays):
    tensors = [tf.constant(array) for array in arrays]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        y = function(*tensors)
    return [
        gradient.numpy()
        for gradient in tape.gradient(y, tensors, output_gradients=tf.constant(upstream))
    ]


@pytest.mark.parametrize("config", NORMALIZATIONS)
@pytest.mark.parametrize(("channels", "scale"), [(7, 1), (7, 300), (1, 30), (3, 30)])
def test_normalization_is_the_papers_formula(config, channels, scale):
    x = activations(channels, scale)
    np.testing.assert_allclose(
        generic.normalize(tf.constant(x), *config), normalized(x, *config), rtol=2e-5
    )


@pytest.mark.parametrize("config", NORMALIZATIONS)
@pytest.mark.parametrize("scale", [1, 100])
def test_gradient_of_normalization_is_tensorflows_own(config, scale):
    x, upstream = activations(9, scale), activations(9, seed=1)
    [theirs] = gradients_of(lambda x: tf.nn.local_response_normalization(x, *config), upstream, x)
    [ours] = gradients_of(lambda x: generic.normalize(x, *config), upstream, x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("splits", [True, False])
@pytest.mark.parametrize("config", CONVOLUTIONS)
def test_convolution_is_the_one_of_tensorflow_and_so_are_its_gradients(
    config, splits, monkeypatch
):
    """``splits``: a convolution for each group, and one whose kernel tells the groups, as PyTorch
    has it.
    """
    filters, kernel, padding, stride, groups, channels = config
    layer = layers.GroupedConv2D(
        filters, kernel, padding, strides=stride, groups=groups, activation="relu"
    )
    x = activations(channels, size=(13, 15))
    layer.build(x.shape)
    layer.set_weights(
        [
            np.random.default_rng(3).standard_normal(weight.shape, np.float32)
            for weight in layer.weights
        ]
    )
    upstream = activations(filters, seed=1, size=layer(x).shape[1:3])

    def outcome():
        gradients = gradients_of(layer, upstream, x)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x) * upstream)
        return [
            layer(x).numpy(),
            *gradients,
            *(each.numpy() for each in tape.gradient(loss, layer.trainable_variables)),
        ]

    assert layers.convolve is tensorflow.convolve
    expected = outcome()
    monkeypatch.setattr(layers, "convolve", generic.convolve)
    monkeypatch.setattr(layers, "should_split_groups", lambda dtype: splits)
    for ours, theirs in zip(outcome(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())
