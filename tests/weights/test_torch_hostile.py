"""Hostile .pth files: archives, storages and tensors that no PyTorch wrote."""

import io
import pickle
import struct
import warnings
import zipfile

import numpy as np
import pytest

from tests.weights.npy_files import integer, save, shape_tuple
from tests.weights.refusal import assert_memory_in_proportion, assert_refused
from tests.weights.torch_files import (
    LEGACY_START,
    STORAGES,
    legacy_around,
    legacy_file,
    ordered_dict,
    persistent_id,
    tensor,
    text,
    zip_around,
    zip_of,
)
from weights.torch import read_pth

FOUR = np.arange(4, dtype="<f4").tobytes()
BIAS = tensor(shape=(2,))
PICKLE = ordered_dict({"fc8.weight": tensor(), "fc8.bias": BIAS})
MEMBERS = {"data.pkl": PICKLE, "byteorder": b"little", "data/0": FOUR}
GOOD = zip_of(MEMBERS)
GOOD_LEGACY = legacy_around(
    ordered_dict({"fc8.weight": tensor(), "fc8.bias": BIAS}, legacy=True), FOUR
)
DIRECTORY, END = GOOD.index(b"PK\x01\x02"), GOOD.index(b"PK\x05\x06")


def patched(position, layout, value, content=GOOD):
    """``content`` with one number overwritten."""
    content = bytearray(content)
    struct.pack_into(layout, content, position, value)
    return bytes(content)


def entry(offset, layout, value, index=0):
    """The good archive with one field of a directory entry overwritten."""
    position = DIRECTORY
    for _ in range(index):
        position = GOOD.index(b"PK\x01\x02", position + 1)
    return patched(position + offset, layout, value)


def twice(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file = io.BytesIO(GOOD)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(f"archive/{name}", MEMBERS[name])
    return file.getvalue()


def with_members(**members):
    return zip_of(MEMBERS | members)


def without(name):
    return zip_of({other: content for other, content in MEMBERS.items() if other != name})


def overlapping(names=("archive/data.pkl", "archive/data/0")):
    """Members that each hold all that follows, the next members too."""
    local = [GOOD[:26] + struct.pack("<HH", len(name), 0) + name.encode() for name in names]
    sizes = [len(b"".join(local[index + 1 :])) + len(PICKLE) for index in range(len(names))]
    starts = [len(b"".join(local[:index])) for index in range(len(names))]
    fields = [
        struct.pack("<LLLHHHHHLL", 0, size, size, len(name), 0, 0, 0, 0, 0, start) + name.encode()
        for name, size, start in zip(names, sizes, starts, strict=True)
    ]
    entries = b"".join(GOOD[DIRECTORY : DIRECTORY + 16] + rest for rest in fields)
    content = b"".join(local) + PICKLE
    return (
        content
        + entries
        + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 2, 2, len(entries), len(content), 0)
    )


ARCHIVES = {
    "overlapping members": overlapping(),
    "data.pkl twice": twice("data.pkl"),
    "a storage twice": twice("data/0"),
    "byteorder twice": twice("byteorder"),
    "two data.pkl": zip_of(MEMBERS | {"other/data.pkl": PICKLE}),
    "no data.pkl": without("data.pkl"),
    "no storage": without("data/0"),
    "byteorder middle": with_members(byteorder=b"middle"),
    "byteorder empty": with_members(byteorder=b""),
    "byteorder long": with_members(byteorder=b"little" * 99),
    "deflated": zip_of(MEMBERS, compression=zipfile.ZIP_DEFLATED),
    "bzip2": zip_of(MEMBERS, compression=zipfile.ZIP_BZIP2),
    "lzma": zip_of(MEMBERS, compression=zipfile.ZIP_LZMA),
    "a bomb": zip_of(
        MEMBERS | {"data/0": bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED, compresslevel=9
    ),
    "absolute name": zip_of(MEMBERS, root="/archive/"),
    "name outside": zip_of(MEMBERS, root="archive/../../"),
    "encrypted": entry(8, "<H", 1),
    "size of 4 GB": entry(24, "<L", 0xFFFFFFFF),
    "both sizes of 4 GB": entry(20, "<Q", 0xFFFFFFFFFFFFFFFF),
    "size 1 less": entry(24, "<L", len(PICKLE) - 1),
    "compressed size 1": entry(20, "<L", 1),
    "offset beyond": entry(42, "<L", 0xFFFFFFF0),
    "offset of another member": entry(42, "<L", 0, index=2),
    "offset 1": entry(42, "<L", 1),
    "checksum": entry(16, "<L", 0xDEADBEEF),
    "name length": entry(28, "<H", 0xFFFF),
    "extra length": entry(30, "<H", 0xFFFF),
    "method 99": entry(10, "<H", 99),
    "entry's signature": entry(0, "<L", 0),
    "local signature": patched(0, "<L", 0x04034B51),
    "local name length": patched(26, "<H", 0xFFFF),
    "local name": GOOD.replace(b"archive/data.pkl", b"archive/data.pkk", 1),
    "local extra length": patched(28, "<H", 0xFFFF),
    "no entries": patched(END + 12, "<L", 0),
    "directory of 4 GB": patched(END + 12, "<L", 0xFFFFFFFF),
    "directory of 1 byte": patched(END + 12, "<L", 1),
    "directory beyond": patched(END + 16, "<L", 0xFFFFFFF0),
    "directory at 0": patched(END + 16, "<L", 0),
    "end cut": GOOD[: END + 10],
    "no end": GOOD[:END],
    "signature alone": b"PK\x03\x04",
    "name of bytes": GOOD.replace(b"archive/data.pkl", b"archive/d\xff\xfe\xfd.pkl"),
    "garbage": b"PK\x03\x04" + b"\xaa" * 500,
    "flipped bit of a storage": GOOD.replace(FOUR, b"\x01" + FOUR[1:]),
}
SHARED = {  # persistent ids and tensors, the same in both encodings
    "float32 as float64": tensor("DoubleStorage"),
    "as float16": tensor("HalfStorage"),
    "one too many": tensor(numel=5),
    "one too few": tensor(numel=3, shape=(1, 3)),
    "none": tensor(numel=0),
    "2**40 numbers": tensor(numel=1 << 40),
    "2**70 numbers": tensor(numel=1 << 70),
    "-1 numbers": tensor(numel=-1),
    "another key": tensor(key="2"),
    "a key of a path": tensor(key="../data/0"),
    "an empty key": tensor(key=""),
    "a key of a line feed": tensor(key="0\n"),
    "offset 1": tensor(offset=1),
    "offset 4": tensor(offset=4, shape=(1, 1)),
    "offset -1": tensor(offset=-1),
    "offset 2**62": tensor(offset=1 << 62, shape=(1, 1)),
    "stride 3": tensor(strides=(3, 1)),
    "stride -1": tensor(strides=(-1, 1)),
    "stride 2**62": tensor(strides=(1 << 62, 1)),
    "scalar": tensor(shape=()),
    "strides of 0": tensor(shape=(1 << 20, 1 << 20), strides=(0, 0)),
    "shape (2, 3)": tensor(shape=(2, 3)),
    "shape of 0": tensor(shape=(0, 2)),
    "nothing, far away": tensor(offset=1 << 40, shape=(0, 2), strides=(1 << 40, 1)),
    "shape -1": tensor(shape=(-1, 2)),
    "3 dimensions": tensor(shape=(1, 2, 2)),
    "9 dimensions": tensor(shape=(1,) * 9),
    "2**40 x 2**40": tensor(shape=(1 << 40, 1 << 40)),
    "one stride": tensor(strides=(1,)),
    "three strides": tensor(strides=(1, 1, 1)),
    "5 of 4, repeated": tensor(shape=(5, 1), strides=(0, 0)),
}
STORAGE = persistent_id("FloatStorage", "0", 4)
CALLS = {  # what is allowed, called with what it does not take
    "tensor of text": text("a") + integer(0) + b"))",
    "tensor of None": b"NNNN",
    "tensor of nothing": b"",
    "tensor of ten": b"N" * 10,
    "tensor of float offset": STORAGE + b"G" + bytes(8) + shape_tuple((2, 2)) * 2,
    "tensor of true offset": STORAGE + b"\x88" + shape_tuple((2, 2)) * 2,
    "shape a list": STORAGE + b"K\x00](K\x02K\x02e" + shape_tuple((2, 1)),
    "shape of floats": STORAGE + b"K\x00G" + bytes(8) + b"\x85K\x01\x85",
    "shape of booleans": STORAGE + b"K\x00\x88\x85\x88\x85",
    "shape in a shape": STORAGE + b"K\x00" + b"K\x01\x85" * 2 + b"\x85",
    "storage class alone": b"ctorch\nFloatStorage\n" + integer(0) + shape_tuple((2, 2)) * 2,
}
FLOATS, ZERO, CPU = b"ctorch\nFloatStorage\n", text("0"), text("cpu")
IDENTITIES = {
    "text": text("storage") + b"Q",
    "number": b"K\x00Q",
    "empty tuple": b")Q",
    "four": b"(" + b"N" * 4 + b"tQ",
    "None": b"(NNNNNtQ",
    "module": b"(" + text("module") + FLOATS + ZERO + CPU + b"K\x04tQ",
    "type of text": b"(" + text("storage") + text("FloatStorage") + ZERO + CPU + b"K\x04tQ",
    "type of a function": b"("
    + text("storage")
    + b"ccollections\nOrderedDict\n"
    + ZERO
    + CPU
    + b"K\x04tQ",
    "key of a number": b"(" + text("storage") + FLOATS + b"K\x00" + CPU + b"K\x04tQ",
    "size of text": b"(" + text("storage") + FLOATS + ZERO + CPU + text("4") + b"tQ",
    "size true": b"(" + text("storage") + FLOATS + ZERO + CPU + b"\x88tQ",
    "a view": b"(" + text("storage") + FLOATS + ZERO + CPU + b"K\x04" + b"NNN\x87tQ",
    "two types": STORAGE + b"0" + persistent_id("HalfStorage", "0", 4),
    "two sizes": STORAGE + b"0" + persistent_id("FloatStorage", "0", 3),
}
NAMES = (
    "",
    ".",
    "weight",
    ".weight",
    "fc8.",
    "fc8.weigh",
    "features.2.weight",
    "features.0.weight.x",
    "../fc8.weight",
    "module.module.fc8.weight",
    "fc8\n.weight",
    "\u202efc8.weight",
    "f" * 200 + ".weight",
)
DICTIONARIES = {
    "list": b"\x80\x02].",
    "none": b"\x80\x02N.",
    "tensor": b"\x80\x02" + tensor()(False) + b".",
    "empty": ordered_dict({}),
    "keys of numbers": b"\x80\x02}(K\x01" + tensor()(False) + b"u.",
    "state_dict None": b"\x80\x02}(" + text("state_dict") + b"Nu.",
    "nested thrice": b"\x80\x02}(" + text("a") + b"}(" + text("b") + tensor()(False) + b"uu.",
    "a name twice": b"\x80\x02}(" + (text("fc8.weight") + tensor()(False)) * 2 + b"u.",
    "values of text": pickle.dumps({"fc8.weight": "a"}, 2),
    "OrderedDict of None": b"\x80\x02ccollections\nOrderedDict\nN\x85R.",
    "OrderedDict of pairs of one": b"\x80\x02ccollections\nOrderedDict\n](](Nee\x85R.",
    "OrderedDict of text": b"\x80\x02ccollections\nOrderedDict\n" + text("ab") + b"\x85R.",
    "a parameter of None": b"\x80\x02ctorch._utils\n_rebuild_parameter\nN\x88N\x87R.",
} | {f"name {name!r}": ordered_dict({name: tensor()}) for name in NAMES}


def value(number, dtype="float32", legacy=False):
    """A file whose last number of four is this one."""
    raw, kind = np.array([1, 1, 1, number]).astype(dtype).tobytes(), STORAGES[dtype]
    pickled = ordered_dict(
        {"fc8.weight": tensor(kind), "fc8.bias": tensor(kind, shape=(2,))}, legacy
    )
    return (
        legacy_file(pickled, ["0"]) + struct.pack("<q", 4) + raw
        if legacy
        else zip_around(pickled, raw)
    )


def both(opcodes):
    """One tensor in either encoding, beside a good bias in a storage of its own."""
    tensors = {"fc8.weight": opcodes, "fc8.bias": tensor(key="1", numel=2, shape=(2,))}
    legacy = legacy_file(ordered_dict(tensors, legacy=True), ["0", "1"])
    return {
        "zip": zip_of({"data.pkl": ordered_dict(tensors), "data/0": FOUR, "data/1": FOUR[:8]}),
        "legacy": legacy + struct.pack("<q", 4) + FOUR + struct.pack("<q", 2) + FOUR[:8],
    }


def calling(arguments):
    opcodes = b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"
    return zip_around(ordered_dict({"fc8.weight": lambda legacy: opcodes}))


VALUES = {
    f"{number} as {dtype}, {'legacy' if legacy else 'zip'}": value(number, dtype, legacy)
    for legacy in (False, True)
    for number, dtype in (
        (np.nan, "float16"),
        (np.nan, "float32"),
        (np.inf, "float64"),
        (-np.inf, "float32"),
        (1e300, "float64"),
    )
}


def stored(keys=("0",), size=4, numbers=FOUR):
    """The good legacy file with other keys, and each storage saying another size or holding other
    numbers.
    """
    pickled = ordered_dict({"fc8.weight": tensor(), "fc8.bias": BIAS}, legacy=True)
    return legacy_file(pickled, keys) + (struct.pack("<q", size) + numbers) * len(keys or ())


LEGACY = {
    "start alone": LEGACY_START,
    "protocol 1002": LEGACY_START.replace(b"M\xe9\x03", b"M\xea\x03", 1),
    "magic 0": pickle.dumps(0, 2) * 9,
    "a pickle": pickle.dumps({"fc8.weight": 1}, 2),
    "a pickle of text": pickle.dumps("a" * 100, 2),
    "numbers": b"\x80\x02K\x01." * 9,
    "no keys": stored([]),
    "keys of numbers": stored([0]),
    "keys none": stored(None),
    "keys a tuple": stored(("0",)),
    "key twice": stored(["0", "0"]),
    "other key": stored(["1"]),
    "key too many": stored(["0", "1"]),
    "no storage": stored(["0"])[:-24],
    "size alone": stored(["0"])[:-16],
    "storage cut": stored(["0"])[:-1],
    "a byte more": stored(["0"]) + b"a",
    "size 3": stored(["0"], 3),
    "size -1": stored(["0"], -1),
    "size 2**62": stored(["0"], 1 << 62),
    "a tar of PyTorch 0.1": b"sys_info" + bytes(600),
    "LFS pointer": b"version https://git-lfs.github.com\n",
    "page": b"<!DOCTYPE html>\n<html>",
    "empty": b"",
    "one byte": b"\x80",
    "two bytes": b"\x80\x02",
}
FAMILIES = {
    "archive": ARCHIVES,
    "legacy": LEGACY,
    "value": VALUES,
    "dictionary": {name: zip_around(pickled) for name, pickled in DICTIONARIES.items()},
    "call": {name: calling(arguments) for name, arguments in CALLS.items()},
    "identity": {
        name: zip_around(b"\x80\x02" + pickled + b".") for name, pickled in IDENTITIES.items()
    },
    "tensor": {
        f"{name}, {encoding}": content
        for name, opcodes in SHARED.items()
        for encoding, content in both(opcodes).items()
    },
}
CORPUS = {
    f"{family}: {name}": content
    for family, files in FAMILIES.items()
    for name, content in files.items()
}


@pytest.mark.parametrize("content", [GOOD, GOOD_LEGACY])
def test_the_good_files_that_the_hostile_ones_vary(tmp_path, content):
    found = read_pth(save(tmp_path / "w.pth", content)).layers["fc8"]
    np.testing.assert_array_equal(found[0], [[0, 2], [1, 3]])
    np.testing.assert_array_equal(found[1], [0, 1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "archive: overlapping members",
            "member 'archive/data/0': expected members that fit into the file, got more bytes",
        ),
        (
            "archive: directory of 4 GB",
            "directory",
        ),
        ("archive: a storage twice", "member 'archive/data/0': expected once, got twice"),
        (
            "tensor: 5 of 4, repeated, zip",
            "expected a tensor within 4 stored numbers, got shape (5, 1), strides (0, 0)",
        ),
        (
            "tensor: 3 dimensions, legacy",
            "fc8 kernel: expected 4 dimensions (convolution) or 2 (dense), none 0, got (1,",
        ),
        ("legacy: a byte more", "byte 532: expected the end of the file, got 1 more bytes"),
    ],
)
def test_message_names_the_place(tmp_path, name, expected):
    assert expected in assert_refused(read_pth, save(tmp_path / "w.pth", CORPUS[name]))


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
def test_hostile_file_is_refused_in_one_line(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    assert_refused(read_pth, save(tmp_path / "w.pth", content))
    assert [found.name for found in tmp_path.iterdir()] == ["w.pth"]


def many_members(count=300_000):
    """A directory of empty members, 46 bytes and a name each: the standard library makes an object
    of every one.
    """
    directory = b"".join(
        GOOD[DIRECTORY : DIRECTORY + 46 - 18]
        + struct.pack("<H", 4)
        + bytes(16)
        + struct.pack("<L", n)
        for n in range(count)
    )
    return (
        b"PK\x03\x04"
        + directory
        + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, len(directory), 4, 0)
    )


def one_storage_many_times(kind, dtype, count):
    views = {
        f"dense{index}.{role}": tensor(kind, numel=10_000_000, shape=shape)
        for index in range(count)
        for role, shape in (("weight", (1, 10_000_000)), ("bias", (10_000_000,)))
    }
    return zip_around(ordered_dict(views), np.ones(10_000_000, dtype).tobytes())


BOMBS = {
    "members": many_members,
    "float16 many times": lambda: one_storage_many_times("HalfStorage", "f2", 16),
    "bfloat16 many times": lambda: one_storage_many_times("BFloat16Storage", "u2", 16),
    "float64 many times": lambda: one_storage_many_times("DoubleStorage", "f8", 16),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_memory_stays_in_proportion_to_the_file(tmp_path, make):
    assert_memory_in_proportion(read_pth, save(tmp_path / "w.pth", make()))
