"""Keras's .weights.h5 without Keras, both ways, and damaged ones."""

import errno
import gc
import os
import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET
from alexnet_keras.errors import WeightsError
from alexnet_keras.models.assign import layer_weights
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from tests.conftest import ROOT
from tests.weights.refusal import assert_memory_in_proportion, assert_refused
from weights.hdf5 import read_weights_h5, write_weights_h5

LAYERS = tiny_layers()


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, arrays in expected.items():
        for one, other in zip(found[name], arrays, strict=True):
            assert one.dtype == np.float32
            assert one.shape == other.shape
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize(
    "variant",
    ["alexnet", "owt", ALEXNET.with_width(0.05).without("conv3", "fc7", "drop7", "norm1")],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_reads_what_keras_writes(tmp_path, variant, compiled):
    model = tiny_model(variant, size=67)
    if compiled:
        model.compile("adam", "categorical_crossentropy")
    model.save_weights(tmp_path / "w.weights.h5")
    found = read_weights_h5(tmp_path / "w.weights.h5")
    assert (found.file_format, found.path) == ("weights.h5", tmp_path / "w.weights.h5")
    assert_same(found.layers, layer_weights(model))


@pytest.mark.parametrize(
    "variant",
    ["alexnet", "owt", ALEXNET.with_width(0.05).without("conv3", "fc7", "drop7", "norm1")],
)
def test_keras_reads_what_is_written(tmp_path, variant):
    model, other = tiny_model(variant, size=67), tiny_model(variant, size=67)
    write_weights_h5(tmp_path / "w.weights.h5", layer_weights(model))
    other.load_weights(tmp_path / "w.weights.h5")
    assert_same(layer_weights(other), layer_weights(model))


def test_round_trip_is_bit_exact(tmp_path):
    layers = dict(
        LAYERS, fc8=(np.float32([[-0.0, 1e-42], [3.4e38, 1]]), np.float32([-0.0, 1e-45]))
    )
    write_weights_h5(tmp_path / "w.weights.h5", layers)
    assert_same(read_weights_h5(tmp_path / "w.weights.h5").layers, layers)


_WRITE_TO_A_FULL_DISK = """
import resource, sys
from pathlib import Path
from tests.alexnet_keras.tiny import tiny_layers
from weights.errors import WeightsError
from weights.hdf5 import write_weights_h5
layers = tiny_layers()
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_weights_h5(Path(sys.argv[1]), layers)
except WeightsError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line(tmp_path):
    """In a process of its own, which HDF5 crashed as it closed the file."""
    pytest.importorskip("resource")
    path = tmp_path / "w.weights.h5"
    path.write_bytes(b"before")
    done = subprocess.run(
        [sys.executable, "-c", _WRITE_TO_A_FULL_DISK, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (
        0,
        f"{path}: cannot be written: {os.strerror(errno.EFBIG)}\n",
    )
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_no_view_of_the_image(tmp_path):
    """Python warns of one whenever it collects garbage next, in any test."""
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError):
        write_weights_h5(tmp_path / "file" / "w.weights.h5", LAYERS)
    gc.collect()


def edited(path, edit):
    write_weights_h5(path, LAYERS)
    with h5py.File(path, "r+") as file:
        edit(file)
    return path


def replaced_by(array, **options):
    def edit(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"].create_dataset("0", data=array, **options)

    return edit


def linked(target):
    def edit(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars/0"] = target

    return edit


DAMAGES = {
    "no layers": lambda f: f.move("layers", "strata"),
    "empty": lambda f: f.clear(),
    "no layer": lambda f: [f["layers"].pop(name) for name in list(f["layers"])],
    "no bias": lambda f: f["layers/dense/vars"].pop("1"),
    "no kernel": lambda f: f["layers/dense/vars"].pop("0"),
    "third variable": lambda f: f["layers/dense/vars"].create_dataset("2", data=[1.0]),
    "layers is data": lambda f: (f.pop("layers"), f.create_dataset("layers", data=[1.0])),
    "vars is data": lambda f: (
        f["layers/dense"].pop("vars"),
        f["layers/dense"].create_dataset("vars", data=[1.0]),
    ),
    "integers": replaced_by(np.ones((3, 3), int)),
    "text": replaced_by(b"text"),
    "scalar": replaced_by(1.0),
    "NaN": replaced_by(np.full((3, 3), np.nan)),
    "Inf": replaced_by(np.full((3, 3), np.inf)),
    "too large": replaced_by(np.full((3, 3), 1e300)),
    "three dimensions": replaced_by(np.ones((3, 3, 3))),
    "no numbers": replaced_by(np.ones((3, 0))),
    "compressed": replaced_by(np.zeros((2000, 2000)), compression="gzip"),
    "group for a kernel": lambda f: (
        f["layers/dense/vars"].pop("0"),
        f["layers/dense/vars"].create_group("0"),
    ),
    "a link to nothing": linked(h5py.SoftLink("/nowhere")),
    "a link to itself": linked(h5py.SoftLink("/layers/dense/vars/0")),
    "a link to another file": linked(h5py.ExternalLink("/etc/hostname", "/")),
    "two of a name": lambda f: f["layers/dense/vars"].attrs.modify("name", "conv1"),
    "name is a number": lambda f: f["layers/dense/vars"].attrs.create("name", 3.5),
    "name is a path": lambda f: f["layers/dense/vars"].attrs.modify("name", "../../x"),
    "name is long": lambda f: f["layers/dense/vars"].attrs.modify("name", "x" * 5000),
    "several names": lambda f: f["layers/dense/vars"].attrs.create("name", ["fc8", "fc7"]),
    "a soft link to layers": lambda f: (
        (f.move("layers", "l"), f.create_group("x"))
        and f.__setitem__("layers", h5py.SoftLink("/l"))
    ),
    "name is two lines": lambda f: f["layers/dense/vars"].attrs.modify("name", "a\nb"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_in_one_line(tmp_path, damage):
    assert_refused(read_weights_h5, edited(tmp_path / "w.weights.h5", DAMAGES[damage]))


@pytest.mark.parametrize("damage", ["layers is data", "vars is data"])
def test_names_what_stands_where_a_group_belongs(tmp_path, damage):
    refusal = assert_refused(read_weights_h5, edited(tmp_path / "w.h5", DAMAGES[damage]))
    assert refusal.endswith(": expected a group, got a dataset")


def create_kernel(shape, **options):
    def edit(file):
        del file["layers/dense/vars/0"]
        file["layers/dense/vars"].create_dataset("0", shape, "f4", **options)

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        lambda other: create_kernel((3, 3), external=[(str(other), 0, 36)]),
        lambda other: linked(h5py.ExternalLink(other, "/kernel")),
    ],
    ids=["external storage", "external link"],
)
def test_refuses_values_that_are_kept_in_another_file(tmp_path, edit):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["kernel"] = np.ones((12, 205), np.float32)
    path = edited(tmp_path / "w.weights.h5", edit(other))
    assert "plain floating-point numbers of this file" in assert_refused(read_weights_h5, path)


def test_a_small_file_that_claims_a_large_array_takes_no_memory(tmp_path):
    assert_memory_in_proportion(
        read_weights_h5, edited(tmp_path / "w.weights.h5", create_kernel((50_000, 50_000)))
    )


def many_layers(path, show):
    """A file of 4 MB that shows its one array as the kernels of 500 layers: 2 GB."""
    with h5py.File(path, "w") as file:
        kernel = file.create_dataset("kernel", data=np.ones((1000, 1000), np.float32))
        for index in range(500):
            group = file.create_group(f"layers/dense_{index}/vars")
            group["0"] = show(kernel)
            group["1"] = np.zeros(1000, np.float32)
    return path


@pytest.mark.parametrize(
    "show",
    [lambda kernel: h5py.SoftLink(kernel.name), lambda kernel: kernel],
    ids=["soft links", "hard links"],
)
def test_one_array_under_many_names_takes_no_memory(tmp_path, show):
    assert_memory_in_proportion(read_weights_h5, many_layers(tmp_path / "w.weights.h5", show))


def with_a_tree_of_shared_nodes(path, depth=4):
    """A file whose group ``layers`` has a B-tree in which every node refers 32 times to the one
    below it: 40 names become 40 x 32 ** ``depth``.
    """
    write_weights_h5(path, LAYERS)
    with h5py.File(path, "r+") as file:
        for index in range(40):
            file["layers"].create_group(f"g{index}")
    content = bytearray(path.read_bytes())
    end = len(content)
    nodes = [i for i in range(end) if content[i : i + 5] == b"TREE\0"]
    node = max(nodes, key=lambda i: content[i + 6])
    original = struct.pack("<Q", node)
    count = content[node + 6]
    (last_key,) = struct.unpack_from("<Q", content, node + 24 + 16 * count)
    for level in range(1, depth + 1):
        children = [0] + [value for _ in range(32) for value in (node, last_key)]
        node = len(content)
        content += struct.pack("<4sBBHqq65Q", b"TREE", 0, level, 32, -1, -1, *children)
    content[:end] = content[:end].replace(original, struct.pack("<Q", node))
    content[40:48] = struct.pack("<Q", len(content))
    path.write_bytes(content)
    return path


def test_a_tree_of_shared_nodes_takes_no_memory(tmp_path):
    path = with_a_tree_of_shared_nodes(tmp_path / "w.weights.h5")
    assert_memory_in_proportion(read_weights_h5, path)
    assert "layers: expected at most 1000 names" in assert_refused(read_weights_h5, path)


def test_many_strings_as_one_name_are_refused(tmp_path):
    """Strings of one attribute may share the same bytes, to fill the memory."""

    def edit(file):
        variables = file["layers/dense/vars"]
        del variables.attrs["name"]
        kind = h5py.h5t.array_create(h5py.h5t.py_create(h5py.string_dtype(), logical=True), (3,))
        h5py.h5a.create(variables.id, b"name", kind, h5py.h5s.create(h5py.h5s.SCALAR))

    path = edited(tmp_path / "w.weights.h5", edit)
    assert "expected one name" in assert_refused(read_weights_h5, path)


@pytest.mark.parametrize("value", [3.5, ["alexnet", "paper"], np.bytes_(b"a b"), h5py.Empty("S5")])
def test_what_stands_for_the_variant_is_checked(tmp_path, value):
    def edit(file):
        file.attrs["alexnet_keras.variant"] = value

    refusal = assert_refused(read_weights_h5, edited(tmp_path / "w.weights.h5", edit))
    assert refusal.startswith("attribute alexnet_keras.variant: expected ")


def test_cut_and_flipped_files_never_crash(tmp_path):
    write_weights_h5(tmp_path / "whole", {name: LAYERS[name] for name in ("conv1", "fc8")})
    whole = (tmp_path / "whole").read_bytes()
    generator, path = np.random.default_rng(0), tmp_path / "w.weights.h5"
    for _ in range(150):
        content = bytearray(whole)
        if generator.random() < 0.3:
            content = content[: generator.integers(len(whole))]
        else:
            for place in generator.integers(0, min(len(content), 4000), 3):
                content[place] = generator.integers(256)
        path.write_bytes(content)
        try:
            read_weights_h5(path)
        except WeightsError:
            assert_refused(read_weights_h5, path)


@pytest.mark.parametrize("place", ["nowhere/w.weights.h5", "file/w.weights.h5"])
def test_a_place_that_cannot_be_written(tmp_path, place):
    (tmp_path / "file").touch()
    assert_refused(lambda path: write_weights_h5(path, LAYERS), tmp_path / place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
