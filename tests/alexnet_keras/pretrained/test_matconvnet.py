"""MatConvNet's files: RGB for conv1, the mean image, and a network that MATLAB can run."""

import numpy as np
import pytest
import scipy.io

from alexnet_keras.configs.architecture import ALEXNET, CAFFENET, OWT, get_architecture
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.data.image_ops import to_network_input
from alexnet_keras.pretrained.loading import load_pretrained, resolve_weights
from alexnet_keras.pretrained.matconvnet import layer_fields
from alexnet_keras.pretrained.verification import convert, verify
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from tests.weights import caffe_files
from tests.weights.refusal import assert_refused
from weights.canonical import to_channels_first
from weights.reading import read_weights
from weights.writing import write_weights

LAYERS = tiny_layers(size=227)


@pytest.fixture
def caffemodel(tmp_path):
    path = tmp_path / "w.caffemodel"
    return caffe_files.write_v1(path, to_channels_first(LAYERS, path), caffe_files.CAFFENET_ORDER)


def assert_same(found, expected):
    assert sorted(found) == sorted(expected)
    for name, pair in expected.items():
        for one, other in zip(found[name], pair, strict=True):
            np.testing.assert_array_equal(one, other)


def images(preprocessing):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 227, 227, 3)).astype(np.float32)
    return to_network_input(pixels, preprocessing)


def test_the_network_computes_the_same_from_rgb(tmp_path, caffemodel):
    assert convert(str(caffemodel), tmp_path / "w.mat") == ("caffenet", "caffenet")
    theirs = scipy.io.loadmat(tmp_path / "w.mat", simplify_cells=True)["layers"][0]["weights"][0]
    np.testing.assert_array_equal(theirs, LAYERS["conv1"][0][:, :, ::-1])
    one, other = load_pretrained(str(caffemodel)).model, load_pretrained(tmp_path / "w.mat").model
    assert other.architecture.name == "caffenet"
    assert (one.preprocessing.channel_order, other.preprocessing.channel_order) == ("BGR", "RGB")
    assert other.preprocessing.mean == one.preprocessing.mean
    np.testing.assert_allclose(
        one.predict(images(one.preprocessing), verbose=0),
        other.predict(images(other.preprocessing), verbose=0),
        rtol=1e-5,
        atol=1e-7,
    )
    verify(str(tmp_path / "w.mat"))


def test_back_into_a_format_without_a_channel_order(tmp_path, caffemodel):
    convert(str(caffemodel), tmp_path / "w.mat")
    convert(str(tmp_path / "w.mat"), tmp_path / "w.npz")
    assert_same(read_weights(tmp_path / "w.npz").layers, LAYERS)
    assert resolve_weights(tmp_path / "w.npz").variant == "caffenet"


def test_torchvisions_network_has_rgb_already(tmp_path):
    tiny_model("owt", size=67).save(tmp_path / "tiny.keras")
    convert(str(tmp_path / "tiny.keras"), tmp_path / "w.mat")
    expected = resolve_weights(tmp_path / "tiny.keras").weights.layers
    assert_same(read_weights(tmp_path / "w.mat").layers, expected)
    assert resolve_weights(tmp_path / "w.mat").preprocessing.channel_order == "RGB"


def test_weights_of_no_known_variant(tmp_path):
    write_weights(tmp_path / "w.npz", LAYERS)
    message = assert_refused(
        lambda path: convert(str(path), tmp_path / "w.mat"), tmp_path / "w.npz"
    )
    assert message == (
        "expected weights of a known variant, whose channel order decides what w.mat holds; the "
        "file records none"
    )


@pytest.mark.parametrize("side", [227, 5])
def test_the_mean_image_of_the_file_is_subtracted(tmp_path, caffemodel, side):
    convert(str(caffemodel), tmp_path / "w.mat")
    content = scipy.io.loadmat(tmp_path / "w.mat")
    mean = np.random.default_rng(1).random((side, side, 3), np.float32) * 255
    meta = {"normalization": {"averageImage": mean}, "variant": "caffenet"}
    scipy.io.savemat(tmp_path / "w.mat", {"layers": content["layers"], "meta": meta})
    found = load_pretrained(tmp_path / "w.mat").model.preprocessing
    np.testing.assert_allclose(found.mean, mean.mean((0, 1), dtype=np.float64), rtol=1e-6)
    if side == 5:  # no image of the network's input
        assert found.mean_image is None
        return
    pixels = np.full((1, 227, 227, 3), 100, np.float32)
    np.testing.assert_allclose(to_network_input(pixels, found)[0], 100 - mean, atol=1e-4)


def output_sizes(fields, size):
    """What MatConvNet makes of them: floor((size + padding - kernel) / stride) + 1."""
    kernels = {"conv1": 11, "conv2": 5, "conv3": 3, "conv4": 3, "conv5": 3}
    found = {}
    for name, layer in fields.items():
        if "stride" in layer:
            top, bottom, _, _ = layer["pad"]
            kernel = kernels[name] if name in kernels else layer["pool"][0]
            size = found[name] = int((size + top + bottom - kernel) // layer["stride"][0]) + 1
    return found


@pytest.mark.parametrize("architecture", [ALEXNET, CAFFENET, OWT])
def test_matlab_is_told_the_geometry(architecture):
    fields = layer_fields(architecture)
    model = tiny_model(architecture.name, size=architecture.input_size)
    expected = {
        layer.name: layer.output.shape[1]
        for layer in model.layers
        if layer.name in fields and len(layer.output.shape) == 4 and "norm" not in layer.name
    }
    assert output_sizes(fields, architecture.input_size) == expected
    assert [name for name in fields if fields[name].get("relu")] == [
        "conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7",
    ]  # fmt: skip


def test_matconvnets_own_alexnet_has_these_fields():
    """Those of imagenet-caffe-alex, as its importer writes them for Caffe's deploy.prototxt."""
    fields = layer_fields(ALEXNET)
    assert fields["norm1"]["param"] == pytest.approx([5, 1, 0.0001 / 5, 0.75])
    assert fields["conv2"] == {"stride": [1, 1], "pad": [2, 2, 2, 2], "relu": True}
    assert fields["pool5"]["pool"] == [3, 3]


def test_a_network_that_matconvnet_has_no_layers_for():
    assert layer_fields(get_architecture("krizhevsky")) == {}


def test_caffes_preprocessing_is_as_before(tmp_path):
    write_weights(tmp_path / "w.npz", LAYERS, variant="alexnet")
    assert resolve_weights(tmp_path / "w.npz").preprocessing == CAFFE_PREPROCESSING
