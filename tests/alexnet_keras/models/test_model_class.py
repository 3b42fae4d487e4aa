"""A saved network is the same network in another process, facts and all."""

import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET, Pooling, demo_architecture
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING, PREPROCESSING
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.alexnet import AlexNetModel
from alexnet_keras.models.saving import load_model
from tests.alexnet_keras.tiny import tiny_model
from tests.conftest import ROOT

ABLATED = replace(
    ALEXNET.with_width(0.05).without("norm2", "drop6").replace_each(Pooling, size=2),
    activation="tanh",
)
MODELS = {"caffenet": "caffenet", "owt": "owt", "ablated": ABLATED}
FRESH = """
import pathlib, sys
import numpy as np
import alexnet_keras
folder = pathlib.Path(sys.argv[1])
x = np.load(folder / "x.npy")
for path in sorted(folder.glob("*.keras")):
    model = alexnet_keras.load_model(path)
    np.save(path.with_suffix(".out.npy"), model.predict(x, verbose=0))
    facts = model.name, model.architecture.to_dict(), model.preprocessing, model.class_names
    path.with_suffix(".facts").write_text(repr(facts))
"""


def facts(model):
    return repr((model.name, model.architecture.to_dict(), model.preprocessing, model.class_names))


def photographs(count=3):
    return np.random.default_rng(0).standard_normal((count, 67, 67, 3), np.float32) * 60


@pytest.mark.slow
def test_keras_files_open_in_a_fresh_process_that_imports_nothing_else(tmp_path):
    np.save(tmp_path / "x.npy", photographs())
    models = {name: tiny_model(variant, size=67) for name, variant in MODELS.items()}
    for name, model in models.items():
        model.save(tmp_path / f"{name}.keras")
    subprocess.run([sys.executable, "-c", FRESH, str(tmp_path)], check=True, cwd=ROOT, timeout=120)
    for name, model in models.items():
        assert (tmp_path / f"{name}.facts").read_text() == facts(model)
        np.testing.assert_allclose(
            np.load(tmp_path / f"{name}.out.npy"),
            model.predict(photographs(), verbose=0),
            rtol=1e-5,
        )


def test_every_weight_comes_back_bit_for_bit(tmp_path):
    model = tiny_model()
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    assert isinstance(again, AlexNetModel)
    assert [weight.path for weight in again.weights] == [weight.path for weight in model.weights]
    for one, other in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_second_round_trip_changes_nothing(tmp_path):
    model = tiny_model("owt")
    for name in ("one.keras", "two.keras"):
        model.save(tmp_path / name)
        model = load_model(tmp_path / name)
    assert facts(model) == facts(tiny_model("owt"))


def test_configuration_round_trip():
    model = tiny_model("caffenet")
    again = AlexNetModel.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert facts(again) == facts(model)


def test_a_model_without_facts_is_saved_as_such(tmp_path):
    inputs = keras.Input((4,))
    AlexNetModel(inputs, keras.layers.Dense(2)(inputs)).save(tmp_path / "bare.keras")
    bare = load_model(tmp_path / "bare.keras")
    assert (bare.architecture, bare.preprocessing, bare.class_names) == (None, None, ())


def test_facts_belong_to_one_model():
    one, other = tiny_model("alexnet"), tiny_model("owt")
    assert one.preprocessing == CAFFE_PREPROCESSING.with_input_size(67)
    assert other.preprocessing == PREPROCESSING["owt"].with_input_size(63)


@pytest.mark.parametrize("fact", ["architecture", "preprocessing", "class_names"])
def test_facts_are_read_only(fact):
    with pytest.raises(AttributeError):
        setattr(tiny_model(), fact, None)


def test_a_clone_keeps_the_facts_and_its_clone_too():
    model = tiny_model("caffenet")
    clone = keras.models.clone_model(model)
    assert facts(clone) == facts(keras.models.clone_model(clone)) == facts(model)
    assert clone.preprocessing is not None
    assert not {id(layer) for layer in clone.layers} & {id(layer) for layer in model.layers}
    on_another = keras.models.clone_model(model, keras.Input((67, 67, 3), name="photograph"))
    assert facts(on_another) == facts(model)
    assert AlexNetModel(model.input, model.output, name="alexnet").class_names == ()


def test_configuration_of_the_first_versions():
    """They held the facts under one key, and no flatten among the layers."""
    model = tiny_model("owt")
    config = model.get_config()
    names = ("architecture", "preprocessing", "class_names")
    old = {name: config.pop(name) for name in names}
    layers = old["architecture"]["layers"]
    layers[:] = [layer for layer in layers if layer["kind"] != "Flatten"]
    again = AlexNetModel.from_config({**config, "alexnet": old})
    assert facts(again) == facts(model)
    assert again.get_config() == model.get_config()


def test_the_shipped_network_knows_its_facts():
    model = load_model(ROOT / "weights" / "demo.keras")
    assert model.architecture == demo_architecture()
    assert model.preprocessing == CAFFE_PREPROCESSING
    assert len(model.class_names) == model.output_shape[-1]


def test_weights_file_of_keras_round_trip(tmp_path):
    model, other = tiny_model(), tiny_model()
    model.save_weights(tmp_path / "w.weights.h5")
    other.load_weights(tmp_path / "w.weights.h5")
    np.testing.assert_array_equal(model(photographs()), other(photographs()))


@pytest.mark.parametrize("name", ["model.h5", "model.hdf5"])
def test_a_file_that_could_not_be_read_back_is_not_written(tmp_path, name):
    for path in (tmp_path / name, str(tmp_path / name)):
        with pytest.raises(ConfigurationError, match=rf"^[^\n]*{name}: expected [^\n]*\.keras"):
            tiny_model().save(path)
    assert list(tmp_path.iterdir()) == []
