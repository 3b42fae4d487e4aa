"""``weights check``: trained weights against initial values and shuffled ones."""

import json

import numpy as np
import pytest
import scipy.stats

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.pretrained.check import MIN_Z, check_layers, check_trained
from alexnet_keras.pretrained.loading import resolve_weights
from tests.alexnet_keras.pretrained.initial_layers import (
    INITIALIZERS,
    initial_layers,
    shuffled,
)
from tests.alexnet_keras.tiny import tiny_model
from tests.alexnet_keras.trees import assert_refused, invoke
from weights.writing import write_weights

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")
DEMO_LAYERS = (*CONVOLUTIONS, "fc6", "fc7", "fc8")


def first_and_last_by_default(names):
    """The layers between them are slow tests."""
    between = [pytest.param(name, marks=pytest.mark.slow) for name in names[1:-1]]
    return [names[0], *between, names[-1]]


@pytest.fixture(scope="module")
def demo():
    return resolve_weights("demo").weights.layers


def verdict(layers, folder):
    write_weights(folder / "w.npz", layers)
    return check_trained(folder / "w.npz").verdict


def states(layers):
    return {layer.layer: layer.state for layer in check_layers(layers)}


def stats_are_normal(kernel):
    """SciPy's test for skewness and kurtosis."""
    return scipy.stats.normaltest(kernel.ravel()).pvalue > 1e-9


def largest_z(layers):
    return max(row.z for layer in check_layers(layers) for row in layer.evidence)


def test_the_demonstrations_weights_are_trained():
    found = check_trained("demo")
    assert (found.verdict, found.trained) == ("trained", True)
    assert [layer.layer for layer in found.layers] == list(DEMO_LAYERS)
    assert len(found.colourfulness) == 2
    assert all("z = " in reason and f"{MIN_Z}" in reason for reason in found.reasons)


def test_the_real_trunk_is_trained(shared_data):
    found = check_trained(shared_data / "bvlc_alexnet_trunk.caffemodel")
    assert found.verdict == "trained"
    # Not near the threshold: its weakest layer.
    assert min(max(row.z for row in layer.evidence) for layer in found.layers) > 5 * MIN_Z
    # "color-agnostic" or "color-specific": the towers of Caffe's replica specialised too.
    assert found.colourfulness[1] < 0.25 < 0.75 < found.colourfulness[0]


@pytest.mark.parametrize("kernels", INITIALIZERS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_initial_values(tmp_path, variant, kernels):
    layers = initial_layers(variant, kernels=kernels)
    assert verdict(layers, tmp_path) == "initial values"


@pytest.mark.slow
def test_initial_values_of_the_models_themselves(tmp_path):
    for variant in VARIANTS:
        tiny_model(variant).save(tmp_path / f"{variant}.keras")
        assert check_trained(tmp_path / f"{variant}.keras").verdict == "initial values"


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_hundred_initial_values_of_a_hundred(variant):
    """And the largest z among all is what 100 times 40 normal deviates reach."""
    widths = (*[0.05] * 97, 0.1, 0.25, 1)
    first = 100 * list(VARIANTS).index(variant)
    for seed, width in enumerate(widths, first):
        layers = initial_layers(variant, width, INITIALIZERS[seed % 3], seed, positions=1)
        assert set(states(layers).values()) == {"initial values"}
        assert largest_z(layers) < MIN_Z


@pytest.mark.parametrize("name", first_and_last_by_default(DEMO_LAYERS))
def test_one_layer_of_the_demonstration_shuffled(demo, name):
    found = states(shuffled(demo, name))
    assert found[name] in ("unclear", "shuffled")


@pytest.mark.parametrize("name", first_and_last_by_default(CONVOLUTIONS))
def test_one_layer_of_the_trunk_shuffled(shared_data, name):
    trunk = resolve_weights(shared_data / "bvlc_alexnet_trunk.caffemodel").weights.layers
    found = states(shuffled(trunk, name))
    assert found == {**dict.fromkeys(CONVOLUTIONS, "trained"), name: "shuffled"}


@pytest.mark.slow
def test_all_layers_shuffled(demo, shared_data, tmp_path):
    trunk = resolve_weights(shared_data / "bvlc_alexnet_trunk.caffemodel").weights.layers
    assert verdict(shuffled(trunk), tmp_path) == "shuffled"
    assert verdict(shuffled(demo), tmp_path) in ("unclear", "shuffled")


def test_filters_shuffled_one_by_one_keep_their_norms_and_are_noticed(shared_data):
    trunk = resolve_weights(shared_data / "bvlc_alexnet_trunk.caffemodel").weights.layers
    kernel, bias = trunk["conv1"]
    generator = np.random.default_rng(0)
    pixels = generator.permuted(kernel.reshape(-1, 96), axis=0).reshape(kernel.shape)
    assert states({**trunk, "conv1": (pixels, bias)})["conv1"] == "shuffled"


def test_a_new_classifier_on_trained_layers(demo, tmp_path):
    fresh = initial_layers("alexnet", 0.25, classes=9)["fc8"][0].shape
    kernel = np.random.default_rng(0).normal(0, 0.01, (512, fresh[1])).astype(np.float32)
    layers = {**demo, "fc8": (kernel, np.zeros(fresh[1], np.float32))}
    found = states(layers)
    assert (found["conv1"], found["fc8"]) == ("trained", "initial values")


def test_values_that_have_drifted_a_little_are_not_called_shuffled(tmp_path):
    """Brief training of a wide network leaves no order that shows, but heavier tails."""
    generator = np.random.default_rng(0)
    layers = initial_layers("alexnet", 0.25)
    kernel, bias = layers["fc7"]
    kernel *= generator.uniform(0.7, 1.3, kernel.shape).astype(np.float32)
    bias += generator.normal(0, 1e-3, bias.shape).astype(np.float32)
    assert not stats_are_normal(kernel)
    assert states(layers)["fc7"] == "unclear"


@pytest.mark.parametrize("names", [("conv1",), ("fc7", "fc8"), ("conv1", "conv3", "fc8")])
def test_partial_files(demo, tmp_path, names):
    layers = {name: demo[name] for name in names}
    assert states(layers)[names[0]] == "trained"
    initial = {name: initial_layers("alexnet")[name] for name in names}
    assert verdict(initial, tmp_path) == "initial values"


@pytest.mark.slow
def test_faults_are_verdicts(demo, tmp_path):
    kernel, bias = demo["conv2"]
    one_nan, zeros, dead = kernel.copy(), np.zeros_like(kernel), kernel.copy()
    one_nan[0, 0, 0, 0] = np.nan
    dead[..., :32] = 0
    for broken, says in (
        (one_nan, f"1 of {kernel.size} values of the kernel are NaN or infinite"),
        (zeros, "all values of the kernel are 0"),
        (dead, "32 of 64 filters are dead"),
    ):
        found = {row.layer: row for row in check_layers({**demo, "conv2": (broken, bias)})}
        assert found["conv2"].state == "damaged"
        assert says in found["conv2"].reason


def test_nan_that_a_reader_refuses_is_a_verdict_too(demo, tmp_path):
    kernel, bias = demo["fc8"]
    np.savez(
        tmp_path / "w.npz",
        **{"fc8/kernel": np.where(kernel > 0, np.nan, kernel), "fc8/bias": bias},
    )
    found = check_trained(tmp_path / "w.npz")
    assert found.verdict == "damaged"
    assert "expected a finite float32, got nan" in found.reasons[0]


def test_the_command(tmp_path):
    write_weights(tmp_path / "random.npz", initial_layers("owt"))
    good, bad = (
        invoke("weights", "check", source) for source in ("demo", tmp_path / "random.npz")
    )
    assert (good.exit_code, bad.exit_code) == (0, 1)
    assert good.stdout.splitlines()[0].endswith("demo.keras: trained")
    assert bad.stdout.splitlines()[0] == f"{tmp_path / 'random.npz'}: initial values"
    assert "conv1's two towers" in good.stdout
    found = json.loads(invoke("weights", "check", "demo", "--json").stdout)
    assert found["verdict"] == "trained"
    assert found["layers"][0]["evidence"][0]["z"] > MIN_Z
    assert_refused("weights", "check", tmp_path / "none.npz", says="expected an existing file")
