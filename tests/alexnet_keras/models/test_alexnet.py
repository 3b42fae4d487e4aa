"""The networks: published parameter counts and shapes, ablations, initial values, and the
arguments of the builder.
"""

import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from alexnet_keras.applications import AlexNet
from alexnet_keras.configs.architecture import (
    ALEXNET,
    OWT,
    VARIANTS,
    Convolution,
    Dropout,
    InitialValues,
    Normalization,
    Pooling,
)
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.alexnet import build
from tests.alexnet_keras.tiny import SMALLEST, tiny_model

GROUPED = {  # Krizhevsky et al. 2012, figure 2, and Caffe's replica
    "conv1": (55, 55, 96),
    "norm1": (55, 55, 96),
    "pool1": (27, 27, 96),
    "conv2": (27, 27, 256),
    "norm2": (27, 27, 256),
    "pool2": (13, 13, 256),
    "conv3": (13, 13, 384),
    "conv4": (13, 13, 384),
    "conv5": (13, 13, 256),
    "pool5": (6, 6, 256),
    "flatten": (9216,),
    "fc6": (4096,),
    "drop6": (4096,),
    "fc7": (4096,),
    "drop7": (4096,),
    "fc8": (1000,),
    "prob": (1000,),
}
SHAPES = {
    "alexnet": GROUPED,
    "paper": GROUPED,
    "caffenet": GROUPED | {"norm1": (27, 27, 96), "norm2": (13, 13, 256)},
    "owt": {name: shape for name, shape in GROUPED.items() if not name.startswith("norm")}
    | {  # torchvision
        "conv1": (55, 55, 64),
        "pool1": (27, 27, 64),
        "conv2": (27, 27, 192),
        "pool2": (13, 13, 192),
        "conv4": (13, 13, 256),
        "drop6": (9216,),
    },
    "krizhevsky": GROUPED | {"cnorm2": (27, 27, 256)},
    "slim": {name: shape for name, shape in GROUPED.items() if not name.startswith("norm")}
    | {  # TF-Slim's alexnet_v2: 54-26-12-5
        "conv1": (54, 54, 64),
        "pool1": (26, 26, 64),
        "conv2": (26, 26, 192),
        "pool2": (12, 12, 192),
        "conv3": (12, 12, 384),
        "conv4": (12, 12, 384),
        "conv5": (12, 12, 256),
        "pool5": (5, 5, 256),
        "flatten": (6400,),
    },
}
PARAMETERS = {
    "alexnet": 60_965_224,
    "caffenet": 60_965_224,
    "paper": 60_965_224,
    "owt": 61_100_840,
    "krizhevsky": 60_965_224,
    "slim": 50_303_912,
}
NEURONS = 659_272


@pytest.fixture(scope="module", params=VARIANTS)
def full(request):
    """A network of full size; one at a time is in memory."""
    keras.utils.set_random_seed(1)
    return AlexNet(variant=request.param)


def shapes_of(model):
    return {
        layer.name: layer.output.shape[1:]
        for layer in model.layers
        if not isinstance(layer, keras.layers.InputLayer)
    }


def test_parameters_and_every_shape_of_the_full_networks(full):
    assert full.count_params() == PARAMETERS[full.name]
    assert shapes_of(full) == SHAPES[full.name]
    size = 224 if full.name in ("owt", "krizhevsky", "slim") else 227
    assert full.input_shape == (None, size, size, 3)
    if full.name in ("alexnet", "krizhevsky"):
        weighted = [layer for layer in full.layers if layer.weights]
        assert sum(math.prod(layer.output.shape[1:]) for layer in weighted) == NEURONS


def test_one_kernel_and_one_bias_a_layer(full):
    weighted = [layer for layer in full.layers if layer.weights]
    assert [layer.name for layer in weighted] == [
        "conv1",
        "conv2",
        "conv3",
        "conv4",
        "conv5",
        "fc6",
        "fc7",
        "fc8",
    ]
    assert all(
        [weight.name for weight in layer.weights] == ["kernel", "bias"] for layer in weighted
    )


RAISED = {"alexnet": 0.1, "caffenet": 1.0, "paper": 1.0, "krizhevsky": 1.0}
STDDEVS = {  # where not 0.01
    "alexnet": {"fc6": 0.005, "fc7": 0.005},
    "caffenet": {"fc6": 0.005, "fc7": 0.005},
    "paper": {},
    "krizhevsky": {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03},  # initW of layers-145.cfg
}
RAISED_LAYERS = ("conv2", "conv4", "conv5", "fc6", "fc7")


def test_initial_values_are_those_of_the_recipe(full):
    for layer in (layer for layer in full.layers if layer.weights):
        kernel, bias = (
            layer.kernel.numpy().ravel()[:2_000_000].astype(np.float64),
            layer.bias.numpy(),
        )
        if full.name == "owt":
            limit = 1 / math.sqrt(math.prod(layer.kernel.shape[:-1]))
            assert max(abs(kernel).max(), abs(bias).max()) <= limit * (1 + 1e-6)
            assert kernel.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
            assert abs(kernel).max() > 0.99 * limit
            assert bias.std() == pytest.approx(limit / math.sqrt(3), rel=0.2)
            continue
        if full.name == "slim":
            check_slims_values(layer.name, kernel, layer.kernel.shape, bias)
            continue
        stddev = STDDEVS[full.name].get(layer.name, 0.01)
        assert kernel.std() == pytest.approx(stddev, rel=0.02)
        assert abs(kernel).max() > 3.3 * stddev  # not truncated
        assert abs(kernel.mean()) < 5 * stddev / math.sqrt(kernel.size)
        assert np.unique(bias) == np.float32(
            RAISED[full.name] if layer.name in RAISED_LAYERS else 0
        )


def check_slims_values(name, kernel, shape, bias):
    """alexnet_v2's argument scope: xavier_initializer, and trunc_normal(0.005) in fc6 to fc8."""
    if name.startswith("conv"):
        limit = math.sqrt(6 / (math.prod(shape[:2]) * (shape[2] + shape[3])))
        assert 0.99 * limit < abs(kernel).max() <= limit * (1 + 1e-6)
        assert kernel.std() == pytest.approx(limit / math.sqrt(3), rel=0.02)
    else:
        assert abs(kernel).max() <= 0.01
        assert kernel.std() == pytest.approx(0.005 * 0.8796, rel=0.02)  # cut at two deviations
    assert np.unique(bias) == np.float32(0 if name == "fc8" else 0.1)


def test_he_initial_values():
    model = tiny_model(
        replace(ALEXNET.with_width(0.3), initial_values=InitialValues("he", raised=("conv1",))),
        classes=400,
    )
    for layer in (layer for layer in model.layers if layer.weights):
        expected = math.sqrt(2 / math.prod(layer.kernel.shape[:-1]))
        assert layer.kernel.numpy().std() == pytest.approx(expected, rel=0.1)
        assert np.unique(layer.bias.numpy()) == np.float32(0.1 if layer.name == "conv1" else 0)


def test_initial_values_follow_keras_seed_and_no_two_layers_share_them():
    def drawn(seed):
        keras.utils.set_random_seed(seed)
        return tiny_model("owt").get_weights()

    first, again, other = drawn(3), drawn(3), drawn(4)
    for index, weight in enumerate(first):
        np.testing.assert_array_equal(weight, again[index])
        assert (weight != other[index]).any()
    beginnings = {weight.ravel()[:3].tobytes() for weight in first}
    assert len(beginnings) == len(first)


def parameters(architecture, classes=5, size=67):
    return tiny_model(architecture, size=size, classes=classes).count_params()


def convolution(kernel, inputs, filters, groups=1):
    return kernel * kernel * inputs // groups * filters + filters


@pytest.mark.parametrize(
    ("ablation", "by_hand"),
    [
        # conv1 4, conv2 12, conv3 20, conv4 20, conv5 12 filters, fc6 and fc7 205 units, pool5 1x1
        # at 67 pixels
        (
            lambda a: a,
            (
                convolution(11, 3, 4),
                convolution(5, 4, 12, 2),
                convolution(3, 12, 20),
                convolution(3, 20, 20, 2),
                convolution(3, 20, 12, 2),
                13 * 205,
                206 * 205,
                206 * 5,
            ),
        ),
        (
            lambda a: a.replace_each(Convolution, groups=1),
            (
                convolution(11, 3, 4),
                convolution(5, 4, 12),
                convolution(3, 12, 20),
                convolution(3, 20, 20),
                convolution(3, 20, 12),
                13 * 205,
                206 * 205,
                206 * 5,
            ),
        ),
        (
            lambda a: a.without("conv3"),
            (
                convolution(11, 3, 4),
                convolution(5, 4, 12, 2),
                convolution(3, 12, 20, 2),
                convolution(3, 20, 12, 2),
                13 * 205,
                206 * 205,
                206 * 5,
            ),
        ),
        (
            lambda a: a.without("fc7", "drop7"),
            (
                convolution(11, 3, 4),
                convolution(5, 4, 12, 2),
                convolution(3, 12, 20),
                convolution(3, 20, 20, 2),
                convolution(3, 20, 12, 2),
                13 * 205,
                206 * 5,
            ),
        ),
        (
            lambda a: a.replace_each(Pooling, size=2),
            (
                convolution(11, 3, 4),
                convolution(5, 4, 12, 2),
                convolution(3, 12, 20),
                convolution(3, 20, 20, 2),
                convolution(3, 20, 12, 2),
                13 * 205,
                206 * 205,
                206 * 5,
            ),
        ),
        (
            lambda a: a.without("fc6", "drop6", "fc7", "drop7"),
            (
                convolution(11, 3, 4),
                convolution(5, 4, 12, 2),
                convolution(3, 12, 20),
                convolution(3, 20, 20, 2),
                convolution(3, 20, 12, 2),
                13 * 5,
            ),
        ),
    ],
    ids=["none", "one tower", "no conv3", "no fc7", "2x2 pooling", "no fc6 and fc7"],
)
def test_parameters_of_ablations_by_hand(ablation, by_hand):
    assert parameters(ablation(ALEXNET.with_width(0.05))) == sum(by_hand)


def test_half_width_of_the_full_network():
    half = AlexNet(variant=ALEXNET.with_width(0.5))
    assert half.count_params() == (
        convolution(11, 3, 48)
        + convolution(5, 48, 128, 2)
        + convolution(3, 128, 192)
        + convolution(3, 192, 192, 2)
        + convolution(3, 192, 128, 2)
        + (36 * 128 + 1) * 2048
        + 2049 * 2048
        + 2049 * 1000
    )


def test_ablations_leave_out_and_replace_layers():
    kinds = {
        type(layer)
        for layer in tiny_model(
            ALEXNET.with_width(0.05).without(
                *[
                    layer.name
                    for layer in ALEXNET.layers
                    if isinstance(layer, Normalization | Dropout)
                ]
            )
        ).layers
    }
    assert not {kind.__name__ for kind in kinds} & {"LocalResponseNormalization", "Dropout"}
    tanh = tiny_model(replace(ALEXNET.with_width(0.05), activation="tanh"))
    assert {layer.activation.__name__ for layer in tanh.layers if layer.weights} == {
        "tanh",
        "linear",
    }
    assert tanh.get_layer("fc8").activation.__name__ == "linear"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("include_top", [True, False])
def test_smallest_input(variant, include_top):
    size, architecture = SMALLEST[variant], VARIANTS[variant].with_width(0.05)
    model = build(architecture, keras.Input((size, size + 40, 3)), 5, include_top)
    assert model.get_layer("pool5").output.shape[1:3] == (1, 2)
    with pytest.raises(
        ConfigurationError,
        match=f"^input_shape: expected at least 3x3 pixels at pool5, got 2x3 from an input "
        f"of {size - 1}x{size}$",
    ):
        build(architecture, keras.Input((size - 1, size, 3)), 5, include_top)


@pytest.mark.parametrize("size", [1, 10])
def test_an_input_smaller_than_the_first_kernel_is_refused(size):
    with pytest.raises(
        ConfigurationError,
        match=f"expected at least 11x11 pixels at conv1, got {size}x{size} from",
    ):
        AlexNet(variant=ALEXNET.with_width(0.05), input_shape=(size, size, 3))


def tiny(include_top=True, input_shape=(67, 67, 3), **options):
    return AlexNet(
        include_top,
        input_shape=None if "input_tensor" in options else input_shape,
        variant=options.pop("variant", ALEXNET.with_width(0.05)),
        **options,
    )


@pytest.mark.parametrize(
    ("pooling", "shape"), [(None, (None, 2, 3, 12)), ("avg", (None, 12)), ("max", (None, 12))]
)
def test_without_the_top(pooling, shape):
    model = tiny(False, (99, 131, 3), pooling=pooling)
    assert model.output_shape == shape
    assert "fc6" not in shapes_of(model)
    if pooling:
        x = np.random.default_rng(0).standard_normal((2, 99, 131, 3), np.float32)
        spatial = keras.Model(model.input, model.get_layer("pool5").output)(x).numpy()
        np.testing.assert_allclose(
            model(x), spatial.mean((1, 2)) if pooling == "avg" else spatial.max((1, 2)), atol=1e-6
        )


def test_without_the_top_any_size_goes_through_one_network():
    model = tiny(False, (None, None, 3), pooling="avg")
    assert (
        model(np.zeros((1, 67, 99, 3))).shape == model(np.zeros((1, 131, 67, 3))).shape == (1, 12)
    )


@pytest.mark.parametrize(
    ("left_out", "named"), [(("flatten",), "fc6"), (("flatten", "fc6", "fc7"), "fc8")]
)
def test_a_fully_connected_layer_needs_flatten_before_it(left_out, named):
    with pytest.raises(
        ConfigurationError,
        match=f"^architecture: {named}: expected a Flatten layer before it, got none$",
    ):
        tiny_model(ALEXNET.with_width(0.05).without(*left_out))


def test_classes_and_activation_of_the_classifier():
    x = np.random.default_rng(0).standard_normal((2, 67, 67, 3), np.float32) * 50
    probabilities = tiny(classes=7)(x).numpy()
    assert probabilities.shape == (2, 7)
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-6)
    model = tiny(classes=7, classifier_activation="sigmoid")
    logits = keras.Model(model.input, model.get_layer("fc8").output)(x).numpy()
    np.testing.assert_allclose(model(x), 1 / (1 + np.exp(-logits)), rtol=1e-5)
    assert [layer.name for layer in tiny(classifier_activation=None).layers][-1] == "fc8"


def test_classifier_stays_in_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny(classes=7)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.get_layer("conv1").output.dtype == "bfloat16"
    assert model(np.zeros((1, 67, 67, 3))).dtype == "float32"


def test_builds_upon_a_tensor_of_another_network():
    inputs = keras.Input((67, 67, 3), name="photograph")
    model = tiny(input_tensor=keras.layers.Rescaling(2.0)(inputs))
    assert model.input is inputs
    plain = tiny()
    plain.set_weights(model.get_weights())
    x = np.random.default_rng(0).standard_normal((1, 67, 67, 3), np.float32)
    np.testing.assert_allclose(model(x), plain(2 * x), rtol=1e-5)


def test_name():
    assert (tiny(name="mine").name, tiny().name, tiny(variant=OWT.with_width(0.05)).name) == (
        "mine",
        "alexnet",
        "owt",
    )


def test_channels_come_last_whatever_keras_is_configured_for():
    keras.config.set_image_data_format("channels_first")
    try:
        model, pooled = tiny(), tiny(False, pooling="max")
    finally:
        keras.config.set_image_data_format("channels_last")
    assert shapes_of(model) == shapes_of(tiny())
    assert pooled.output_shape == (None, 12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "min"}, "pooling: expected None, avg or max, got 'min'"),
        ({"pooling": "avg"}, "pooling: expected None with include_top=True, got 'avg'"),
        ({"classes": 0}, "classes: expected a positive integer, got 0"),
        ({"classes": 2.5}, "classes: expected a positive integer, got 2.5"),
        (
            {"variant": "vgg"},
            "variant: expected one of alexnet, caffenet, paper, owt, krizhevsky, slim, got 'vgg'",
        ),
        ({"skip": ("fc8",)}, "skip: expected none without weights, got fc8"),
        ({"weights": 3}, "weights: expected None, a name or a path, got 3"),
        (
            {"input_shape": (67, 67)},
            r"input_shape: expected \(height, width, channels\) of positive integers, got \(67, "
            r"67\)",
        ),
        ({"input_shape": (None, None, 3)}, r"input_shape: expected .* got \(None, None, 3\)"),
        ({"input_shape": (-67, 67, 3)}, r"input_shape: expected .* got \(-67, 67, 3\)"),
        (
            {"input_shape": (67, 67, None), "include_top": False},
            r"input_shape: expected .* got \(67, 67, None\)",
        ),
        (
            {"input_tensor": np.zeros((1, 67, 67, 3))},
            "input_tensor: expected a Keras tensor, got ndarray",
        ),
        ({"input_tensor": 3}, "input_tensor: expected a Keras tensor, got int"),
    ],
)
def test_refuses_in_one_line(options, message):
    with pytest.raises(ConfigurationError, match=f"^{message}$"):
        tiny(**options)
