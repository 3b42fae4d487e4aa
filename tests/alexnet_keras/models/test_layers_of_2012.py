"""What the layers do for the network of 2012, against NumPy by hand in float64 and PyTorch."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.configs.architecture import KRIZHEVSKY, Normalization
from alexnet_keras.configs.layer_specs import Dropout, InitialValues
from alexnet_keras.configs.layer_specs import WithinChannelNormalization as Within
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.backends import generic
from alexnet_keras.models.backends import tensorflow as backend
from alexnet_keras.models.layers import (
    GroupedConv2D,
    LocalResponseNormalization,
    MaxPooling2D,
    SampleDropout,
    WithinChannelNormalization,
    sample_masks,
)
from tests.alexnet_keras.models.test_layers import gradient_of, normalized
from tests.alexnet_keras.tiny import tiny_model

TOWERS = {"depth_radius": 2, "bias": 2.0, "alpha": 0.02, "beta": 0.75}
WITHIN = [
    {"alpha": 0.02},
    {"size": 3, "bias": 2.0, "alpha": 0.5, "beta": 0.5},
    {"size": 1, "alpha": 0.3},
]


def activations(*shape, scale=3.0, seed=0):
    return np.float32(scale) * np.random.default_rng(seed).standard_normal(shape, np.float32)


def normalized_within(x, size=5, bias=1.0, alpha=0.001 / 25, beta=0.75):
    """Pixel by pixel: the square is cut at the edges, and its sum is not divided again."""
    x, result, reach = x.astype(np.float64), np.empty(x.shape), size // 2
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            near = x[
                :,
                max(0, row - reach) : row + reach + 1,
                max(0, column - reach) : column + reach + 1,
            ]
            denominator = bias + alpha * (near**2).sum((1, 2))
            result[:, row, column] = x[:, row, column] / denominator**beta
    return result


@pytest.mark.parametrize("config", WITHIN)
@pytest.mark.parametrize("size", [(7, 9), (2, 1)])
def test_normalization_within_a_channel_is_that_of_the_formula(config, size):
    x = activations(2, *size, 3)
    np.testing.assert_allclose(
        WithinChannelNormalization(**config)(x), normalized_within(x, **config), rtol=1e-5
    )


@pytest.mark.parametrize("config", WITHIN)
def test_gradient_within_a_channel_is_that_of_numeric_differences(config):
    x, upstream = activations(2, 6, 7, 2), activations(2, 6, 7, 2, seed=1)
    ours = gradient_of(WithinChannelNormalization(**config), x, upstream)
    for place in [(0, 0, 0, 0), (1, 5, 6, 1), (0, 2, 3, 1), (1, 0, 4, 0)]:
        step = np.zeros(x.shape)
        step[place] = 1e-4
        difference = normalized_within(x + step, **config) - normalized_within(x - step, **config)
        assert ours[place] == pytest.approx(
            (upstream * difference).sum() / 2e-4, rel=1e-3, abs=1e-4
        )


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_a_tower_is_normalized_as_if_it_were_alone(groups):
    x = activations(2, 3, 4, 12)
    upstream = activations(2, 3, 4, 12, seed=1)
    layer = LocalResponseNormalization(**TOWERS, groups=groups)
    alone = [normalized(tower, **TOWERS) for tower in np.split(x, groups, -1)]
    np.testing.assert_allclose(layer(x), np.concatenate(alone, -1), rtol=1e-5)
    single = LocalResponseNormalization(**TOWERS)
    parts = zip(np.split(x, groups, -1), np.split(upstream, groups, -1), strict=True)
    np.testing.assert_allclose(
        gradient_of(layer, x, upstream),
        np.concatenate([gradient_of(single, *part) for part in parts], -1),
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNormalization(**TOWERS, groups=2),
        WithinChannelNormalization(alpha=0.02),
    ],
)
def test_other_ways_to_compute_it_agree(layer, monkeypatch):
    """Plain operations, for exports, sizes that are not fixed and machines without XLA; and those
    of other backends.
    """
    x, upstream = activations(2, 5, 6, 8), activations(2, 5, 6, 8, seed=1)
    expected, expected_gradient = layer(x), gradient_of(layer, x, upstream)
    any_size = type(layer).from_config(layer.get_config())
    any_size.build((None, None, None, 8))
    np.testing.assert_allclose(any_size(x), expected, rtol=1e-5)
    np.testing.assert_allclose(
        gradient_of(any_size, x, upstream), expected_gradient, rtol=1e-4, atol=1e-6
    )
    unknown = tf.function(any_size, input_signature=[tf.TensorSpec((None, None, None, 8))])
    np.testing.assert_allclose(unknown(x), expected, rtol=1e-5)
    monkeypatch.setattr(backend, "xla_is_available", lambda: False)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5)
    constants = (layer.bias, layer.alpha, layer.beta)
    found = (
        generic.normalize(x, layer.depth_radius, *constants, groups=layer.groups)
        if isinstance(layer, LocalResponseNormalization)
        else generic.normalize_within(tf.constant(x), layer.size, *constants)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize(
    "kind", [LocalResponseNormalization, WithinChannelNormalization, MaxPooling2D]
)
def test_mixed_precision(kind, policy):
    options = {"pool_size": 2, "strides": 2, "ceil_mode": True} if kind is MaxPooling2D else {}
    layer, exact = kind(**options, dtype=policy), kind(**options)
    x = activations(2, 5, 5, 4, scale=300)  # squares of these overflow float16
    found = layer(x)
    assert found.dtype == layer.compute_dtype
    np.testing.assert_allclose(tf.cast(found, tf.float32), exact(x), rtol=2**-6)


def test_pytorch_normalizes_each_tower_and_rounds_sizes_up_as_we_do():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x = activations(2, 20, 22, 8).astype(np.float64)
    channels_first = torch.from_numpy(x).permute(0, 3, 1, 2)

    def same(layer, theirs):
        expected = theirs.permute(0, 2, 3, 1).numpy()
        found = layer(x.astype(np.float32))
        assert layer.compute_output_shape(x.shape) == tuple(found.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())

    towers = channels_first.chunk(2, 1)
    normalize = torch.nn.LocalResponseNorm(5, alpha=0.1, beta=0.75, k=2.0)
    same(LocalResponseNormalization(**TOWERS, groups=2), torch.cat([*map(normalize, towers)], 1))
    for size in (2, 3):
        maxima = functional.max_pool2d(channels_first, size, 2, ceil_mode=True)
        same(MaxPooling2D(size, 2, True, "relu"), functional.relu(maxima))
    for size, stride in ((11, 4), (3, 2), (5, 3)):
        layer = GroupedConv2D(6, size, 1, ceil_mode=True, strides=stride, bias_initializer="ones")
        layer.build(x.shape)
        kernel = torch.from_numpy(layer.kernel.numpy().astype(np.float64)).permute(3, 2, 0, 1)
        padded = functional.pad(channels_first, (1, stride, 1, stride))
        theirs = functional.conv2d(padded, kernel, torch.ones(6, dtype=torch.float64), stride)
        same(layer, theirs)


@pytest.mark.parametrize("size", range(11, 20))
def test_conv1_has_zeros_on_the_right_and_bottom_only(size):
    x = activations(1, size, size, 3)
    layer = GroupedConv2D(4, 11, ceil_mode=True, strides=4)
    found = layer(x)
    outputs = 1 + -(-(size - 11) // 4)
    assert found.shape == layer.compute_output_shape(x.shape) == (1, outputs, outputs, 4)
    beyond = 4 * (outputs - 1) + 11 - size
    plain = GroupedConv2D(4, 11, strides=4)
    padded = np.pad(x, [(0, 0), (0, beyond), (0, beyond), (0, 0)])
    plain.build(padded.shape)
    plain.set_weights(layer.get_weights())
    np.testing.assert_allclose(found, plain(padded), rtol=1e-5, atol=1e-5)
    any_size = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    np.testing.assert_allclose(any_size(x), found, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", range(3, 9))
def test_the_last_window_of_a_maximum_may_lie_beyond_the_edge(size):
    x = activations(2, size, size, 3) - 20  # a zero beyond the edge would win
    layer = MaxPooling2D(3, 2, ceil_mode=True)
    starts = range(0, 2 * -(-(size - 3) // 2) + 1, 2)
    rows = [x[:, start : start + 3].max(1) for start in starts]
    expected = np.stack(
        [[row[:, start : start + 3].max(1) for start in starts] for row in rows], 0
    ).transpose(2, 0, 1, 3)
    np.testing.assert_array_equal(layer(x), expected)
    any_size = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 3))])
    np.testing.assert_array_equal(any_size(x), expected)


def test_maxima_are_activated():
    x = activations(2, 7, 7, 3) - 4
    assert (keras.layers.MaxPooling2D(3, 2)(x).numpy() < 0).any()
    found = MaxPooling2D(3, 2, activation="relu")(x)
    np.testing.assert_array_equal(found, tf.nn.relu(keras.layers.MaxPooling2D(3, 2)(x)))


def test_dropout_of_2012_masks_in_training_and_halves_at_test():
    x = activations(6, 10)
    layer, usual = (SampleDropout(0.3, at, name="drop6") for at in ("inference", "training"))
    with sample_masks(1, tf.constant(3, tf.int64)):
        found, kept = layer(x, training=True), usual(x, training=True).numpy() != 0
        np.testing.assert_allclose(layer(x), 0.7 * x, rtol=1e-6)
    np.testing.assert_array_equal(found, np.where(kept, x, 0))
    np.testing.assert_allclose(layer(x), 0.7 * x, rtol=1e-6)
    elsewhere = layer(x, training=True).numpy()
    assert 0 < (elsewhere == 0).mean() < 1
    np.testing.assert_allclose(elsewhere[elsewhere != 0], x[elsewhere != 0], rtol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        LocalResponseNormalization(3, 1.5, 0.1, 0.6, groups=2, name="norm9"),
        WithinChannelNormalization(3, 1.5, 0.1, 0.6, name="cnorm9"),
        MaxPooling2D(2, 3, ceil_mode=True, activation="tanh", name="pool9"),
        SampleDropout(0.4, "inference", name="drop9"),
        GroupedConv2D(6, 3, 1, True, strides=2, groups=3, name="conv9"),
    ],
)
def test_layers_come_back_from_their_configuration(layer):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(layer))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
    x = activations(2, 8, 8, 6)
    layer(x)
    again(x)
    again.set_weights(layer.get_weights())
    np.testing.assert_array_equal(again(x), layer(x))


def test_layers_saved_before_these_fields_are_what_they_were():
    fields = {
        LocalResponseNormalization(): ("groups",),
        GroupedConv2D(4, 3): ("ceil_mode",),
        SampleDropout(0.5): ("scaled_at",),
    }
    for layer, added in fields.items():
        config = layer.get_config()
        before = {name: value for name, value in config.items() if name not in added}
        assert type(layer).from_config(before).get_config() == config


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Within("cnorm2", size=4), "cnorm2.size: expected an odd number, got 4"),
        (
            lambda: Dropout("drop6", scaled_at="test"),
            "drop6.scaled_at: expected training or inference, got 'test'",
        ),
        (
            lambda: InitialValues(layer_stddevs=(("conv3", -1.0),)),
            "initial_values.layer_stddevs.conv3: expected 0 to 100, got -1.0",
        ),
        (
            lambda: tiny_model(KRIZHEVSKY.with_width(0.05).replace_each(Normalization, groups=3)),
            "architecture: norm1: expected channels that 3 groups divide, got 4",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        make()
