"""Caffe files for tests, encoded by hand from caffe.proto and the published prototxts, apart from
the code under test.

Layers here are in Caffe's order: ``{name: (kernel OIHW or (out, in), bias)}``, float32.
"""

from __future__ import annotations

import gzip
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np

_CONVOLUTIONS = ["conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"]
_CLASSIFIER = ["fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8", "prob"]
ALEXNET_ORDER = [
    "data",
    "conv1",
    "relu1",
    "norm1",
    "pool1",
    "conv2",
    "relu2",
    "norm2",
    "pool2",
    *_CONVOLUTIONS,
    *_CLASSIFIER,
]
CAFFENET_ORDER = [
    "data",
    "conv1",
    "relu1",
    "pool1",
    "norm1",
    "conv2",
    "relu2",
    "pool2",
    "norm2",
    *_CONVOLUTIONS,
    *_CLASSIFIER,
]
ORDERS = {"alexnet": ALEXNET_ORDER, "caffenet": CAFFENET_ORDER}
OUTPUTS = {
    "conv1": 96,
    "conv2": 256,
    "conv3": 384,
    "conv4": 384,
    "conv5": 256,
    "fc6": 4096,
    "fc7": 4096,
}
GEOMETRY = {
    "conv1": (11, 4, 0, 1),
    "conv2": (5, 1, 2, 2),
    "conv3": (3, 1, 1, 1),
    "conv4": (3, 1, 1, 2),
    "conv5": (3, 1, 1, 2),
}  # kernel, stride, padding, groups
TYPES = {
    "data": ("Data", 5),
    "conv": ("Convolution", 4),
    "relu": ("ReLU", 18),
    "norm": ("LRN", 15),
    "pool": ("Pooling", 17),
    "fc": ("InnerProduct", 14),
    "drop": ("Dropout", 6),
    "prob": ("Softmax", 20),
}


def outputs(width=1.0, classes=1000):
    """Filters and units of each layer, as ``Architecture.with_width(width)`` makes them."""
    return {
        name: max(1, round(full * width / 2)) * 2
        if name in GEOMETRY
        else max(1, round(full * width))
        for name, full in OUTPUTS.items()
    } | {"fc8": classes}


def random_layers(seed=0, width=1.0, classes=1000, size=227):
    """Random weights of an AlexNet for (size, size) inputs of about ±100.

    He's scale keeps activations alive; fc8's is smaller by 50, so that prob is not all in one
    class.
    """
    generator = np.random.default_rng(seed)
    layers, inputs = {}, 3
    for name, units in outputs(width, classes).items():
        if name in GEOMETRY:
            kernel, _, _, groups = GEOMETRY[name]
            sizes = (units, inputs // groups, kernel, kernel)
        else:
            sizes = (units, inputs * _pool5_size(size) ** 2 if name == "fc6" else inputs)
        scale = (2 / np.prod(sizes[1:])) ** 0.5 / (50 if name == "fc8" else 1)
        values = generator.standard_normal(sizes, np.float32) * np.float32(scale)
        layers[name] = values, generator.standard_normal(units, np.float32) * np.float32(0.1)
        inputs = units
    return layers


def prototxt(variant="alexnet", classes=1000, width=1.0, size=227, batch=1, last="prob"):
    """The deploy prototxt of BVLC's model zoo for either network, ReLU and dropout in place, up to
    ``last``.
    """
    units, bottom = outputs(width, classes), "data"
    text = [
        f'name: "{variant}"\ninput: "data"\ninput_shape {{ dim: {batch} dim: 3 dim: {size} dim: '
        f"{size} }}"
    ]
    for name in ORDERS[variant][1 : ORDERS[variant].index(last) + 1]:
        kind = name.rstrip("0123456789")
        top = bottom if kind in ("relu", "drop") else name
        text.append(
            f'layer {{ name: "{name}" type: "{TYPES[kind][0]}" bottom: "{bottom}" top: "{top}" '
            f"{_parameters(name, kind, units)} }}"
        )
        bottom = top
    return "\n".join(text) + "\n"


def _parameters(name, kind, units):
    if kind == "conv":
        kernel, stride, pad, group = GEOMETRY[name]
        return (
            f"convolution_param {{ num_output: {units[name]} kernel_size: {kernel} stride: "
            f"{stride} pad: {pad} "
            f"group: {group} }}"
        )
    return {
        "fc": f"inner_product_param {{ num_output: {units.get(name)} }}",
        "norm": "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }",
        "pool": "pooling_param { pool: MAX kernel_size: 3 stride: 2 }",
    }.get(kind, "")


def _pool5_size(size):
    size = (size - 11) // 4 + 1
    for _ in range(3):
        size = -(-(size - 3) // 2) + 1
    return size


def opencv_network(caffemodel, description):
    """What OpenCV's own Caffe importer makes of a weight file and the text of a prototxt."""
    import cv2

    return cv2.dnn.readNetFromCaffe(
        np.frombuffer(description.encode(), np.uint8), np.fromfile(caffemodel, np.uint8)
    )


def write_v1(path, layers, order=ALEXNET_ORDER):
    """A file as the official ones of 2014: V1 ``layers``, the four-number shapes, solver fields
    and all.
    """
    Path(path).write_bytes(
        v1_network([v1_layer(name, layers.get(name)) for name in _listed(layers, order)])
    )
    return path


def write_v2(path, layers, order=ALEXNET_ORDER):
    """A file as Caffe has written it since 2015: V2 ``layer`` and ``shape`` blobs."""
    Path(path).write_bytes(
        v2_network([v2_layer(name, layers.get(name)) for name in _listed(layers, order)])
    )
    return path


def _listed(layers, order):
    weightless = [name for name in order if name not in OUTPUTS and name != "fc8"]
    return [name for name in order if name in layers or name in weightless] + [
        n for n in layers if n not in order
    ]


def v1_network(layers, name="AlexNet"):
    return text(1, name) + b"".join(delimited(2, layer) for layer in layers)


def v2_network(layers, name="AlexNet"):
    return text(1, name) + b"".join(delimited(100, layer) for layer in layers)


def v1_layer(name, weights=None):
    """V1LayerParameter: bottom, top, name, type, blobs, blobs_lr and weight_decay (unpacked
    floats).
    """
    solver = b"".join(unpacked(number, [1, 2]) for number in (7, 8)) if weights else b""
    blobs = b"".join(delimited(6, v1_blob(array)) for array in weights or ())
    return (
        text(2, "below")
        + text(3, name)
        + text(4, name)
        + integer(5, _type(name)[1])
        + blobs
        + solver
    )


def v2_layer(name, weights=None):
    """LayerParameter: name, type, bottom, top, param, blobs."""
    blobs = b"".join(delimited(7, v2_blob(array)) for array in weights or ())
    return (
        text(1, name)
        + text(2, _type(name)[0])
        + text(3, "below")
        + text(4, name)
        + delimited(6, unpacked(3, [1]))
        + blobs
    )


def _type(name):
    return TYPES.get(name.rstrip("0123456789"), TYPES["fc"])


def v1_blob(array):
    """BlobProto with num, channels, height, width, padded with ones in front."""
    sizes = (1,) * (4 - array.ndim) + array.shape
    return b"".join(integer(1 + axis, size) for axis, size in enumerate(sizes)) + packed(5, array)


def v2_blob(array):
    """BlobProto with data before the shape, as protobuf's own serializer orders them."""
    return packed(5, array) + shape(*array.shape)


def shape(*dims):
    """The shape field of a V2 BlobProto."""
    return delimited(7, packed_integers(1, dims))


def varint(value):
    value &= (1 << 64) - 1
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


def integer(number, value):
    return varint(number << 3) + varint(value)


def delimited(number, payload):
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def text(number, value):
    return delimited(number, value.encode())


def packed(number, values, dtype="<f4"):
    return delimited(number, np.asarray(values).astype(dtype).tobytes())


def packed_integers(number, values):
    return delimited(number, b"".join(map(varint, values)))


def unpacked(number, values, code="f"):
    """Every value under a tag of its own: wire type 5 for floats ("f"), 1 for doubles ("d")."""
    tag = varint(number << 3 | {"f": 5, "d": 1}[code])
    return b"".join(tag + struct.pack(f"<{code}", value) for value in np.ravel(values))


def one_layer(*blobs, name=b"\x0a\x05conv1"):
    """A V2 network with a single layer of these encoded blobs."""
    return v2_network([name + b"".join(delimited(7, blob) for blob in blobs)])


def one_blob(blob):
    """A V2 network with a single layer, of this encoded kernel and a sound bias."""
    return one_layer(blob, v2_blob(np.ones(2)))


def shaped(*dims, values=24):
    """A BlobProto that states this shape and holds that many values."""
    return packed(5, np.ones(values)) + shape(*dims)


def saved(array):
    """The bytes of a ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def other_files(network):
    """What stands under the name of a weight file when a download or a checkout went wrong;
    packings of ``network``.
    """
    yield b""
    yield (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:"
        + b"4" * 64
        + b"\nsize 243862418\n"
    )
    for head in (
        b"<!DOCTYPE html>",
        b"<html>",
        b"\n\n  <!doctype html>",
        b"<?xml version='1.0'?>",
        b"<HEAD>",
    ):
        yield head + b"<title>Sign in</title>" * 40
    yield from (
        b'name: "AlexNet"\nlayer {',
        b"layers {\n  name",
        b"input: 'data'",
        b'{"error": "404 Not Found"}',
    )
    yield from (
        b"404: Not Found",
        b"Not Found\n",
        b"%PDF-1.4\n",
        b"\x00" * 512,
        b"\xff" * 512,
        b"\xff\xd8\xff\xe0JFIF",
    )
    yield from (b"\x89HDF\r\n\x1a\n" + bytes(600), b"\x89PNG\r\n\x1a\n" + bytes(60))
    yield from (
        gzip.compress(network, mtime=0),
        pickle.dumps({"conv1": [1, 2]}),
        pickle.dumps([1], 0),
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("w.caffemodel", network)
    yield archive.getvalue()
    yield from (saved(np.ones((2, 3))), saved(np.array([{"conv1": 1}])))
    yield from (np.random.default_rng(seed).bytes(1000) for seed in range(20))
