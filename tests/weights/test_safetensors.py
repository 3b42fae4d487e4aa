"""The .safetensors reader and writer against the safetensors library, and hostile headers."""

import json
import os
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import save, save_file

from alexnet_keras.errors import WeightsError
from tests.weights.npy_files import layer_weights
from tests.weights.npy_files import save as save_bytes
from tests.weights.refusal import (
    EDITS,
    assert_memory_in_proportion,
    assert_refused,
    mutated,
    read_or_refuse,
)
from weights.safetensors import read_safetensors, write_safetensors

LAYERS = layer_weights(("conv1", "conv5", "fc7", "fc8")) | {
    "fc6": (
        np.random.default_rng(1).standard_normal((3 * 3 * 4, 7), np.float32),
        np.zeros(7, np.float32),
    )
}
ONES = {"fc8.weight": np.ones((2, 2), "f4"), "fc8.bias": np.ones(2, "f4")}


def file_of(header, data=bytes(24)):
    """A file with this header, JSON text or what to make it of."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def header(dtype="F32", shape=(2, 2), offsets=(0, 16), **others):
    return {
        "fc8.weight": {"dtype": dtype, "shape": shape, "data_offsets": offsets},
        "fc8.bias": {"dtype": "F32", "shape": [2], "data_offsets": [16, 24]},
    } | others


def test_round_trip_is_bit_exact(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", LAYERS)
    weights = read_safetensors(tmp_path / "w.safetensors")
    assert (weights.file_format, weights.path) == ("safetensors", tmp_path / "w.safetensors")
    assert list(weights.layers) == sorted(LAYERS)
    for name, pair in LAYERS.items():
        for read, written in zip(weights.layers[name], pair, strict=True):
            assert read.dtype == np.float32
            assert np.ascontiguousarray(read).tobytes() == written.tobytes()


def test_pytorch_finds_its_own_names_and_order(tmp_path):
    write_safetensors(tmp_path / "w.safetensors", LAYERS)
    with safe_open(tmp_path / "w.safetensors", framework="numpy") as file:
        assert file.metadata()["format"] == "pt"
        assert sorted(file.keys()) == sorted(
            f"{name}.{role}" for name in LAYERS for role in ("weight", "bias")
        )
        conv1, fc6, fc7 = (file.get_tensor(f"{name}.weight") for name in ("conv1", "fc6", "fc7"))
        np.testing.assert_array_equal(file.get_tensor("conv1.bias"), LAYERS["conv1"][1])
    for out in range(4):
        for channel in range(2):
            np.testing.assert_array_equal(
                conv1[out, channel], LAYERS["conv1"][0][:, :, channel, out]
            )
    for channel in range(4):
        for row in range(3):
            for column in range(3):
                np.testing.assert_array_equal(
                    fc6[:, channel * 9 + row * 3 + column],
                    LAYERS["fc6"][0][(row * 3 + column) * 4 + channel],
                )
    np.testing.assert_array_equal(fc7, LAYERS["fc7"][0].T)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_torchvisions_names_and_every_dtype(tmp_path, dtype):
    weight = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2).astype(dtype)
    save_file(
        {
            "features.0.weight": weight,
            "features.0.bias": weight[0, 0, 0],
            "classifier.6.weight": weight[0, 0],
            "classifier.6.bias": weight[0, 0, 1],
        },
        tmp_path / "w.safetensors",
    )
    found = read_safetensors(tmp_path / "w.safetensors").layers
    np.testing.assert_array_equal(found["conv1"][0][1, 0, 2], [10, 22])
    np.testing.assert_array_equal(found["conv1"][1], [0, 1])
    np.testing.assert_array_equal(found["fc8"][0], [[0, 2], [1, 3]])
    assert all(array.dtype == np.float32 for pair in found.values() for array in pair)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, LAYERS)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("weights.safetensors.save_file", fail)
    with pytest.raises(WeightsError, match="cannot be written: .*No space left"):
        write_safetensors(path, LAYERS)
    assert os.listdir(tmp_path) == ["w.safetensors"]
    assert path.read_bytes() == before


def test_a_folder_that_is_absent_is_named(tmp_path):
    with pytest.raises(
        WeightsError, match=r"absent/w.safetensors: cannot be written: .*No such file"
    ):
        write_safetensors(tmp_path / "absent" / "w.safetensors", LAYERS)


GOOD = save(ONES)
CORPUS = {
    "empty": b"",
    "7 bytes": bytes(7),
    "length alone": struct.pack("<Q", 10),
    "length 0": bytes(40),
    "length 2**63": struct.pack("<Q", 1 << 63) + bytes(40),
    "length 2**64 - 1": b"\xff" * 8 + b"{}",
    "length 90 MB": struct.pack("<Q", 90_000_000) + b"{" * 50,
    "page": b"<!DOCTYPE html><html></html>",
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "no object": file_of([]),
    "no JSON": file_of(b"{" * 30),
    "deep": file_of(b'{"a":' * 10_000),
    "deep lists": file_of(b"[" * 100_000),
    "nulls": file_of(bytes(50)),
    "no UTF-8": file_of(b'{"\xff": 1}'),
    "no tensors": file_of({}, b""),
    "bytes too many": file_of(header(), bytes(25)),
    "bytes too few": file_of(header(), bytes(23)),
    "a hole": file_of(header(offsets=(0, 8)), bytes(24)),
    "overlap": file_of(header(offsets=(8, 24))),
    "offsets backwards": file_of(header(offsets=(16, 0))),
    "offsets beyond": file_of(header(offsets=(0, 1 << 40))),
    "offsets below 0": file_of(header(offsets=(-16, 0))),
    "one offset": file_of(header(offsets=(0,))),
    "shape (2, 3)": file_of(header(shape=(2, 3))),
    "shape below 0": file_of(header(shape=(-2, -2))),
    "shape of 2**64": file_of(header(shape=(1 << 64, 2))),
    "shape that overflows": file_of(header(shape=(1 << 32, 1 << 32))),
    "shape of text": file_of(header(shape="22")),
    "1 dimension": file_of(header(shape=(4,))),
    "3 dimensions": file_of(header(shape=(1, 2, 2))),
    "no shape": file_of({"fc8.weight": {"dtype": "F32", "data_offsets": [0, 24]}}),
    "dtype I32": file_of(header("I32")),
    "dtype U8": file_of(header("U8", (4, 4))),
    "dtype F8": file_of(header("F8_E4M3", (4, 4))),
    "dtype X": file_of(header("X")),
    "dtype BOOL": file_of(header("BOOL", (4, 4))),
    "dtype I64": file_of(header("I64", (2, 1))),
    "dtype C64": file_of(header("C64", (2, 1))),
    "dtype F4": file_of(header("F4", (8, 4))),
    "metadata a list": file_of(header(__metadata__=[])),
    "metadata of numbers": file_of(header(__metadata__={"a": 1})),
    "a variant of two words": save(ONES, {"alexnet_keras.variant": "not one"}),
    "a variant of a number": file_of(header(__metadata__={"alexnet_keras.variant": 1})),
    "a name twice": file_of(json.dumps(header()).replace("fc8.bias", "fc8.weight").encode()),
    "line feed": file_of(json.dumps(header()).replace("fc8.", "fc8\\n.").encode()),
    "another network": save({"features.2.weight": ONES["fc8.weight"]}),
    "no bias": save({"fc8.weight": ONES["fc8.weight"]}),
    "no kernel": save({"fc8.bias": ONES["fc8.bias"]}),
    "empty kernel": save(ONES | {"fc8.weight": np.ones((0, 2), "f4")}),
    "two names of one": save(ONES | {"classifier.6.bias": ONES["fc8.bias"]}),
    "NaN": save(ONES | {"fc8.weight": np.array([[1, 1], [1, np.nan]], "f4")}),
    "Inf": save(ONES | {"fc8.bias": np.array([1, np.inf], "f2")}),
    "too large": save(ONES | {"fc8.bias": np.full(2, 1e300)}),
    "NaN of bfloat16": save(ONES | {"fc8.bias": np.full(2, np.nan, ml_dtypes.bfloat16)}),
    "cut": GOOD[:-1],
}


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
def test_hostile_file_is_refused_in_one_line(tmp_path, content):
    assert_refused(read_safetensors, save_bytes(tmp_path / "w.safetensors", content))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "length 2**63",
            "byte 0: expected a header of at most 1048576 bytes, got 9223372036854775808",
        ),
        ("dtype I32", "tensor 'fc8.weight': expected one of F16, BF16, F32, F64, got I32"),
        (
            "another network",
            "tensor 'features.2.weight': expected a name of torchvision's AlexNet",
        ),
        ("NaN", "fc8 kernel[1, 1]: expected a finite float32, got nan"),
    ],
)
def test_message_names_the_place(tmp_path, name, expected):
    assert expected in assert_refused(
        read_safetensors, save_bytes(tmp_path / "w.safetensors", CORPUS[name])
    )


@pytest.mark.parametrize("name", ["absent", "folder", "n" * 300, "null\0byte"])
def test_no_file_there(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match="expected a"):
        read_safetensors(tmp_path / name)


def test_truncated_at_every_byte(tmp_path):
    for end in range(len(GOOD)):
        assert_refused(read_safetensors, save_bytes(tmp_path / "w.safetensors", GOOD[:end]))


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32, np.float64])
def test_memory_stays_in_proportion_to_a_good_file(tmp_path, dtype):
    save_file(
        {"fc7.weight": np.ones((1500, 20_000), dtype), "fc7.bias": np.ones(1500, dtype)},
        tmp_path / "w.safetensors",
    )
    assert_memory_in_proportion(read_safetensors, tmp_path / "w.safetensors", "WeightSet")


@pytest.mark.slow
def test_memory_stays_in_proportion_to_a_header_of_many_tensors(tmp_path):
    many = {
        f"{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
        for index in range(200_000)
    }
    content = file_of(many, b"")
    assert len(content) > 10_000_000
    assert_memory_in_proportion(read_safetensors, save_bytes(tmp_path / "w.safetensors", content))
    few = file_of({name: many[name] for name in list(many)[:15_000]}, b"")
    assert_memory_in_proportion(read_safetensors, save_bytes(tmp_path / "w.safetensors", few))


@settings(max_examples=300, deadline=None)
@given(edits=EDITS)
def test_mutated_file_is_read_or_refused(tmp_path_factory, edits):
    path = save_bytes(tmp_path_factory.getbasetemp() / "mutated.safetensors", mutated(GOOD, edits))
    found = read_or_refuse(read_safetensors, path)
    for pair in found.layers.values() if found else ():
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in pair)


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=300), prefix=st.sampled_from([b"", struct.pack("<Q", 20) + b'{"'])
)
def test_arbitrary_bytes_are_refused(tmp_path_factory, content, prefix):
    path = save_bytes(tmp_path_factory.getbasetemp() / "arbitrary.safetensors", prefix + content)
    assert_refused(read_safetensors, path)
