"""From a name or a path to a network with weights."""

import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from alexnet_keras.applications import AlexNet
from alexnet_keras.configs.architecture import ALEXNET, OWT, VARIANTS, get_architecture
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PREPROCESSING,
    TORCHVISION_PREPROCESSING,
)
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.models.alexnet import new_model
from alexnet_keras.models.assign import layer_weights
from alexnet_keras.models.saving import load_model
from alexnet_keras.pretrained.catalog import PUBLISHED
from alexnet_keras.pretrained.loading import check_loaded, load_pretrained, resolve_weights
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from tests.conftest import ROOT
from tests.weights import caffe_files, torch_files
from tests.weights.refusal import assert_refused
from weights.canonical import to_channels_first
from weights.store import cache_folder, digest_of
from weights.writing import write_weights

LAYERS = tiny_layers(size=227)


def caffemodel(path, variant="alexnet", layers=None):
    return caffe_files.write_v1(
        path, to_channels_first(layers or LAYERS, path), caffe_files.ORDERS[variant]
    )


def owt_file(path):
    """A state dict of a narrow torchvision AlexNet; conv2's 64 inputs and 192 outputs are what
    tells it.
    """
    layers = layer_weights(
        new_model(OWT.with_width(1, units=0.01), TORCHVISION_PREPROCESSING, ("cat", "dog"))
    )
    return torch_files.write_pth(
        path,
        {
            f"{name}.{role}": np.ascontiguousarray(array)
            for name, arrays in to_channels_first(layers, path).items()
            for role, array in zip(("weight", "bias"), arrays, strict=True)
        },
    ), layers


def assert_holds(model, layers=LAYERS):
    found = layer_weights(model)
    for name, arrays in layers.items():
        for one, other in zip(arrays, found[name], strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("suffix", [".caffemodel", ".npz", ".safetensors", ".weights.h5"])
def test_a_narrow_network_from_any_file(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    write_weights(path, LAYERS, variant="alexnet")
    found = load_pretrained(str(path))
    assert (found.source, found.path, found.missing) == (str(path), path, ())
    assert found.digest == digest_of(path)
    assert found.model.input_shape == (None, 227, 227, 3)
    assert found.model.class_names == ("0", "1", "2", "3", "4")
    assert_holds(found.model)
    assert found.describe() == {
        "source": str(path),
        "file": path.name,
        "sha256": found.digest,
        "missing": [],
    }


@pytest.mark.parametrize("variant", ["alexnet", "caffenet"])
def test_the_order_in_a_caffemodel_tells_its_variant(tmp_path, variant):
    path = caffemodel(tmp_path / "w.caffemodel", variant)
    assert resolve_weights(path).variant == variant
    assert resolve_weights(path).preprocessing == PREPROCESSING[variant]
    model = load_pretrained(str(path)).model
    names = [layer.name for layer in model.layers]
    assert (names.index("pool1") < names.index("norm1")) == (variant == "caffenet")
    assert model.architecture.name == variant
    other = {"alexnet": "caffenet", "caffenet": "alexnet"}[variant]
    assert assert_refused(lambda path: load_pretrained(str(path), other), path) == (
        f"these are weights of {variant}, not of {other}"
    )


def test_alexnets_weights_may_run_in_the_papers_network(tmp_path):
    model = load_pretrained(str(caffemodel(tmp_path / "w.caffemodel")), "paper").model
    assert (model.architecture.name, model.get_layer("norm1").bias) == ("paper", 2.0)


def test_torchvisions_widths_tell_its_network_and_preprocessing(tmp_path):
    path, layers = owt_file(tmp_path / "w.pth")
    found = load_pretrained(str(path))
    assert found.model.architecture.name == "owt"
    assert found.model.preprocessing == TORCHVISION_PREPROCESSING
    assert found.model.input_shape == (None, 224, 224, 3)
    assert_holds(found.model, layers)


def test_a_file_that_records_nothing_needs_a_variant_where_several_fit(tmp_path):
    write_weights(tmp_path / "w.npz", LAYERS)
    source = resolve_weights(tmp_path / "w.npz")
    assert (source.variant, source.preprocessing) == (None, None)
    for load in (load_pretrained, lambda path: AlexNet(weights=path, classes=5)):
        assert assert_refused(load, tmp_path / "w.npz") == (
            "expected a variant (alexnet, caffenet, paper or krizhevsky: all fit its shapes, and "
            "the file records none); choose it with --variant"
        )
    for variant in ("alexnet", "caffenet", "paper"):
        model = load_pretrained(str(tmp_path / "w.npz"), variant).model
        assert model.architecture.name == variant


def test_missing_layers_are_refused_or_stay_initial_and_are_told(tmp_path, caplog):
    trunk = {name: LAYERS[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5")}
    path = caffemodel(tmp_path / "trunk.caffemodel", layers=trunk)
    assert (
        assert_refused(lambda path: load_pretrained(str(path)), path)
        == "does not fit alexnet; missing: fc6, fc7, fc8"
    )
    found = load_pretrained(str(path), partial=True)
    assert found.missing == ("fc6", "fc7", "fc8")
    assert f"{path} lacks fc6, fc7, fc8: they stay at their initial values" in caplog.text
    assert found.model.output_shape == (None, 1000)
    assert len(found.model.class_names) == 1000
    assert_holds(found.model, trunk)
    assert found.describe()["missing"] == ["fc6", "fc7", "fc8"]


def test_what_depends_on_missing_layers_is_refused(tmp_path):
    path = caffemodel(tmp_path / "w.caffemodel")
    found = replace(load_pretrained(str(path)), missing=("conv3", "fc8"))
    check_loaded(found, ["norm2", "pool2"])
    for name, reason in {
        "conv5": "conv5 depends on conv3, which is missing from the file",
        "conv3": "conv3 is missing from the file",
        "prob": "prob depends on conv3 and fc8, which are missing from the file",
    }.items():
        with pytest.raises(WeightsError, match=f"^{path}: {reason}$"):
            check_loaded(found, ["conv1", name])


def changed(**layers):
    return LAYERS | {
        name: (np.zeros(shape, np.float32), np.zeros(shape[-1], np.float32))
        for name, shape in layers.items()
    }


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (changed(conv2=(5, 5, 2, 3)), "expected the layers of some alexnet, got: "),
        (changed(conv3=(3, 3, 12, 3)), "expected the layers of some alexnet, got: "),
        (
            changed(fc7=(9, 205)),
            "does not fit alexnet; of another shape: fc7 (expected 205x205 and 205, got 9x205 "
            "and 205)",
        ),
        (changed(fc9=(9, 205)), "does not fit alexnet; extra: fc9"),
        (
            tiny_layers(size=131),
            "does not fit alexnet; of another shape: fc6 (expected 432x205 and 205, got 108x205 "
            "and 205)",
        ),
    ],
)
def test_layers_that_make_no_network(tmp_path, layers, message):
    write_weights(tmp_path / "w.npz", layers, variant="alexnet")
    assert assert_refused(lambda path: load_pretrained(str(path)), tmp_path / "w.npz").startswith(
        message
    )


def catalogued(monkeypatch, name, **fields):
    """The catalogue's entry ``name`` with other fields, its file small and without a digest."""
    entry = replace(PUBLISHED[name], **fields)
    file = replace(entry.file, digest=None, digest_algorithm=None, size=None)
    monkeypatch.setitem(PUBLISHED, name, replace(entry, file=file))
    cache_folder().mkdir(parents=True)


def test_a_name_of_the_catalogue_brings_variant_and_preprocessing(tmp_path, monkeypatch):
    preprocessing = replace(CAFFE_PREPROCESSING, resize_to=300)
    catalogued(monkeypatch, "tensorflow", preprocessing=preprocessing)
    write_weights(tmp_path / "w.npz", LAYERS)
    shutil.copy(tmp_path / "w.npz", cache_folder() / "bvlc_alexnet.npy")
    found = load_pretrained("tensorflow")
    assert (found.source, found.path) == ("tensorflow", cache_folder() / "bvlc_alexnet.npy")
    assert found.model.preprocessing.resize_to == 300
    assert found.model.architecture.name == "alexnet"
    with pytest.raises(
        WeightsError,
        match="^tensorflow: these are weights of alexnet, not of owt$",
    ):
        load_pretrained("tensorflow", "owt")


def test_the_catalogue_says_caffenet_where_the_file_says_nothing(tmp_path, monkeypatch):
    catalogued(monkeypatch, "caffenet")
    write_weights(tmp_path / "w.npz", LAYERS)
    shutil.copy(tmp_path / "w.npz", cache_folder() / "bvlc_reference_caffenet.caffemodel")
    assert load_pretrained("caffenet").model.architecture.name == "caffenet"


def test_whole_models_bring_everything_and_runs_too(tmp_path):
    model = tiny_model("owt", classes=3)
    run = tmp_path / "run"
    run.mkdir()
    model.save(run / "model.keras")
    for place in (run, run / "model.keras"):
        found = load_pretrained(str(place))
        assert (found.path, found.source, found.missing) == (run / "model.keras", str(place), ())
        assert found.digest == digest_of(run / "model.keras")
        assert (found.model.class_names, found.model.preprocessing) == (
            model.class_names,
            model.preprocessing,
        )
        assert found.model.architecture == model.architecture
        assert_holds(found.model, layer_weights(model))
        assert_holds(load_model(place), layer_weights(model))
        with pytest.raises(WeightsError, match="these are weights of owt, not of alexnet"):
            load_pretrained(str(place), "alexnet")


@pytest.mark.slow
def test_the_function_can_be_called_again_after_its_package_was_imported(tmp_path):
    """``alexnet_keras.pretrained`` was a function until its submodule was imported."""
    write_weights(tmp_path / "w.npz", LAYERS, variant="alexnet")
    code = """
import sys, types, alexnet_keras
first = alexnet_keras.load_pretrained(sys.argv[1])
import alexnet_keras.pretrained.loading
second = alexnet_keras.load_pretrained(sys.argv[1])
assert first.path == second.path
assert isinstance(alexnet_keras.pretrained, types.ModuleType)
"""
    command = [sys.executable, "-c", code, tmp_path / "w.npz"]
    subprocess.run(command, cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["nowhere.npy", "x" * 5000, "nul\0byte", ""])
def test_neither_a_path_nor_a_name(name):
    with pytest.raises(
        WeightsError,
        match="^weights: expected an existing file or one of caffe, caffenet, .*, got '",
    ) as caught:
        load_pretrained(name)
    assert str(caught.value).isprintable()


def test_a_catalogue_name_goes_before_a_path_of_the_same_spelling(tmp_path, monkeypatch):
    catalogued(monkeypatch, "caffe")
    caffemodel(cache_folder() / "bvlc_alexnet.caffemodel")
    caffemodel(tmp_path / "caffe")
    monkeypatch.chdir(tmp_path)
    assert resolve_weights("caffe").path == cache_folder() / "bvlc_alexnet.caffemodel"
    assert resolve_weights("./caffe").path == Path("caffe")


@pytest.mark.parametrize("name", [*VARIANTS])
def test_architectures_by_name(name):
    assert get_architecture(name) is VARIANTS[name]


def test_architectures_themselves_and_unknown_ones():
    tiny = ALEXNET.with_width(0.1)
    assert get_architecture(tiny) is tiny
    with pytest.raises(
        ConfigurationError,
        match="^variant: expected one of alexnet, caffenet, paper, owt, krizhevsky, slim, got "
        "'vgg16'$",
    ):
        get_architecture("vgg16")


def test_a_new_network_is_as_its_arguments_say():
    model = new_model(
        ALEXNET.with_width(0.05), CAFFE_PREPROCESSING.with_input_size(67), ("cat", "dog")
    )
    assert (model.input_shape, model.output_shape) == ((None, 67, 67, 3), (None, 2))
    assert (model.class_names, model.preprocessing.crop) == (("cat", "dog"), 67)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    tiny_model().save(path)
    return path.read_bytes()


def with_member(content, name, change):
    """The archive with one member changed and its checksum right."""

    def rewrite(path):
        path.write_bytes(content)
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for member, data in members.items():
                archive.writestr(member, change(data) if member == name else data)

    return rewrite


FOREIGN = {
    "a file": lambda content, path: path.write_bytes(b"no archive"),
    "empty": lambda content, path: path.write_bytes(b""),
    "cut": lambda content, path: path.write_bytes(content[: len(content) // 2]),
    "no configuration": lambda content, path: with_member(
        content, "config.json", lambda data: b"{}"
    )(path),
    "no JSON": lambda content, path: with_member(content, "config.json", lambda data: b"config")(
        path
    ),
    "deep JSON": lambda content, path: with_member(
        content, "config.json", lambda data: b"[" * 200_000
    )(path),
    "unknown class": lambda content, path: with_member(
        content, "config.json", lambda data: data.replace(b"GroupedConv2D", b"GroupedConv4D")
    )(path),
    "unknown field": lambda content, path: with_member(
        content, "config.json", lambda data: data.replace(b'"channel_order"', b'"channel_odor"')
    )(path),
    "cut weights": lambda content, path: with_member(
        content, "model.weights.h5", lambda data: data[:5000]
    )(path),
    "another network": lambda content, path: keras.Sequential(
        [keras.Input((2,)), keras.layers.Dense(2)]
    ).save(path),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_damaged_and_foreign_models_are_refused_in_one_line(tmp_path, saved, kind):
    path = tmp_path / "model.keras"
    FOREIGN[kind](saved, path)
    assert_refused(load_model, path)
    assert_refused(lambda path: load_pretrained(str(path)), path)


def test_one_flipped_bit_never_gives_other_weights(tmp_path, saved):
    generator, path = np.random.default_rng(0), tmp_path / "model.keras"
    path.write_bytes(saved)
    layers, refused = layer_weights(load_model(path)), 0
    for place in generator.integers(0, len(saved), 40):
        content = bytearray(saved)
        content[place] ^= 1 << generator.integers(8)
        path.write_bytes(content)
        try:
            assert_holds(
                load_model(path), layers
            )  # where the bit means nothing, such as a member's date
        except WeightsError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("place", ["nowhere.keras", ""])
def test_no_model_there(tmp_path, place):
    with pytest.raises(
        WeightsError,
        match=rf"^{re.escape(str(tmp_path))}.*: expected a model saved by this project, "
        "got nothing$",
    ):
        load_model(tmp_path / place)


def test_code_in_a_model_file_is_not_run(tmp_path):
    inputs = keras.Input((2,))
    path = tmp_path / "model.keras"
    keras.Model(inputs, keras.layers.Lambda(lambda x: x + 1)(inputs)).save(path)
    assert "Lambda" in assert_refused(load_model, path)


def test_a_folder_that_cannot_be_listed(tmp_path, monkeypatch):
    def forbidden(folder):
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", forbidden)
    with pytest.raises(WeightsError, match="^weights: expected an existing file or one of "):
        load_pretrained(tmp_path / "w.npz")
