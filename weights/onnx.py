"""``.onnx`` files of AlexNet, read as protobuf in place; the ``onnx`` package is not needed.

That package turns a hostile file of 10 MB into 850 MB of objects; weights need a few fields of a
few messages. Field numbers are those of onnx.proto
(https://github.com/onnx/onnx/blob/main/onnx/onnx.proto).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from weights.arrays import BFLOAT16, to_canonical, view_array
from weights.canonical import WeightSet
from weights.errors import WeightsError
from weights.layer_matching import CONVOLUTIONS, DENSE
from weights.memory_map import map_file
from weights.protobuf import BYTES, VARINT, Field, Message

_GRAPH, _NODE, _INITIALIZER = 7, 1, 5
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE = 1, 2, 4, 5
_ATTRIBUTE_NAME, _ATTRIBUTE_FLOAT, _ATTRIBUTE_INTEGER = 1, 2, 3
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 9, 13, 14
_DTYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8"), 16: BFLOAT16}
# data_type to the field that holds numbers where raw_data does not.
_REPEATED_DATA = {1: 4, 11: 10}
_MAX_FIELDS = 50_000
_MAX_DIMENSIONS = 8
_MAX_DIMENSION = 1 << 40
_MAX_TEXT = 255
_NUMBERED = {"LRN": "norm", "MaxPool": "pool"}


def read_onnx(path: Path) -> WeightSet:
    """Weights of an ``.onnx``, in canonical form as float32; float32 in one piece is a view of the
    file.

    The five Conv nodes, in the graph's order, are conv1 ... conv5 and the three Gemm or MatMul
    nodes fc6, fc7, fc8, whatever their names; ``layer_order`` has LRN and MaxPool between them as
    norm1, pool1 ... Initializers are float16, bfloat16, float32 or float64 (rounded), in the file
    or in others of its folder. Raises ``WeightsError``.
    """
    path = Path(path)
    data = map_file(path)
    model = _Record(Message(path, data, 0, len(data)), iter(range(_MAX_FIELDS)))
    graphs = model.records(_GRAPH, "graph")
    if len(graphs) != 1:
        raise model.error("an ONNX model with one graph", f"{len(graphs)} graphs")
    (graph,) = graphs
    nodes = [_Node(node) for node in graph.records(_NODE, "node")]
    initializers = _Initializers(graph.records(_INITIALIZER, "initializer"))
    found = {
        layer: _read_parameters(node, nodes, initializers)
        for layer, node in _weighted_nodes(nodes, graph).items()
    }
    size = len(data) + sum(map(len, initializers.files.values()))
    return WeightSet(
        to_canonical(found, path, size, channels_first=True), path, "onnx", _layer_order(nodes)
    )


class _Record:
    """The fields of one message by number. ``budget`` is shared by a whole file and bounds the
    fields that are read.
    """

    def __init__(self, message: Message, budget: Iterator[int]):
        self.message = message
        self._budget = budget
        self.fields: dict[int, list[Field]] = {}
        for field in message:
            if next(budget, None) is None:
                raise message.error(field.position, f"at most {_MAX_FIELDS} fields in all", "more")
            self.fields.setdefault(field.number, []).append(field)

    def error(self, expected: str, found: object) -> WeightsError:
        return self.message.error(self.message.start, expected, found)

    def records(self, number: int, name: str) -> list[_Record]:
        return [
            _Record(self.message.message(field, f"{name}[{index}]"), self._budget)
            for index, field in enumerate(self.fields.get(number, ()))
        ]

    def texts(self, number: int) -> list[str]:
        """Strings, cut where they are longer than any name."""
        return [
            self.message.data[field.start : min(field.end, field.start + _MAX_TEXT)].decode(
                "utf-8", "replace"
            )
            for field in self.fields.get(number, ())
            if field.wire_type == BYTES
        ]

    def text(self, number: int) -> str:
        return next(iter(self.texts(number)), "")

    def integer(self, number: int) -> int:
        return next(
            (field.value for field in self.fields.get(number, ()) if field.wire_type == VARINT), 0
        )


class _Node:
    """A node of the graph: its operator, inputs and outputs."""

    def __init__(self, record: _Record):
        self.record = record
        self.operator = record.text(_OP_TYPE)
        self.inputs = record.texts(_INPUT)
        self.outputs = record.texts(_OUTPUT)

    def transposes_kernel(self) -> bool:
        """Gemm's transB; raises ``WeightsError`` where the Gemm does more than a dense layer
        does.
        """
        values = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
        for attribute in self.record.records(_ATTRIBUTE, "attribute"):
            numbers = attribute.message.numbers(_ATTRIBUTE_FLOAT, "f", "<f4")
            values[attribute.text(_ATTRIBUTE_NAME)] = (
                float(numbers[0]) if len(numbers) else attribute.integer(_ATTRIBUTE_INTEGER)
            )
        if (values["alpha"], values["beta"], values["transA"]) != (1, 1, 0):
            raise self.record.error(
                "a Gemm of alpha 1, beta 1, transA 0",
                f"{values['alpha']}, {values['beta']}, {values['transA']}",
            )
        return bool(values["transB"])


class _Initializers:
    """The tensors of a graph by name, read on demand, and the ``files`` beside it that hold some
    of them.
    """

    def __init__(self, tensors: list[_Record]):
        self.tensors = {tensor.text(_NAME): tensor for tensor in tensors}
        self.files: dict[str, mmap.mmap] = {}
        self._arrays: dict[str, np.ndarray] = {}

    def read(self, name: str) -> np.ndarray:
        """One tensor; a view of its file, but for repeated numbers that are not packed."""
        if name not in self._arrays:
            self._arrays[name] = self._read(self.tensors[name])
        return self._arrays[name]

    def _read(self, tensor: _Record) -> np.ndarray:
        tensor.message = tensor.message.within(repr(tensor.text(_NAME)[:80]))
        kind, raw = tensor.integer(_DATA_TYPE), tensor.fields.get(_RAW_DATA)
        if kind not in _DTYPES:
            raise tensor.error("data_type FLOAT, FLOAT16, BFLOAT16 or DOUBLE", kind)
        if tensor.integer(_DATA_LOCATION):
            data = self._external(tensor)
        elif raw:
            tensor.message.expect(raw[0], "raw_data", BYTES)
            data = memoryview(tensor.message.data)[raw[0].start : raw[0].end]
        elif kind in _REPEATED_DATA:
            values = tensor.message.numbers(_REPEATED_DATA[kind], "data", _DTYPES[kind].str)
            data = memoryview(np.ascontiguousarray(values)).cast("B")
        else:
            raise tensor.error("raw_data", "none")
        try:
            return view_array(data, _DTYPES[kind], _read_shape(tensor))
        except ValueError as error:
            raise WeightsError(f"{tensor.message.path}: {tensor.message.place}: {error}") from None

    def _external(self, tensor: _Record) -> memoryview:
        entries = {
            entry.text(1): entry.text(2)
            for entry in tensor.records(_EXTERNAL_DATA, "external_data")
        }
        folder = os.path.realpath(tensor.message.path.parent)
        location, offset, length = (
            entries.get(key, "") for key in ("location", "offset", "length")
        )
        plain = all((text or "0").isdecimal() and len(text) < 16 for text in (offset, length))
        file = os.path.realpath(os.path.join(folder, location)) if location.isprintable() else ""
        if not plain or file == folder or not Path(file).is_relative_to(folder):
            raise tensor.error(
                "external data in the file's own folder, with an offset and a length",
                f"{location!r}, {offset!r}, {length!r}",
            )
        if file not in self.files:
            self.files[file] = map_file(Path(file))
        data = memoryview(self.files[file])[int(offset or 0) :]
        if int(length or 0) > len(data):
            raise tensor.error(f"{length} bytes in {location!r}", len(data))
        return data[: int(length)] if length else data


def _weighted_nodes(nodes: list[_Node], graph: _Record) -> dict[str, _Node]:
    convolutions = [index for index, node in enumerate(nodes) if node.operator == "Conv"]
    dense = [index for index, node in enumerate(nodes) if node.operator in ("Gemm", "MatMul")]
    if (len(convolutions), len(dense)) != (len(CONVOLUTIONS), len(DENSE)):
        raise graph.error(
            "AlexNet's 5 Conv and 3 Gemm or MatMul nodes", f"{len(convolutions)} and {len(dense)}"
        )
    if any(node.operator == "Transpose" for node in nodes[convolutions[-1] : dense[0]]):
        raise graph.error(
            "fc6 to follow conv5 in channel, height, width order", "a Transpose between them"
        )
    return {
        layer: nodes[index]
        for layer, index in zip(CONVOLUTIONS + DENSE, convolutions + dense, strict=True)
    }


def _read_parameters(
    node: _Node, nodes: list[_Node], initializers: _Initializers
) -> dict[str, np.ndarray]:
    """Kernel and bias of a node, channels first."""
    kernel, bias = (*node.inputs, "", "", "")[1:3]
    transposed = node.operator == "Gemm" and not node.transposes_kernel()
    if node.operator == "MatMul":
        transposed, bias = True, _added_to(node, nodes, initializers)
    for role, name in (("kernel", kernel), ("bias", bias)):
        if name not in initializers.tensors:
            raise node.record.error(
                f"its {role} among the initializers", f"{name!r}, which is none"
            )
    values = initializers.read(kernel)
    return {"kernel": values.T if transposed else values, "bias": initializers.read(bias)}


def _added_to(node: _Node, nodes: list[_Node], initializers: _Initializers) -> str:
    """The initializer that an Add behind a MatMul adds to its output."""
    sums = (
        other.inputs
        for other in nodes
        if other.operator == "Add" and set(node.outputs) & set(other.inputs)
    )
    return next((name for name in next(sums, ()) if name in initializers.tensors), "")


def _read_shape(tensor: _Record) -> tuple[int, ...]:
    shape: list[int] = []
    for field in tensor.fields.get(_DIMS, ()):
        shape += islice(tensor.message.integers(field, "dims"), _MAX_DIMENSIONS + 1)
        if len(shape) > _MAX_DIMENSIONS or not all(0 < size <= _MAX_DIMENSION for size in shape):
            raise tensor.error(f"at most {_MAX_DIMENSIONS} positive dims", "others")
    return tuple(shape)


def _layer_order(nodes: list[_Node]) -> tuple[str, ...]:
    """The public names of the nodes, as the graph lists them; LRN and MaxPool have the number of
    the layer that they follow.
    """
    order: list[str] = []
    layers = iter(CONVOLUTIONS + DENSE)
    for node in nodes:
        if node.operator in ("Conv", "Gemm", "MatMul"):
            order.append(next(layers))
        elif node.operator in _NUMBERED and order:
            order.append(_NUMBERED[node.operator] + order[-1][-1])
    return tuple(order)
