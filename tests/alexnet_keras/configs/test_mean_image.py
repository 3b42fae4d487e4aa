"""The mean image as a value: exact in JSON, hashable, of one size."""

import base64
import copy
import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING, Preprocessing
from alexnet_keras.errors import ConfigurationError

ARRAY = np.random.default_rng(0).uniform(0, 255, (6, 6, 3)).astype(np.float32)
RULE = Preprocessing(crop=6, resize_to=8)
LEVELS = st.floats(0, 255, width=32)


@given(arrays.arrays(np.float32, (3, 3, 3), elements=LEVELS))
def test_every_bit_survives_json(array):
    rule = dataclasses.replace(RULE, crop=3, mean_image=MeanImage.from_array(array))
    again = Preprocessing.from_dict(json.loads(json.dumps(dataclasses.asdict(rule))))
    assert again == rule
    assert hash(again) == hash(rule)
    assert again.mean_image.array.tobytes() == array.tobytes()
    assert again.mean_image.array.dtype == np.float32


def test_it_is_a_value():
    image = MeanImage.from_array(ARRAY)
    assert {image, MeanImage.from_array(ARRAY.astype("f8")), copy.deepcopy(image)} == {image}
    assert pickle.loads(pickle.dumps(image)) == image
    assert image != MeanImage.from_array(ARRAY[::-1])
    assert repr(image) == "MeanImage(size=6)"
    with pytest.raises(ValueError, match="read-only"):
        image.array[0, 0, 0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        image.size = 3


def test_it_stands_last_in_json_and_older_files_lack_it():
    values = dataclasses.asdict(RULE)
    assert list(values)[-1] == "mean_image"
    del values["mean_image"]
    assert Preprocessing.from_dict(values) == RULE


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (ARRAY[:, :, 0], r"square image \(size, size, 3\), got \(6, 6\)"),
        (ARRAY[:5], r"square image \(size, size, 3\), got \(5, 6, 3\)"),
        (np.moveaxis(ARRAY, 2, 0), r"got \(3, 6, 6\)"),
        (ARRAY[:0, :0], "size: expected at least 1, got 0"),
        (ARRAY - 128, "grey levels, 0 to 255, got -"),
        (ARRAY * 2, "grey levels, 0 to 255, got .* to [345]"),
        (np.where(ARRAY > 100, np.nan, ARRAY), "grey levels, 0 to 255, got nan"),
    ],
)
def test_an_array_that_is_no_mean_image(array, message):
    with pytest.raises(ConfigurationError, match=f"^mean_image.*{message}"):
        MeanImage.from_array(array)


@pytest.mark.parametrize("size", [6, 0, -1, 1, 7, 10**30])
@pytest.mark.parametrize("values", ["", "AAAA", "é", "A" * 575 + "é", "*" * 576, "A" * 577])
def test_damaged_values_are_refused_in_one_line(size, values):
    with pytest.raises(ConfigurationError, match=r"^mean_image[^\n]+$"):
        MeanImage(size, values)


@pytest.mark.parametrize(
    "damage", [{"size": "6"}, {"size": 6.0}, {"values": 3}, {"values": None}, {"more": 1}]
)
def test_fields_of_another_type_are_named(damage):
    values = dataclasses.asdict(dataclasses.replace(RULE, mean_image=MeanImage.from_array(ARRAY)))
    values["mean_image"] |= damage
    with pytest.raises(ConfigurationError, match="^preprocessing.mean_image"):
        Preprocessing.from_dict(values)


def test_values_are_little_endian_float32_by_hand():
    data = base64.b64decode(MeanImage.from_array(ARRAY).values)
    assert data == b"".join(value.astype("<f4").tobytes() for value in ARRAY.reshape(-1))


def test_a_mean_image_of_the_crop_or_of_the_resized_image():
    wide = np.random.default_rng(1).uniform(0, 255, (8, 8, 3)).astype(np.float32)
    exact = RULE.with_mean_image(MeanImage.from_array(ARRAY))
    np.testing.assert_array_equal(exact.mean_image.array, ARRAY)
    cut = RULE.with_mean_image(MeanImage.from_array(wide))
    np.testing.assert_array_equal(cut.mean_image.array, wide[1:7, 1:7])


@pytest.mark.parametrize(("crop", "start"), [(224, 16), (227, 14)])
def test_the_central_window_of_a_published_mean_image(crop, start):
    """16 as convdata_jpeg.py of 2012 has it for 224; Caffe rounds half a pixel down."""
    levels = np.broadcast_to(np.arange(256.0).clip(0, 255)[:, None, None], (256, 256, 3))
    rule = dataclasses.replace(CAFFE_PREPROCESSING, crop=crop)
    image = rule.with_mean_image(MeanImage.from_array(levels)).mean_image
    assert (image.size, image.array[0, 0, 0]) == (crop, start)


def test_another_size_is_refused():
    image = MeanImage.from_array(ARRAY[:5, :5])
    message = "^mean: expected an image of 6x6 or 8x8 pixels, got 5x5$"
    with pytest.raises(ConfigurationError, match=message):
        RULE.with_mean_image(image)
    message = "^preprocessing.mean_image: expected 6x6 pixels, as many as the crop, got 5x5$"
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(RULE, mean_image=image)


@pytest.mark.parametrize("size", [3, 9, 12, 31])
def test_for_another_input_size_it_is_scaled_as_tensorflow_does(size):
    import tensorflow as tf

    rule = RULE.with_mean_image(MeanImage.from_array(ARRAY)).with_input_size(size)
    assert (rule.crop, rule.mean_image.size) == (size, size)
    theirs = tf.image.resize(ARRAY, (size, size))
    np.testing.assert_allclose(rule.mean_image.array, theirs, atol=1e-3)
