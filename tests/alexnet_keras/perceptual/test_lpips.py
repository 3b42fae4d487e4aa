"""LPIPS against its definition in float64, against the package ``lpips``, and what it refuses."""

import re
import sys
import types

import numpy as np
import pytest
import tensorflow as tf
from numpy.lib.stride_tricks import sliding_window_view

import alexnet_keras
from alexnet_keras.errors import ConfigurationError, DataError, WeightsError
from alexnet_keras.perceptual.lpips import PerceptualDistance, perceptual_distance
from tests.alexnet_keras.tiny import picture, tiny_model
from tests.weights.torch_files import write_pth

CONVOLUTIONS = {
    "conv1": (4, 2),
    "conv2": (1, 2),
    "conv3": (1, 1),
    "conv4": (1, 1),
    "conv5": (1, 1),
}
"""Stride and padding."""
HEAD = "lin{}.model.1.weight"


def write_heads(path, channels):
    generator = np.random.default_rng(7)
    heads = [generator.random((1, count, 1, 1), np.float32) for count in channels]
    write_pth(path, {HEAD.format(index): head for index, head in enumerate(heads)})
    return path


@pytest.fixture(scope="module")
def network():
    """A narrow owt with biases that leave some pixels without any activation."""
    model = tiny_model("owt", width=0.07)
    generator = np.random.default_rng(0)
    for name in CONVOLUTIONS:
        layer = model.get_layer(name)
        layer.bias.assign(generator.normal(-0.1, 0.2, layer.bias.shape))
    return model


@pytest.fixture(scope="module")
def heads(network, tmp_path_factory):
    channels = [network.get_layer(name).filters for name in CONVOLUTIONS]
    return write_heads(tmp_path_factory.mktemp("heads") / "tiny.pth", channels)


@pytest.fixture(scope="module")
def distance(network, heads):
    return PerceptualDistance(network, heads)


def pairs(count=2, height=44, width=39):
    a = np.stack([picture(seed, height, width) for seed in range(count)])
    return a, np.stack([picture(seed + 50, height, width) for seed in range(count)])


def windows(x, size, stride):
    """(height, width, channels, size, size) of (height, width, channels)."""
    return sliding_window_view(x, (size, size), (0, 1))[::stride, ::stride]


def activations(model, image):
    """The five ReLU outputs, in float64 from the paper's appendix B and torchvision's layers."""
    x = (image / 127.5 - 1 - np.array([-0.030, -0.088, -0.188])) / np.array([0.458, 0.448, 0.450])
    for name, (stride, padding) in CONVOLUTIONS.items():
        kernel, bias = (np.float64(values) for values in model.get_layer(name).get_weights())
        padded = np.pad(x, [(padding, padding), (padding, padding), (0, 0)])
        summed = np.einsum("yxcij,ijcf->yxf", windows(padded, len(kernel), stride), kernel)
        x = np.maximum(summed + bias, 0)
        yield x
        if name in ("conv1", "conv2"):
            x = windows(x, 3, 2).max((3, 4))


def by_definition(model, heads, a, b):
    """Equation 1 of the paper."""
    total = 0
    for x, y, head in zip(activations(model, a), activations(model, b), heads, strict=True):
        x, y = (each / (np.linalg.norm(each, axis=-1, keepdims=True) + 1e-10) for each in (x, y))
        total += (head * (x - y) ** 2).sum(-1).mean()
    return total


def test_the_definition_in_float64(network, distance):
    weights = [np.float64(head) for head in distance._heads]
    a, b = pairs()
    found = distance(a, b).numpy()
    assert found.dtype == np.float32
    expected = [by_definition(network, weights, x, y) for x, y in zip(a, b, strict=True)]
    assert min(expected) > 0.1
    assert found == pytest.approx(expected, rel=1e-5)


def test_single_images_tensors_and_any_dtype(distance):
    a, b = pairs(1)
    (expected,) = distance(a, b).numpy()
    assert distance(a[0], b[0]).shape == ()
    for convert in (np.float64, np.float32, lambda image: tf.constant(image, tf.float32), list):
        assert distance(convert(a[0]), convert(b[0])).numpy() == pytest.approx(expected, rel=1e-6)
    assert distance(a, a).numpy() == 0
    assert distance(b, a).numpy() == pytest.approx(expected, rel=1e-6)


def test_in_a_graph_of_images_of_any_size(distance):
    compiled = tf.function(
        distance, input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)] * 2
    )
    a, b = (np.float32(images) for images in pairs())
    assert compiled(a, b).numpy() == pytest.approx(distance(a, b).numpy(), rel=1e-6)


def test_the_gradient_is_that_of_the_definition(network, distance):
    """Along random directions, by central differences in float64."""
    weights = [np.float64(head) for head in distance._heads]
    a, b = (images[0].astype(np.float64) for images in pairs(1, 31, 31))
    x = tf.Variable(a, dtype=tf.float32)
    with tf.GradientTape() as tape:
        value = distance(x, b)
    gradient = tape.gradient(value, x).numpy()
    for seed in range(3):
        step = 1e-6 * np.random.default_rng(seed).standard_normal(a.shape)
        ends = [by_definition(network, weights, a + sign * step, b) for sign in (1, -1)]
        assert (gradient * step).sum() == pytest.approx((ends[0] - ends[1]) / 2, rel=1e-4)


def test_the_gradient_is_finite_where_no_channel_answers(network, heads):
    x = tf.Variable(tf.zeros((31, 31, 3)))
    silent = tiny_model("owt", width=0.07)
    silent.get_layer("conv1").bias.assign(tf.fill(silent.get_layer("conv1").bias.shape, -99.0))
    metric = PerceptualDistance(silent, heads)
    with tf.GradientTape() as tape:
        value = metric(x, picture(1, 31, 31))
    assert np.isfinite(tape.gradient(value, x).numpy()).all()


@pytest.mark.slow
def test_the_package_lpips_on_50_pairs(shared_data, monkeypatch):
    torch, package = lpips_package(monkeypatch)
    path = shared_data / "lpips" / "alex.pth"
    theirs = package.LPIPS(net="alex", pnet_rand=True, model_path=str(path), verbose=False)
    model = tiny_model("owt", width=1, size=224)
    trunk = [each for each in theirs.net.modules() if isinstance(each, torch.nn.Conv2d)]
    for name, convolution in zip(CONVOLUTIONS, trunk, strict=True):
        kernel = convolution.weight.detach().numpy().transpose(2, 3, 1, 0)
        model.get_layer(name).set_weights([kernel, convolution.bias.detach().numpy()])
    ours = PerceptualDistance(model, path)
    for size in ((64, 64), (75, 130)):
        a, b = pairs(25, *size)
        x = torch.from_numpy(np.moveaxis(a, -1, 1) / np.float32(127.5) - 1).requires_grad_()
        y = torch.from_numpy(np.moveaxis(b, -1, 1) / np.float32(127.5) - 1)
        expected = theirs(x, y).flatten()
        expected.sum().backward()
        images = tf.Variable(a, dtype=tf.float32)
        with tf.GradientTape() as tape:
            found = ours(images, b)
        assert found.numpy() == pytest.approx(expected.detach().numpy(), abs=1e-5, rel=0)
        gradient = np.moveaxis(x.grad.numpy(), 1, -1) / 127.5
        assert (
            np.abs(tape.gradient(found, images).numpy() - gradient).max()
            <= 1e-4 * np.abs(gradient).max()
        )


def lpips_package(monkeypatch):
    """torch and ``lpips``, with a torchvision that has nothing but the layers of AlexNet: the real
    one is not needed for them.
    """
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra oracle")
    pytest.importorskip("tqdm", reason="lpips needs it")

    def alexnet(**_):
        convolutions = [(3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1)]
        convolutions += [(384, 256, 3, 1, 1), (256, 256, 3, 1, 1)]
        layers = []
        for index, convolution in enumerate(convolutions):
            layers += [torch.nn.Conv2d(*convolution), torch.nn.ReLU(inplace=True)]
            layers += [torch.nn.MaxPool2d(3, 2)] if index in (0, 1, 4) else []
        return types.SimpleNamespace(features=torch.nn.Sequential(*layers))

    torchvision = types.ModuleType("torchvision")
    torchvision.models = types.SimpleNamespace(alexnet=alexnet)
    monkeypatch.setitem(sys.modules, "torchvision", torchvision)
    return torch, pytest.importorskip("lpips")


def test_a_file_without_the_upper_layers(network, heads, tmp_path):
    names = ("features.0", "features.3", "features.6", "features.8", "features.10")
    arrays = {}
    for name, layer in zip(names, CONVOLUTIONS, strict=True):
        kernel, bias = network.get_layer(layer).get_weights()
        arrays |= {f"{name}.weight": kernel.transpose(3, 2, 0, 1), f"{name}.bias": bias}
    path = tmp_path / "trunk.pth"
    write_pth(path, arrays)
    a, b = pairs()
    expected = perceptual_distance(a, b, weights=network, heads=heads)
    found = perceptual_distance(a, b, weights=path, heads=heads, partial=True)
    assert found.numpy() == pytest.approx(expected.numpy(), rel=1e-6)
    del arrays["features.10.weight"], arrays["features.10.bias"]
    write_pth(path, arrays)
    with pytest.raises(WeightsError, match="conv5 is missing from the file"):
        perceptual_distance(a, b, weights=path, heads=heads, partial=True)


IMAGE = picture(0, 40, 40)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (IMAGE, IMAGE[:39], "b: expected images of shape (40, 40, 3) as in a, got (39, 40, 3)"),
        (IMAGE[None], IMAGE, "b: expected images of shape (1, 40, 40, 3) as in a"),
        (IMAGE[:30], IMAGE[:30], "a: expected at least 31x31 pixels, got 40x30"),
        (IMAGE[..., 0], IMAGE, "a: expected RGB images"),
        (IMAGE, np.zeros((40, 40, 4), np.uint8), "b: expected RGB images"),
        (IMAGE / 255, IMAGE, "a: expected RGB levels of 0 to 255, got 0 to 1; multiply"),
        (IMAGE / 127.5 - 1, IMAGE, "a: expected RGB levels of 0 to 255, got -1 to 1"),
        (IMAGE, IMAGE + np.nan, "b: expected RGB levels of 0 to 255, got nan to nan"),
        ("a.png", "b.png", "a: expected RGB images"),
        (IMAGE[None][:0], IMAGE[None][:0], "a: expected RGB images"),
        ([[1], [1, 2]], IMAGE, "a: expected images of one size, got several"),
        (IMAGE.astype(str), IMAGE, "a: expected numbers, got <U3"),
    ],
)
def test_what_cannot_be_compared(distance, a, b, message):
    with pytest.raises(DataError, match=re.escape(message)):
        distance(a, b)


def test_another_network_or_heads_of_another(network, heads, tmp_path):
    with pytest.raises(ConfigurationError, match="net: expected owt, .*, got 'alex' .what the"):
        perceptual_distance(IMAGE, IMAGE, net="alex")
    with pytest.raises(ConfigurationError, match="weights: expected those of owt, got alexnet"):
        PerceptualDistance(tiny_model("alexnet"), heads)
    with pytest.raises(ConfigurationError, match="weights: expected those of owt, got alexnet"):
        PerceptualDistance("caffe", heads)  # not downloaded
    vgg = write_heads(tmp_path / "vgg.pth", (64, 128, 256, 512, 512))
    with pytest.raises(WeightsError, match="got 64, 128, 256, 512, 512: those of another network"):
        PerceptualDistance(network, vgg)
    with pytest.raises(WeightsError, match="heads: expected lpips or an existing file, got 'no'"):
        PerceptualDistance(network, "no")


def test_the_public_names():
    assert alexnet_keras.perceptual_distance is perceptual_distance
    assert alexnet_keras.PerceptualDistance is PerceptualDistance
