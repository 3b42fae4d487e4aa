"""The face of keras.applications: networks with weights, their preprocessing, their
predictions.
"""

import re
from dataclasses import replace

import numpy as np
import pytest

from alexnet_keras.applications import AlexNet, decode_predictions, preprocess_input
from alexnet_keras.configs.architecture import ALEXNET, OWT
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING, TORCHVISION_PREPROCESSING
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.models.assign import layer_weights
from alexnet_keras.pretrained.catalog import PUBLISHED, CatalogEntry
from tests.alexnet_keras.tiny import picture, tiny_layers, tiny_model
from tests.weights import caffe_files
from weights.canonical import to_channels_first
from weights.published_file import PublishedFile
from weights.writing import write_weights

TINY = ALEXNET.with_width(0.05)
LAYERS = tiny_layers()


@pytest.fixture
def path(tmp_path):
    write_weights(tmp_path / "w.npz", LAYERS, variant="alexnet")
    return tmp_path / "w.npz"


def tiny(**options):
    return AlexNet(**{"variant": TINY, "input_shape": (67, 67, 3), "classes": 5, **options})


def held(model, layers=LAYERS):
    """The weighted layers of the model whose values are those of ``layers``."""
    return [
        name
        for name, (kernel, bias) in layer_weights(model).items()
        if name in layers
        and np.array_equal(kernel, layers[name][0])
        and np.array_equal(bias, layers[name][1])
    ]


@pytest.mark.parametrize("as_given", [str, lambda path: path])
def test_weights_from_a_path(path, as_given):
    assert held(tiny(weights=as_given(path))) == list(LAYERS)


def test_skipped_layers_stay_at_their_initial_values(path):
    model = tiny(weights=path, classes=7, skip=("fc8",))
    assert held(model) == list(LAYERS)[:-1]
    assert model.get_layer("fc8").kernel.numpy().std() == pytest.approx(0.01, rel=0.1)
    with pytest.raises(
        WeightsError, match=r"of another shape: fc8 \(expected 205x7 and 7, got 205x5 and 5\)$"
    ):
        tiny(weights=path, classes=7)
    with pytest.raises(WeightsError, match="skip: no layer fc9; expected some of conv1, "):
        tiny(weights=path, skip=("fc9",))


def test_without_the_top_the_rest_of_the_file_is_left_alone(path):
    model = tiny(weights=path, include_top=False, input_shape=(99, 131, 3))
    assert held(model) == list(LAYERS)[:5]


def test_a_trunk_fills_a_network_without_the_top_and_no_other(tmp_path):
    trunk = {name: LAYERS[name] for name in list(LAYERS)[:5]}
    write_weights(tmp_path / "trunk.npz", trunk, variant="alexnet")
    assert held(tiny(weights=tmp_path / "trunk.npz", include_top=False)) == list(trunk)
    with pytest.raises(WeightsError, match="does not fit alexnet; missing: fc6, fc7, fc8$"):
        tiny(weights=tmp_path / "trunk.npz")


def test_weights_from_a_model_and_from_a_run(tmp_path):
    saved = tiny_model()
    saved.save(tmp_path / "model.keras")
    for place in (tmp_path, tmp_path / "model.keras"):
        model = AlexNet(weights=place, input_shape=(67, 67, 3), classes=5)
        assert held(model, layer_weights(saved)) == list(LAYERS)
        assert model.preprocessing == saved.preprocessing
        assert model.architecture == saved.architecture
        assert model.class_names == saved.class_names
        assert (
            AlexNet(weights=place, input_shape=(67, 67, 3), classes=9, skip=("fc8",)).class_names
            == ()
        )


def test_the_file_tells_the_variant_and_the_argument_is_held_against_it(tmp_path):
    layers = tiny_layers(width=1, classes=1)
    trunk = to_channels_first({name: layers[name] for name in list(layers)[:5]}, tmp_path)
    path = caffe_files.write_v2(tmp_path / "w.caffemodel", trunk, caffe_files.CAFFENET_ORDER)
    model = AlexNet(include_top=False, weights=path, input_shape=(67, 67, 3))
    assert model.name == model.architecture.name == "caffenet"
    with pytest.raises(
        WeightsError,
        match=f"^{path}: these are weights of caffenet, not of alexnet$",
    ):
        AlexNet(include_top=False, weights=path, variant="alexnet")
    with pytest.raises(
        WeightsError,
        match="this is Caffe's network .variant alexnet or caffenet., not torchvision's$",
    ):
        AlexNet(include_top=False, weights=path, variant=OWT)


def test_preprocessing_comes_with_the_weights(tmp_path, monkeypatch, path):
    preprocessing = replace(CAFFE_PREPROCESSING, mean=(1, 2, 3), resize_to=300)
    entry = CatalogEntry("mine", PublishedFile("w.npz"), "", "alexnet", preprocessing)
    monkeypatch.setitem(PUBLISHED, "mine", entry)
    monkeypatch.setattr("weights.store.PACKAGE_FOLDER", tmp_path)
    model = tiny(weights="mine")
    assert held(model) == list(LAYERS)
    assert model.preprocessing.mean == (1, 2, 3)
    assert (model.preprocessing.crop, model.preprocessing.resize_to) == (67, round(300 * 67 / 227))


def test_facts_of_a_new_network():
    model = tiny()
    assert (model.architecture, model.preprocessing, model.class_names) == (
        TINY,
        CAFFE_PREPROCESSING.with_input_size(67),
        (),
    )
    wide = AlexNet(variant=OWT.with_width(0.05))
    assert wide.preprocessing == TORCHVISION_PREPROCESSING
    assert wide.class_names == tuple(name for _, name in imagenet_classes())
    assert tiny(input_shape=(99, 67, 3)).preprocessing.crop == 67


def test_weights_that_are_nowhere():
    with pytest.raises(
        WeightsError,
        match="^weights: expected an existing file or one of caffe, .*, got '.*nowhere.npz'$",
    ):
        tiny(weights="nowhere.npz")


CASES = {"uint8": np.uint8, "float32": np.float32, "float64": np.float64, "int64": np.int64}


@pytest.mark.parametrize("dtype", CASES.values(), ids=CASES)
@pytest.mark.parametrize("batch", [False, True])
def test_images_of_the_networks_size_are_only_normalized(dtype, batch):
    image = picture(0, 227, 227)
    given = np.stack([image, image[::-1]]).astype(dtype) if batch else image.astype(dtype)
    found = preprocess_input(given)
    expected = image[..., ::-1] - np.array([104.00698793, 116.66876762, 122.67891434])
    assert (found.dtype, found.shape) == (np.float32, (1 + batch, 227, 227, 3))
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    if batch:
        np.testing.assert_allclose(found[1], expected[::-1], atol=1e-4)


def test_torchvisions_normalization():
    image = picture(0, 224, 224)
    expected = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(preprocess_input(image, "torchvision")[0], expected, atol=1e-4)


@pytest.mark.parametrize(("height", "width"), [(256, 256), (100, 300), (500, 375), (227, 228)])
@pytest.mark.parametrize(("weights", "crop"), [("caffe", 227), ("torchvision", 224)])
def test_other_sizes_are_resized_and_cropped_by_the_rule(height, width, weights, crop):
    """Against Pillow, whose bilinear filter on floating-point images is antialiased when it
    shrinks.
    """
    from PIL import Image

    image = picture(1, height, width)
    found = preprocess_input(np.stack([image, image]), weights).numpy()
    if weights == "caffe":
        import cv2

        resized = cv2.resize(image.astype(np.float32), (256, 256), interpolation=cv2.INTER_LINEAR)[
            14:241, 14:241
        ]
        expected = (resized - np.float32(CAFFE_PREPROCESSING.mean))[..., ::-1]
    else:
        scale = 256 / min(height, width)
        size = int(width * scale), int(height * scale)
        resized = np.stack(
            [
                Image.fromarray(image[..., c].astype(np.float32)).resize(
                    size, Image.Resampling.BILINEAR
                )
                for c in range(3)
            ],
            -1,
        )
        top, left = (resized.shape[0] - 224) // 2, (resized.shape[1] - 224) // 2
        resized = resized[top : top + 224, left : left + 224]
        expected = (resized / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert found.shape == (2, crop, crop, 3)
    np.testing.assert_allclose(found[1], expected, atol=0.02)


def test_a_models_own_preprocessing_goes_before_the_name():
    model = tiny()
    image = picture(0, 67, 67)
    np.testing.assert_allclose(
        preprocess_input(image, preprocessing=model.preprocessing)[0],
        image[..., ::-1] - np.float32(CAFFE_PREPROCESSING.mean[::-1]),
        atol=1e-4,
    )
    assert preprocess_input(picture(), preprocessing=model.preprocessing).shape == (1, 67, 67, 3)


@pytest.mark.parametrize(
    ("shape", "weights", "error", "message"),
    [
        (
            (227, 227),
            "caffe",
            ConfigurationError,
            "images: expected (height, width, 3) or (batch, height, width, 3), got (227, 227)",
        ),
        ((227, 227, 4), "caffe", ConfigurationError, "got (1, 227, 227, 4)"),
        ((1, 1, 227, 227, 3), "caffe", ConfigurationError, "got (1, 1, 227, 227, 3)"),
        (
            (227, 227, 3),
            "imagenet_mean",
            ConfigurationError,
            "weights: expected weights of a network with preprocessing, got 'imagenet_mean'",
        ),
        (
            (227, 227, 3),
            "vgg",
            WeightsError,
            "weights: expected one of caffe, caffenet",
        ),
    ],
)
def test_what_is_no_image_or_no_weights(shape, weights, error, message):
    with pytest.raises(error, match=re.escape(message)):
        preprocess_input(np.zeros(shape), weights)


def test_predictions_are_decoded_best_first(shared_data):
    table = [
        line.split(",")[:2]
        for line in (shared_data / "imagenet_classes.csv").read_text().splitlines()[1:]
    ]
    probabilities = np.zeros((2, 1000))
    probabilities[0, [3, 999, 7]] = 0.5, 0.3, 0.2
    probabilities[1, 0] = 1
    first, second = decode_predictions(probabilities, top=3)
    assert [wnid for wnid, _, _ in first] == [table[index][1] for index in (3, 999, 7)]
    assert [probability for _, _, probability in first] == [0.5, 0.3, 0.2]
    assert second[0] == ("n01440764", "tench", 1.0)
    assert len(decode_predictions(probabilities)[0]) == 5


def test_ties_come_in_the_classes_order():
    assert [name for _, name, _ in decode_predictions([[1, 2, 2, 1]], class_names="abcd")[0]] == [
        "b",
        "c",
        "a",
        "d",
    ]


def test_predictions_of_other_classes():
    assert decode_predictions(np.float32([[0.25, 0.75]]), class_names=("cat", "dog")) == [
        [("1", "dog", 0.75), ("0", "cat", 0.25)]
    ]


@pytest.mark.parametrize(
    ("probabilities", "names", "message"),
    [
        (np.zeros((2, 5)), None, r"expected \(batch, 1000\), got \(2, 5\)"),
        (np.zeros(1000), None, r"got \(1000,\)"),
        (np.zeros((2, 5)), ("cat", "dog"), r"expected \(batch, 2\), got \(2, 5\)"),
    ],
)
def test_probabilities_of_another_shape(probabilities, names, message):
    with pytest.raises(ConfigurationError, match=message):
        decode_predictions(probabilities, class_names=names)


@pytest.mark.parametrize("top", [0, -1])
def test_fewer_than_one_prediction(top):
    with pytest.raises(ConfigurationError, match=f"^top: expected at least 1, got {top}$"):
        decode_predictions(np.zeros((1, 1000)), top=top)
