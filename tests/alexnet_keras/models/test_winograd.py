"""Winograd's convolution and its gradients against TensorFlow's plain one in float64; where it is
used, and where not.
"""

import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.models.backends import winograd
from alexnet_keras.models.layers import GroupedConv2D

SHAPES = [  # batch, height, width, channels, groups, filters
    (1, 1, 1, 2, 1, 3),
    (2, 2, 2, 4, 2, 6),
    (2, 3, 5, 4, 1, 3),
]
SLOW_SHAPES = [
    (3, 13, 13, 8, 2, 4),
    (2, 6, 7, 4, 4, 8),
    (16, 13, 13, 256, 1, 384),
    (16, 13, 13, 384, 2, 384),
    (16, 13, 13, 384, 2, 256),
]


@pytest.fixture(autouse=True)
def allowed_again():
    yield
    winograd.set_enabled(True)


def arrays(batch, height, width, channels, groups, filters):
    generator = np.random.default_rng(0)
    return [
        generator.standard_normal(shape, np.float32)
        for shape in (
            (batch, height, width, channels),
            (3, 3, channels // groups, filters),
            (batch, height, width, filters),
        )
    ]


def plain(x, kernel):
    """Group by group, in the precision of its arguments."""
    groups = x.shape[-1] // kernel.shape[2]
    parts = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(*part, 1, "SAME") for part in parts], -1)


def output_and_gradients(convolve, x, kernel, upstream):
    x, kernel = tf.constant(x), tf.constant(kernel)
    with tf.GradientTape() as tape:
        tape.watch([x, kernel])
        result = convolve(x, kernel)
    return [tensor.numpy() for tensor in (result, *tape.gradient(result, [x, kernel], upstream))]


@pytest.mark.parametrize(
    "shape", [*SHAPES, *(pytest.param(shape, marks=pytest.mark.slow) for shape in SLOW_SHAPES)]
)
def test_output_and_gradients_are_those_of_plain_convolution(shape):
    found = output_and_gradients(winograd.convolve, *arrays(*shape))
    expected = output_and_gradients(plain, *(array.astype(np.float64) for array in arrays(*shape)))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() <= 3e-6 * np.abs(theirs).max()


def suits(
    batch=16,
    channels=128,
    groups=1,
    filters=128,
    size=3,
    strides=(1, 1),
    padding="same",
    dtype=tf.float32,
    width=4,
):
    """In a graph, where shapes can be unknown."""
    answers = []

    @tf.function(
        input_signature=[tf.TensorSpec((batch, 4, width, channels), dtype)], autograph=False
    )
    def ask(x):
        answers.append(
            winograd.is_applicable(
                x, tf.zeros((size, size, channels // groups, filters), dtype), strides, padding
            )
        )

    ask.get_concrete_function()
    return answers[0]


def test_it_is_for_3x3_kernels_of_many_channels_on_many_images_in_float32():
    assert suits()
    assert suits(channels=256, groups=2, filters=256)
    for other in (
        {"batch": 15},
        {"batch": None},
        {"width": None},
        {"channels": 127},
        {"filters": 127},
        {"size": 5},
        {"strides": (2, 2)},
        {"padding": "valid"},
        {"dtype": tf.bfloat16},
        {"dtype": tf.float64},
        {"channels": 254, "groups": 2, "filters": 256},
        {"channels": 256, "groups": 2, "filters": 254},
    ):
        assert not suits(**other), other


def test_a_layer_uses_it_in_training_alone_and_only_where_it_is_allowed():
    x = arrays(16, 5, 5, 256, 2, 256)[0]
    layer = GroupedConv2D(256, 3, 1, groups=2)
    direct, training = layer(x).numpy(), layer(x, training=True).numpy()
    np.testing.assert_array_equal(layer(x, training=False), direct)
    assert (training != direct).any()
    np.testing.assert_allclose(training, direct, rtol=0, atol=1e-5 * np.abs(direct).max())
    winograd.set_enabled(False)
    np.testing.assert_array_equal(layer(x, training=True), direct)
