"""The network as an ONNX model with the LRN operator, for the runtimes that read ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    Architecture,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Normalization,
    Pooling,
)
from weights.canonical import Layers, to_channels_first

OPSET = 17
IR_VERSION = 8


def onnx_model(architecture: Architecture, weights: Layers, batch_size: int) -> bytes:
    """A serialized model from ``input`` (batch, 3, size, size) to ``fc8`` (batch, classes), with a
    fixed batch size.
    """
    arrays = to_channels_first(weights, Path("random"))
    nodes = []
    at = "input"
    for layer in (*architecture.layers, Dense(FINAL_LAYER, len(weights[FINAL_LAYER][1]))):
        for node in _nodes(layer, at):
            nodes.append(node)
            at = node.output[0]
    size = architecture.input_size
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(array), f"{name}_{kind}")
        for name, pair in arrays.items()
        for kind, array in zip(("kernel", "bias"), pair, strict=True)
    ]
    graph = helper.make_graph(
        nodes,
        architecture.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch_size, 3, size, size])],
        [
            helper.make_tensor_value_info(
                FINAL_LAYER, TensorProto.FLOAT, [batch_size, len(weights[FINAL_LAYER][1])]
            )
        ],
        initializers,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _nodes(layer, source: str) -> list[onnx.NodeProto]:
    match layer:
        case Convolution(name, _, kernel, stride, padding, groups):
            return _with_relu(
                helper.make_node(
                    "Conv",
                    [source, f"{name}_kernel", f"{name}_bias"],
                    [name],
                    group=groups,
                    kernel_shape=[kernel] * 2,
                    strides=[stride] * 2,
                    pads=[padding] * 4,
                )
            )
        case Normalization(name, radius, bias, alpha, beta):
            window = 2 * radius + 1
            return [
                helper.make_node(
                    "LRN",
                    [source],
                    [name],
                    size=window,
                    alpha=alpha * window,
                    beta=beta,
                    bias=bias,
                )
            ]
        case Pooling(name, size, stride):
            return [
                helper.make_node(
                    "MaxPool", [source], [name], kernel_shape=[size] * 2, strides=[stride] * 2
                )
            ]
        case Flatten(name):
            return [helper.make_node("Flatten", [source], [name])]
        case Dense(name, _):
            inputs = [source, f"{name}_kernel", f"{name}_bias"]
            dense = helper.make_node("Gemm", inputs, [name], transB=1)
            return [dense] if name == FINAL_LAYER else _with_relu(dense)
        case Dropout():
            return []


def _with_relu(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    return [node, helper.make_node("Relu", list(node.output), [f"{node.output[0]}_relu"])]


def channels_first(images: np.ndarray) -> np.ndarray:
    """(batch, height, width, 3) -> (batch, 3, height, width)."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
