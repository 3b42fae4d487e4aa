"""Statistics and bitwise comparison of layers."""

import numpy as np
import pytest

from tests.weights.caffe_files import random_layers, write_v1
from weights.caffe import read_caffemodel
from weights.statistics import AXES_IN_FILE, array_statistics, differences

KERNEL, BIAS = np.arange(12, dtype=np.float32).reshape(3, 4), np.float32([1, 2, 3, 4])
LAYERS = {"fc8": (KERNEL, BIAS)}


def changed(index, value, role=0):
    arrays = [KERNEL.copy(), BIAS.copy()]
    arrays[role][index] = value
    return {"fc8": tuple(arrays)}


def test_statistics_by_hand():
    kernel, bias = array_statistics(LAYERS)
    assert (kernel.layer, kernel.role, kernel.shape, kernel.dtype) == (
        "fc8",
        "kernel",
        (3, 4),
        "float32",
    )
    assert (kernel.minimum, kernel.mean, kernel.maximum) == (0, 5.5, 11)
    assert kernel.std == pytest.approx((143 / 12) ** 0.5)
    assert (bias.role, bias.shape, bias.mean, bias.std) == (
        "bias",
        (4,),
        2.5,
        pytest.approx(1.25**0.5),
    )


def test_statistics_of_views_of_a_file(tmp_path):
    """Unaligned, transposed, more than one chunk."""
    layers = random_layers(width=0.2)
    found = {
        (row.layer, row.role): row
        for row in array_statistics(
            read_caffemodel(write_v1(tmp_path / "w.caffemodel", layers)).layers
        )
    }
    for name, arrays in layers.items():
        for role, array in zip(("kernel", "bias"), arrays, strict=True):
            row, wide = found[name, role], array.astype(np.float64)
            assert (row.minimum, row.maximum) == (array.min(), array.max())
            assert (row.mean, row.std) == (
                pytest.approx(wide.mean(), abs=1e-9),
                pytest.approx(wide.std(), rel=1e-9),
            )


def test_a_large_mean_does_not_drown_the_spread():
    kernel = np.float32([[10000, 10001], [10002, 10003]])
    assert array_statistics({"fc8": (kernel, BIAS)})[0].std == pytest.approx(1.25**0.5)


def test_equal_layers_do_not_differ_whatever_their_strides():
    assert differences(LAYERS, {"fc8": (np.asfortranarray(KERNEL), BIAS.copy())}) == []


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (
            changed((1, 2), 7),
            ["fc8 kernel: 1 of 12 numbers, first at [1, 2]: expected 6.0, got 7.0"],
        ),
        (
            changed((0, 0), -0.0),
            ["fc8 kernel: 1 of 12 numbers, first at [0, 0]: expected 0.0, got -0.0"],
        ),
        (
            changed(3, np.nextafter(np.float32(4), np.float32(5)), role=1),
            ["fc8 bias: 1 of 4 numbers, first at [3]: expected 4.0, got 4.0000005"],
        ),
        (
            changed(slice(None), 0),
            ["fc8 kernel: 11 of 12 numbers, first at [0, 1]: expected 1.0, got 0.0"],
        ),
        ({"fc8": (KERNEL.reshape(4, 3), BIAS)}, ["fc8 kernel: expected shape (3, 4), got (4, 3)"]),
        ({}, ["fc8 is missing"]),
        ({**LAYERS, "fc9": LAYERS["fc8"]}, ["fc9 is extra"]),
    ],
)
def test_differences_are_told(found, told):
    assert differences(LAYERS, found) == told


def test_a_difference_beyond_the_first_chunk():
    kernel = np.zeros((300, 400), np.float32)
    other = kernel.copy()
    other[299, 399] = 1e-45
    assert differences({"fc8": (kernel, BIAS)}, {"fc8": (other, BIAS)})[0].startswith(
        "fc8 kernel: 1 of 120000 numbers, first at [299, 399]: "
    )


def test_every_format_that_is_read_has_its_order():
    from weights.reading import _READERS

    assert set(AXES_IN_FILE) == {*_READERS, "keras"}
