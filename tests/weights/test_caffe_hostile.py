"""Damaged, foreign and malicious files: always a WeightsError of one line, never much memory."""

import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.weights.caffe_files import (
    delimited,
    integer,
    one_blob,
    one_layer,
    other_files,
    packed,
    saved,
    shape,
    shaped,
    text,
    unpacked,
    v1_blob,
    v1_layer,
    v1_network,
    v2_blob,
    v2_layer,
    v2_network,
    varint,
)
from tests.weights.refusal import assert_refused, mutated, read_or_refuse
from weights.caffe import read_caffemodel, read_mean

KERNEL = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 2, 2)
BIAS = np.float32([0.1, 0.2])
V1_LAYERS = [
    v1_layer("data"),
    v1_layer("conv1", (KERNEL, BIAS)),
    v1_layer("fc7", (KERNEL[0, 0], BIAS)),
]
V2_LAYERS = [
    v2_layer("data"),
    v2_layer("conv1", (KERNEL, BIAS)),
    v2_layer("fc7", (KERNEL[0, 0], BIAS)),
]
V1, V2 = v1_network(V1_LAYERS), v2_network(V2_LAYERS)
MEAN = np.arange(12, dtype=np.float32).reshape(3, 2, 2)


def truncated():
    """Every byte up to the end of the first weighted layer, and random places after it."""
    for network, layers, prefix in ((V1, V1_LAYERS, 1), (V2, V2_LAYERS, 2)):
        boundary = len(network) - len(layers[2]) - 1 - prefix
        yield from (network[:end] for end in range(1, boundary, 1 if network is V1 else 5))
        random = np.random.default_rng(0).integers(boundary + 1, len(network), 20)
        yield from (network[:end] for end in random)


def varints():
    """Lengths and tags that no file can have."""
    for tag in (b"\x0a", b"\x12", b"\xa2\x06", b"\x1a"):
        for length in (2**63, 2**64 - 1, 2**31, 10**6):
            yield tag + varint(length) + V1
        yield tag + b"\xff" * 9 + b"\x7f" + V1
        yield tag + b"\x80" * 11 + V1
        yield tag + b"\xff" * 5
    yield from (b"\xff" * count for count in (1, 9, 10, 11, 1000))
    yield from (b"\x80" * count + b"\x01" + V1 for count in (10, 11, 1000))
    yield from (bytes([wire_type]) + V1 for wire_type in range(8))  # field number 0


def nested():
    """Deep nesting, in groups, in layers and in fields that nobody knows."""
    for depth in (10, 10_000):
        yield b"\x0b" * depth + b"\x0c" * depth
        yield b"\x13" * depth
        for number in (1, 2, 6, 7, 100, 999):
            payload = b""
            for _ in range(depth):
                payload = delimited(number, payload)
            yield payload
            yield v1_network(
                [text(4, "fc8") + delimited(6, payload) + delimited(6, v1_blob(BIAS))]
            )


def wire_types():
    """Known fields in an encoding that they cannot have."""
    floats, bias = packed(5, np.ones(24)), delimited(6, v1_blob(BIAS))
    for number in (2, 100):
        yield from (integer(number, 5), unpacked(number, [1]), unpacked(number, [1], "d"))
    yield from (v1_network([field + bias]) for field in (integer(4, 1), unpacked(4, [1])))
    yield from (
        v1_network([text(4, "fc8") + field + bias]) for field in (integer(6, 1), unpacked(6, [1]))
    )
    for number in (1, 2, 3, 4):
        yield from (
            one_blob(field + floats) for field in (text(number, "x"), unpacked(number, [24]))
        )
    for field in (
        integer(5, 1),
        integer(8, 1),
        unpacked(5, [1], "d"),
        unpacked(8, [1]),
        integer(7, 24),
        delimited(7, unpacked(1, [24])),
        delimited(7, unpacked(1, [24], "d")),
    ):
        yield one_blob(field + shape(2, 12) + floats)
    for size in (1, 2, 3, 95):
        yield from (one_blob(shape(size) + delimited(number, bytes(size))) for number in (5, 8))


def shapes():
    """Shapes that do not fit the values, or are none."""
    for dims in (
        (),
        (0,),
        (-1,),
        (23,),
        (25,),
        (2**62,),
        (-(2**63),),
        (2**32, 2**32),
        (2**31, 2**33, 2, 2),
        (0, 24),
        (-4, -6),
        (2, 3, 2, 3),
        (24, 0, 0, 0),
        (2, 3, 2, 2, 1),
        (1,) * 4 + (24,),
        (1,) * 1000,
    ):
        yield one_blob(shaped(*dims))
        yield one_layer(v2_blob(KERNEL), shaped(*dims, values=2))
    for dims in ((2, 3, 2), (2, 0, 2, 2), (-2, -3, 2, 2), (2**62, 4, 4, 4), (24, -1, -1, 1)):
        numbers = b"".join(integer(1 + axis, size) for axis, size in enumerate(dims))
        yield v1_network(
            [
                text(4, "fc8")
                + delimited(6, numbers + packed(5, KERNEL))
                + delimited(6, v1_blob(BIAS))
            ]
        )
    yield from (one_blob(shaped(*dims)) for dims in ((24,), (2, 3, 4), (3, 8), (24, 1)))
    yield one_layer(v2_blob(KERNEL), v2_blob(KERNEL))
    yield one_layer(v2_blob(KERNEL), v2_blob(np.ones((2, 2))))
    yield v1_network([v1_layer("conv5", (KERNEL, BIAS)), v1_layer("fc6", (np.ones((2, 6)), BIAS))])


def not_finite():
    """NaN and infinity in any place of any encoding."""
    for value in (np.nan, np.inf, -np.inf):
        for index in (0, 11, 23):
            kernel = KERNEL.copy()
            kernel.flat[index] = value
            yield v1_network([v1_layer("conv1", (kernel, BIAS))])
            yield v2_network([V2_LAYERS[1], v2_layer("conv2", (kernel, BIAS))])
        yield one_layer(v2_blob(KERNEL), v2_blob(np.array([0, value])))
        yield one_layer(shape(2, 1) + packed(8, [1, value], "<f8"), v2_blob(BIAS))
        yield one_layer(shape(2, 1) + unpacked(5, [1, value]), v2_blob(BIAS))
        yield one_layer(shape(2, 1) + unpacked(8, [value, 1], "d"), v2_blob(BIAS))
    yield one_layer(shape(2, 1) + packed(8, [1, 1e300], "<f8"), v2_blob(BIAS))


def structure():
    """Well-formed messages that are no network, or one that nobody could hold."""
    yield text(1, "AlexNet")
    yield v1_network([v1_layer("conv1"), v1_layer("fc8")])
    yield v2_network([v2_layer("conv1")])
    yield v1_blob(MEAN)
    yield v1_network([delimited(1, text(1, "conv1") + delimited(50, v1_blob(KERNEL)))])  # V0
    yield v1_network([delimited(1, b"")])
    yield v1_network(V1_LAYERS + V1_LAYERS[1:2])
    yield v2_network(V2_LAYERS[1:2] * 2)
    yield V1 + V2
    yield v2_network([b""] * 2000)
    for count in (1, 3, 1000):
        yield one_layer(*[v2_blob(KERNEL)] * count)
    blobs = delimited(7, v2_blob(KERNEL)) + delimited(7, v2_blob(BIAS))
    for name in (
        b"",
        b"two\nlines",
        b"\x1b[31mred",
        b"\xff\xfe",
        b"conv1\x00",
        "\u2028".encode(),
        b"n" * 256,
        "\u202ereversed".encode(),
    ):
        yield v2_network([delimited(1, name) + blobs])
    yield one_layer(v2_blob(KERNEL), v2_blob(BIAS), name=b"")


def foreign():
    """No Caffe files at all."""
    yield from other_files(V1)


FAMILIES = {  # and what the message has to say
    truncated: r"truncated\?|no layer that has any",
    varints: r"varint of at most 64 bits|truncated\?|field number 0",
    nested: r"wire type 3|no layer that has any|blobs\[0\]",
    wire_types: r"expected (a varint|length and bytes|64 bits|32 bits)|multiple of \d bytes",
    shapes: r"shape of positive numbers|values, got|dimensions|conv5's 2 filters",
    not_finite: r"blobs\[[01]\], byte \d+: expected finite numbers, got (nan|-?inf) at value \d+",
    foreign: r"expected (Caffe's binary protobuf|a protobuf field|weights)|varint of|truncated\?",
    structure: r"V0 encoding|every name once|at most|2 blobs|with weights|layers\[0\], byte \d+: "
    r"expected length",
}
CORPUS = {
    f"{family.__name__}-{index}": (content, saying)
    for family, saying in FAMILIES.items()
    for index, content in enumerate(family())
}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_family_has_ten_members_or_more(family):
    assert len(set(family())) >= 10


@pytest.mark.parametrize(("content", "saying"), CORPUS.values(), ids=CORPUS)
def test_hostile_caffemodel_is_refused_in_one_line(tmp_path, content, saying):
    path = tmp_path / "w.caffemodel"
    path.write_bytes(content)
    assert re.search(saying, assert_refused(read_caffemodel, path))


def hostile_means():
    """Damaged and foreign mean files, .binaryproto and .npy."""
    npy, blob = saved(MEAN), v1_blob(MEAN)
    yield from (npy[:end] for end in range(0, len(npy), 9))
    yield from (blob[:end] for end in range(0, len(blob), 5))
    for array in (
        MEAN[:2],
        MEAN[0],
        MEAN[None, None],
        MEAN - 20,
        MEAN * 100,
        MEAN / 0.0001,
        MEAN[:, :0],
        np.float32(3),
        MEAN + np.nan,
        MEAN + np.inf,
        MEAN.astype(str),
        MEAN.astype(complex),
        MEAN > 3,
        MEAN.astype(object),
        MEAN.astype("datetime64[s]"),
        np.zeros((3, 1, 2049), "u1"),
        np.zeros(3, [("a", "<f4")]),
        np.zeros((3, 2, 2, 2)),
    ):
        yield saved(array)
    for header in (
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 999999999999, 999999999999), }",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, -1, 2), }",
        b"(" * 9000,
        b"[" * 500,
        b"{}",
        b"{'descr': (), 'fortran_order': False, 'shape': (3,), }",
        b"__import__('os').system('false')",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
        b"\xff\xfe",
        b"'" * 77,
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 2L, 2L, 3L), }",
    ):
        yield b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(48)
    yield from (np.random.default_rng(seed).bytes(500) for seed in range(10))
    yield from (
        V1,
        V2,
        v1_blob(KERNEL),
        v1_blob(MEAN * 100),
        v1_blob(MEAN * np.nan),
        v2_blob(MEAN[:2]),
    )
    yield from (content for content in other_files(V1) if content[:6] != b"\x93NUMPY")


@pytest.mark.parametrize("content", list(hostile_means()))
def test_hostile_mean_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "mean"
    path.write_bytes(content)
    assert_refused(read_mean, path)


@pytest.mark.parametrize("read", [read_caffemodel, read_mean])
@pytest.mark.parametrize("name", ["absent", "folder", "file/below", "n" * 300, "loop"])
def test_no_file_there(tmp_path, read, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(V1)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert_refused(read, tmp_path / name)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (V1[:100], r"byte 35: expected 171 bytes of field 2, got 65 \(truncated\?\)"),
        (
            b"\x0a" + b"\xff" * 9 + b"\x02",
            "byte 1: expected a varint of at most 64 bits, got a longer one",
        ),
        (
            b"\x0a\x80",
            r"byte 1: expected a varint of at most 64 bits, got the end \(truncated\?\)",
        ),
        (
            one_layer(v2_blob(KERNEL), v2_blob(np.array([0, np.nan]))),
            r"layer\[0\] conv1 blobs\[1\], byte \d+: expected finite numbers, got nan at value 1",
        ),
        (
            v1_network(
                [V1_LAYERS[0], text(4, "conv2") + delimited(6, integer(1, 7) + packed(5, [1, 2]))]
            ),
            r"layers\[1\] conv2, byte \d+: expected a name and 2 blobs",
        ),
        (
            one_layer(shaped(2, 3, 2, 3), v2_blob(BIAS)),
            r"layer\[0\] conv1 blobs\[0\], byte \d+: expected 2x3x2x3 = 36 values, got 24",
        ),
        (
            one_layer(delimited(5, bytes(7)) + shape(1), v2_blob(BIAS)),
            r"layer\[0\] conv1 blobs\[0\] data, byte \d+: expected a multiple of 4 bytes, got 7",
        ),
        (
            v1_network([delimited(1, b"")]),
            r"layers\[0\], byte \d+: expected V1 or V2 layers, got the V0 encoding",
        ),
        (b"version https://git-lfs.github.com/spec/v1\n", "got a Git-LFS pointer"),
        (b"<!DOCTYPE html><title>Sign in", "got an HTML page"),
    ],
)
def test_message_names_the_place(tmp_path, content, expected):
    path = tmp_path / "w.caffemodel"
    path.write_bytes(content)
    assert re.search(expected, assert_refused(read_caffemodel, path))


SMALL = delimited(7, v1_blob(np.ones(1)))
AMPLIFIERS = {
    "empty layers": lambda count: v2_network([b""] * count),
    "named layers": lambda count: v1_network([text(4, "prob")] * count),
    "weighted layers": lambda count: v2_network(
        [text(1, f"{index}") + SMALL + SMALL for index in range(2000)]
    ),
    "empty blobs": lambda count: one_layer(*[b""] * count),
    "dimensions": lambda count: one_blob(shaped(*[1] * count)),
    "shapes": lambda count: one_blob(delimited(7, integer(1, 1)) * count),
    "values one by one": lambda count: one_blob(packed(5, [1]) * count + shape(7)),
    "values between others": lambda count: one_blob(
        (unpacked(5, [1]) + unpacked(6, [1])) * count + shape(7)
    ),
    "unpacked values": lambda count: one_blob(unpacked(5, [1]) * count + shape(7)),
    "doubles": lambda count: one_blob(packed(8, np.full(count, np.nan), "<f8") + shape(count)),
    "unknown fields": lambda count: integer(15, 1) * count,
    "long name": lambda count: one_layer(name=text(1, "\U0001f600" + "n" * 4 * count)),
}


@pytest.mark.parametrize("make", AMPLIFIERS.values(), ids=AMPLIFIERS)
def test_memory_stays_in_proportion_to_the_file(tmp_path, make):
    path = tmp_path / "w.caffemodel"
    path.write_bytes(make(10_000))
    tracemalloc.start()
    assert_refused(read_caffemodel, path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * path.stat().st_size + (10 << 20)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 2**12),
        st.integers(1, 40),
        st.integers(0, 255),
        st.sampled_from(["set", "cut", "double"]),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None)
@given(base=st.sampled_from([V1, V2]), edits=EDITS)
def test_mutated_network_is_read_or_refused(tmp_path_factory, base, edits):
    path = tmp_path_factory.getbasetemp() / "mutated.caffemodel"
    path.write_bytes(mutated(base, edits))
    found = read_or_refuse(read_caffemodel, path)
    for kernel, bias in found.layers.values() if found else ():
        assert kernel.dtype == bias.dtype == np.float32
        assert np.isfinite(kernel).all()
        assert bias.shape == kernel.shape[-1:]


@settings(max_examples=300, deadline=None)
@given(base=st.sampled_from([saved(MEAN), v1_blob(MEAN), v2_blob(MEAN)]), edits=EDITS)
def test_mutated_mean_is_read_or_refused(tmp_path_factory, base, edits):
    path = tmp_path_factory.getbasetemp() / "mutated.mean"
    path.write_bytes(mutated(base, edits))
    mean = read_or_refuse(read_mean, path)
    if mean is not None:
        assert mean.shape[-1] == 3
        assert mean.dtype == np.float32
        assert 0 <= mean.min() <= mean.max() <= 255


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    path.write_bytes(content)
    assert_refused(read_caffemodel, path)
