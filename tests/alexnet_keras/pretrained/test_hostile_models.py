"""A ``.keras`` file from a stranger: no code of it runs, no module of its choice is imported, and
no other file is read or written.

Older releases of Keras fail here: up to 3.8 code runs, up to 3.13.1 weights are read from external
storage, and up to 3.14.0 through links and virtual data sets.
"""

import base64
import io
import json
import marshal
import pickle
import sys
import zipfile

import h5py
import keras
import numpy as np
import pytest

from alexnet_keras import load_model
from tests.alexnet_keras.tiny import tiny_model
from tests.weights.refusal import assert_refused

MODULE = "module_of_a_stranger"
SAYS_SO = "import pathlib; pathlib.Path({!r}).write_text('ran')"


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    tiny_model().save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def written(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def with_layer(members, layer, arguments=None):
    """The archive with ``layer`` in the place of pool1, called on ``arguments`` if there are."""
    config = json.loads(members["config.json"])
    layers = config["config"]["layers"]
    index = next(i for i, old in enumerate(layers) if old["name"] == "pool1")
    inbound = layers[index]["inbound_nodes"]
    if arguments is not None:
        inbound = [{"args": arguments, "kwargs": {}}]
    layers[index] = {"registered_name": None} | layer | {"name": "pool1", "inbound_nodes": inbound}
    return members | {"config.json": json.dumps(config).encode()}


def lambda_layer(function, **arguments):
    config = {"name": "pool1", "function": function, "arguments": arguments}
    return {"module": "keras.layers", "class_name": "Lambda", "config": config}


def named(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def marshalled(marker):
    code = compile(f"lambda x: exec({SAYS_SO.format(str(marker))!r}) or x", "stranger", "eval")
    code = code.co_consts[0]
    return {
        "class_name": "__lambda__",
        "config": {
            "code": base64.b64encode(marshal.dumps(code)).decode(),
            "defaults": None,
            "closure": None,
        },
    }


class Reduced:
    """What a pickle turns into a call."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return exec, (SAYS_SO.format(str(self.marker)),)


def pickled(marker):
    """As the configuration of a layer that wraps a PyTorch module keeps it."""
    return base64.b64encode(pickle.dumps(Reduced(marker))).decode()


# Each puts something in the place of a pooling layer which, if believed, makes ``marker``.
CODE = {
    "bytecode in a Lambda": lambda marker: (lambda_layer(marshalled(marker)), None),
    "a function of os in a Lambda": lambda marker: (
        lambda_layer(named("os", "mkdir")),
        [str(marker)],
    ),
    "a function of os as a layer": lambda marker: (named("os", "mkdir"), [str(marker)]),
    "a builtin as a layer": lambda marker: (
        named("builtins", "exec"),
        [SAYS_SO.format(str(marker))],
    ),
    "a class of another library": lambda marker: (
        {
            "module": "subprocess",
            "class_name": "Popen",
            "config": {"args": ["touch", str(marker)]},
        },
        None,
    ),
    "a module of its own": lambda marker: (
        {"module": MODULE, "class_name": "Layer", "config": {}},
        None,
    ),
    "a module of its own behind a registered name": lambda marker: (
        {
            "module": MODULE,
            "class_name": "Layer",
            "config": {},
            "registered_name": f"{MODULE}>Layer",
        },
        None,
    ),
    "a download by Keras": lambda marker: (
        named("keras.utils", "get_file"),
        [marker.name, (marker.parent / f"{MODULE}.py").as_uri(), False, None, None, "."],
    ),
    "loading of another model": lambda marker: (
        named("keras.saving", "load_model"),
        [str(marker.parent / "other.keras"), None, False, False],
    ),
    "a pickle of PyTorch": lambda marker: (
        {
            "module": "keras.layers",
            "class_name": "TorchModuleWrapper",
            "config": {"name": "pool1", "module": pickled(marker)},
        },
        None,
    ),
}


@pytest.mark.parametrize("kind", CODE)
def test_no_code_of_the_file_runs(tmp_path, monkeypatch, members, kind):
    marker = tmp_path / "ran"
    (tmp_path / f"{MODULE}.py").write_text(SAYS_SO.format(str(marker)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    written(tmp_path / "other.keras", with_layer(members, lambda_layer(marshalled(marker))))
    path = written(tmp_path / "model.keras", with_layer(members, *CODE[kind](marker)))
    assert_refused(load_model, path)
    assert not marker.exists()
    assert MODULE not in sys.modules


def test_the_safe_mode_of_keras_stays_on(tmp_path, members):
    """A file that turned it off would leave the door open for the next one."""
    layer = named("keras.config", "enable_unsafe_deserialization")
    try:
        for place in (layer, lambda_layer(layer)):
            assert_refused(
                load_model, written(tmp_path / "model.keras", with_layer(members, place, []))
            )
        path = tmp_path / "lambda.keras"
        written(path, with_layer(members, lambda_layer(marshalled(tmp_path / "ran"))))
        assert_refused(load_model, path)
    finally:
        keras.src.saving.serialization_lib.enable_safe_mode = None
    assert not (tmp_path / "ran").exists()


def test_no_text_file_is_read_for_a_vocabulary(tmp_path, members):
    (tmp_path / "secret.txt").write_text("a\nb\n")
    layer = {
        "module": "keras.layers",
        "class_name": "StringLookup",
        "config": {"name": "pool1", "vocabulary": str(tmp_path / "secret.txt")},
    }
    assert_refused(load_model, written(tmp_path / "model.keras", with_layer(members, layer)))


# Variables of the archive's HDF5 file that lie elsewhere, or are larger than the file.


def edited_weights(members, edit):
    """The archive with one HDF5 variable, a kernel, replaced by ``edit(group, name, old)``."""
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        groups = [layer["vars"] for layer in file["layers"].values()]
        group = next(found for found in groups if "0" in found and found["0"].ndim == 4)
        old = group["0"][()]
        del group["0"]
        edit(group, "0", old)
    return members | {"model.weights.h5": buffer.getvalue()}


def external_link(group, name, old, other):
    with h5py.File(other, "w") as file:
        file["kernel"] = old
    group[name] = h5py.ExternalLink(str(other), "/kernel")


def external_storage(group, name, old, other):
    other.write_bytes(old.tobytes())
    group.create_dataset(name, old.shape, old.dtype, external=[(str(other), 0, old.nbytes)])


def virtual_data(group, name, old, other):
    with h5py.File(other, "w") as file:
        file["kernel"] = old
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource(str(other), "kernel", old.shape)
    group.create_virtual_dataset(name, layout)


def huge(group, name, old, other):
    group.create_dataset(name, (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


ELSEWHERE = {edit.__name__: edit for edit in (external_link, external_storage, virtual_data, huge)}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_weights_lie_in_the_archive_itself(tmp_path, members, kind):
    hostile = edited_weights(
        members, lambda *variable: ELSEWHERE[kind](*variable, tmp_path / "other.h5")
    )
    assert_refused(load_model, written(tmp_path / "model.keras", hostile))


def test_an_archive_that_expands_to_many_times_its_size_is_refused(tmp_path, members):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content + bytes(1 << 25) * name.endswith(".h5"))
    assert "in all, got" in assert_refused(load_model, path)


def test_an_archive_that_was_compressed_again_is_read(tmp_path, members):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    load_model(tmp_path / "model.keras")


def test_pickled_weights_are_not_read(tmp_path, members):
    marker, buffer = tmp_path / "ran", io.BytesIO()
    np.savez(buffer, conv1=np.array([Reduced(marker)], object))
    hostile = {name: content for name, content in members.items() if not name.endswith(".h5")}
    path = written(tmp_path / "m.keras", hostile | {"model.weights.npz": buffer.getvalue()})
    assert_refused(load_model, path)
    assert not marker.exists()


def test_the_archive_that_the_hostile_ones_vary(tmp_path, members):
    load_model(written(tmp_path / "model.keras", members))
    kept = edited_weights(members, lambda group, name, old: group.create_dataset(name, data=old))
    load_model(written(tmp_path / "again.keras", kept))


@pytest.mark.parametrize(("layer", "field"), [("fc6", "units"), ("conv3", "filters")])
def test_layers_larger_than_the_file_are_refused_before_they_are_built(
    tmp_path, members, layer, field
):
    config = json.loads(members["config.json"])
    for each in config["config"]["layers"]:
        if each["config"]["name"] == layer:
            each["config"][field] = 10**9
    path = written(
        tmp_path / "model.keras", members | {"config.json": json.dumps(config).encode()}
    )
    assert "expected layers of at most" in assert_refused(load_model, path)


MEAN_IMAGES = {
    "huge": {"size": 4096, "values": "AAAA"},
    "of no size": {"size": 10**30, "values": ""},
    "negative size": {"size": -67, "values": ""},
    "of another size": {"size": 1, "values": "AADgQAAA4EAAAOBA"},
    "NaN": {"size": 1, "values": base64.b64encode(np.full(3, np.nan, "<f4")).decode()},
    "no text": {"size": 1, "values": [0.0]},
    "no base64": {"size": 1, "values": "__import__('os')"},
    "more": {"size": 1, "values": "AADgQAAA4EAAAOBA", "code": "print()"},
    "a number": 3,
}


@pytest.mark.parametrize("mean_image", MEAN_IMAGES.values(), ids=MEAN_IMAGES)
def test_a_hostile_mean_image_is_refused_in_one_line(tmp_path, members, mean_image):
    config = json.loads(members["config.json"])
    config["config"]["preprocessing"]["mean_image"] = mean_image
    path = tmp_path / "model.keras"
    written(path, members | {"config.json": json.dumps(config).encode()})
    assert "mean_image" in assert_refused(load_model, path)
