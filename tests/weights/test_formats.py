"""Formats are detected from content: of files that the formats' own libraries wrote, or we."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from alexnet_keras.errors import WeightsError
from weights.formats import describe_non_weights, detect_format

FORMATS = {
    "caffemodel",
    "binaryproto",
    "npy",
    "pth",
    "safetensors",
    "npz",
    "onnx",
    "weights.h5",
    "keras",
    "run",
}
KERNEL = np.arange(12, dtype=np.float32).reshape(3, 4)


def varint(value):
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def saved(write):
    buffer = io.BytesIO()
    write(buffer)
    return buffer.getvalue()


def zip_of(*names):
    def write(buffer):
        with zipfile.ZipFile(buffer, "w") as archive:
            for name in names:
                archive.writestr(name, b"content")

    return saved(write)


def hdf5_of(**kwargs):
    def write(buffer):
        with h5py.File(buffer, "w", **kwargs) as file:
            file["layers/fc8/vars/0"] = KERNEL
            file.create_group("vars")

    return saved(write)


def onnx_model():
    node = helper.make_node("Relu", ["data"], ["out"])
    value = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("data", "out")
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    return helper.make_model(
        helper.make_graph([node], "g", value[:1], value[1:], [weight])
    ).SerializeToString()


def torch_legacy(protocol=2):
    """As torch.save wrote before 1.6: magic number, protocol version, system, object, each
    pickled.
    """
    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {})
    return b"".join(pickle.dumps(part, protocol) for part in parts)


FLOATS = struct.pack("<6f", *range(6))
LEGACY_DIMENSIONS = b"".join(
    varint(n << 3) + varint(v) for n, v in ((1, 1), (2, 3), (3, 2), (4, 300))
)
V1_LAYER = (
    field(4, b"conv1")
    + varint(5 << 3)
    + varint(4)
    + field(6, LEGACY_DIMENSIONS + field(5, FLOATS))
)
V2_LAYER = (
    field(1, b"conv1")
    + field(2, b"Convolution")
    + field(7, field(7, b"\x0a\x01\x06") + field(5, FLOATS))
)

SAMPLES = {
    "v1": ("caffemodel", field(1, b"AlexNet") + field(2, V1_LAYER) + field(2, V1_LAYER)),
    "v1 with input": (
        "caffemodel",
        field(1, b"A") + field(3, b"data") + b"\x20\x0a\x20\x03\x28\x00" + field(2, V1_LAYER),
    ),
    "v2": ("caffemodel", field(1, b"CaffeNet") + field(100, V2_LAYER)),
    "v2 without a name": ("caffemodel", field(100, V2_LAYER) + field(100, V2_LAYER)),
    "a name that begins like a prototxt": (
        "caffemodel",
        field(1, b"input_net") + field(100, V2_LAYER),
    ),
    "mean, packed": ("binaryproto", LEGACY_DIMENSIONS + field(5, FLOATS)),
    "mean, unpacked": (
        "binaryproto",
        LEGACY_DIMENSIONS + b"".join(b"\x2d" + FLOATS[:4] for _ in range(100)),
    ),
    "mean, shape and doubles": (
        "binaryproto",
        field(7, b"\x0a\x01\x03") + field(8, struct.pack("<3d", 1, 2, 3)),
    ),
    "npy": ("npy", saved(lambda out: np.save(out, KERNEL))),
    "npy of Python 2": (
        "npy",
        saved(lambda out: np.save(out, np.array({"conv1": [KERNEL, KERNEL[0]]}, object))),
    ),
    "npz": ("npz", saved(lambda out: np.savez(out, **{"conv1.kernel": KERNEL}))),
    "npz, compressed": ("npz", saved(lambda out: np.savez_compressed(out, a=KERNEL))),
    "safetensors": ("safetensors", safetensors.numpy.save({"features.0.weight": KERNEL})),
    "safetensors without tensors": ("safetensors", safetensors.numpy.save({})),
    "onnx": ("onnx", onnx_model()),
    "torch zip": (
        "pth",
        zip_of("alexnet/data.pkl", "alexnet/byteorder", "alexnet/data/0", "alexnet/version"),
    ),
    "torch legacy": ("pth", torch_legacy()),
    "torch legacy, protocol 4": ("pth", torch_legacy(4)),
    "hdf5": ("weights.h5", hdf5_of()),
    "hdf5, latest": ("weights.h5", hdf5_of(libver="latest")),
    "keras": ("keras", zip_of("metadata.json", "config.json", "model.weights.h5")),
}

FOREIGN = {
    "empty": (b"", "an empty file"),
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 243862414\n",
        "a Git-LFS pointer",
    ),
    "html": (b"<!DOCTYPE html>\n<html></html>", "an HTML page"),
    "html, spaced": (b"\xef\xbb\xbf \r\n<HTML><body>404</body></HTML>", "an HTML page"),
    "html, comment": (b"<!-- moved --><html></html>", "an HTML page"),
    "xml": (b"<?xml version='1.0'?><Error/>", "an XML document"),
    "json": (b'{"message": "not found"}', "JSON text"),
    "prototxt": (b'name: "AlexNet"\nlayer {\n', "a Caffe prototxt"),
    "gzip": (gzip.compress(b"weights"), "gzip-compressed data"),
    "bzip2": (b"BZh91AY&SY", "bzip2-compressed data"),
    "xz": (b"\xfd7zXZ\x00", "xz-compressed data"),
    "png": (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    "pickle": (pickle.dumps({"conv1": 1}), "a Python pickle that torch.save did not write"),
    "other zip": (zip_of("readme.txt"), "a zip archive of something else"),
    "empty zip": (zip_of(), "a zip archive of something else"),
    "truncated zip": (zip_of("a/data.pkl")[:-4], "a damaged zip archive"),
    "other hdf5": (
        saved(lambda out: h5py.File(out, "w").close()),
        "an HDF5 file without Keras's group layers",
    ),
    "text": (b"hello, world\n", "unknown content that begins with 68 65 6c 6c 6f"),
    "one byte": (b"\x0a", "unknown content"),
    "endless varint": (b"\xff" * 64, "unknown content"),
    "a length of 2^63": (b"\x0a" + varint(2**63), "unknown content"),
    "zeros": (bytes(4096), "unknown content"),
}


@pytest.mark.parametrize("sample", SAMPLES)
def test_every_format_is_detected_from_its_content(tmp_path, sample):
    expected, content = SAMPLES[sample]
    path = tmp_path / "weights.misleading.jpg"
    path.write_bytes(content)
    assert detect_format(path).format == expected


@pytest.mark.parametrize("sample", FOREIGN)
def test_what_is_found_instead_is_named(tmp_path, sample):
    content, description = FOREIGN[sample]
    path = tmp_path / "bvlc_alexnet.caffemodel"
    path.write_bytes(content)
    with pytest.raises(
        WeightsError, match=rf"caffemodel: expected a weight file, got {description}"
    ):
        detect_format(path)


def test_tar(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    with pytest.raises(WeightsError, match="a tar archive"):
        detect_format(tmp_path / "a.tar")


def test_the_real_trunk_is_a_caffemodel(shared_data):
    assert detect_format(shared_data / "bvlc_alexnet_trunk.caffemodel").format == "caffemodel"
    assert detect_format(shared_data / "ilsvrc_2012_mean.npy").format == "npy"


@pytest.mark.parametrize("sample", ["v1", "v2", "mean, packed", "onnx"])
def test_a_truncated_message_still_has_its_format(tmp_path, sample):
    expected, content = SAMPLES[sample]
    path = tmp_path / "cut"
    path.write_bytes(content[:-3])
    assert detect_format(path).format == expected


@pytest.mark.parametrize("marker", ["model.keras", "config.json"])
def test_a_run_folder(tmp_path, marker):
    (tmp_path / marker).write_bytes(b"{}")
    assert detect_format(tmp_path).format == "run"
    with pytest.raises(WeightsError, match=r"neither model\.keras nor config\.json"):
        detect_format(tmp_path.parent)


def test_what_is_neither_file_nor_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(
        WeightsError, match="pipe: expected a weight file, got neither a file nor a folder"
    ):
        detect_format(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["missing.npy", "x" * 5000, "nul\0byte"])
def test_a_path_that_cannot_be_opened(tmp_path, name):
    with pytest.raises(WeightsError, match="cannot be read"):
        detect_format(tmp_path / name)


def test_a_zip_with_a_huge_directory_is_not_taken_into_memory(tmp_path):
    path = tmp_path / "bomb.npz"
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 65535, 65535, 3 << 20, 4, 0)
    path.write_bytes(b"PK\3\4" + bytes(3 << 20) + end)
    with pytest.raises(
        WeightsError, match=r"a damaged zip archive \(a directory of 3,145,728 bytes\)"
    ):
        detect_format(path)


def test_only_small_pieces_are_read_of_a_large_file(tmp_path, monkeypatch):
    """A 1 GiB sparse caffemodel: were it read whole, the largest read would show it."""
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.write(field(1, b"AlexNet") + varint(2 << 3 | 2) + varint((1 << 30) - 15))
        file.truncate(1 << 30)
    reads = []

    class Counting(io.FileIO):
        def read(self, size=-1):
            reads.append(size)
            return super().read(size)

    monkeypatch.setattr("builtins.open", lambda path, *_, **__: Counting(path))
    assert detect_format(path).format == "caffemodel"
    assert reads
    assert all(0 <= size <= 4096 for size in reads)


def _detected_or_refused(path, content):
    path.write_bytes(content)
    try:
        found = detect_format(path).format
    except WeightsError as error:
        found = str(error)
    assert found in FORMATS or (found.startswith(f"{path}: ") and "\n" not in found)


@given(content=st.binary(max_size=300))
def test_random_bytes(tmp_path_factory, content):
    _detected_or_refused(tmp_path_factory.getbasetemp() / "random", content)


@given(sample=st.sampled_from(sorted(SAMPLES)), data=st.data())
def test_damaged_files(tmp_path_factory, sample, data):
    content = bytearray(SAMPLES[sample][1])
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    _detected_or_refused(tmp_path_factory.getbasetemp() / "damaged", bytes(content))


@pytest.mark.parametrize("sample", SAMPLES)
def test_weights_are_never_foreign(sample):
    assert describe_non_weights(SAMPLES[sample][1][:4096]) is None
