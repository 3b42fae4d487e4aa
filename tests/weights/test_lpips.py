"""LPIPS's linear heads: what its authors' file holds, and what no such file is."""

import re

import numpy as np
import pytest

from tests.weights.refusal import assert_refused
from tests.weights.torch_files import write_pth
from weights.lpips import read_linear_heads

CHANNELS = (64, 192, 384, 256, 256)


def heads(folder, channels=(2, 3), name="lin{}.model.1.weight", dtype=np.float32):
    """A file of heads 0, 1, 2 ... and 1, 2, 3 ..., and its path."""
    path = folder / "heads.pth"
    arrays = {
        name.format(index): np.arange(index, index + count, dtype=dtype).reshape(1, count, 1, 1)
        for index, count in enumerate(channels)
    }
    write_pth(path, arrays)
    return path


@pytest.mark.parametrize("name", ["lin{}.model.1.weight", "lin{}.model.0.weight"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_heads_in_order(tmp_path, name, dtype):
    first, second = read_linear_heads(heads(tmp_path, name=name, dtype=dtype))
    assert first.tolist() == [0, 1]
    assert second.tolist() == [1, 2, 3]
    assert first.dtype == second.dtype == np.float32


def test_the_published_file(shared_data):
    found = read_linear_heads(shared_data / "lpips" / "alex.pth")
    assert tuple(map(len, found)) == CHANNELS
    assert all((head >= 0).all() for head in found)  # as the paper trains them


def test_the_heads_within_a_whole_lpips(tmp_path):
    path = tmp_path / "whole.pth"
    head = np.ones((1, 2, 1, 1), np.float32)
    trunk = np.zeros((2, 3, 11, 11), np.float32)
    names = ("lin0.model.1.weight", "lins.0.model.1.weight")
    write_pth(path, {**dict.fromkeys(names, head), "net.slice1.0.weight": trunk})
    assert [each.tolist() for each in read_linear_heads(path)] == [[1, 1]]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"features.0.weight": np.zeros((2, 3, 1, 1))}, "expected LPIPS's heads .*none of them"),
        ({"lin1.model.1.weight": np.ones((1, 2, 1, 1))}, "got lin1.model.1.weight$"),
        ({"lin0.model.1.weight": np.ones((2, 2, 1, 1))}, "expected shape .*got .2, 2, 1, 1.$"),
        ({"lin0.model.1.weight": np.full((1, 2, 1, 1), np.nan)}, "expected finite numbers"),
    ],
)
def test_what_holds_no_heads(tmp_path, arrays, message):
    path = tmp_path / "other.pth"
    write_pth(path, arrays)
    assert re.search(message, assert_refused(read_linear_heads, path))


def test_a_file_of_another_format_and_a_truncated_one(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, a=np.ones(2))
    message = assert_refused(read_linear_heads, path)
    assert message == "expected LPIPS's heads in a .pth file, got npz"
    cut = heads(tmp_path)
    cut.write_bytes(cut.read_bytes()[:-40])
    assert "zip" in assert_refused(read_linear_heads, cut)
