"""The whole way, from a published file through our reader and network, against independent
implementations of both.

Caffe's networks against OpenCV's Caffe importer, torchvision's against PyTorch.
"""

import numpy as np
import pytest
from PIL import Image

from alexnet_keras.applications import AlexNet, preprocess_input
from alexnet_keras.configs.architecture import OWT, VARIANTS
from alexnet_keras.features.extractor import feature_extractor
from alexnet_keras.pretrained.loading import load_pretrained
from tests.weights import caffe_files as files
from tests.weights import torch_files
from tests.weights.oracles import make_owt_golden as golden

TRUNK = "bvlc_alexnet_trunk.caffemodel"
WRITERS = {"V1": files.write_v1, "V2": files.write_v2}
OWT_LAYERS = (
    "conv1",
    "pool1",
    "conv2",
    "pool2",
    "conv3",
    "conv4",
    "conv5",
    "pool5",
    "fc6",
    "fc7",
    "fc8",
)


def public_layers(variant, last="prob"):
    order = files.ORDERS[variant]
    return [
        name for name in order[1 : order.index(last) + 1] if not name.startswith(("relu", "drop"))
    ]


def relative(found, expected):
    """The distance over the length of what is expected, both over all values."""
    difference = np.asarray(found, np.float64) - np.asarray(expected, np.float64)
    return np.linalg.norm(difference) / np.linalg.norm(np.asarray(expected, np.float64))


def channels_last(array):
    return array.transpose(0, 2, 3, 1) if array.ndim == 4 else array


def by_opencv(path, description, images, layers):
    """``{layer: activations}``, channels last. OpenCV's blob of a weighted layer is before the
    ReLU, which is its own.
    """
    network = files.opencv_network(path, description)
    network.setInput(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    found = dict(zip(layers, network.forward(layers), strict=True))
    return {
        name: channels_last(
            np.maximum(blob, 0) if name.startswith(("conv", "fc6", "fc7")) else blob
        )
        for name, blob in found.items()
    }


def assert_agreement(model, images, expected):
    found = feature_extractor(model, expected)(images)
    for name, activations in expected.items():
        assert found[name].shape == activations.shape, name
        assert np.abs(activations).max() > 0, f"{name} is dead and shows nothing"
        assert relative(found[name], activations) <= (1e-4 if name == "prob" else 1e-5), name


def caffe_case(folder, variant, encoding, **size):
    layers = files.random_layers(seed=len(variant), **size)
    path = WRITERS[encoding](folder / "random.caffemodel", layers, files.ORDERS[variant])
    count = 2
    images = np.random.default_rng(5).uniform(-120, 130, (count, 227, 227, 3)).astype(np.float32)
    return (
        path,
        images,
        by_opencv(
            path, files.prototxt(variant, batch=count, **size), images, public_layers(variant)
        ),
    )


@pytest.mark.parametrize("variant", ["alexnet", "caffenet"])
@pytest.mark.parametrize("encoding", WRITERS)
def test_a_narrow_random_caffemodel_agrees_with_opencv(tmp_path, variant, encoding):
    path, images, expected = caffe_case(tmp_path, variant, encoding, width=1 / 16, classes=20)
    model = load_pretrained(str(path)).model
    assert model.architecture.layers == VARIANTS[variant].with_width(1 / 16).layers
    assert set(expected) == set(public_layers(variant))
    assert_agreement(model, images, expected)


@pytest.mark.slow
@pytest.mark.parametrize(("variant", "encoding"), [("alexnet", "V1"), ("caffenet", "V2")])
def test_a_full_random_caffemodel_agrees_with_opencv(tmp_path, variant, encoding):
    path, images, expected = caffe_case(tmp_path, variant, encoding)
    assert_agreement(AlexNet(weights=path), images, expected)


def test_the_other_order_of_pooling_would_show(tmp_path):
    """CaffeNet's weights fit AlexNet's shapes: the tolerance is far below what that mistake
    makes.
    """
    path, images, expected = caffe_case(tmp_path, "caffenet", "V2", width=1 / 16, classes=20)
    model = load_pretrained(
        str(files.write_v2(tmp_path / "w.caffemodel", files.random_layers(8, 1 / 16, 20)))
    ).model
    assert relative(feature_extractor(model, "fc8")(images)["fc8"], expected["fc8"]) > 1e-3


def test_the_real_trunk_agrees_with_opencv_on_photographs(shared_data):
    """Three ImageNet photographs, resized, cropped and normalized by the weights' own rule."""
    paths = sorted((shared_data / "imagenet_sample" / "val").glob("*/*"))[::40]
    images = np.concatenate(
        [preprocess_input(np.asarray(Image.open(path).convert("RGB"))) for path in paths]
    )
    layers = public_layers("alexnet", "pool5")
    expected = by_opencv(
        shared_data / TRUNK, files.prototxt(batch=len(paths), last="pool5"), images, layers
    )
    model = AlexNet(include_top=False, weights=shared_data / TRUNK, variant="alexnet")
    assert_agreement(model, images, expected)
    assert (
        relative(feature_extractor(model, "pool5")(images[..., ::-1])["pool5"], expected["pool5"])
        > 0.1
    )  # RGB for BGR


def test_the_real_trunk_sees_with_a_colour_group_and_a_grey_one(shared_data):
    """The paper's figure 3: of the two towers one became colour-specific, the other largely
    colour-agnostic.
    """
    kernel = (
        AlexNet(include_top=False, weights=shared_data / TRUNK, variant="alexnet")
        .get_layer("conv1")
        .kernel.numpy()
    )
    energy = (kernel**2).sum((0, 1, 2))
    colour = ((kernel - kernel.mean(2, keepdims=True)) ** 2).sum((0, 1, 2)) / energy
    halves = sorted([np.median(colour[:48]), np.median(colour[48:])])
    assert halves[1] > 5 * halves[0]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_narrow_owt_agrees_with_pytorch(tmp_path, legacy):
    """Golden activations of PyTorch 2.13.0, made by ``python -m
    tests.weights.oracles.make_owt_golden``.
    """
    path = torch_files.write_pth(tmp_path / "owt.pth", golden.state_dict(), legacy)
    model = AlexNet(
        weights=path,
        input_shape=(golden.SIZE, golden.SIZE, 3),
        classes=golden.CLASSES,
        variant=OWT.with_width(golden.WIDTH),
    )
    with np.load(golden.FILE) as stored:
        expected = {name: channels_last(stored[name]) for name in stored.files}
    assert tuple(expected) == OWT_LAYERS
    assert_agreement(model, channels_last(golden.images()), expected)


@pytest.mark.slow
def test_a_full_owt_saved_by_pytorch_agrees_with_it(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra oracle")
    network, images = golden.network(width=1, classes=1000), golden.images(size=224)
    state = golden.state_dict(width=1, classes=1000, size=224)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    expected = golden.activations(network, images)
    for legacy in (False, True):
        torch.save(
            network.state_dict(), tmp_path / "owt.pth", _use_new_zipfile_serialization=not legacy
        )
        found = load_pretrained(str(tmp_path / "owt.pth"))
        assert found.model.architecture == OWT
        assert_agreement(
            found.model,
            channels_last(images),
            {name: channels_last(a) for name, a in expected.items()},
        )
