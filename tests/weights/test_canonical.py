"""Canonical order index by index, and back again."""

from pathlib import Path

import numpy as np
import pytest

from alexnet_keras.errors import WeightsError
from weights.canonical import WeightSet, from_channels_first, to_channels_first

FILE = Path("some.file")


def channels_first(pool5_size=2, seed=0):
    """Small layers as Caffe and PyTorch hold them; conv5 has 3 filters."""
    generator = np.random.default_rng(seed)
    shapes = {
        "conv1": (4, 3, 5, 5),
        "conv5": (3, 4, 2, 2),
        "fc6": (5, 3 * pool5_size**2),
        "fc7": (4, 5),
        "fc8": (2, 4),
    }
    return {
        name: (
            generator.standard_normal(shape, np.float32),
            generator.standard_normal(shape[0], np.float32),
        )
        for name, shape in shapes.items()
    }


@pytest.mark.parametrize("pool5_size", [1, 2, 3])
def test_every_index_by_the_definition(pool5_size):
    layers = channels_first(pool5_size)
    found = from_channels_first(layers, FILE)
    assert list(found) == list(layers)
    for o, i, h, w in np.ndindex(4, 3, 5, 5):
        assert found["conv1"][0][h, w, i, o] == layers["conv1"][0][o, i, h, w]
    for o, c, h, w in np.ndindex(5, 3, pool5_size, pool5_size):
        row_of_hwc, column_of_chw = (
            (h * pool5_size + w) * 3 + c,
            (c * pool5_size + h) * pool5_size + w,
        )
        assert found["fc6"][0][row_of_hwc, o] == layers["fc6"][0][o, column_of_chw]
    for name in ("fc7", "fc8"):
        np.testing.assert_array_equal(found[name][0], layers[name][0].T)
    for name, (_, bias) in layers.items():
        np.testing.assert_array_equal(found[name][1], bias)


@pytest.mark.parametrize("pool5_size", [1, 2, 3])
def test_flattened_activations_meet_the_same_weights(pool5_size):
    """What fc6 computes from C,H,W activations it computes from H,W,C ones in canonical order."""
    kernel, _ = channels_first(pool5_size)["fc6"]
    activations = np.random.default_rng(1).standard_normal((3, pool5_size, pool5_size))
    canonical = from_channels_first(channels_first(pool5_size), FILE)["fc6"][0]
    np.testing.assert_allclose(
        activations.transpose(1, 2, 0).ravel() @ canonical, kernel @ activations.ravel(), rtol=1e-5
    )


def test_there_and_back_changes_no_bit():
    layers = channels_first(3)
    again = to_channels_first(from_channels_first(layers, FILE), FILE)
    for name, arrays in layers.items():
        for one, other in zip(arrays, again[name], strict=True):
            assert one.shape == other.shape
            assert one.tobytes() == np.ascontiguousarray(other).tobytes()


def test_all_but_fc6_are_views():
    layers = channels_first()
    found = from_channels_first(layers, FILE)
    assert {name for name in layers if not np.shares_memory(found[name][0], layers[name][0])} == {
        "fc6"
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"conv5": None},
            "fc6: expected conv5 beside it, whose filters determine the order of fc6's inputs; "
            "got conv1, fc6, fc7, fc8",
        ),
        (
            {"fc6": (5, 13)},
            "fc6: expected a multiple of conv5's 3 filters times a square, got 13 inputs",
        ),
        (
            {"fc6": (5, 18)},
            "fc6: expected a multiple of conv5's 3 filters times a square, got 18 inputs",
        ),
        (
            {"fc6": (5, 2)},
            "fc6: expected a multiple of conv5's 3 filters times a square, got 2 inputs",
        ),
    ],
)
def test_refuses_an_fc6_whose_order_nothing_tells(change, message):
    layers, name = channels_first(), next(iter(change))
    canonical = from_channels_first(layers, FILE)
    for form in (layers, canonical):
        if change[name] is None:
            del form[name]
        else:
            form[name] = (
                np.zeros(change[name] if form is layers else change[name][::-1]),
                np.zeros(5),
            )
    for convert, form in ((from_channels_first, layers), (to_channels_first, canonical)):
        with pytest.raises(WeightsError, match=f"^some.file: {message}$"):
            convert(form, FILE)


def test_a_trunk_needs_no_fc6():
    trunk = {name: layer for name, layer in channels_first().items() if name.startswith("conv")}
    assert list(to_channels_first(from_channels_first(trunk, FILE), FILE)) == ["conv1", "conv5"]


def test_a_file_need_not_tell_its_order():
    assert WeightSet({}, FILE, "npz").layer_order == ()
