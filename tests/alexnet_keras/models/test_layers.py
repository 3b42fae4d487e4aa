"""The two layers against NumPy by hand, TensorFlow's own normalization, Keras's own convolution
and OpenCV.
"""

import gc
import os
import subprocess
import sys
import weakref

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.models.layers import GroupedConv2D, LocalResponseNormalization

PAPER = {"depth_radius": 2, "bias": 2.0, "alpha": 1e-4, "beta": 0.75}
NORMALIZATIONS = [
    {},
    PAPER,
    {"depth_radius": 1, "bias": 1.5, "alpha": 0.3, "beta": 0.5},
    {"depth_radius": 9, "bias": 1.0, "alpha": 0.01, "beta": 1.0},
    {"depth_radius": 0, "alpha": 0.5},
]
CONVOLUTIONS = [  # filters, kernel, padding, stride, groups, input channels
    (6, 3, 1, 1, 1, 4),
    (6, 3, 1, 1, 2, 4),
    (8, 5, 2, 1, 2, 6),
    (4, 11, 0, 4, 1, 3),
    (6, 3, 0, 2, 3, 6),
    (4, 3, 2, 2, 4, 4),
]


def activations(channels=7, scale=1.0, seed=0):
    return np.random.default_rng(seed).standard_normal(
        (2, 3, 4, channels), np.float32
    ) * np.float32(scale)


def normalized(x, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75):
    """The paper's formula, channel by channel, in float64."""
    x, result = x.astype(np.float64), np.empty(x.shape)
    for channel in range(x.shape[-1]):
        neighbours = x[..., max(0, channel - depth_radius) : channel + depth_radius + 1]
        result[..., channel] = x[..., channel] / (bias + alpha * (neighbours**2).sum(-1)) ** beta
    return result


@pytest.mark.parametrize("config", NORMALIZATIONS)
@pytest.mark.parametrize(("channels", "scale"), [(7, 1), (7, 300), (1, 30), (3, 30)])
def test_normalization_is_the_papers_formula(config, channels, scale):
    x = activations(channels, scale)
    np.testing.assert_allclose(
        LocalResponseNormalization(**config)(x), normalized(x, **config), rtol=2e-5
    )


def gradient_of(function, x, upstream):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x, output_gradients=upstream).numpy()


@pytest.mark.parametrize("config", NORMALIZATIONS)
@pytest.mark.parametrize("scale", [1, 100])
def test_gradient_is_tensorflows_own(config, scale):
    layer = LocalResponseNormalization(**config)
    x, upstream = activations(9, scale), activations(9, seed=1)
    theirs = gradient_of(
        lambda x: tf.nn.local_response_normalization(
            x, layer.depth_radius, layer.bias, layer.alpha, layer.beta
        ),
        x,
        upstream,
    )
    np.testing.assert_allclose(
        gradient_of(layer, x, upstream), theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max()
    )


@pytest.mark.parametrize("config", NORMALIZATIONS)
def test_gradient_is_that_of_numeric_differences(config):
    x, upstream = activations(5, 3), activations(5, seed=1)
    ours = gradient_of(LocalResponseNormalization(**config), x, upstream)
    for place in [(0, 0, 0, 0), (1, 2, 3, 4), (0, 1, 2, 2), (1, 0, 1, 1)]:
        step = np.zeros(x.shape)
        step[place] = 1e-4
        difference = normalized(x + step, **config) - normalized(x - step, **config)
        assert ours[place] == pytest.approx(
            (upstream * difference).sum() / 2e-4, rel=1e-3, abs=1e-4
        )


def test_the_graph_of_a_network_is_freed():
    """TensorFlow keeps the graph that calls a custom gradient, and with it the variables."""
    layer = LocalResponseNormalization()
    variable = tf.Variable(tf.ones((1, 4, 4, 6)))
    network = tf.function(lambda x: layer(x * variable), autograph=False)
    network(tf.ones((1, 4, 4, 6)))
    graph = weakref.ref(network.get_concrete_function(tf.TensorSpec((1, 4, 4, 6))).graph)
    del network
    gc.collect()
    assert graph() is None


def test_gradient_is_the_same_inside_a_compiled_function():
    layer, x, upstream = LocalResponseNormalization(alpha=0.1), activations(), activations(seed=1)
    compiled = tf.function(lambda: gradient_of_tensor(layer, tf.constant(x), upstream))()
    np.testing.assert_allclose(compiled, gradient_of(layer, x, upstream), rtol=1e-5, atol=1e-7)


def gradient_of_tensor(layer, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    return tape.gradient(y, x, output_gradients=upstream)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_normalization_computes_in_float32_under_mixed_precision(policy):
    layer = LocalResponseNormalization(alpha=1.0, dtype=policy)
    x = activations(7, 300)  # squares of these overflow float16
    found = layer(x)
    assert found.dtype == layer.compute_dtype
    rounded = tf.cast(x, layer.compute_dtype)
    expected = tf.cast(
        normalized(rounded.numpy().astype(np.float32), alpha=1.0), layer.compute_dtype
    )
    np.testing.assert_allclose(
        tf.cast(found, tf.float32), tf.cast(expected, tf.float32), rtol=2**-7
    )
    assert np.isfinite(
        gradient_of_tensor(layer, rounded, tf.ones_like(rounded)).numpy().astype(np.float32)
    ).all()


def convolution(filters, kernel, padding, stride, groups, channels, **options):
    layer = GroupedConv2D(filters, kernel, padding, strides=stride, groups=groups, **options)
    layer.build((None, 13, 15, channels))
    generator = np.random.default_rng(3)
    layer.set_weights(
        [generator.standard_normal(weight.shape, np.float32) for weight in layer.get_weights()]
    )
    return layer, generator.standard_normal((2, 13, 15, channels), np.float32)


@pytest.mark.parametrize("config", CONVOLUTIONS)
def test_convolution_is_keras_own_on_a_padded_input(config):
    layer, x = convolution(*config)
    filters, kernel, padding, stride, groups, channels = config
    theirs = keras.layers.Conv2D(filters, kernel, strides=stride, groups=groups)
    theirs.build((None, 13 + 2 * padding, 15 + 2 * padding, channels))
    theirs.set_weights(layer.get_weights())
    padded = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    found = layer(x)
    np.testing.assert_allclose(found, theirs(padded), rtol=1e-4, atol=1e-4)
    assert layer.compute_output_shape(x.shape) == tuple(found.shape)
    assert [weight.shape for weight in layer.weights] == [
        (kernel, kernel, channels // groups, filters),
        (filters,),
    ]


@pytest.mark.parametrize("config", CONVOLUTIONS)
def test_convolution_is_opencvs_correlation_group_by_group(config):
    layer, x = convolution(*config)
    filters, size, padding, stride, groups, channels = config
    kernel, bias = layer.get_weights()
    found = layer(x[:1]).numpy()[0]
    for index in range(filters):
        group = index // (filters // groups)
        expected = np.full((13 + 2 * padding, 15 + 2 * padding), bias[index], np.float64)
        for within in range(channels // groups):
            padded = np.pad(x[0, ..., group * (channels // groups) + within], padding).astype(
                np.float64
            )
            expected += cv2.filter2D(
                padded,
                cv2.CV_64F,
                kernel[..., within, index].astype(np.float64),
                anchor=(0, 0),
                borderType=cv2.BORDER_CONSTANT,
            )
        height, width = found.shape[:2]
        expected = expected[: stride * height : stride, : stride * width : stride]
        np.testing.assert_allclose(found[..., index], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("config", CONVOLUTIONS[:3])
def test_convolution_trains_as_keras_own(config):
    layer, x = convolution(*config, activation="relu")
    filters, kernel, padding, stride, groups, channels = config
    ungrouped = np.zeros((kernel, kernel, channels, filters), np.float32)
    ours, bias = layer.get_weights()
    share, units = channels // groups, filters // groups
    blocks = [
        (slice(g * share, (g + 1) * share), slice(g * units, (g + 1) * units))
        for g in range(groups)
    ]
    for inputs, outputs in blocks:
        ungrouped[:, :, inputs, outputs] = ours[..., outputs]
    theirs = keras.layers.Conv2D(filters, kernel, strides=stride, activation="relu")
    theirs.build((None, 13 + 2 * padding, 15 + 2 * padding, channels))
    theirs.set_weights([ungrouped, bias])
    padded = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    expected_kernel, expected_bias = weight_gradients(theirs, padded)
    found_kernel, found_bias = weight_gradients(layer, x)
    np.testing.assert_allclose(found_bias, expected_bias, rtol=1e-3, atol=1e-3)
    for inputs, outputs in blocks:
        np.testing.assert_allclose(
            found_kernel[..., outputs],
            expected_kernel[:, :, inputs, outputs],
            rtol=1e-3,
            atol=1e-3,
        )


def weight_gradients(layer, x):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x) ** 2) / 100
    return [gradient.numpy() for gradient in tape.gradient(loss, layer.trainable_variables)]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_convolution_under_mixed_precision_keeps_its_weights_in_float32(policy):
    layer, x = convolution(*CONVOLUTIONS[1], dtype=policy)
    exact, _ = convolution(*CONVOLUTIONS[1])
    found = layer(x)
    assert found.dtype == layer.compute_dtype
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    np.testing.assert_allclose(tf.cast(found, tf.float32), exact(x), atol=0.15)


@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNormalization(3, 1.5, 0.1, 0.6, name="norm9"),
        GroupedConv2D(
            6,
            3,
            2,
            strides=2,
            groups=3,
            activation="tanh",
            name="conv9",
            kernel_initializer=keras.initializers.RandomNormal(stddev=0.3, seed=1),
        ),
    ],
)
def test_layers_come_back_from_their_configuration(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    x = activations(6)
    layer(x)
    again(x)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


GROUPED = """
import sys
import numpy as np
import tensorflow as tf
from alexnet_keras.models.layers import GroupedConv2D, should_split_groups
layer, values = GroupedConv2D(8, 3, 1, groups=2, activation="relu"), np.random.default_rng(0)
layer.build((None, 7, 7, 6))
layer.set_weights([values.standard_normal(weight.shape, np.float32) for weight in layer.weights])
x = tf.constant(values.standard_normal((4, 7, 7, 6), np.float32))
@tf.function
def outcome():
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(y ** 2)
    return y, *tape.gradient(loss, [x, *layer.trainable_variables])
for policy in "mixed_bfloat16", "mixed_float16":  # whether or not this processor has them
    half = GroupedConv2D(8, 3, 1, groups=2, dtype=policy)
    @tf.function
    def gradients():
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.cast(half(x), tf.float32))
        return tape.gradient(loss, [x, *half.trainable_variables])
    gradients()
np.savez(sys.argv[1], *outcome(), splits=should_split_groups("float32"))
"""


@pytest.mark.slow
def test_groups_are_tensorflows_own_where_onednn_trains_them(tmp_path):
    found = {}
    for onednn in "01":
        file = tmp_path / f"{onednn}.npz"
        subprocess.run(
            [sys.executable, "-c", GROUPED, file],
            check=True,
            capture_output=True,
            env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": onednn},
        )
        found[onednn] = dict(np.load(file))
    assert (found["0"].pop("splits"), found["1"].pop("splits")) == (True, False)
    for name, values in found["0"].items():
        np.testing.assert_allclose(found["1"][name], values, rtol=1e-4, atol=1e-4)
