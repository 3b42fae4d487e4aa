"""Untrained networks: a function of their seed, with the initial values of their variant."""

import subprocess
import sys

import keras
import numpy as np
import pytest

from alexnet_keras.configs import architecture as architectures
from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.option_groups import WeightsOptions
from alexnet_keras.configs.preprocessing import PREPROCESSING
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.alexnet import build
from alexnet_keras.pretrained.from_options import open_weights
from tests.alexnet_keras.trees import ROOT


@pytest.fixture
def narrow(monkeypatch):
    """Variants of a hundredth of the width, so that a network is built in no time."""
    for name in VARIANTS:
        monkeypatch.setitem(architectures.VARIANTS, name, VARIANTS[name].with_width(0.02))


def opened(name, **options):
    return open_weights(WeightsOptions(weights=name, **options), "photographs", None)


def test_the_same_seed_is_the_same_network_whatever_was_drawn_before(narrow):
    first = opened("random:7")
    keras.utils.set_random_seed(3)
    again = opened("random:07", variant="alexnet")
    other = opened("random:8")
    assert first.digest == again.digest != other.digest
    kernels = [each.model.get_layer("conv1").get_weights()[0] for each in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.isin(kernels[0], kernels[2]).any()
    assert first.describe() == again.describe()
    described = first.describe()
    assert described["source"] == "random:7"
    assert (described["file"], described["classes"], described["missing"]) == (None, 1000, [])
    assert described["initial_values"]["stddev"] == 0.01
    assert first.model.preprocessing == PREPROCESSING["alexnet"]
    assert first.model.class_names[0] == "tench"


@pytest.mark.parametrize(
    ("variant", "layer", "stddev", "bias"),
    [
        ("alexnet", "fc7", 0.005, 0.1),
        ("krizhevsky", "conv3", 0.03, 0.0),
        ("slim", "fc6", 0.005 * 0.8796, 0.1),  # truncated at two deviations
    ],
)
def test_the_initial_values_are_the_variants_own(variant, layer, stddev, bias):
    architecture = VARIANTS[variant].with_width(0.1)
    network = build(architecture, keras.Input((architecture.input_size,) * 2 + (3,)), 5, seed=0)
    kernel, biases = network.get_layer(layer).get_weights()
    assert kernel.std() == pytest.approx(stddev, rel=0.02)
    assert set(biases) == {np.float32(bias)}


def test_no_two_arrays_are_alike():
    network = build(VARIANTS["owt"].with_width(0.05), keras.Input((224, 224, 3)), 5, seed=0)
    firsts = [float(each.ravel()[0] / abs(each).max()) for each in network.get_weights()]
    assert len({round(each, 4) for each in firsts}) == len(firsts)


@pytest.mark.parametrize(
    "name", ["random", "random:", "random:-1", "random:x", "random:1.5", "random:2147483648"]
)
def test_a_seed_that_is_none(name):
    with pytest.raises(
        ConfigurationError,
        match="^weights: expected random:SEED with an integer from 0 to 2147483647, "
        f"got '{name}'$",
    ):
        opened(name)


@pytest.mark.parametrize("option", [{"partial": True}, {"kernel_order": "theano"}])
def test_options_of_weight_files(option):
    with pytest.raises(
        ConfigurationError,
        match=rf"^{next(iter(option))}: has no effect on untrained weights \(random:0\)$",
    ):
        opened("random:0", **option)


def test_the_control_is_given_the_mean_image_of_the_trained_network(narrow, tmp_path):
    mean = np.full((224, 224, 3), 120, np.float32)
    np.save(tmp_path / "mean.npy", mean)
    found = opened("random:0", variant="krizhevsky", mean=str(tmp_path / "mean.npy"))
    assert found.model.preprocessing.mean_image == MeanImage.from_array(mean)
    assert found.describe()["mean_image_sha256"] == MeanImage.from_array(mean).sha256


@pytest.mark.slow
def test_two_processes_draw_the_same_bits():
    code = (
        "import keras, zlib; from alexnet_keras.configs.architecture import VARIANTS; "
        "from alexnet_keras.models.alexnet import build; "
        "network = build(VARIANTS['owt'].with_width(0.1), keras.Input((224, 224, 3)), 5, seed=5); "
        "print([zlib.crc32(each.tobytes()) for each in network.get_weights()])"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        for _ in range(2)
    ]
    assert found[0] == found[1] != ""
