"""Files of Keras 1 and 2, made with h5py as those versions wrote them: every order of kernels,
true convolution, and damaged files.
"""

import json

import h5py
import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from alexnet_keras.configs.ports import PORTS
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.pretrained.loading import load_pretrained
from alexnet_keras.pretrained.verification import convert
from tests.weights.refusal import assert_memory_in_proportion, assert_refused
from weights.formats import detect_format
from weights.keras_hdf5 import read_keras_h5
from weights.reading import read_weights

# HWIO and (in, out), fc6's rows in height, width, channel order; conv2, conv4 and conv5 in halves.
SHAPES = {
    "conv_1": (11, 11, 3, 4),
    "conv_2_1": (5, 5, 2, 3),
    "conv_2_2": (5, 5, 2, 3),
    "conv_3": (3, 3, 6, 8),
    "conv_4_1": (3, 3, 4, 4),
    "conv_4_2": (3, 3, 4, 4),
    "conv_5_1": (3, 3, 4, 3),
    "conv_5_2": (3, 3, 4, 3),
    "dense_1": (24, 10),
    "dense_2": (10, 10),
    "dense_3": (10, 7),
}
WEIGHTLESS = ("input_1", "maxpooling2d_1", "convpool_1")
HALVES = {"conv2": "conv_2", "conv4": "conv_4", "conv5": "conv_5"}
WHOLE = {
    "conv1": "conv_1",
    "conv3": "conv_3",
    "fc6": "dense_1",
    "fc7": "dense_2",
    "fc8": "dense_3",
}


def random_layers(seed=0, shapes=SHAPES):
    """What correlates, as TensorFlow's Keras 2 stores it."""
    generator = np.random.default_rng(seed)
    return {
        name: (
            generator.standard_normal(shape, np.float32) * np.float32(np.prod(shape[:-1]) ** -0.5),
            generator.standard_normal(shape[-1], np.float32),
        )
        for name, shape in shapes.items()
    }


LAYERS = random_layers()


def canonical(layers):
    found = {name: layers[layer] for name, layer in WHOLE.items()}
    for name, layer in HALVES.items():
        halves = layers[f"{layer}_1"], layers[f"{layer}_2"]
        found[name] = tuple(np.concatenate(pair, -1) for pair in zip(*halves, strict=True))
    return found


def by_channel(kernel):
    """fc6 with rows in channel, height, width order: 2x2 places of 6 channels."""
    return kernel.reshape(2, 2, 6, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


def stored(layers, turned=False, by_filter=False, channels_first=False):
    """The arrays as another backend or version of Keras stores the same network."""
    arrays = {}
    for name, (kernel, bias) in layers.items():
        if kernel.ndim == 4:
            kernel = kernel[::-1, ::-1] if turned else kernel
            kernel = kernel.transpose(3, 2, 0, 1) if by_filter else kernel
        elif name == "dense_1" and channels_first:
            kernel = by_channel(kernel)
        arrays[name] = (kernel, bias)
    return arrays


def write(path, arrays, names=("{}_W", "{}_b"), group=None, config=None, **attributes):
    """As ``save_weights`` writes them, or, in the group ``model_weights``, ``save``."""
    with h5py.File(path, "w") as file:
        root = file.create_group(group) if group else file
        for name, text in attributes.items():
            root.attrs[name] = text.encode()
        if config:
            file.attrs["model_config"] = json.dumps(config).encode()
        root.attrs["layer_names"] = np.array([n.encode() for n in (*WEIGHTLESS, *arrays)])
        for name in WEIGHTLESS:
            root.create_group(name).attrs["weight_names"] = []
        for name, pair in arrays.items():
            layer = root.create_group(name)
            weights = [each.format(name).encode() for each in names]
            layer.attrs["weight_names"] = np.array(weights)
            for weight, array in zip(weights, pair, strict=True):
                layer.create_dataset(weight.decode(), data=array)
    return path


THEANO_1 = {"turned": True, "by_filter": True, "channels_first": True}
KERAS_2 = ("{0}/kernel:0", "{0}/bias:0")


CONFIG = {"class_name": "Model", "config": [{"data_format": "channels_first"}]}
CHANNELS_LAST = {"class_name": "Model", "config": [{"data_format": "channels_last"}]}
CASES = {
    "convnets-keras: Keras 1, Theano": (THEANO_1, {}, "theano"),
    "Keras 1, TensorFlow, channels first": (
        {"by_filter": True, "channels_first": True},
        {},
        "tensorflow",
    ),
    "Keras 1, TensorFlow": ({}, {}, "tensorflow"),
    "Keras 2, TensorFlow": ({}, {"backend": "tensorflow", "keras_version": "2.2.4"}, None),
    "Keras 2, CNTK": ({}, {"backend": "cntk"}, None),
    "Keras 2, Theano": ({"turned": True, "channels_first": True}, {"backend": "theano"}, None),
    "Keras 2, Theano, channels last": (
        {"turned": True},
        {"backend": "theano", "group": "model_weights", "config": CHANNELS_LAST},
        None,
    ),
    "Keras 2, TensorFlow, channels first": (
        {"channels_first": True},
        {"backend": "tensorflow", "group": "model_weights", "config": CONFIG, "names": KERAS_2},
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_order_gives_the_same_network(tmp_path, case):
    orders, attributes, asked = CASES[case]
    path = write(tmp_path / "w.h5", stored(LAYERS, **orders), **attributes)
    assert detect_format(path).format == "keras1.h5"
    found = read_weights(path, asked)
    expected = canonical(LAYERS)
    assert set(found.layers) == set(expected)
    for name, arrays in expected.items():
        for one, other in zip(found.layers[name], arrays, strict=True):
            assert one.dtype == np.float32
            np.testing.assert_array_equal(one, other)
    assert found.variant == "convnets-keras"


def test_theano_convolves():
    """Theano's conv2d is a true convolution, as SciPy's; ours correlates, as TensorFlow's."""
    generator = np.random.default_rng(1)
    image = generator.standard_normal((9, 8, 2))
    kernel = generator.standard_normal((3, 3, 2, 1))
    convolved = sum(
        scipy.signal.convolve2d(image[..., c], kernel[:, :, c, 0], "valid") for c in range(2)
    )
    turned = stored({"conv_1": (kernel, None)}, turned=True)["conv_1"][0]
    correlated = tf.nn.conv2d(image[None], turned, 1, "VALID")[0, ..., 0]
    np.testing.assert_allclose(correlated, convolved, atol=1e-12)


def convolved(x, kernel, bias, stride=1, padding=0):
    """A true convolution by SciPy, images and kernels channels first, as Theano computes it."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    planes = [
        [
            sum(
                scipy.signal.fftconvolve(image[c], kernel[out, c], "valid")
                for c in range(kernel.shape[1])
            )[::stride, ::stride]
            + bias[out]
            for out in range(len(kernel))
        ]
        for image in x
    ]
    return np.maximum(planes, 0)


def normalized(x):
    """crosschannelnormalization: k 2, alpha 1e-4 times the plain sum, 5 channels."""
    padded = np.pad(x**2, ((0, 0), (2, 2), (0, 0), (0, 0)))
    window = sum(padded[:, i : i + x.shape[1]] for i in range(5))
    return x / (2 + 1e-4 * window) ** 0.75


def pooled(x):
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    return windows[:, :, ::2, ::2].max((-2, -1))


def grouped(x, arrays, layer, padding):
    halves = zip(np.split(x, 2, axis=1), (f"{layer}_1", f"{layer}_2"), strict=True)
    return np.concatenate([convolved(h, *arrays[n], padding=padding) for h, n in halves], 1)


def convnets_keras_forward(arrays, images):
    """The network of convnets-keras in float64 on the arrays as its file holds them."""
    x = convolved(images.transpose(0, 3, 1, 2).astype(float), *arrays["conv_1"], stride=4)
    x = grouped(normalized(pooled(x)), arrays, "conv_2", 2)
    x = convolved(normalized(pooled(x)), *arrays["conv_3"], padding=1)
    x = grouped(grouped(x, arrays, "conv_4", 1), arrays, "conv_5", 1)
    x = pooled(x).reshape(len(x), -1)
    for name in ("dense_1", "dense_2", "dense_3"):
        kernel, bias = arrays[name]
        x = x @ kernel + bias
        x = x if name == "dense_3" else np.maximum(x, 0)
    return np.exp(x) / np.exp(x).sum(-1, keepdims=True)


def test_convnets_keras_computes_what_theano_did(tmp_path):
    layers = random_layers(2, SHAPES | {"dense_1": (36 * 6, 10)})
    kernel = layers["dense_1"][0].reshape(6, 6, 6, 10)
    layers["dense_1"] = (kernel.transpose(2, 0, 1, 3).reshape(216, 10), layers["dense_1"][1])
    arrays = stored(layers, turned=True, by_filter=True)
    path = write(tmp_path / "alexnet_weights.h5", arrays)
    found = load_pretrained(path, kernel_order="theano").model
    images = np.random.default_rng(3).normal(0, 50, (1, 227, 227, 3)).astype(np.float32)
    expected = convnets_keras_forward(arrays, images)
    np.testing.assert_allclose(found.predict(images, verbose=0), expected, atol=1e-5)
    assert found.preprocessing == PORTS["convnets-keras"].preprocessing


def test_a_converted_file_needs_no_kernel_order(tmp_path):
    path = write(tmp_path / "w.h5", stored(LAYERS, **THEANO_1))
    convert(str(path), tmp_path / "w.npz", kernel_order="theano")
    written = read_weights(tmp_path / "w.npz")
    assert written.variant == "convnets-keras"
    np.testing.assert_array_equal(written.layers["conv2"][0], canonical(LAYERS)["conv2"][0])


def test_what_was_found_is_told(tmp_path, caplog):
    path = write(tmp_path / "w.h5", stored(LAYERS, **THEANO_1), backend="theano")
    read_keras_h5(path)
    told = "\n".join(caplog.messages)
    assert "conv_2_1 and conv_2_2 is conv2" in told
    assert "(out, in, height, width) of Theano, turned by 180 degrees" in told
    assert "fc6's rows in channel, height, width order" in told


def test_the_kernel_order_is_asked_for(tmp_path):
    path = write(tmp_path / "w.h5", LAYERS)
    refusal = assert_refused(read_keras_h5, path)
    assert refusal == (
        "expected an attribute backend, which tells the order of kernels, got none; "
        "--kernel-order theano or tensorflow says it (theano for convnets-keras)"
    )


def test_a_kernel_order_that_contradicts_the_file(tmp_path):
    path = write(tmp_path / "w.h5", LAYERS, backend="tensorflow")
    with pytest.raises(WeightsError, match="backend: expected theano, as kernel_order says"):
        read_keras_h5(path, "theano")


def test_a_kernel_order_for_a_file_that_needs_none(tmp_path):
    np.savez(tmp_path / "w.npz", **{"fc8/kernel": np.ones((2, 2)), "fc8/bias": np.ones(2)})
    with pytest.raises(ConfigurationError, match="^kernel_order: has no effect on a file of form"):
        load_pretrained(tmp_path / "w.npz", kernel_order="theano")


def test_names_of_variable_length(tmp_path):
    """As h5py 3 writes lists; the order is that in which the arrays were written."""
    shapes = {
        name: (*shape[:2], shape[2] if name == "conv_1" else 8 * shape[2], 8 * shape[3])
        for name, shape in SHAPES.items()
        if name.startswith("conv")
    }
    layers = random_layers(4, shapes | {"dense_1": (4 * 48, 10)})
    renamed = {f"layer_{20 - index}": arrays for index, arrays in enumerate(layers.values())}
    path = write(tmp_path / "w.h5", renamed, backend="tensorflow")
    with h5py.File(path, "r+") as file:
        file.attrs["layer_names"] = [name.encode() for name in renamed]
        assert file.attrs.get_id("layer_names").get_type().is_variable_str()
    found = read_keras_h5(path).layers
    np.testing.assert_array_equal(found["conv3"][0], layers["conv_3"][0])
    # Of equal shapes, the halves are told apart by the numbers of their names, here reversed.
    halves = [layers[f"conv_5_{half}"][0] for half in (2, 1)]
    np.testing.assert_array_equal(found["conv5"][0], np.concatenate(halves, -1))


def edited(path, edit, **options):
    write(path, LAYERS, **{"backend": "tensorflow", **options})
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replaced_by(array, **options):
    def edit(file):
        del file["dense_3/dense_3_W"]
        file["dense_3"].create_dataset("dense_3_W", data=array, **options)

    return edit


def linked(target):
    def edit(file):
        del file["dense_3/dense_3_W"]
        file["dense_3/dense_3_W"] = target

    return edit


DAMAGES = {
    "no layers": lambda f: f.attrs.create("layer_names", np.array([], "S1")),
    "a layer that is not there": lambda f: f.pop("conv_3"),
    "a layer twice": lambda f: f.attrs.create("layer_names", np.array([b"conv_1", b"conv_1"])),
    "names of any length": lambda f: f.attrs.create("layer_names", np.array([b"x" * 5000])),
    "names are numbers": lambda f: f.attrs.create("layer_names", [1, 2]),
    "one name": lambda f: f.attrs.create("layer_names", b"conv_1"),
    "three weights": lambda f: f["conv_3"].create_dataset("c", data=[1.0]),
    "one weight": lambda f: f["conv_3"].pop("conv_3_b"),
    "deep groups": lambda f: (
        f["conv_3"].create_group("a/b/c/d/e/f").create_dataset("c", data=[1.0])
    ),
    "a group in itself": lambda f: f["conv_3"].__setitem__("x", f["conv_3"]),
    "a layer is data": lambda f: (f.pop("conv_3"), f.create_dataset("conv_3", data=[1.0])),
    "backend is a number": lambda f: f.attrs.create("backend", 3),
    "unknown backend": lambda f: f.attrs.create("backend", b"mxnet"),
    "integers": replaced_by(np.ones((10, 7), int)),
    "text": replaced_by(b"text"),
    "scalar": replaced_by(1.0),
    "a bias of two dimensions": lambda f: (
        f.pop("conv_2_1/conv_2_1_b"),
        f["conv_2_1"].create_dataset("conv_2_1_b", data=np.ones((1, 3))),
    ),
    "NaN": replaced_by(np.full((10, 7), np.nan)),
    "three dimensions": replaced_by(np.ones((3, 3, 3))),
    "no numbers": replaced_by(np.ones((10, 0))),
    "compressed": replaced_by(np.zeros((2000, 2000)), compression="gzip"),
    "a link to another file": linked(h5py.ExternalLink("/etc/hostname", "/")),
    "a soft link": linked(h5py.SoftLink("/dense_2/dense_2_W")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_in_one_line(tmp_path, damage):
    assert_refused(read_keras_h5, edited(tmp_path / "w.h5", DAMAGES[damage]))


@pytest.mark.parametrize("other", ["VGG", "too few"])
def test_a_file_of_another_network(tmp_path, other):
    layers = {"block1_conv1": (np.ones((3, 3, 3, 4), np.float32), np.ones(4, np.float32))}
    layers = layers if other == "VGG" else {"conv_1": LAYERS["conv_1"], "x": LAYERS["dense_3"]}
    refusal = assert_refused(read_keras_h5, write(tmp_path / "w.h5", layers, backend="theano"))
    assert refusal.startswith("expected the layers of an AlexNet, got ")


def test_declared_sizes_take_no_memory(tmp_path):
    def edit(file):
        del file["dense_3/dense_3_W"]
        file["dense_3"].create_dataset("dense_3_W", (50_000, 50_000), "f4")

    assert_memory_in_proportion(read_keras_h5, edited(tmp_path / "w.h5", edit))


def test_cut_and_flipped_files_never_crash(tmp_path):
    whole = write(tmp_path / "whole", LAYERS, backend="theano").read_bytes()
    generator, path = np.random.default_rng(0), tmp_path / "w.h5"
    for _ in range(100):
        content = bytearray(whole)
        if generator.random() < 0.3:
            content = content[: generator.integers(len(whole))]
        else:
            for place in generator.integers(0, 12_000, 3):
                content[place] = generator.integers(256)
        path.write_bytes(content)
        try:
            read_keras_h5(path)
        except WeightsError:
            assert_refused(read_keras_h5, path)
