"""Strict on names and shapes, all or nothing."""

import re

import numpy as np
import pytest

from alexnet_keras.errors import WeightsError
from alexnet_keras.models.assign import assign_weights, layer_weights
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from weights.canonical import WeightSet

WEIGHTED = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def weight_set(changes=None):
    """Layers that fit; ``changes`` maps a name to None (absent), shapes (replaced by zeros)."""
    layers = tiny_layers()
    for name, shapes in (changes or {}).items():
        if shapes is None:
            del layers[name]
        else:
            layers[name] = tuple(np.zeros(shape, np.float32) for shape in shapes)
    return WeightSet(layers, "some.file", "npz")


def test_every_layer_gets_its_arrays(model):
    weights = weight_set()
    assert assign_weights(model, weights) == ()
    for name, (kernel, bias) in weights.layers.items():
        np.testing.assert_array_equal(model.get_layer(name).kernel, kernel)
        np.testing.assert_array_equal(model.get_layer(name).bias, bias)


def test_layers_of_is_what_was_assigned_as_a_copy(model):
    weights = weight_set()
    assign_weights(model, weights)
    found = layer_weights(model)
    assert tuple(found) == WEIGHTED
    for name, arrays in weights.layers.items():
        for one, other in zip(arrays, found[name], strict=True):
            assert other.dtype == np.float32
            np.testing.assert_array_equal(one, other)
    found["conv1"][0][...] = 7
    assert not (model.get_layer("conv1").kernel.numpy() == 7).any()


@pytest.mark.parametrize(
    "view",
    [
        lambda a: np.asfortranarray(a),
        lambda a: a.astype(np.float64),
        lambda a: a.astype(">f4"),
        lambda a: np.ndarray(a.shape, "<f4", b"\0" + a.tobytes(), 1),
        lambda a: np.repeat(a, 2, -1)[..., ::2],
    ],
    ids=["Fortran order", "float64", "big endian", "unaligned", "strided"],
)
def test_arrays_of_any_layout(model, view):
    weights = weight_set()
    assign_weights(
        model,
        WeightSet(
            {name: tuple(map(view, arrays)) for name, arrays in weights.layers.items()}, "f", "npz"
        ),
    )
    for name, arrays in weights.layers.items():
        np.testing.assert_array_equal(layer_weights(model)[name][0], arrays[0])


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"fc7": None, "conv3": None}, {}, "missing: conv3, fc7"),
        ({"fc9": [(2, 2), (2,)], "conv0": [(2, 2), (2,)]}, {}, "extra: fc9, conv0"),
        (
            {"conv2": [(5, 5, 2, 7), (7,)], "fc8": [(205, 9), (9,)]},
            {},
            "of another shape: conv2 (expected 5x5x2x12 and 12, got 5x5x2x7 and 7), "
            "fc8 (expected 205x5 and 5, got 205x9 and 9)",
        ),
        (
            {"fc8": [(205, 5), (4,)]},
            {},
            "of another shape: fc8 (expected 205x5 and 5, got 205x5 and 4)",
        ),
        (
            {"fc8": [(5, 205), (5,)]},
            {},
            "of another shape: fc8 (expected 205x5 and 5, got 5x205 and 5)",
        ),
        (
            {"conv1": None, "fc9": [(2, 2), (2,)], "fc7": [(3, 3), (3,)]},
            {},
            "missing: conv1; extra: fc9; of another shape: fc7 (expected 205x205 and 205, got "
            "3x3 and 3)",
        ),
        ({"conv1": None, "fc9": [(2, 2), (2,)]}, {"partial": True}, "extra: fc9"),
        ({"fc8": None, "conv1": None}, {"skip": ("fc8",)}, "missing: conv1"),
    ],
)
def test_every_fault_is_listed_and_nothing_is_changed(model, changes, options, message):
    before = model.get_weights()
    with pytest.raises(
        WeightsError, match=f"^some.file: does not fit alexnet; {re.escape(message)}$"
    ):
        assign_weights(model, weight_set(changes), **options)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("changes", "options", "initial"),
    [
        ({"fc8": [(205, 9), (9,)]}, {"skip": ("fc8",)}, ("fc8",)),
        ({"fc8": None}, {"skip": ("fc8",)}, ("fc8",)),
        ({"fc6": None, "fc8": None}, {"partial": True}, ("fc6", "fc8")),
        ({"fc6": None, "fc8": [(1, 1), (1,)]}, {"partial": True, "skip": ["fc8"]}, ("fc6", "fc8")),
        ({"fc9": [(1, 1), (1,)]}, {"skip": ("fc9",)}, ()),
    ],
)
def test_skipped_and_absent_layers_keep_their_values_and_are_told(
    model, changes, options, initial
):
    before = layer_weights(model)
    weights = weight_set(changes)
    weights = WeightSet(
        {name: tuple(array + 1 for array in arrays) for name, arrays in weights.layers.items()},
        "f",
        "npz",
    )
    assert assign_weights(model, weights, **options) == initial
    after = layer_weights(model)
    for name in WEIGHTED:
        expected = before[name] if name in initial else weights.layers[name]
        np.testing.assert_array_equal(after[name][0], expected[0])
        np.testing.assert_array_equal(after[name][1], expected[1])


def test_skip_of_what_is_nowhere_is_refused(model):
    with pytest.raises(
        WeightsError, match="^some.file: skip: no layer fc88, prob; expected some of conv1, .*fc8$"
    ):
        assign_weights(model, weight_set(), skip=("fc88", "fc8", "prob"))


@pytest.mark.parametrize(
    ("variant", "filters", "hint"),
    [
        ("alexnet", 64, "; this is torchvision's network (variant owt), not Caffe's"),
        ("owt", 96, "; this is Caffe's network (variant alexnet or caffenet), not torchvision's"),
        ("owt", 32, ""),
    ],
)
def test_the_other_familys_weights_are_told_by_shape(variant, filters, hint):
    model = tiny_model(variant, width=1, include_top=False)
    weights = WeightSet({"conv1": (np.zeros((11, 11, 3, filters)), np.zeros(filters))}, "f", "pth")
    with pytest.raises(
        WeightsError, match=re.escape(f"got 11x11x3x{filters} and {filters}){hint}") + "$"
    ):
        assign_weights(model, weights, partial=True)
