"""The reader of pickled .npy files against files that Python 2's and today's NumPy wrote."""

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from tests.weights.npy_files import layer_weights, npy_header, save, write_python2_npy
from tests.weights.refusal import EDITS, assert_refused, mutated, read_or_refuse
from weights.numpy_pickle import read_npy

# Made by Python 2.7.18 and numpy 1.16.6: f4 = np.arange(6, dtype='<f4').reshape(1, 2, 3, 1)
# np.save('a.npy', {'conv1': [f4, np.array([.5], '<f4')], 'fc8': [np.arange(6,
# dtype='<f4').reshape(3, 2), np.zeros(2, '<f4')]}) np.save('b.npy', {'conv1': {'weights':
# np.asfortranarray(f4.astype('>f8').reshape(1, 2, 1, 3)), 'biases': np.array([.5, 1, 2], '>f2')}})
# base64.b64encode(zlib.compress(open(name, 'rb').read(), 9)) and for protocols 0 and 1 from
# open('a.npy', 'rb').read(128) + cPickle.dumps(np.load('a.npy'), protocol)
PYTHON2_LISTS = (
    "eNqlj01Lw0AQhneTVmvq19FjbkmhBAQPRYT25MHFVIQ9eAgl2WyI0CbZzaYQbCGXKj37B/ynOkkDkpvgsDOwM/M+M/Pp0senF4zW6M0Kec6kdWta"
    "m7k1Nq0olUr6ySKVIa/T9/4y55DPYz/j8LdHY3Nr/s+MSmNJscpKh6WSO6tiqV59Kf3SWEjO0iRXsmDKEPjQZSThoSo0gnYUBx/PQrcJHrXlUJUZ"
    "N0SPavMJQQRDuW8TneKN67oP32BNIFMV7D1xtBXHNtUjNhEDT5zYMY5/sQZgiU609xho0U1LGza0uy4NAY1eocaqKYQZPPAK/Gumgg73tOZqu3i4"
    "pwPUmgo47cO162tx5onz7iIXIGg0sA1Wte6voy5rGW5G9aAVjuaFrwLnB6kjhrk="
)
PYTHON2_PROTOCOL_0 = (
    "eNqtkcFKw0AQhut1niK3iVDDbtPGKEJ7EnIwFYMHQSibZFuFNlk222KxPoUv7GwSSpQoggYGMrN/5vv3z3t8f3P7cDLYDV4xl1Wm8dLBwxyHDi5L"
    "bbQoFqXOpR1fi3UlaV49CSWpd0+HzpvztweyYrtRey8rtfQ227V5FlqLPSy0zMqiMnqbGVAc3EYHRd6cqxG4EQOTYIpg7pRPLalMK8vNXklQY3AT"
    "nIcIJKVj0k1I50OCB4Q4jqMzDnUFPpg0YgzctQrAzdU5aZYZfalCO7uAFW1ffYFy1lBpYzQCs6pxy3EHx3nLu/rMYy0uwccXxvorZNPuYHZ8mXU1"
    "nUawGdlKRa/VUWvV+uTWwc/wpup1VYL0K3acsuC+DYOP+9OYtAhu07CZ8N+x/veiwdHFN/BpcythUu8DKubDzg=="
)
PYTHON2_PROTOCOL_1 = (
    "eNqlkF1LwzAUhpN20xk/rr3sXTMYZYIXQ4TtStBgJ0IuvCijHykVtrZJ08HYBvsP/gH/qZ6lHeiuBF9yDuScvE9O8uHz55c3jJZo7SaiipV757ib"
    "qTtw3LRQWoX5rFCJ2JcfwnkloF5lYSlgT/sDZ+v8TyTO60W58uJCCW9Rz/V7qFS4IjMl4iKvtKpjTSSmzTGSJ01bWpQhzXGkX6VNGe63/USvSkFk"
    "h3JrOmKIYeh3KbM53vi+//QFMomNdfQ4HJJAnmzlKeV2Go8C2aMZptkP9Bmgwc0sne2R6W2LJAZ5/xuJGiS/Rka7MaQJLIgdxOdER0f4c4MHODHG"
    "HmqlI8G78PzlTSAvjme6NCbMLJgLH6x/v/OqsR+MHTDAX4g61JH3DX7rh08="
)
PYTHON2_DICTIONARIES_BIG_ENDIAN = (
    "eNqljctKw0AYhWcSezFeFz5AdkmhBHVVRKwrFw6mIszChZSZZGoCbZK5pBJswE3Rrn1R30CnSYp04crDzBz+/wzn+/Tx3f0jBHPw6oRMBsK5sJ3F"
    "yOnbziQVSpBknIqQrdc3ZCqZ3suIZEzPbq9vl/b/ZL0ZQZLPssILUsG8WT5VMRGCFNZYsCBNpBJ5oCwO619WEtYpNxBYYkjfH7jpIthr4lAVGbP4"
    "DjZGAwQQ1HHLRSaGC9/3b7+1qgcNFV098XbJO7ilKfMz3i35ros7Lyx+jpTkVgSjX8SeRuiDDH1NFen6yaZ+v6q/2q4Hin7gU9Doulv78KuZjxvf"
    "5Ce1K4rbNCaSSX6whT9cs81lxT1vuEd/cFe4PQCXulvRXBJFvR+p6Icf"
)
COUNTED = np.arange(6, dtype=np.float32)
LISTS = {
    "conv1": (COUNTED.reshape(1, 2, 3, 1), np.array([0.5])),
    "fc8": (COUNTED.reshape(3, 2), np.zeros(2)),
}


def golden(encoded):
    return zlib.decompress(base64.b64decode(encoded))


def assert_layers(found, expected):
    assert list(found) == list(expected)
    for name, arrays in expected.items():
        for read, wanted in zip(found[name], arrays, strict=True):
            assert read.dtype == np.float32
            assert read.dtype.isnative
            np.testing.assert_array_equal(read, np.asarray(wanted, np.float32))


@pytest.mark.parametrize("encoded", [PYTHON2_LISTS, PYTHON2_PROTOCOL_0, PYTHON2_PROTOCOL_1])
def test_files_of_python_2(tmp_path, encoded):
    weights = read_npy(save(tmp_path / "a.npy", golden(encoded)))
    assert (weights.file_format, weights.path, weights.layer_order) == (
        "npy",
        tmp_path / "a.npy",
        (),
    )
    assert_layers(weights.layers, LISTS)


def test_big_endian_and_fortran_ordered_arrays_of_python_2(tmp_path):
    found = read_npy(save(tmp_path / "b.npy", golden(PYTHON2_DICTIONARIES_BIG_ENDIAN))).layers
    assert_layers(found, {"conv1": (COUNTED.reshape(1, 2, 1, 3), [0.5, 1, 2])})


def test_files_for_tests_are_byte_for_byte_those_of_python_2(tmp_path):
    python_2_order = {name: LISTS[name] for name in ("fc8", "conv1")}
    assert write_python2_npy(tmp_path / "a.npy", python_2_order).read_bytes() == golden(
        PYTHON2_LISTS
    )


@pytest.mark.parametrize(
    "pack", [list, tuple, lambda pair: dict(zip(("weights", "biases"), pair, strict=True))]
)
@pytest.mark.parametrize("stored", ["<f4", ">f4", "<f2", ">f8"])
def test_files_of_todays_numpy(tmp_path, pack, stored):
    layers = {
        name: tuple(array.astype(np.float16) for array in pair)
        for name, pair in layer_weights().items()
    }
    saved = {
        name: pack([np.asfortranarray(array.astype(stored)) for array in pair])
        for name, pair in layers.items()
    }
    np.save(tmp_path / "w.npy", saved, allow_pickle=True)
    assert_layers(read_npy(tmp_path / "w.npy").layers, layers)


def test_round_trip_of_every_layer_is_bit_exact_and_not_copied(tmp_path):
    layers = layer_weights(("fc7", "conv1", "conv5", "fc6", "conv2"))
    found = read_npy(write_python2_npy(tmp_path / "w.npy", layers)).layers
    assert_layers(found, dict(sorted(layers.items())))
    assert not any(array.flags.owndata for pair in found.values() for array in pair)


@settings(max_examples=40, deadline=None)
@given(shape=st.lists(st.integers(1, 9), min_size=4, max_size=4), seed=st.integers(0, 99))
def test_any_shape_survives(tmp_path_factory, shape, seed):
    kernel = np.random.default_rng(seed).standard_normal(shape, np.float32)
    path = write_python2_npy(
        tmp_path_factory.getbasetemp() / "shape.npy", {"conv1": (kernel, kernel[0, 0, 0])}
    )
    assert_layers(read_npy(path).layers, {"conv1": (kernel, kernel[0, 0, 0])})


GOOD = golden(PYTHON2_LISTS)


@pytest.mark.parametrize("name", ["absent", "folder", "file/below", "n" * 300, "null\0byte"])
def test_no_file_there(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(GOOD)
    with pytest.raises(WeightsError, match="expected a"):
        read_npy(tmp_path / name)


def test_truncated_at_every_byte(tmp_path):
    for end in range(len(GOOD)):
        assert_refused(read_npy, save(tmp_path / "w.npy", GOOD[:end]))


BASES = [GOOD, golden(PYTHON2_PROTOCOL_0), golden(PYTHON2_DICTIONARIES_BIG_ENDIAN)]


@settings(max_examples=300, deadline=None)
@given(base=st.sampled_from(BASES), edits=EDITS)
def test_mutated_file_is_read_or_refused(tmp_path_factory, base, edits):
    found = read_or_refuse(
        read_npy, save(tmp_path_factory.getbasetemp() / "mutated.npy", mutated(base, edits))
    )
    for pair in found.layers.values() if found else ():
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in pair)


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=300),
    prefix=st.sampled_from([b"", npy_header(), npy_header() + b"\x80\x02"]),
)
def test_arbitrary_bytes_are_refused(tmp_path_factory, content, prefix):
    assert_refused(
        read_npy, save(tmp_path_factory.getbasetemp() / "arbitrary.npy", prefix + content)
    )
