"""Probabilities of image files, against the same steps made by hand with Pillow, OpenCV and
NumPy.
"""

from dataclasses import replace

import cv2
import keras
import numpy as np
import pytest
from PIL import Image

from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.preprocessing_override import overridden
from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.evaluation import prediction
from alexnet_keras.models.resized import with_preprocessing
from tests.alexnet_keras.tiny import encoded, picture, picture_files, samples_of, tiny_model

MEAN_BGR = np.float32([104.00698793, 116.66876762, 122.67891434])


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    model = tiny_model()
    for layer in model.layers:  # from N(0, 0.01) every class would be as probable as the others
        if hasattr(layer, "kernel"):
            layer.kernel.assign(layer.kernel * 12)
    return model


def predict(model, paths, crops=1, batch_size=32, bad="error"):
    batches = prediction.prediction_batches(
        model, samples_of(list(map(str, paths))), batch_size, crops, Loading(bad=bad)
    )
    rows = list(prediction.predict(model, batches))
    return np.concatenate([np.zeros((0, 5), np.float32), *rows])


def warped(path, size):
    """Caffe's way to network input of the whole resized image: BGR, mean subtracted."""
    bgr = np.asarray(Image.open(path).convert("RGB"), np.float32)[..., ::-1]
    return (
        cv2.resize(np.ascontiguousarray(bgr), (size, size), interpolation=cv2.INTER_LINEAR)
        - MEAN_BGR
    )


def softmax(logits):
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shifted / shifted.sum(axis=1, keepdims=True)


def logits(model, images):
    return keras.Model(model.input, model.get_layer("fc8").output)(
        np.ascontiguousarray(images)
    ).numpy()


def test_the_whole_image_warped_to_the_size_of_the_network(tmp_path, model):
    paths = picture_files(tmp_path, 2)
    whole = with_preprocessing(model, overridden(model.preprocessing, "warp", "none"))
    images = np.stack([warped(path, 67) for path in paths])
    np.testing.assert_allclose(
        predict(whole, paths), softmax(logits(model, images)), rtol=1e-3, atol=1e-5
    )


def test_images_of_another_size_than_the_networks(tmp_path, model):
    small = with_preprocessing(model, overridden(model.preprocessing, crop=60))
    with pytest.raises(
        ConfigurationError, match="^crop: expected images of 67 x 67 pixels .*, got 60 x 60$"
    ):
        predict(small, picture_files(tmp_path, 1))


def test_the_centre_crop(tmp_path, model):
    paths = picture_files(tmp_path, 3)
    rule = model.preprocessing
    margin = (rule.resize_to - rule.crop) // 2
    window = slice(margin, margin + rule.crop)
    images = np.stack([warped(path, rule.resize_to)[window, window] for path in paths])
    found = predict(model, paths)
    assert (found.shape, found.dtype) == ((3, 5), np.float32)
    np.testing.assert_allclose(found, softmax(logits(model, images)), atol=1e-3)
    assert np.ptp(found, axis=0).max() > 0.05, (
        "all pictures look alike to this network, which shows nothing"
    )


def test_ten_crops_are_the_mean_of_ten_softmaxes(tmp_path, model):
    (path,) = picture_files(tmp_path, 1)
    rule = model.preprocessing
    whole, crop, far = warped(path, rule.resize_to), rule.crop, rule.resize_to - rule.crop
    corners = [
        whole[top : top + crop, left : left + crop]
        for top, left in ((0, 0), (0, far), (far, 0), (far, far), (far // 2, far // 2))
    ]
    ten = softmax(logits(model, np.stack(corners + [corner[:, ::-1] for corner in corners])))
    found = predict(model, [path], crops=10)
    np.testing.assert_allclose(found, ten.mean(axis=0, keepdims=True), atol=1e-3)
    assert np.abs(found - predict(model, [path])).max() > 5e-3


def test_rows_keep_their_order_whatever_the_batches(tmp_path, model):
    paths = picture_files(tmp_path, 5)[::-1]
    ten = predict(model, paths, crops=10)
    found = predict(model, paths, batch_size=2)
    np.testing.assert_allclose(
        found, np.concatenate([predict(model, [path]) for path in paths]), atol=1e-6
    )
    np.testing.assert_allclose(predict(model, paths, crops=10, batch_size=10), ten, atol=1e-6)


def test_every_kind_of_image_file(tmp_path, model):
    for name, image, options in (
        ("a.png", picture(), {"file_format": "PNG"}),
        ("a.bmp", picture(), {"file_format": "BMP"}),
        ("grey.jpg", Image.fromarray(picture()).convert("L"), {}),
        ("cmyk.jpg", Image.fromarray(picture()).convert("CMYK"), {}),
    ):
        (tmp_path / name).write_bytes(encoded(image, **options))
    found = predict(
        model, [tmp_path / name for name in ("a.png", "a.bmp", "grey.jpg", "cmyk.jpg")]
    )
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(found[0], found[1])


def test_no_files_are_no_rows(model):
    assert predict(model, []).shape == (0, 5)


def test_a_network_without_softmax_gives_probabilities_too(tmp_path, model):
    bare = tiny_model(classifier_activation=None)
    bare.set_weights(model.get_weights())
    paths = picture_files(tmp_path, 2)
    np.testing.assert_array_equal(predict(bare, paths), predict(model, paths))


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "expected a JPEG, PNG, GIF or BMP"),
        (b"not an image", "expected a JPEG, PNG, GIF or BMP"),
        (encoded(picture())[:400], "Invalid JPEG"),
        (None, "No such file or directory"),
    ],
)
def test_a_bad_image_is_one_line_that_names_it(tmp_path, model, content, found):
    (good,) = picture_files(tmp_path, 1)
    bad = tmp_path / "bad.jpg"
    if content is not None:
        bad.write_bytes(content)
    with pytest.raises(DataError) as caught:
        predict(model, [good, bad])
    message = str(caught.value)
    assert message.startswith(f"{bad}: expected a readable image, got: ")
    assert found in message
    assert message.isprintable()
    assert "{{" not in message
    assert ".py" not in message


def test_a_folder_is_no_image(tmp_path, model):
    with pytest.raises(DataError, match="directory"):
        predict(model, [tmp_path])


def test_another_number_of_crops_is_refused(model):
    with pytest.raises(ConfigurationError, match="^crops: expected 1 or 10, got 5$"):
        predict(model, [], crops=5)


def test_a_network_without_top_or_preprocessing_is_refused():
    trunk = tiny_model(include_top=False)
    with pytest.raises(ConfigurationError, match="ends in fc8"):
        predict(trunk, [])
    with pytest.raises(ConfigurationError, match="preprocessing"):
        predict(tiny_model(preprocessing=None), [])


def test_swapped_channels_would_show(tmp_path, model):
    paths = picture_files(tmp_path, 3)
    right = predict(model, paths)
    swapped = tiny_model(preprocessing=replace(model.preprocessing, channel_order="RGB"))
    swapped.set_weights(model.get_weights())
    assert np.abs(predict(swapped, paths) - right).max() > 0.01
