"""The .npz reader and writer against NumPy's own, and hostile archives."""

import io
import os
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from tests.weights.npy_files import layer_weights, save
from tests.weights.refusal import (
    EDITS,
    assert_memory_in_proportion,
    assert_refused,
    mutated,
    read_or_refuse,
)
from tests.weights.torch_files import zip_of
from weights.npz import read_npz, write_npz

LAYERS = layer_weights(("conv1", "conv5", "fc6", "fc8"))


def assert_same(found, expected):
    assert list(found) == list(expected)
    for name, pair in expected.items():
        for read, wanted in zip(found[name], pair, strict=True):
            assert read.dtype == np.float32
            assert read.dtype.isnative
            assert read.shape == wanted.shape
            assert (
                np.ascontiguousarray(read).tobytes()
                == np.ascontiguousarray(wanted, np.float32).tobytes()
            )


def npy(array, **options):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(array), **options)
    return file.getvalue()


ONES, BIAS = npy(np.ones((2, 2), "f4")), npy(np.ones(2, "f4"))


def archive(kernel=ONES, bias=BIAS, **options):
    return zip_of({"fc8/kernel.npy": kernel, "fc8/bias.npy": bias}, root="", **options)


def named(variant):
    members = {"variant.npy": variant, "fc8/kernel.npy": ONES, "fc8/bias.npy": BIAS}
    return zip_of(members, root="")


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        (npy(np.array(["alexnet"])), "expected a name of shape (), got dtype '<U7' of shape (1,)"),
        (npy(np.array(b"alexnet")), "expected a name of shape (), got dtype '|S7' of shape ()"),
        (npy(np.array(1.0)), "expected a name of shape (), got dtype '<f8' of shape ()"),
        (npy(np.array("a" * 999)), "expected a name of shape (), got dtype '<U999' of shape ()"),
        (npy(np.array("owt"))[:-4], "expected 12 bytes for shape () of <U3, got 8"),
        (
            npy(np.array("owt")).replace(b"<U3", b"<U99999999").replace(b" " * 7 + b"\n", b"\n"),
            "expected 399999996 bytes for shape () of <U99999999, got 12",
        ),
        (npy(np.array("owt")).replace(b"o\0\0\0", b"\xff" * 4), ""),
        (npy(np.array("\ud800")), "expected the name of a variant, got "),
        (b"owt", "expected the .npy format, got: "),
    ],
)
def test_what_stands_for_the_variant_is_checked(tmp_path, variant, expected):
    refusal = assert_refused(read_npz, save(tmp_path / "w.npz", named(variant)))
    assert refusal.startswith(f"member variant.npy: {expected}")


def test_numpy_reads_the_variant(tmp_path):
    write_npz(tmp_path / "w.npz", LAYERS, "paper")
    with np.load(tmp_path / "w.npz", allow_pickle=False) as loaded:
        assert str(loaded["variant"]) == "paper"
    big_endian = np.array("paper").astype(">U5")
    assert read_npz(save(tmp_path / "b.npz", named(npy(big_endian)))).variant == "paper"


def test_round_trip_is_bit_exact_and_not_copied(tmp_path):
    write_npz(tmp_path / "w.npz", LAYERS)
    weights = read_npz(tmp_path / "w.npz")
    assert (weights.file_format, weights.path) == ("npz", tmp_path / "w.npz")
    assert_same(weights.layers, LAYERS)
    assert not any(array.flags.owndata for pair in weights.layers.values() for array in pair)


@settings(max_examples=40, deadline=None)
@given(bits=st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4), swap=st.booleans())
def test_any_finite_bits_survive(tmp_path_factory, bits, swap):
    values = np.array(bits, np.uint32).view(np.float32).reshape(2, 2)
    values = np.where(np.isfinite(values), values, np.float32(-0.0))
    path = tmp_path_factory.getbasetemp() / "bits.npz"
    write_npz(path, {"fc8": (values.T if swap else values, values[0])})
    assert_same(read_npz(path).layers, {"fc8": (values.T if swap else values, values[0])})


def test_numpy_reads_what_is_written(tmp_path):
    write_npz(tmp_path / "w.npz", LAYERS)
    with np.load(tmp_path / "w.npz", allow_pickle=False) as loaded:
        assert sorted(loaded) == sorted(
            f"{name}/{role}" for name in LAYERS for role in ("kernel", "bias")
        )
        for name, (kernel, bias) in LAYERS.items():
            np.testing.assert_array_equal(loaded[f"{name}/kernel"], kernel)
            np.testing.assert_array_equal(loaded[f"{name}/bias"], bias)


@pytest.mark.parametrize("dtype", ["<f2", ">f2", ">f4", "<f8", ">f8"])
def test_what_numpy_writes_is_read(tmp_path, dtype):
    layers = {
        name: tuple(array.astype(np.float16) for array in pair) for name, pair in LAYERS.items()
    }
    np.savez(
        tmp_path / "w.npz",
        **{
            f"{name}/{role}": np.asfortranarray(array.astype(dtype))
            for name, pair in layers.items()
            for role, array in zip(("kernel", "bias"), pair, strict=True)
        },
    )
    assert_same(read_npz(tmp_path / "w.npz").layers, layers)


def test_the_same_layers_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_npz(tmp_path / name, LAYERS)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_npz(tmp_path / "w.npz", LAYERS)
    before = (tmp_path / "w.npz").read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(WeightsError, match="cannot be written: .*No space left"):
        write_npz(tmp_path / "w.npz", LAYERS)
    assert os.listdir(tmp_path) == ["w.npz"]
    assert (tmp_path / "w.npz").read_bytes() == before


def test_layers_read_before_stay_as_they_were_when_their_file_is_written_anew(tmp_path):
    write_npz(tmp_path / "w.npz", LAYERS)
    with open(tmp_path / "w.npz", "rb") as old:
        found = read_npz(tmp_path / "w.npz").layers
        write_npz(
            tmp_path / "w.npz",
            {name: (kernel * 2, bias) for name, (kernel, bias) in found.items()},
        )
        assert old.read() != (tmp_path / "w.npz").read_bytes()
    assert_same(found, LAYERS)


def test_a_folder_that_is_absent_is_named(tmp_path):
    with pytest.raises(WeightsError, match="absent/w.npz: cannot be written: No such file"):
        write_npz(tmp_path / "absent" / "w.npz", LAYERS)


def test_the_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "other").touch()
    write_npz(tmp_path / "w.npz", LAYERS)
    assert (tmp_path / "w.npz").stat().st_mode == (tmp_path / "other").stat().st_mode


GOOD = archive()
CORPUS = {
    "empty": b"",
    "no members": zip_of({}),
    "page": b"<!DOCTYPE html>",
    "LFS pointer": b"version https://git-lfs.github.com/\n",
    "a pickle": archive(npy(np.array({"a": 1}, object), allow_pickle=True)),
    "pickled objects": archive(npy(np.array([None, 1], object), allow_pickle=True)),
    "integers": archive(npy(np.ones((2, 2), int))),
    "complex": archive(npy(np.ones((2, 2), complex))),
    "booleans": archive(npy(np.ones((2, 2), bool))),
    "text": archive(npy(np.array([["a"]]))),
    "structured": archive(npy(np.zeros((2, 2), [("a", "f4")]))),
    "long double": archive(npy(np.ones((2, 2), np.longdouble))),
    "no bias": zip_of({"fc8/kernel.npy": ONES}, root=""),
    "no kernel": zip_of({"fc8/bias.npy": ONES}, root=""),
    "no layer": zip_of({"kernel.npy": ONES}, root=""),
    "another name": zip_of({"fc8/weights.npy": ONES}, root=""),
    "arrays by number": zip_of({"arr_0.npy": ONES}, root=""),
    "a path": zip_of({"../fc8/kernel.npy": ONES}, root=""),
    "absolute": zip_of({"/fc8/kernel.npy": ONES}, root=""),
    "line feed": zip_of({"fc8\n/kernel.npy": ONES, "fc8\n/bias.npy": ONES}, root=""),
    "two of a name": zip_of(
        {"fc8/kernel.npy": ONES, "fc8/kernel": ONES, "fc8/bias.npy": ONES}, root=""
    ),
    "compressed": archive(compression=zipfile.ZIP_DEFLATED),
    "a bomb": archive(npy(np.zeros((4000, 4000), "f4")), compression=zipfile.ZIP_DEFLATED),
    "NaN": archive(npy(np.array([[1, 1], [1, np.nan]], "f4"))),
    "Inf": archive(npy(np.array([[1e300]]))),
    "a member cut": archive(ONES[:-1]),
    "a member longer": archive(ONES + b"a"),
    "header alone": archive(ONES[:128]),
    "half a header": archive(ONES[:50]),
    "empty member": archive(b""),
    "larger shape": archive(ONES.replace(b"(2, 2)", b"(9, 9)")),
    "huge shape": archive(ONES.replace(b"(2, 2), }      ", b"(99999, 99999), }")),
    "negative shape": archive(ONES.replace(b"(2, 2), }", b"(-2,-2),}")),
    "1 dimension": archive(npy(np.ones(4, "f4"))),
    "5 dimensions": archive(npy(np.ones((1,) * 5, "f4"))),
    "a scalar": archive(npy(np.float32(1))),
    "empty array": archive(npy(np.ones((0, 2), "f4"))),
    "bias of 2 dimensions": archive(bias=ONES),
    "flipped bit": GOOD.replace(b"\x00\x00\x80\x3f", b"\x01\x00\x80\x3f", 1),
    "cut": GOOD[:-1],
    "half": GOOD[: len(GOOD) // 2],
}


@pytest.mark.parametrize("content", CORPUS.values(), ids=CORPUS)
def test_hostile_file_is_refused_in_one_line(tmp_path, content):
    assert_refused(read_npz, save(tmp_path / "w.npz", content))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "compressed",
            "zip archive: member 'fc8/kernel.npy': expected it stored, neither compressed nor "
            "encrypted",
        ),
        (
            "a pickle",
            "member 'fc8/kernel.npy': expected floating-point numbers (f2, f4, f8), got dtype "
            "'|O'",
        ),
        ("NaN", "fc8 kernel[1, 1]: expected a finite float32, got nan"),
        (
            "a member cut",
            "member 'fc8/kernel.npy': expected 16 bytes for shape (2, 2) of <f4, got 15",
        ),
        (
            "another name",
            "member 'fc8/weights.npy': expected a name such as conv1/kernel or conv1/bias",
        ),
        ("two of a name", "member 'fc8/kernel': expected one array for it, got two"),
        ("flipped bit", "zip archive: member 'fc8/kernel.npy': expected checksum "),
    ],
)
def test_message_names_the_place(tmp_path, name, expected):
    assert expected in assert_refused(read_npz, save(tmp_path / "w.npz", CORPUS[name]))


def test_truncated_at_every_byte(tmp_path):
    for end in range(len(GOOD)):
        assert_refused(read_npz, save(tmp_path / "w.npz", GOOD[:end]))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_memory_stays_in_proportion_to_a_good_file(tmp_path, dtype):
    np.savez(
        tmp_path / "w.npz",
        **{"fc8/kernel": np.ones((2000, 10_000), dtype), "fc8/bias": np.ones(10_000, dtype)},
    )
    assert_memory_in_proportion(read_npz, tmp_path / "w.npz", "WeightSet")


def test_memory_stays_in_proportion_to_a_bomb(tmp_path):
    content = archive(
        npy(np.zeros((5000, 5000), "f4")), compression=zipfile.ZIP_DEFLATED, compresslevel=9
    )
    assert len(content) < 200_000
    assert_memory_in_proportion(read_npz, save(tmp_path / "w.npz", content))


@settings(max_examples=300, deadline=None)
@given(edits=EDITS)
def test_mutated_file_is_read_or_refused(tmp_path_factory, edits):
    found = read_or_refuse(
        read_npz, save(tmp_path_factory.getbasetemp() / "mutated.npz", mutated(GOOD, edits))
    )
    for pair in found.layers.values() if found else ():
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in pair)


@settings(max_examples=100, deadline=None)
@given(
    content=st.binary(max_size=300), prefix=st.sampled_from([b"", b"PK\x03\x04", b"PK\x05\x06"])
)
def test_arbitrary_bytes_are_refused(tmp_path_factory, content, prefix):
    assert_refused(
        read_npz, save(tmp_path_factory.getbasetemp() / "arbitrary.npz", prefix + content)
    )
