"""The networks that ours is measured against: the same numbers, made small."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET, Dropout
from alexnet_keras.models.layers import LocalResponseNormalization
from benchmarks import inference, training_step
from benchmarks.inference import check_agreement
from benchmarks.peers import (
    INFERENCE,
    TRAINING,
    Network,
    peer,
    random_images,
    random_weights,
    relative_difference,
)

TINY = ALEXNET.with_width(0.05)
CLASSES = 7


@pytest.mark.parametrize("name", INFERENCE)
def test_a_peer_computes_what_ours_computes(name):
    pytest.importorskip(INFERENCE[name])
    weights, images = random_weights(TINY, CLASSES), random_images(2, TINY.input_size)
    networks = {
        each: peer(each).network(TINY, weights, len(images), threads=2) for each in ("ours", name)
    }
    check_agreement(networks, images)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINING)
def test_a_peer_learns_what_ours_learns(name, monkeypatch):
    pytest.importorskip(TRAINING[name])
    monkeypatch.setattr(training_step, "ALEXNET", TINY)
    training_step.check_agreement(("ours", name), threads=2)


def test_the_stock_network_is_made_of_keras_own_layers():
    model = peer("stock Keras").model_of(TINY, random_weights(TINY, CLASSES))
    assert not any(isinstance(layer, LocalResponseNormalization) for layer in model.layers)
    assert model.get_layer("conv2").groups == 2
    assert sum(layer.name.startswith("drop") for layer in model.layers) == sum(
        isinstance(layer, Dropout) for layer in TINY.layers
    )


def test_a_peer_that_computes_something_else_is_not_timed():
    def network(value):
        return Network(lambda images: images, lambda images: np.full((2, 3), value, np.float32))

    with pytest.raises(
        AssertionError, match="PyTorch: fc8: expected a difference of at most 0.0001, got 1.0e-03"
    ):
        check_agreement({"ours": network(1.0), "PyTorch": network(1.001)}, random_images(2, 8))


def test_the_difference_is_relative():
    assert relative_difference(np.array([4.0, 3.0]), np.array([4.0, 0.0])) == pytest.approx(0.75)


def test_weights_keep_activations_and_logits_in_range():
    weights = random_weights(TINY, CLASSES)
    network = peer("ours").network(TINY, weights, 4, threads=2)
    fc8 = network.infer(network.convert(random_images(4, TINY.input_size)))
    assert fc8.shape == (4, CLASSES)
    assert 0.01 < np.abs(fc8).max() < 50


def test_absent_peers_are_named_once(monkeypatch, capsys):
    monkeypatch.setattr(
        inference, "INFERENCE", {"PyTorch": "no_such_module", "OpenVINO": "nor_this_one"}
    )
    monkeypatch.setattr(inference, "ALEXNET", TINY)
    monkeypatch.setattr(inference, "ceilings", lambda threads: [])
    monkeypatch.setattr(inference, "interleaved", lambda candidates, repetitions: {})
    found = [line.measure for line in inference.lines(inference.Options((1, 2)))]
    assert found == ["inference, batch 1", "inference, batch 2"]
    assert capsys.readouterr().out == "skipped, not installed: PyTorch, OpenVINO\n"
