"""Another resize and crop than those of the weights."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    KRIZHEVSKY_PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.configs.preprocessing_override import overridden, resize_and_crop_in_words
from alexnet_keras.errors import ConfigurationError


@pytest.mark.parametrize(
    ("resize", "crop", "expected", "words"),
    [
        (None, None, ("warp", 256, 227), "resize warp to 256, crop 227"),
        ("warp", "227", ("warp", 256, 227), "resize warp to 256, crop 227"),
        ("short_side", None, ("short_side", 256, 227), "resize short_side to 256, crop 227"),
        (None, 100, ("warp", 256, 100), "resize warp to 256, crop 100"),
        (None, "none", ("warp", 227, 227), "resize warp to 227, crop 227"),
        ("short_side", "none", ("short_side", 227, None), "resize short_side to 227, crop none"),
        ("pad", None, ("pad", 227, 227), "resize pad to 227, crop 227"),
        ("pad", "none", ("pad", 227, 227), "resize pad to 227, crop 227"),
        ("pad", 300, ("pad", 300, 300), "resize pad to 300, crop 300"),
        ("none", None, ("none", 256, 227), "resize none, crop 227"),
        ("none", "1000", ("none", 256, 1000), "resize none, crop 1000"),
        ("none", "none", ("none", 227, None), "resize none, crop none"),
    ],
)
def test_what_the_options_mean(resize, crop, expected, words):
    found = overridden(CAFFE_PREPROCESSING, resize, crop)
    assert (found.resize, found.resize_to, found.crop) == expected
    assert replace(found, resize="warp", resize_to=256, crop=227) == CAFFE_PREPROCESSING
    assert resize_and_crop_in_words(found) == words
    assert Preprocessing.from_dict(asdict(found)) == found


def test_the_default_is_that_of_the_weights():
    found = overridden(TORCHVISION_PREPROCESSING, crop="none")
    assert (found.resize, found.resize_to, found.crop) == ("short_side", 224, None)
    assert overridden(TORCHVISION_PREPROCESSING) == TORCHVISION_PREPROCESSING


@pytest.mark.parametrize("crop", ["0", "-1", "x", "", "4097", "9" * 5000, "२", 1.5, "None"])
def test_a_crop_that_is_none(crop):
    with pytest.raises(
        ConfigurationError, match=r"^crop: expected a number of pixels up to 4096, or none; got "
    ):
        overridden(CAFFE_PREPROCESSING, "none", crop)


@pytest.mark.parametrize("resize", [None, "short_side"])
def test_a_crop_larger_than_images_are_resized_to(resize):
    with pytest.raises(
        ConfigurationError,
        match="^crop: expected at most 256 pixels, which images are resized to, got 257$",
    ):
        overridden(CAFFE_PREPROCESSING, resize, "257")


def test_a_smaller_crop_has_the_middle_of_the_mean_image():
    pixels = np.random.default_rng(0).uniform(0, 255, (224, 224, 3)).astype(np.float32)
    rule = replace(KRIZHEVSKY_PREPROCESSING, mean_image=MeanImage.from_array(pixels))
    np.testing.assert_array_equal(
        overridden(rule, crop="200").mean_image.array, pixels[12:212, 12:212]
    )
    assert overridden(rule, "pad").mean_image is rule.mean_image
    for resize, crop in (("none", "none"), (None, "230")):
        with pytest.raises(
            ConfigurationError,
            match=f"^crop: expected at most 224 pixels, the size of the mean image, got {crop}$",
        ):
            overridden(rule, resize, crop)
