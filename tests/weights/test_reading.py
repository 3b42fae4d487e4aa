"""One door for every weight file: told by content, written by suffix, the same bits everywhere."""

import itertools

import numpy as np
import pytest

from alexnet_keras.errors import WeightsError
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from tests.weights import caffe_files, npy_files, onnx_files, torch_files
from tests.weights.refusal import assert_refused
from weights.canonical import to_channels_first
from weights.reading import read_weights
from weights.writing import OUTPUT_SUFFIXES, write_weights

LAYERS = tiny_layers()
LAYERS["fc8"] = (
    LAYERS["fc8"][0] * np.float32(1e-38),
    np.float32([-0.0, 1e-45, 3.4e38, -1e-40, 1 / 3]),
)  # also subnormal
FORMATS = {
    ".caffemodel": "caffemodel",
    ".mat": "mat",
    ".pth": "pth",
    ".npz": "npz",
    ".safetensors": "safetensors",
    ".weights.h5": "weights.h5",
}


def assert_same_bits(found, expected=LAYERS):
    assert sorted(found) == sorted(expected)
    for name, arrays in expected.items():
        for one, other in zip(found[name], arrays, strict=True):
            assert (one.dtype, one.shape) == (np.float32, other.shape)
            np.testing.assert_array_equal(
                *(np.ascontiguousarray(array).view(np.uint32) for array in (one, other))
            )


def write_state_dict(path, layers, legacy=False):
    state = {}
    for name, (kernel, bias) in to_channels_first(layers, path).items():
        state |= {f"{name}.weight": np.ascontiguousarray(kernel), f"{name}.bias": bias}
    return torch_files.write_pth(path, state, legacy)


def write_onnx(path, layers):
    path.write_bytes(onnx_files.model_of(to_channels_first(layers, path)).SerializeToString())
    return path


FOREIGN = {
    "caffemodel": lambda path, layers: caffe_files.write_v1(path, to_channels_first(layers, path)),
    "npy": npy_files.write_python2_npy,
    "pth": write_state_dict,
    "onnx": write_onnx,
    "pth legacy": lambda path, layers: write_state_dict(path, layers, legacy=True),
}


def test_every_format_is_tested():
    assert set(OUTPUT_SUFFIXES) == set(FORMATS)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_round_trip_is_bit_exact(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    write_weights(path, LAYERS)
    found = read_weights(path)
    assert (found.file_format, found.path) == (FORMATS[suffix], path)
    assert_same_bits(found.layers)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("variant", [None, "krizhevsky", "145-half"])
def test_the_variant_is_recorded(tmp_path, suffix, variant):
    path = tmp_path / f"weights{suffix}"
    write_weights(path, LAYERS, variant=variant)
    found = read_weights(path)
    assert found.variant == variant
    assert_same_bits(found.layers)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("variant", ["", "a/b", "two words", "line\nfeed", "\u202eabc", "n" * 65])
def test_what_names_no_variant_is_refused(tmp_path, suffix, variant):
    path = tmp_path / f"weights{suffix}"
    write_weights(path, LAYERS, variant=variant)
    assert "expected the name of a variant, got " in assert_refused(read_weights, path)


@pytest.mark.parametrize(("first", "second"), [*itertools.permutations(FORMATS, 2)])
def test_from_any_format_to_any_other_and_back(tmp_path, first, second):
    write_weights(tmp_path / f"one{first}", LAYERS)
    write_weights(tmp_path / f"two{second}", read_weights(tmp_path / f"one{first}").layers)
    write_weights(tmp_path / f"three{first}", read_weights(tmp_path / f"two{second}").layers)
    for name in (f"two{second}", f"three{first}"):
        assert_same_bits(read_weights(tmp_path / name).layers)


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("suffix", ["", ".txt", ".npz", ".caffemodel", ".safetensors"])
def test_content_tells_the_format_and_the_suffix_does_not(tmp_path, kind, suffix):
    path = FOREIGN[kind](tmp_path / f"weights{suffix}", LAYERS)
    found = read_weights(path)
    assert found.file_format == kind.split()[0]
    assert_same_bits(found.layers)


def test_a_path_may_be_text(tmp_path):
    write_weights(str(tmp_path / "weights.npz"), LAYERS)
    assert_same_bits(read_weights(str(tmp_path / "weights.npz")).layers)


def test_a_trunk_goes_everywhere(tmp_path):
    trunk = {name: LAYERS[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5")}
    for suffix in FORMATS:
        write_weights(tmp_path / f"trunk{suffix}", trunk)
        assert_same_bits(read_weights(tmp_path / f"trunk{suffix}").layers, trunk)


@pytest.mark.parametrize(
    "name", ["weights", "weights.keras", "weights.pt", "weights.h5", "weights.npz.txt"]
)
def test_a_suffix_that_is_not_written(tmp_path, name):
    assert assert_refused(lambda path: write_weights(path, LAYERS), tmp_path / name) == (
        "expected a name that ends in one of .caffemodel, .mat, .pth, .npz, .safetensors, "
        ".weights.h5"
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_stood_there_before_stays_when_writing_fails(tmp_path, suffix):
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(b"before")
    with pytest.raises(Exception, match=".*"):
        write_weights(path, LAYERS | {"fc9": (np.array([["no number"]]), np.array(["at all"]))})
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", [".caffemodel", ".pth", ".safetensors"])
def test_fc6_without_conv5_has_no_order_there(tmp_path, suffix):
    layers = {name: LAYERS[name] for name in ("conv1", "fc6")}
    refusal = assert_refused(lambda path: write_weights(path, layers), tmp_path / f"w{suffix}")
    assert refusal.startswith("fc6: expected conv5 beside it")
    assert list(tmp_path.iterdir()) == []


def test_whole_models_and_runs_are_sent_to_their_own_door(tmp_path):
    tiny_model().save(tmp_path / "model.keras")
    assert assert_refused(read_weights, tmp_path / "model.keras").endswith("got: keras")
    assert assert_refused(read_weights, tmp_path).endswith("got: run")


@pytest.mark.parametrize("content", [*caffe_files.other_files(b"\x0a\x07AlexNet")][:24])
def test_other_files_are_refused_in_one_line(tmp_path, content):
    assert_refused(read_weights, npy_files.save(tmp_path / "weights.caffemodel", content))


def test_nothing_there(tmp_path):
    with pytest.raises(WeightsError, match="cannot be read: No such file or directory$"):
        read_weights(tmp_path / "weights.npz")
