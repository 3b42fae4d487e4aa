"""Hostile pickled .npy files: headers, contents, values and array states that no NumPy wrote."""

import numpy as np
import pytest

from tests.weights.npy_files import (
    array_of,
    byte_string,
    dtype,
    npy_around,
    npy_header,
    plain_array,
    save,
    shape_tuple,
)
from tests.weights.refusal import assert_memory_in_proportion, assert_refused
from weights.numpy_pickle import read_npy

ONES = {"kernel": np.ones((2, 2), "f4"), "bias": np.ones(2, "f4")}
KERNEL, BIAS = plain_array(ONES["kernel"]), plain_array(ONES["bias"])
PAIR = b"](" + KERNEL + BIAS + b"e"


def one_layer(kernel=KERNEL, bias=BIAS, name=b"fc8"):
    return layers(byte_string(name) + b"](" + kernel + bias + b"e")


def layers(items):
    return npy_around(b"}(" + items + b"u")


def shaped(*shape, code=b"f4"):
    return plain_array(np.ones(shape, code.decode()), code=code)


def claiming(shape, count=4, code=b"f4", order=b"<"):
    """A kernel that says it has this shape and dtype, over ``count`` float32."""
    return one_layer(plain_array(np.ones(count, "f4"), shape, code, order))


def state(values):
    return one_layer(array_of(b"(K\x01" + values + b"tb"))


def with_value(value, role, position):
    array = ONES[role].copy()
    array.reshape(-1)[position] = value
    return one_layer(**{role: plain_array(array)})


def headed(text, version=1):
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + len(text).to_bytes(2 if version == 1 else 4, "little")
        + text
    )


GOOD = one_layer()
F4, O8 = dtype(b"f4", b"<"), dtype(b"O8", b"|")
PLAIN = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"
HEADERS = {
    "empty": b"",
    "magic alone": b"\x93NUMPY",
    "magic and version": b"\x93NUMPY\x01\x00",
    "length cut": b"\x93NUMPY\x01\x00\x76",
    "version 0": headed(PLAIN, 0),
    "version 9": headed(PLAIN, 9),
    "a plain array": headed(PLAIN) + bytes(12),
    "no dictionary": headed(b"[1, 2]"),
    "no shape": headed(b"{'descr': '|O', 'fortran_order': False}"),
    "code": headed(b"__import__('os').system('touch canary')"),
    "deep": headed(b"(" * 2000),
    "minuses": headed(b"-" * 3000 + b"1"),
    "huge length": b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(200),
    "long": headed(PLAIN.ljust(9000), 2),
    "nulls": headed(bytes(50)),
    "high bytes": headed(b"\xff" * 50),
    "huge shape": headed(PLAIN.replace(b"3", b"9" * 30)),
    "negative shape": headed(PLAIN.replace(b"3", b"-3")),
    "structured": headed(PLAIN.replace(b"'<f4'", b"[('a', '|O')]")),
    "number as order": headed(PLAIN.replace(b"False", b"0.5")),
    "objects (2,)": npy_header(b"{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"),
    "no pickle": npy_header(),
    "integers": headed(PLAIN.replace(b"f4", b"i4")),
    "unhashable": headed(b"{[]: 1}"),
    "line feed": headed(b"{'\n': 1}"),
    "LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    "page": b"<!DOCTYPE html><html>" * 20,
    "zip": b"PK\x03\x04" + bytes(40),
    "all zero": bytes(1000),
}
CONTENTS = {
    "no layers": npy_around(b"}"),
    "a list": npy_around(b"]"),
    "a number": npy_around(b"K\x01"),
    "none": npy_around(b"N"),
    "an array": npy_around(BIAS),
    "integer keys": layers(b"K\x01" + PAIR),
    "a layer of None": layers(b"U\x03fc8N"),
    "an empty layer": layers(b"U\x03fc8]"),
    "one array": layers(b"U\x03fc8](" + KERNEL + b"e"),
    "three arrays": layers(b"U\x03fc8](" + KERNEL * 3 + b"e"),
    "other keys": layers(b"U\x03fc8}(U\x01wK\x01U\x01bK\x02u"),
    "a layer twice": layers((b"U\x03fc8" + PAIR) * 2),
    "name with a line feed": one_layer(name=b"fc\n8"),
    "name of a path": one_layer(name=b"../fc8"),
    "empty name": one_layer(name=b""),
    "long name": one_layer(name=b"f" * 200),
    "name of bells": one_layer(name=b"\x07\x1b[2J"),
    "numbers for arrays": one_layer(b"K\x01", b"K\x02"),
    "kernel of 3 dimensions": one_layer(shaped(2, 2, 2)),
    "kernel of 1 dimension": one_layer(shaped(2)),
    "bias of 2 dimensions": one_layer(bias=shaped(2, 2)),
    "empty kernel": one_layer(shaped(0, 2)),
    "empty bias": one_layer(bias=shaped(0)),
    "objects inside": state(b")" + O8 + b"\x89](Ne"),
    "an array without state": one_layer(array_of(b"")),
}
VALUES = {
    f"{value} in {role} {position}": with_value(value, role, position)
    for value in (np.nan, np.inf, -np.inf)
    for role, position in (("kernel", 0), ("kernel", 3), ("bias", 1))
} | {
    "float64 too large": one_layer(plain_array(np.full((2, 2), 1e300), code=b"f8")),
    "NaN of float16": one_layer(plain_array(np.full((2, 2), np.nan, "f2"), code=b"f2")),
}
STATES = {
    "too few bytes": claiming((2, 2), 3),
    "too many bytes": claiming((2, 2), 5),
    "no bytes": claiming((2, 2), 0),
    "huge shape": claiming((1 << 40, 1 << 40)),
    "product of 0 modulo 2**64": claiming((1 << 32, 1 << 32), 0),
    "negative shape": claiming((-2, -2)),
    "size beyond 64 bits": claiming((1 << 100, 1)),
    "33 dimensions": claiming((1,) * 33, 1),
    "dtype i8": claiming((2, 1), code=b"i8"),
    "dtype V": claiming((2, 2), code=b"V99999999"),
    "dtype S": claiming((2, 1), code=b"S8"),
    "dtype of two fields": claiming((2, 2), code=b"f4,O"),
    "byte order x": claiming((2, 2), order=b"x"),
    "byte order <>": claiming((2, 2), order=b"<>"),
    "shape of floats": state(b"G?\xf0" + bytes(6) + b"\x85" + F4 + b"\x89U\x04aaaa"),
    "shape a list": state(b"](K\x01e" + F4 + b"\x89U\x04aaaa"),
    "shape of booleans": state(b"\x88\x85" + F4 + b"\x89U\x04aaaa"),
    "no dtype": state(shape_tuple((1,)) + b"N\x89U\x04aaaa"),
    "order None": state(shape_tuple((1,)) + F4 + b"NU\x04aaaa"),
    "a list for bytes": state(shape_tuple((1,)) + F4 + b"\x89]"),
    "four entries": state(shape_tuple((1,)) + F4 + b"\x89"),
    "a dictionary": one_layer(array_of(b"}b")),
    "None": one_layer(array_of(b"Nb")),
    "two objects": state(shape_tuple((2,)) + O8 + b"\x89](NNe"),
    "objects of bytes": state(b")" + O8 + b"\x89U\x08aaaaaaaa"),
    "wide text": state(shape_tuple((1,)) + F4 + b"\x89X\x04\x00\x00\x00" + "€a".encode()),
}
FAMILIES = {"header": HEADERS, "content": CONTENTS, "value": VALUES, "state": STATES}
CORPUS = {
    f"{family}: {name}": content
    for family, files in FAMILIES.items()
    for name, content in files.items()
}


def test_the_good_file_that_the_hostile_ones_vary(tmp_path):
    found = read_npy(save(tmp_path / "w.npy", GOOD)).layers["fc8"]
    np.testing.assert_array_equal(found[0], ONES["kernel"])
    np.testing.assert_array_equal(found[1], ONES["bias"])


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
def test_hostile_file_is_refused_in_one_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    assert_refused(read_npy, save(tmp_path / "w.npy", content))
    assert [entry.name for entry in tmp_path.iterdir()] == ["w.npy"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PLAIN, "expected the .npy format, got"),
        (
            headed(PLAIN) + bytes(12),
            "expected a pickled dictionary of layers (dtype O, shape ()), got an array of dtype ",
        ),
        (VALUES["nan in kernel 3"], "fc8 kernel[1, 1]: expected a finite float32, got nan"),
        (VALUES["inf in bias 1"], "fc8 bias[1]: expected a finite float32, got inf"),
        (CONTENTS["one array"], "'fc8': expected [kernel, bias]"),
        (
            STATES["too few bytes"],
            "opcode BUILD at byte 380: expected 16 bytes for shape (2, 2) of <f4, got 12",
        ),
        (
            STATES["33 dimensions"],
            "opcode BUILD at byte 435: expected an array's shape, dtype and order, got something "
            "else",
        ),
        (
            GOOD[:-1],
            f"pickle: opcode missing at byte {len(GOOD) - 1}: expected 1 more bytes, got 0",
        ),
        (
            GOOD.replace(b"numpy\ndtype", b"posix\nsystem"),
            "pickle: opcode GLOBAL at byte 193: expected a global of the "
            "array types, got 'posix system', which is not allowed",
        ),
    ],
)
def test_message_names_the_place(tmp_path, content, expected):
    assert expected in assert_refused(read_npy, save(tmp_path / "w.npy", content))


def one_array_many_times(count=100):
    arrays = shaped(1, 1 << 20, code=b"f2") + b"q\x010" + shaped(1, code=b"f2") + b"q\x020"
    pairs = (byte_string(b"dense%d" % index) + b"](h\x01h\x02e" for index in range(count))
    return npy_around(arrays + b"}(" + b"".join(pairs) + b"u")


BOMBS = {
    "one array many times": one_array_many_times,
    "a dtype of tuples in tuples": lambda: npy_around(
        b"cnumpy\ndtype\n)" + b"2\x86" * 40 + b"\x85R"
    ),
    "float16 that ends in NaN": lambda: one_layer(
        plain_array(np.r_[np.ones(19_999_999), np.nan].astype("f2").reshape(2, -1), code=b"f2")
    ),
    "short strings": lambda: npy_around(b"](" + byte_string(b"a" * 250) * 90_000 + b"e"),
    "wide text": lambda: npy_around(
        b"](" + (b"X\x00\x01\x00\x00" + 252 * b"a" + "\U0001f600".encode()) * 90_000
    ),
    "dictionaries": lambda: npy_around(b"](" + b"}" * 20_000_000),
    "remembered dictionaries": lambda: npy_around(b"](" + b"}\x94" * 5_000_000),
    "one line of escapes": lambda: npy_around(b"S'" + rb"\x00" * 5_000_000 + b"'\n"),
    "one line without an end": lambda: npy_around(b"S'" + b"a" * 20_000_000),
    "views": lambda: npy_around(b"](" + byte_string(bytes(300)) * 60_000 + b"e"),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_memory_stays_in_proportion_to_the_file(tmp_path, make):
    assert_memory_in_proportion(read_npy, save(tmp_path / "w.npy", make()))
