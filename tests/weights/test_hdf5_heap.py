"""Damaged global heaps, over which the HDF5 library loops for ever, and strings of a declared
length that it would allocate, are refused before it sees them.
"""

import numpy as np
import pytest

from tests.alexnet_keras.tiny import tiny_layers
from tests.weights.refusal import assert_memory_in_proportion, assert_refused
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


@pytest.mark.parametrize("size", [1 << 20, (1 << 64) - 1, (1 << 64) - 16])
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


@pytest.mark.parametrize("length", [1 << 30, (1 << 32) - 1])
def test_the_length_of_a_string_takes_no_memory(heap_file, length):
    path, start = heap_file
    content = bytearray(path.read_bytes())
    value = content.index(np.uint64(start).tobytes()) - 4  # length, address of the heap, index
    content[value : value + 4] = np.uint32(length).tobytes()
    path.write_bytes(content)
    assert "expected a string no longer than the file" in assert_refused(read_weights_h5, path)
    assert_memory_in_proportion(read_weights_h5, path)
