"""Entries of the catalogue beyond BVLC's: fetched from a local server, with their class names and
their preprocessing, and Places365's network as OpenCV computes it from its own deploy file.
"""

import re
import shutil

import numpy as np
import pytest

from alexnet_keras.applications import decode_predictions
from alexnet_keras.data.known_classes import places365_classes
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.pretrained.catalog import find_entry
from alexnet_keras.pretrained.loading import load_pretrained, resolve_weights
from tests.alexnet_keras.tiny import tiny_layers
from tests.weights import caffe_files
from tests.weights.mirror import Answer, isolated_mirror
from weights.canonical import to_channels_first
from weights.store import cache_folder, digest_of
from weights.writing import write_weights

WIDTH = 1 / 32
ENTRIES = ("places365", "places365-torch", "sin", "ecoset", "matconvnet")


@pytest.fixture
def publisher(monkeypatch, tmp_path):
    with isolated_mirror(monkeypatch, tmp_path) as publisher:
        yield publisher


def places365_file(path, layers=None, **names):
    layers = layers or caffe_files.random_layers(5, width=WIDTH, classes=365)
    layers = {names.get(name, name): pair for name, pair in layers.items()}
    order = [names.get(name, name) for name in caffe_files.CAFFENET_ORDER]
    return caffe_files.write_v1(path, layers, order)


def narrow(deploy, **names):
    """The text of a deploy file with narrower layers and some of them renamed."""

    def width(found):
        units = int(found[1])
        full = units == 365
        return f"num_output: {units if full else max(1, round(units * WIDTH / 2) * 2)}"

    text = re.sub(r"num_output: (\d+)", width, deploy).replace("input_dim: 10", "input_dim: 1")
    for name, other in names.items():
        text = text.replace(f'"{name}"', f'"{other}"')
    return text


@pytest.mark.parametrize("names", [{}, {"fc8": "fc8_scenes"}])
def test_places365_is_computed_as_opencv_does_from_its_deploy_file(shared_data, tmp_path, names):
    path = places365_file(tmp_path / "w.caffemodel", **names)
    deploy = (shared_data / "places365/deploy_alexnet_places365.prototxt").read_text()
    model = load_pretrained(path).model
    assert model.architecture.name == "caffenet"
    image = np.random.default_rng(0).normal(0, 60, (1, 227, 227, 3)).astype(np.float32)
    network = caffe_files.opencv_network(path, narrow(deploy, **names))
    network.setInput(image.transpose(0, 3, 1, 2))
    expected = network.forward("prob")
    np.testing.assert_allclose(model.predict(image, verbose=0), expected, rtol=1e-4, atol=1e-6)
    assert np.ptp(expected) > 1e-4


def test_places365_by_name(publisher, tmp_path):
    path = places365_file(tmp_path / "w.caffemodel")
    url = publisher.mirror.serve("/w", Answer(path.read_bytes()))
    publisher.change("places365", mirrors=(url,))
    model = load_pretrained("places365").model
    assert model.architecture.name == "caffenet"
    assert model.class_names == tuple(name for _, name in places365_classes())
    record = cache_folder() / "alexnet_places365.caffemodel.sha256"
    assert record.read_text().split()[0] == digest_of(path)
    probabilities = np.eye(365)[[1]]
    assert decode_predictions(probabilities, 1, weights="places365") == [
        [("1", "airplane_cabin", 1.0)]
    ]
    assert decode_predictions(probabilities, 1, class_names=model.class_names) == [
        [("1", "airplane_cabin", 1.0)]
    ]


def test_preprocessing_of_each():
    for name in ENTRIES:
        entry = find_entry(name)
        owt = entry.variant == "owt"
        assert entry.preprocessing.resize_to == 256
        assert entry.preprocessing.resize == (
            "short_side" if name in ("sin", "ecoset") else "warp"
        )
        assert (entry.preprocessing.std != (1, 1, 1)) == owt


def test_a_matconvnet_file_of_the_catalogue_is_rgb(publisher, tmp_path):
    layers = tiny_layers(size=227)
    write_weights(tmp_path / "w.mat", layers, variant="alexnet")
    publisher.change("matconvnet", digest=None, digest_algorithm=None)
    cache_folder().mkdir(parents=True)
    shutil.copy(tmp_path / "w.mat", cache_folder() / "imagenet-caffe-alex.mat")
    found = resolve_weights("matconvnet")
    assert (found.variant, found.preprocessing.channel_order) == ("alexnet", "RGB")


def test_md5_is_checked(publisher, tmp_path):
    write_weights(tmp_path / "w.mat", tiny_layers(size=227), variant="alexnet")
    url = publisher.mirror.serve("/w", Answer((tmp_path / "w.mat").read_bytes()))
    publisher.change("matconvnet", mirrors=(url,))
    with pytest.raises(WeightsError, match="wrong digest: md5 .*, expected ed49ef44"):
        resolve_weights("matconvnet")
    digest = digest_of(tmp_path / "w.mat", "md5")
    publisher.change("matconvnet", digest=digest)
    assert resolve_weights("matconvnet").variant == "alexnet"


@pytest.mark.parametrize(
    ("shape", "weights", "message"),
    [
        ((2, 565), "ecoset", "class_names: expected a name for each class, got none, and ecoset"),
        ((2, 205), "places365", r"probabilities: expected \(batch, 365\), got \(2, 205\)"),
        ((2, 365), None, r"probabilities: expected \(batch, 1000\), got \(2, 365\)"),
        ((2, 365), "imagenet_mean", "and imagenet_mean has no published ones"),
        ((), None, r"expected \(batch, 1000\), got \(\)"),
    ],
)
def test_as_many_classes_as_have_no_names(shape, weights, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        decode_predictions(np.zeros(shape), weights=weights)
    assert str(caught.value).isprintable()


def test_1001_outputs_begin_with_the_background():
    best = decode_predictions(np.eye(1001)[[0, 1]], 1)
    assert [row[0][:2] for row in best] == [("", "background"), ("n01440764", "tench")]


def test_classes_that_nothing_names_have_numbers(tmp_path):
    path = tmp_path / "w.caffemodel"
    layers = to_channels_first(tiny_layers(size=227), path)
    caffe_files.write_v1(path, layers)
    assert resolve_weights(path).class_names == ("0", "1", "2", "3", "4")
