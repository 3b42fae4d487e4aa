"""MatConvNet's .mat files against SciPy's own reader and writer, and hostile twins."""

import functools
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weights.caffe_files import random_layers
from tests.weights.npy_files import save
from tests.weights.refusal import (
    EDITS,
    assert_memory_in_proportion,
    assert_refused,
    mutated,
    read_or_refuse,
)
from weights.canonical import from_channels_first
from weights.formats import detect_format
from weights.matconvnet import read_mat, write_mat

LAYERS = from_channels_first(random_layers(3, width=1 / 64, classes=7, size=131), Path())
ORDER = ("conv1", "norm1", "pool1", "conv2", "norm2", "pool2", "conv3", "conv4", "conv5", "pool5")
ORDER += ("fc6", "fc7", "fc8", "prob")
CAFFENET = ("conv1", "pool1", "norm1", "conv2", "pool2", "norm2")
TYPES = {"conv": "conv", "fc": "conv", "norm": "normalize", "pool": "pool", "prob": "softmax"}


def cells(items):
    row = np.empty((1, len(items)), object)
    for index, item in enumerate(items):
        row[0, index] = item
    return row


def filters(name, layers=LAYERS, dtype=np.float32):
    """Filters and biases of MatConvNet: all of them (height, width, in, out)."""
    kernel, bias = layers[name]
    if kernel.ndim == 2:
        channels = layers["conv5"][0].shape[-1] if name == "fc6" else len(kernel)
        side = round((len(kernel) / channels) ** 0.5)
        kernel = kernel.reshape(side, side, channels, -1)
    return kernel.astype(dtype), bias.astype(dtype)[None]


def simplenn(order=ORDER, old=False, layers=LAYERS, dtype=np.float32, names=lambda name: name):
    """A network as MatConvNet's importer hands it to SciPy."""
    found = []
    for name in order:
        layer = {"name": names(name), "type": TYPES[name.rstrip("0123456789")]}
        if layer["type"] == "conv":
            pair = filters(name, layers, dtype)
            layer |= {"filters": pair[0], "biases": pair[1]} if old else {"weights": cells(pair)}
        found += [layer, {"name": f"relu_{name}", "type": "relu"}]
    return {"layers": cells(found)}


def dagnn():
    layers = np.zeros((1, len(LAYERS)), [(name, object) for name in ("name", "type", "params")])
    params = np.zeros((1, 2 * len(LAYERS)), [("name", object), ("value", object)])
    for index, name in enumerate(LAYERS):
        both = (f"{name}f", f"{name}b")
        layers[0, index] = (name, "dagnn.Conv", cells(both))
        for role, (param, value) in enumerate(zip(both, filters(name), strict=True)):
            params[0, 2 * index + role] = (param, value)
    return {"net": {"layers": layers, "params": params}}


def written(path, network, **options):
    scipy.io.savemat(path, network, **options)
    return path


def assert_same(found, expected=LAYERS):
    assert list(found) == sorted(expected)
    for name, pair in expected.items():
        for read, wanted in zip(found[name], pair, strict=True):
            assert read.dtype == np.float32
            assert np.array_equal(read, wanted)
            assert read.shape == wanted.shape


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize(
    "network",
    [
        lambda dtype: simplenn(dtype=dtype),
        lambda dtype: simplenn(old=True, dtype=dtype),
        lambda dtype: {"net": simplenn(dtype=dtype)},
        lambda dtype: dagnn(),
    ],
    ids=["weights", "filters", "one struct", "DagNN"],
)
def test_what_scipy_writes(tmp_path, network, dtype, compressed):
    path = written(tmp_path / "w.mat", network(dtype), do_compression=compressed)
    assert detect_format(path).format == "mat"
    found = read_mat(path)
    assert_same(found.layers)
    assert (found.file_format, found.variant, found.channel_order) == ("mat", None, "RGB")


@pytest.mark.parametrize("start", [ORDER[:6], CAFFENET])
def test_the_order_of_normalization_and_pooling(tmp_path, start):
    order = (*start, *ORDER[6:])
    shouted = read_mat(written(tmp_path / "w.mat", simplenn(order, names=str.upper)))
    assert shouted.layer_order == order[:-1]
    assert read_mat(written(tmp_path / "w.mat", simplenn(order))).layer_order == order
    assert_same(shouted.layers)


def test_mean_image_and_class_names(tmp_path):
    image = np.linspace(0, 255, 5 * 5 * 3, dtype=np.float32).reshape(5, 5, 3)
    classes = {"name": cells(["n01", "n02"]), "description": cells(["tench", "goldfish é"])}
    meta = {"normalization": {"averageImage": image}, "classes": classes}
    for network in (simplenn() | meta, simplenn() | {"meta": meta}):
        found = read_mat(written(tmp_path / "w.mat", network))
        assert np.array_equal(found.mean, image)
        assert found.class_names == ("tench", "goldfish é")
    colour = {"normalization": {"averageImage": np.array([[[1.0, 2.0, 3.0]]])}}
    assert read_mat(written(tmp_path / "w.mat", simplenn() | colour)).mean.tolist() == [1, 2, 3]
    nothing = {"normalization": {"averageImage": np.zeros((0, 0))}, "classes": np.zeros((0, 0))}
    found = read_mat(written(tmp_path / "w.mat", simplenn() | nothing))
    assert (found.mean, found.class_names) == (None, ())


def test_scipy_reads_what_is_written(tmp_path):
    fields = {"conv1": {"stride": 4.0, "relu": True}, "pool1": {"method": "max"}}
    write_mat(tmp_path / "w.mat", LAYERS, ORDER, "caffenet", fields)
    loaded = scipy.io.loadmat(tmp_path / "w.mat", simplify_cells=True)
    types = [(layer["name"], layer["type"]) for layer in loaded["layers"]]
    assert types[:4] == [("conv1", "conv"), ("relu1", "relu"), ("norm1", "lrn"), ("pool1", "pool")]
    assert loaded["meta"]["variant"] == "caffenet"
    for layer in loaded["layers"]:
        if layer["type"] == "conv":
            kernel, bias = layer["weights"]
            assert np.array_equal(
                kernel.reshape(LAYERS[layer["name"]][0].shape), LAYERS[layer["name"]][0]
            )
            assert np.array_equal(bias, LAYERS[layer["name"]][1])
    assert loaded["layers"][0]["stride"] == 4
    assert loaded["layers"][3]["method"] == "max"


def test_round_trip_copies_only_fc6(tmp_path):
    write_mat(tmp_path / "w.mat", LAYERS, ORDER, "paper")
    found = read_mat(tmp_path / "w.mat")
    assert_same(found.layers)
    assert (found.layer_order, found.variant) == (ORDER, "paper")
    for name, (kernel, _) in found.layers.items():
        base = kernel
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert base.flags.writeable == (name == "fc6")
    before = (tmp_path / "w.mat").read_bytes()
    write_mat(tmp_path / "w.mat", LAYERS, ORDER, "paper")
    assert (tmp_path / "w.mat").read_bytes() == before


def test_whole_numbers_as_matlab_stores_them(tmp_path):
    """MATLAB keeps zeros(1, 8, 'single') as bytes."""
    layers = {name: (kernel, np.zeros_like(bias)) for name, (kernel, bias) in LAYERS.items()}
    network = simplenn(layers=layers)
    for layer in network["layers"][0]:
        if "weights" in layer:
            layer["weights"][0, 1] = layer["weights"][0, 1].astype(np.uint8)
    assert_same(read_mat(written(tmp_path / "w.mat", network)).layers, layers)


def test_trailing_sizes_of_1_that_matlab_leaves_out(tmp_path):
    network = simplenn()
    fc8 = network["layers"][0, -4]
    fc8["weights"][0, 0] = fc8["weights"][0, 0][..., 0]
    fc8["weights"][0, 1] = fc8["weights"][0, 1][:, :1]
    kernel, bias = LAYERS["fc8"]
    found = read_mat(written(tmp_path / "w.mat", network))
    assert_same(found.layers, LAYERS | {"fc8": (kernel[:, :1], bias[:1])})


def element(kind, data, order="<"):
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(kind, shape, content=b"", name=b"", flags=0, order="<"):
    return element(
        14,
        element(6, struct.pack(f"{order}II", kind | flags, 0), order)
        + element(5, struct.pack(f"{order}{len(shape)}i", *shape), order)
        + element(1, name, order)
        + content,
        order,
    )


def numbers(shape, values=None, kind=7, code="f4", order="<", flags=0):
    values = np.ones(int(np.prod(shape))) if values is None else np.asarray(values)
    data = values.astype(order + code).tobytes()
    return matrix(kind, shape, element(kind, data, order), flags=flags, order=order)


def characters(text, order="<"):
    return matrix(
        4,
        (1, len(text)),
        element(4, text.encode(f"utf-16-{'lb'[order == '>']}e"), order),
        order=order,
    )


def struct_of(fields, name=b"", order="<"):
    names = b"".join(key.encode().ljust(32, b"\0") for key in fields)
    content = element(5, struct.pack(f"{order}i", 32), order) + element(1, names, order)
    return matrix(2, (1, 1), content + b"".join(fields.values()), name, order=order)


def cell(*members, name=b"", order="<"):
    return matrix(1, (1, len(members)), b"".join(members), name, order=order)


def layer(name="fc8", kind="conv", kernel=None, bias=None, order="<", **fields):
    kernel = numbers((1, 1, 3, 2), order=order) if kernel is None else kernel
    bias = numbers((1, 2), order=order) if bias is None else bias
    fields = fields or {"weights": cell(kernel, bias, order=order)}
    both = {"name": characters(name, order), "type": characters(kind, order)}
    return struct_of(both | fields, order=order)


def file(*variables, version=None, order="<"):
    tail = {"<": b"\x00\x01IM", ">": b"\x01\x00MI"}[order] if version is None else version
    return b"MATLAB 5.0 MAT-file".ljust(124) + tail + b"".join(variables)


def network(*layers):
    return file(cell(*layers, name=b"layers"))


def packed(variable, announced=None):
    data = zlib.compress(
        variable if announced is None else variable[:4] + announced + variable[8:]
    )
    return struct.pack("<II", 15, len(data)) + data


@functools.cache
def nested(depth):
    inner = numbers((1, 1))
    for _ in range(depth):
        inner = cell(inner)
    return inner


GOOD = network(layer())
VARIABLE = cell(layer(), name=b"layers")


def test_big_endian_files(tmp_path):
    content = file(cell(layer(order=">"), name=b"layers", order=">"), order=">")
    found = read_mat(save(tmp_path / "w.mat", content))
    assert_same(found.layers, {"fc8": (np.ones((3, 2), np.float32), np.ones(2, np.float32))})


CORPUS = {
    "empty": b"",
    "header alone": GOOD[:128],
    "version 7.3": file(version=b"\x00\x02IM"),
    "version 4": GOOD[128:],
    "no layers": file(cell(layer(), name=b"others")),
    "layers of no struct": network(numbers((1, 1))),
    "layers that are numbers": file(matrix(7, (1, 1), element(7, bytes(4)), b"layers")),
    "layers twice": file(VARIABLE, VARIABLE),
    "no type": network(struct_of({"name": characters("fc8")})),
    "a type that is a number": network(
        struct_of({"name": characters("fc8"), "type": numbers((1, 1))})
    ),
    "one name twice": network(layer(), layer()),
    "no weights": network(layer(other=numbers((1, 1)))),
    "filters alone": network(layer(filters=numbers((1, 1, 3, 2)))),
    "three weights": network(layer(weights=cell(*[numbers((1, 1))] * 3))),
    "weights that are a struct": network(layer(weights=struct_of({}))),
    "cells in cells": network(layer(weights=cell(nested(3), numbers((1, 2))))),
    "cells too deep": network(layer(weights=cell(nested(20_000), numbers((1, 2))))),
    "layers too deep": network(nested(20_000)),
    "an object": network(layer(kernel=matrix(3, (1, 1)))),
    "a function": network(layer(kernel=matrix(16, (1, 1)))),
    "an opaque object": network(layer(kernel=element(14, element(6, bytes([17] + [0] * 7))))),
    "sparse": network(layer(kernel=matrix(5, (1, 1)))),
    "text for numbers": network(layer(kernel=characters("abc"))),
    "complex": network(layer(kernel=numbers((1, 1, 3, 2), flags=1 << 11))),
    "larger shape": network(layer(kernel=numbers((1, 1, 3, 3), np.ones(6)))),
    "huge shape": network(layer(kernel=numbers((2**30, 2**30, 1, 1), np.ones(6)))),
    "negative shape": network(layer(kernel=matrix(7, (-1, -6), element(7, bytes(24))))),
    "a bias of no dimension": network(layer(bias=matrix(7, (), element(7, bytes(4))))),
    "a mean of no dimension": file(
        VARIABLE,
        struct_of({"averageImage": matrix(7, (), element(7, bytes(4)))}, name=b"normalization"),
    ),
    "nine dimensions": network(layer(kernel=numbers((1,) * 9))),
    "five dimensions": network(layer(kernel=numbers((1, 1, 3, 2, 1)))),
    "no elements": network(layer(kernel=numbers((0, 1, 3, 2)))),
    "empty matrix": network(layer(kernel=element(14, b""))),
    "biases of another length": network(layer(bias=numbers((2, 2)))),
    "biases missing": network(layer(bias=element(14, b""))),
    "NaN": network(layer(kernel=numbers((1, 1, 1, 1), [np.nan]), bias=numbers((1, 1)))),
    "Inf": network(layer(kernel=numbers((1, 1, 1, 1), [1e300], 9, "f8"), bias=numbers((1, 1)))),
    "many integers": network(layer(kernel=numbers((1, 1, 2**11, 2**10), np.ones(2**21), 2, "u1"))),
    "numbers of no type": network(layer(kernel=matrix(7, (1, 1), element(99, bytes(4))))),
    "many cells": file(matrix(1, (2**15, 2**15), name=b"layers")),
    "cells that are missing": file(matrix(1, (1, 3), layer(), b"layers")),
    "many structs": network(
        matrix(
            2, (2**15, 2**15), element(5, struct.pack("<i", 32)) + element(1, b"name".ljust(32))
        )
    ),
    "two structs in one": network(
        matrix(2, (1, 2), element(5, struct.pack("<i", 32)) + element(1, b"a".ljust(32, b"\0")))
    ),
    "names of no length": network(
        matrix(2, (1, 1), element(5, struct.pack("<i", 0)) + element(1, b"name"))
    ),
    "a name with a line feed": network(layer(name="fc\n8")),
    "a variable with a line feed": file(cell(layer(), name=b"lay\ners"), VARIABLE),
    "a long name": network(layer(name="f" * 2000)),
    "an element of no type": file(element(77, bytes(16)), VARIABLE),
    "no matrix": network(element(7, bytes(8))),
    "size beyond the end": GOOD[:132] + b"\xff\xff\xff\x7f" + GOOD[136:],
    "no zlib": file(struct.pack("<II", 15, 16) + bytes(16)),
    "half a zlib stream": file(struct.pack("<II", 15, 30) + packed(VARIABLE)[8:38]),
    "zlib of nothing": file(packed(b"")),
    "zlib of no matrix": file(packed(element(7, bytes(8)))),
    "zlib of less": file(packed(VARIABLE, struct.pack("<I", len(VARIABLE) + 8))),
    "zlib of more": file(packed(VARIABLE, struct.pack("<I", len(VARIABLE) - 16))),
    "zlib of 2 GB": file(packed(VARIABLE, b"\xff\xff\xff\x7f")),
    "checksum": file(packed(VARIABLE)[:-1] + b"\0"),
    "a mean beyond grey": file(
        VARIABLE,
        struct_of({"averageImage": numbers((1, 1, 3), [1, 2, 300])}, name=b"normalization"),
    ),
    "a mean of NaN": file(
        VARIABLE,
        struct_of({"averageImage": numbers((1, 1, 3), [1, 2, np.nan])}, name=b"normalization"),
    ),
    "classes that are numbers": file(
        VARIABLE, struct_of({"description": numbers((1, 1))}, name=b"classes")
    ),
    "a variant of two lines": file(
        VARIABLE, struct_of({"variant": characters("alex\nnet")}, name=b"meta")
    ),
}


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
def test_hostile_file_is_refused_in_one_line(tmp_path, content):
    assert_refused(read_mat, save(tmp_path / "w.mat", content))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cells too deep", "layers{1}.weights{1}: expected an array of real numbers, got a cell"),
        ("an object", "layers{1}.weights{1}: expected an array of real numbers, got an object"),
        ("huge shape", "layers{1}.weights{1}: expected "),
        ("NaN", "fc8 kernel[0, 0]: expected a finite float32, got nan"),
        (
            "zlib of 2 GB",
            "expected variables not much larger than the file, got one of 2147483647",
        ),
        ("no layers", "expected a MatConvNet network with layers, got no struct"),
        ("many cells", "layers: expected at most 10000 members, got 1073741824"),
    ],
)
def test_message_names_the_place(tmp_path, name, expected):
    assert expected in assert_refused(read_mat, save(tmp_path / "w.mat", CORPUS[name]))


def test_version_7_3_says_how_to_save_instead(tmp_path):
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    content = head.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + bytes(500)
    assert assert_refused(detect_format, save(tmp_path / "w.mat", content)) == (
        "expected a weight file, got a MATLAB file of version 7.3 (save(..., '-v7') writes one "
        "that can be read)"
    )


@pytest.mark.parametrize("content", [GOOD, file(packed(VARIABLE))])
def test_truncated_at_every_byte(tmp_path, content):
    for end in range(len(content)):
        assert_refused(read_mat, save(tmp_path / "w.mat", content[:end]))


@settings(max_examples=300, deadline=None)
@given(edits=EDITS, base=st.sampled_from([GOOD, file(packed(VARIABLE))]))
def test_mutated_file_is_read_or_refused(tmp_path_factory, edits, base):
    path = save(tmp_path_factory.getbasetemp() / "mutated.mat", mutated(base, edits))
    found = read_or_refuse(read_mat, path)
    for pair in found.layers.values() if found else ():
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in pair)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(tmp_path_factory, content):
    path = save(tmp_path_factory.getbasetemp() / "arbitrary.mat", file(content))
    assert_refused(read_mat, path)


def test_arrays_that_two_layers_share_are_refused(tmp_path):
    """A fully connected layer is copied: one array named a thousand times would fill the
    memory.
    """
    network = dagnn()
    params = network["net"]["layers"]["params"]
    params[0, -1] = params[0, -2]
    assert_refused(read_mat, written(tmp_path / "w.mat", network))


def large(values, side=1):
    """A file of one layer, fc6, with that many values."""
    kernel = numbers((side, side, values // (side * side * 1000), 1000), np.arange(values) % 251)
    return cell(layer("fc6", kernel=kernel, bias=numbers((1, 1000))), name=b"layers")


def test_memory_stays_in_proportion(tmp_path):
    variable = large(9_000_000, side=6)
    path = save(tmp_path / "w.mat", file(variable))
    assert_memory_in_proportion(read_mat, path, "WeightSet")
    noise = np.random.default_rng(0).random(4_500_000, np.float32)
    kernel = matrix(7, (6, 6, 125, 1000), element(7, noise.tobytes()))
    variable = cell(layer("fc6", kernel=kernel, bias=numbers((1, 1000))), name=b"layers")
    assert_memory_in_proportion(read_mat, save(path, file(packed(variable))), "WeightSet")


@pytest.mark.slow
def test_memory_stays_in_proportion_to_a_bomb(tmp_path):
    content = file(packed(large(25_000_000)))
    assert len(content) < 1_000_000
    assert_memory_in_proportion(read_mat, save(tmp_path / "w.mat", content))
    cells_of_nothing = matrix(1, (1, 2**20), element(14, b"") * 2**20, b"layers")
    assert_memory_in_proportion(read_mat, save(tmp_path / "w.mat", file(cells_of_nothing)))
