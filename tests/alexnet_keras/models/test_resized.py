"""A network for images of another size shares its layers with the one that it is made from."""

import numpy as np
import pytest

from alexnet_keras.configs.preprocessing_override import overridden
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.features.extractor import feature_extractor
from alexnet_keras.models.resized import check_size, for_size, with_preprocessing
from tests.alexnet_keras.tiny import tiny_model


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def images(height, width):
    return np.random.default_rng(0).standard_normal((2, height, width, 3), np.float32) * 60


def test_another_preprocessing(model):
    rule = overridden(model.preprocessing, "pad")
    found = with_preprocessing(model, rule)
    assert (found.preprocessing, found.architecture) == (rule, model.architecture)
    assert found.class_names == model.class_names
    assert [*map(id, found.layers)] == [*map(id, model.layers)]
    np.testing.assert_array_equal(found(images(67, 67)), model(images(67, 67)))


def test_layers_of_images_of_another_size_by_a_network_of_that_size(model):
    found = for_size(model, (99, 131))
    assert found.output.shape == (None, 2, 3, 12)
    assert {id(each) for each in found.weights} < {id(each) for each in model.weights}
    square = tiny_model(size=99)
    for mine, its in zip(square.layers, model.layers, strict=True):
        if mine.name.startswith("conv"):
            mine.set_weights(its.get_weights())
    asked = ["conv2:pre", "norm2", "pool5"]
    expected = feature_extractor(square, asked)(images(99, 99))
    for name, values in feature_extractor(for_size(model, (99, 99)), asked)(
        images(99, 99)
    ).items():
        # XLA compiles the normalization of the network's own size only.
        np.testing.assert_allclose(values, expected[name], rtol=1e-5, atol=1e-6)


def test_the_same_size_is_the_same_network(model):
    assert for_size(model, (67, 67)) is model


def test_layers_that_do_not_fit(model):
    with pytest.raises(
        ConfigurationError,
        match=r"^layer: expected one of conv1, .*pool5; got fc6, fc7, which images of 99 x 80 "
        "pixels do not fit$",
    ):
        feature_extractor(for_size(model, (80, 99)), ["conv1", "fc6:pre", "fc7"])
    with pytest.raises(
        ConfigurationError,
        match="^crop: expected images of 67 x 67 pixels for the fully connected layers, got 99 x "
        "80$",
    ):
        check_size(model, (80, 99))


def test_images_too_small_for_a_layer(model):
    small = for_size(model, (50, 50))
    assert small.output_names == ["conv5"]
    with pytest.raises(
        ConfigurationError, match="conv5; got pool5, which images of 50 x 50 pixels do not fit$"
    ):
        feature_extractor(small, "pool5")
    with pytest.raises(
        ConfigurationError,
        match="^crop: expected at least 11x11 pixels at conv1, got 10x30 from an input of 10x30$",
    ):
        for_size(model, (10, 30))
