"""Damaged global heaps, over which the HDF5 library loops for ever, are refused before it sees
them.
"""

import numpy as np
import pytest

from tests.alexnet_keras.tiny import tiny_layers
from tests.weights.refusal import assert_refused
from weights.hdf5 import read_weights_h5
from weights.hdf5_heap import check_heaps
from weights.writing import write_weights

OBJECT_HEADER_BYTES = 16
FIRST_OBJECT = 16


@pytest.fixture
def heap_file(tmp_path):
    """A file and where its heap begins."""
    path = tmp_path / "w.weights.h5"
    write_weights(path, tiny_layers(width=0.02))
    return path, path.read_bytes().index(b"GCOL")


def test_a_sound_heap(heap_file):
    check_heaps(heap_file[0])


@pytest.mark.parametrize("size", [0, 1 << 20, (1 << 64) - 1, (1 << 64) - 16])
def test_a_size_that_leads_nowhere(heap_file, size):
    path, start = heap_file
    content = bytearray(path.read_bytes())
    first = start + FIRST_OBJECT
    content[first + 8 : first + OBJECT_HEADER_BYTES] = np.uint64(size).tobytes()
    path.write_bytes(content)
    assert_refused(read_weights_h5, path)


@pytest.mark.parametrize("size", [0, 8, 1 << 40])
def test_a_heap_that_does_not_end_with_its_objects(heap_file, size):
    path, start = heap_file
    content = bytearray(path.read_bytes())
    content[start + 8 : start + 16] = np.uint64(size).tobytes()
    path.write_bytes(content)
    assert_refused(check_heaps, path)
