"""ONNX models for tests, encoded by the onnx package, apart from the code under test."""

import numpy as np
import onnx
from onnx import helper, numpy_helper

SHAPES = {
    "conv1": (4, 3, 3, 3),
    "conv2": (6, 2, 3, 3),
    "conv3": (6, 6, 3, 3),
    "conv4": (6, 3, 3, 3),
    "conv5": (5, 3, 3, 3),
    "fc6": (7, 5 * 4),
    "fc7": (8, 7),
    "fc8": (10, 8),
}
REST = [
    "conv3",
    "conv4",
    "conv5",
    "MaxPool",
    "Reshape",
    "fc6",
    "Dropout",
    "fc7",
    "Dropout",
    "fc8",
    "Softmax",
]
ALEXNET = ["conv1", "LRN", "MaxPool", "conv2", "LRN", "MaxPool", *REST]
CAFFENET = ["conv1", "MaxPool", "LRN", "conv2", "MaxPool", "LRN", *REST]


def random_layers(seed=0):
    generator = np.random.default_rng(seed)
    return {
        name: (
            generator.standard_normal(shape, np.float32),
            generator.standard_normal(shape[0], np.float32),
        )
        for name, shape in SHAPES.items()
    }


LAYERS = random_layers()


def tensor_of(array, name):
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def model_of(
    layers=None, order=ALEXNET, dense="Gemm", tensor=tensor_of, names="{}_{}_0", **attributes
):
    """A model of the zoo's form: Caffe2's names, one node after another.

    ``layers``: channels first, ``{name: (OIHW or (out, in), bias)}``, of any size; small random
    ones by default.
    """
    nodes, tensors, data = [], [], "data_0"
    for index, name in enumerate(order):
        output = f"{name}_{index}"
        if name not in SHAPES:
            nodes.append(helper.make_node(name, [data], [output], name=""))
        else:
            weight, bias = (names.format(name, role) for role in "wb")
            kernel, offsets = (layers or LAYERS)[name]
            inputs = [data, weight, bias]
            if name.startswith("conv"):
                nodes.append(
                    helper.make_node("Conv", inputs, [output], strides=[1, 1], pads=[0] * 4)
                )
            elif dense == "MatMul":
                kernel = kernel.T
                nodes.append(helper.make_node("MatMul", inputs[:2], [f"{output}_product"]))
                nodes.append(helper.make_node("Add", [f"{output}_product", bias], [output]))
            else:
                kernel = kernel if attributes.get("transB", 1) else kernel.T
                nodes.append(
                    helper.make_node("Gemm", inputs, [output], **{"transB": 1, **attributes})
                )
            tensors += [tensor(kernel, weight), tensor(offsets, bias)]
        data = output
    graph = helper.make_graph(nodes, "alexnet", [], [], tensors)
    return helper.make_model(graph, ir_version=8)


def write(path, model):
    path.write_bytes(model.SerializeToString())
    return path


def changed(change, **options):
    """The bytes of a good model after ``change(graph)``."""
    model = model_of(**options)
    change(model.graph)
    return model.SerializeToString()


def initializer_of(graph, name):
    return next(tensor for tensor in graph.initializer if tensor.name == name)


def elsewhere(location="outside", offset="0", length="40"):
    """A good model whose fc8 bias is in another file."""

    def change(graph):
        tensor = initializer_of(graph, "fc8_b_0")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=value)

    return changed(change)
