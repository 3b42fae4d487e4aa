"""Hostile .onnx files: messages, graphs, tensors and values that no exporter wrote."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from tests.weights.npy_files import save
from tests.weights.refusal import (
    EDITS,
    assert_memory_in_proportion,
    assert_refused,
    mutated,
    read_or_refuse,
)
from weights.onnx import read_onnx

onnx = pytest.importorskip("onnx")
from tests.weights.onnx_files import changed, initializer_of, model_of, tensor_of  # noqa: E402


def initializer(tensor, dims=None, **fields):
    """The good model with fields of one tensor replaced."""

    def change(graph):
        found = initializer_of(graph, tensor)
        if dims is not None:
            found.dims[:] = dims
        for field, value in fields.items():
            setattr(found, field, value)

    return changed(change)


def values(number, name="fc8_b_0", dtype="f4"):
    """The good model whose tensor of this name ends in ``number``."""

    def change(graph):
        tensor = initializer_of(graph, name)
        array = onnx.numpy_helper.to_array(tensor).astype(dtype)
        array.reshape(-1)[-1] = number
        tensor.CopyFrom(tensor_of(array, name))

    return changed(change)


def first_input(index, name):
    return changed(lambda graph: graph.node[0].input.__setitem__(index, name))


def insert_transpose(graph):
    nodes = list(graph.node)
    position = next(index for index, node in enumerate(nodes) if node.op_type == "Reshape")
    nodes.insert(position, onnx.helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]))
    del graph.node[:]
    graph.node.extend(nodes)


def forget_additions(graph):
    for node in graph.node:
        if node.op_type == "Gemm":
            node.op_type = "MatMul"


def varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + bytes([value]))


def delimited(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


GOOD = model_of().SerializeToString()
MESSAGES = {
    "empty": b"",
    "page": b"<!DOCTYPE html><html></html>",
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
    "no graph": onnx.ModelProto(ir_version=8).SerializeToString(),
    "empty graph": delimited(7, b""),
    "two graphs": GOOD * 2,
    "graph of a number": b"\x38\x01",
    "length of 2**63": b"\x3a" + b"\xff" * 9 + b"\x01",
    "varint without an end": b"\x3a" + b"\xff" * 40,
    "group": b"\x3b\x3c",
    "field 0": b"\x02\x00",
    "initializer of a number": delimited(7, b"\x28\x01"),
    "node of a number": delimited(7, b"\x08\x01"),
    "nested 10,000 deep": delimited(7, b"\x0a\x80\x01" * 10_000),
}
GRAPHS = {
    "no initializers": changed(lambda graph: graph.ClearField("initializer")),
    "no nodes": changed(lambda graph: graph.ClearField("node")),
    "a node less": changed(lambda graph: graph.node.pop(0)),
    "a Conv more": changed(lambda graph: graph.node.add(op_type="Conv")),
    "a Gemm more": changed(lambda graph: graph.node.add(op_type="Gemm")),
    "inputs cut": changed(lambda graph: graph.node[0].input.pop()),
    "no inputs": changed(lambda graph: graph.node[0].ClearField("input")),
    "input of another name": first_input(1, "other"),
    "input of a line feed": first_input(1, "line\nfeed"),
    "kernel for a bias": first_input(2, "conv1_w_0"),
    "bias for a kernel": first_input(1, "conv1_b_0"),
    "a Transpose before fc6": changed(insert_transpose),
    "MatMul without Add": changed(forget_additions),
    "alpha 2": model_of(alpha=2.0).SerializeToString(),
    "beta 0": model_of(beta=0.0).SerializeToString(),
    "transA": model_of(transA=1).SerializeToString(),
    "alpha NaN": model_of(alpha=float("nan")).SerializeToString(),
}
TENSORS = {
    "another name": initializer("fc8_b_0", name="line\nfeed"),
    "no name": initializer("fc8_b_0", name=""),
    "int32": initializer("fc8_b_0", data_type=6),
    "text": initializer("fc8_b_0", data_type=8),
    "type 0": initializer("fc8_b_0", data_type=0),
    "type 999": initializer("fc8_b_0", data_type=999),
    "type -1": initializer("fc8_b_0", data_type=-1),
    "double of floats": initializer("fc8_b_0", data_type=11),
    "half of floats": initializer("fc8_b_0", data_type=10),
    "no numbers": initializer("fc8_b_0", raw_data=b""),
    "a byte less": initializer("fc8_b_0", raw_data=bytes(39)),
    "a byte more": initializer("fc8_b_0", raw_data=bytes(41)),
    "larger dims": initializer("fc8_b_0", [11]),
    "dims below 0": initializer("fc8_b_0", [-10]),
    "dims of 0": initializer("fc8_b_0", [0]),
    "dims of 2**62": initializer("fc8_w_0", [1 << 62, 4]),
    "dims that overflow": initializer("fc8_w_0", [1 << 40, 1 << 40]),
    "9 dims": initializer("fc8_b_0", [10] + [1] * 8),
    "a million dims": initializer("fc8_b_0", [1] * 1_000_000),
    "no dims": initializer("fc8_b_0", []),
    "3 dims": initializer("fc8_w_0", [10, 4, 2]),
    "fc6 no square": initializer("fc6_w_0", [10, 14]),
    "external without a place": initializer("fc8_b_0", data_location=1),
}
VALUES = {
    f"{number} in {name} of {dtype}": values(number, name, dtype)
    for name in ("conv1_w_0", "fc8_b_0")
    for number, dtype in (
        (np.nan, "f4"),
        (np.inf, "f4"),
        (-np.inf, "f4"),
        (np.nan, "f2"),
        (np.inf, "f8"),
        (1e300, "f8"),
    )
}
FAMILIES = {"message": MESSAGES, "graph": GRAPHS, "tensor": TENSORS, "value": VALUES}
CORPUS = {
    f"{family}: {name}": content
    for family, files in FAMILIES.items()
    for name, content in files.items()
}


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
def test_hostile_file_is_refused_in_one_line(tmp_path, content):
    assert_refused(read_onnx, save(tmp_path / "w.onnx", content))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "graph: a Conv more",
            "graph[0], byte 5: expected AlexNet's 5 Conv and 3 Gemm or MatMul nodes, got 6 and 3",
        ),
        ("value: nan in fc8_b_0 of f4", "fc8 bias[9]: expected a finite float32, got nan"),
        ("tensor: int32", "graph[0] initializer[15] 'fc8_b_0', byte 5836: "),
        ("tensor: type 0", "expected data_type FLOAT, FLOAT16, BFLOAT16 or DOUBLE, got 0"),
        (
            "tensor: larger dims",
            "graph[0] initializer[15] 'fc8_b_0': expected 44 bytes for shape (11,) of <f4, got 40",
        ),
        ("graph: alpha 2", "expected a Gemm of alpha 1, beta 1, transA 0, got 2.0, 1.0, 0"),
        (
            "graph: a Transpose before fc6",
            "expected fc6 to follow conv5 in channel, height, width order, got a Transpose",
        ),
        (
            "graph: input of another name",
            "expected its kernel among the initializers, got 'other', which is none",
        ),
    ],
)
def test_message_names_the_place(tmp_path, name, expected):
    assert expected in assert_refused(read_onnx, save(tmp_path / "w.onnx", CORPUS[name]))


@pytest.mark.parametrize("name", ["absent", "folder", "n" * 300, "null\0byte"])
def test_no_file_there(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match="expected a"):
        read_onnx(tmp_path / name)


def test_truncated_everywhere(tmp_path):
    for end in [*range(400), *range(400, len(GOOD), 97), len(GOOD) - 1]:
        assert_refused(read_onnx, save(tmp_path / "w.onnx", GOOD[:end]))


def one_array_for_all(kernel=None):
    """A kernel, by default of 18 MB in half precision, that every node names."""
    model = onnx.ModelProto.FromString(GOOD)
    kernel = kernel or tensor_of(np.ones((1, 9_000_000), "f2"), "kernel").SerializeToString()
    del model.graph.initializer[:]
    model.graph.initializer.append(tensor_of(np.ones(1, "f2"), "bias"))
    for node in model.graph.node:
        if len(node.input) == 3:
            node.input[1:] = ["kernel", "bias"]
    return delimited(7, model.graph.SerializeToString() + delimited(5, kernel))


def unpacked(count=4_000_000):
    """A tensor whose numbers each have a tag, so that they cannot stay where they lie."""
    return (
        b"\x08\x01\x08"
        + varint(count)
        + b"\x10\x01"
        + delimited(8, b"kernel")
        + b"\x25\x00\x00\x80\x3f" * count
    )


BOMBS = {
    "empty initializers": lambda: b"\x08\x08" + delimited(7, b"\x2a\x00" * 5_000_000),
    "empty nodes": lambda: b"\x08\x08" + delimited(7, b"\x0a\x00" * 5_000_000),
    "empty attributes": lambda: b"\x08\x08" + delimited(7, delimited(1, b"\x2a\x00" * 5_000_000)),
    "50,000 empty nodes": lambda: b"\x08\x08" + delimited(7, b"\x0a\x00" * 49_990),
    "200,000 empty nodes": lambda: b"\x08\x08" + delimited(7, b"\x0a\x00" * 199_990),
    "unknown fields": lambda: b"\x78\x01" * 5_000_000,
    "one array for all": one_array_for_all,
    "one copied array for all": lambda: one_array_for_all(unpacked()),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_memory_stays_in_proportion_to_the_file(tmp_path, make):
    assert_memory_in_proportion(read_onnx, save(tmp_path / "w.onnx", make()))


def test_long_names_are_not_kept(tmp_path):
    content = changed(lambda graph: graph.node.add(op_type="\U0001f600" * 5_000_000))
    assert_memory_in_proportion(read_onnx, save(tmp_path / "w.onnx", content), "WeightSet")


@settings(max_examples=300, deadline=None)
@given(edits=EDITS)
def test_mutated_file_is_read_or_refused(tmp_path_factory, edits):
    found = read_or_refuse(
        read_onnx, save(tmp_path_factory.getbasetemp() / "mutated.onnx", mutated(GOOD, edits))
    )
    for pair in found.layers.values() if found else ():
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in pair)


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(tmp_path_factory, content):
    assert_refused(read_onnx, save(tmp_path_factory.getbasetemp() / "arbitrary.onnx", content))
