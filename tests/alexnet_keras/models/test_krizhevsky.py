"""The network of 2012 and its ablations against their layer files, which ``cfg_interpreter`` runs
in float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.configs.ablations import ABLATIONS
from alexnet_keras.configs.architecture import KRIZHEVSKY
from alexnet_keras.models.alexnet import build
from alexnet_keras.models.layers import SampleDropout, sample_masks
from alexnet_keras.models.summary import summarize
from tests.alexnet_keras.tiny import slow
from tests.cfg_interpreter import CfgNetwork

NETWORKS = {
    "145": KRIZHEVSKY,
    "145-half": ABLATIONS["145-half"],
    "146-2012-2011": ABLATIONS["146"],
    "147": ABLATIONS["147"],
    "148": ABLATIONS["148"],
}
# The other two have those of 145.
PARAMETERS = {"145-half": 59_798_312, "146": 61_555_304}
OURS = {  # without the letters of the towers
    "rnorm1": "norm1",
    "rnorm2": "norm2",
    "pool3": "pool5",
    "fc2048": "fc6",
    "fc4096": "fc6",
    "hs1": "drop6",
    "fc2048b": "fc7",
    "fc4096b": "fc7",
    "hs2": "drop7",
    "fc1000": "fc8",
    "probs": "prob",
}
BATCH, CLASSES = 2, 1000
TOWERS = "ab"


@dataclass
class Place:
    """The tower of one of our layers that is a layer of the file."""

    ours: str
    tower: int
    towers: int

    def of(self, array, axis=-1):
        return np.split(array, self.towers, axis)[self.tower]


def places(network: CfgNetwork) -> dict[str, Place]:
    towers = 2 if "conv1b" in network.layers else 1
    found = {}
    for name in network.layers:
        single = name in ("fc1000", "probs")
        base = name if single else name[:-1]
        found[name] = Place(
            OURS.get(base, base),
            0 if single else TOWERS.index(name[-1]),
            1 if single else towers,
        )
    return found


def in_cfg_form(network: CfgNetwork, ours: dict, pool5: tuple[int, ...]) -> dict:
    """``{layer: (kernel, bias)}`` of ours as the file's layers hold them."""
    place = places(network)
    found = {}
    for layer in network.layers.values():
        here = place[layer.name]
        if here.ours not in ours:
            continue
        kernel, bias = ours[here.ours]
        kernels = []
        for name in layer.inputs:
            block = here.of(kernel)
            if name != "data" and layer.kind == "fc":
                rows = block.reshape(*(pool5 if here.ours == "fc6" else (-1,)), block.shape[-1])
                block = place[name].of(rows, -2).reshape(-1, block.shape[-1])
            elif len(layer.inputs) > 1:
                block = place[name].of(block, -2)
            kernels.append(block)
        found[layer.name] = (kernels, here.of(bias))
    return found


def random_weights(model, generator) -> dict:
    """Values with which every layer matters: its outputs are of the order of 100 before the first
    normalization, and of 1 at fc8.
    """
    scales = {"conv1": 1.5, "fc8": 0.02}
    found = {}
    for layer in (layer for layer in model.layers if layer.weights):
        fan_in = np.prod(layer.kernel.shape[:-1])
        kernel = generator.standard_normal(layer.kernel.shape, np.float32)
        kernel *= np.float32(scales.get(layer.name, 2**0.5) / fan_in**0.5)
        bias = generator.standard_normal(layer.bias.shape, np.float32)
        layer.kernel.assign(kernel)
        layer.bias.assign(bias)
        found[layer.name] = (kernel, bias)
    return found


class Compared:
    """One network of ours and the file's, with the same weights and images."""

    def __init__(self, folder, name: str, seed: int, width: float = 1):
        generator = np.random.default_rng(seed)
        self.network = CfgNetwork(folder, name, width)
        self.model = build(NETWORKS[name].with_width(width), keras.Input((224, 224, 3)), CLASSES)
        ours = random_weights(self.model, generator)
        self.pool5 = self.model.get_layer("pool5").output.shape[1:]
        self.weights = in_cfg_form(self.network, ours, self.pool5)
        self.images = 60 * generator.standard_normal((BATCH, 224, 224, 3), np.float32)
        self.labels = generator.integers(CLASSES, size=BATCH)
        self.seed = seed

    def outputs(self, training=False) -> dict[str, np.ndarray]:
        """Of every layer, in the file's form."""
        names = {place.ours for place in places(self.network).values()}
        tensors = {name: self.model.get_layer(name).output for name in names}
        found = keras.Model(self.model.input, tensors)(self.images, training=training)
        return {
            name: place.of(found[place.ours].numpy())
            for name, place in places(self.network).items()
        }

    def masks(self) -> dict[str, np.ndarray]:
        found = {}
        for name, place in places(self.network).items():
            if self.network.layers[name].kind == "hs":
                layer = SampleDropout(0.5, "inference", name=place.ours)
                units = self.model.get_layer(place.ours).output.shape[-1]
                with sample_masks(self.seed, tf.constant(7, tf.int64)):
                    found[name] = place.of(layer(tf.ones((BATCH, units)), training=True).numpy())
        assert all(set(np.unique(mask)) == {0, 1} for mask in found.values())
        return found

    def training(self):
        """The outputs and the gradients of a training step."""
        with sample_masks(self.seed, tf.constant(7, tf.int64)), tf.GradientTape() as tape:
            probabilities = self.model(self.images, training=True)
            loss = keras.losses.SparseCategoricalCrossentropy()(self.labels, probabilities)
        layers = [layer for layer in self.model.layers if layer.weights]
        gradients = tape.gradient(loss, [(layer.kernel, layer.bias) for layer in layers])
        arrays = {
            layer.name: tuple(each.numpy() for each in pair)
            for layer, pair in zip(layers, gradients, strict=True)
        }
        with sample_masks(self.seed, tf.constant(7, tf.int64)):
            outputs = self.outputs(training=True)
        return outputs, in_cfg_form(self.network, arrays, self.pool5)


def error(found, expected) -> float:
    """Relative to the largest value."""
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def check_every_layer(compared: Compared):
    expected = compared.network.forward(compared.images, compared.weights)
    del expected["data"]
    found = compared.outputs()
    assert list(found) == list(expected)
    errors = {name: error(found[name], expected[name]) for name in expected}
    assert {name: each for name, each in errors.items() if not each < 1e-5} == {}


def check_every_gradient(compared: Compared):
    masks = compared.masks()
    outputs, found = compared.training()
    values = compared.network.forward(compared.images, compared.weights, masks)
    expected = compared.network.gradients(
        values, compared.weights, compared.labels, masks, {**outputs, "data": compared.images}
    )
    errors = {
        (name, index): error(one, other)
        for name, (kernels, bias) in expected.items()
        for index, (one, other) in enumerate(
            zip((*found[name][0], found[name][1]), (*kernels, bias), strict=True)
        )
    }
    assert len(errors) >= 16
    assert {name: each for name, each in errors.items() if not each < 1e-4} == {}


def sizes(architecture):
    """The heights of the maps, from the top down."""
    model = build(architecture.with_width(0.05), keras.Input((224, 224, 3)))
    maps = [layer for layer in model.layers if layer.name.startswith(("conv", "pool"))]
    return [layer.output.shape[1] for layer in maps]


def test_sizes_are_rounded_up():
    assert sizes(KRIZHEVSKY) == [55, 27, 27, 13, 13, 13, 13, 6]
    assert sizes(ABLATIONS["145-half"]) == sizes(ABLATIONS["148"]) == sizes(KRIZHEVSKY)
    assert sizes(ABLATIONS["146"]) == [*sizes(KRIZHEVSKY), 6]
    assert sizes(ABLATIONS["147"]) == [55, 28, 26, 13, 13, 13, 11, 6]


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name):
    assert sum(row.parameters for row in summarize(ABLATIONS[name])) == PARAMETERS[name]


def test_conv6_starts_as_its_layer_file_says():
    initial = ABLATIONS["146"].initial_values
    assert (initial.stddev_of("conv6"), initial.bias_of("conv6")) == (0.03, 1.0)
    assert (initial.stddev_of("conv2"), initial.stddev_of("fc7")) == (0.01, 0.01)


@pytest.fixture
def folder(shared_data):
    return shared_data / "krizhevsky_2012"


@pytest.mark.parametrize("seed", [0, *slow(1, 2)])
@pytest.mark.parametrize(
    "name",
    ["145", *slow(*(name for name in NETWORKS if name != "145"))],
)
def test_every_layer_and_gradient_is_the_layer_files(folder, name, seed):
    """At an eighth of the width, so that it takes seconds."""
    compared = Compared(folder, name, seed, width=1 / 8)
    check_every_layer(compared)
    check_every_gradient(compared)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_and_gradient_at_full_width(folder, name, seed):
    compared = Compared(folder, name, seed)
    check_every_layer(compared)
    check_every_gradient(compared)
