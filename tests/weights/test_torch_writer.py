"""The writer of .pth against PyTorch's own reader, and the bytes that PyTorch expects."""

import io
import os
import pickletools
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from tests.alexnet_keras.tiny import tiny_layers
from tests.weights.npy_files import save
from tests.weights.refusal import assert_refused
from tests.weights.torch_files import ordered_dict, tensor, text, zip_around
from weights.canonical import to_channels_first
from weights.state_dict import TORCHVISION_NAMES
from weights.torch import read_pth
from weights.torch_writer import write_pth

LAYERS = tiny_layers()


def names_of(layers):
    return [f"{layer}.{role}" for layer in layers for role in ("weight", "bias")]


@pytest.mark.parametrize("variant", [None, "alexnet", "krizhevsky", "owt"])
def test_pytorch_reads_what_is_written(tmp_path, variant):
    torch = pytest.importorskip("torch")
    write_pth(tmp_path / "w.pth", LAYERS, variant)
    for options in ({}, {"mmap": True}):
        found = torch.load(tmp_path / "w.pth", weights_only=True, **options)
        layers = TORCHVISION_NAMES if variant == "owt" else LAYERS
        assert list(found) == names_of(layers)
        expected = to_channels_first(LAYERS, tmp_path)
        for name, (kernel, bias) in zip(layers, expected.values(), strict=True):
            for role, array in (("weight", kernel), ("bias", bias)):
                assert found[f"{name}.{role}"].dtype == torch.float32
                assert found[f"{name}.{role}"].is_contiguous()
                np.testing.assert_array_equal(found[f"{name}.{role}"].numpy(), array)
        noted = {} if variant is None else {"variant": variant}
        assert found._metadata == {"alexnet_keras": noted}


def test_pytorch_keeps_the_variant_when_it_writes_the_state_dict_again(tmp_path):
    torch = pytest.importorskip("torch")
    write_pth(tmp_path / "w.pth", LAYERS, "krizhevsky")
    state_dict = torch.load(tmp_path / "w.pth", weights_only=True)
    for zipped in (True, False):
        torch.save(
            {"state_dict": state_dict, "epoch": 3},
            tmp_path / "again.pth",
            _use_new_zipfile_serialization=zipped,
        )
        assert read_pth(tmp_path / "again.pth").variant == "krizhevsky"


def test_the_layout_is_pytorchs(tmp_path):
    """Members stored, each storage at a multiple of 64 bytes, and a pickle of allowed names."""
    write_pth(tmp_path / "w.pth", LAYERS, "paper")
    content = (tmp_path / "w.pth").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.read("archive/version") == b"3\n"
        assert archive.read("archive/byteorder") == b"little"
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        for index, array in enumerate(to_channels_first(LAYERS, tmp_path).values()):
            raw = np.ascontiguousarray(array[0]).tobytes()
            assert archive.read(f"archive/data/{2 * index}") == raw
            assert content.index(raw) % 64 == 0
        opcodes = list(pickletools.genops(archive.read("archive/data.pkl")))
    assert {argument for opcode, argument, _ in opcodes if opcode.name == "GLOBAL"} == {
        "collections OrderedDict",
        "torch FloatStorage",
        "torch._utils _rebuild_tensor_v2",
    }


def test_the_same_layers_are_the_same_bytes(tmp_path):
    for name in ("one.pth", "two.pth"):
        write_pth(tmp_path / name, LAYERS, "alexnet")
    assert (tmp_path / "one.pth").read_bytes() == (tmp_path / "two.pth").read_bytes()


@settings(max_examples=40, deadline=None)
@given(
    filters=st.integers(1, 9),
    inputs=st.integers(1, 5),
    side=st.integers(1, 4),
    seed=st.integers(0, 99),
    variant=st.sampled_from([None, "alexnet", "owt", "n" * 64]),
)
def test_any_shape_makes_the_round_trip(tmp_path_factory, filters, inputs, side, seed, variant):
    generator = np.random.default_rng(seed)
    layers = {
        "conv5": (generator.standard_normal((side, side, inputs, filters), np.float32),),
        "fc6": (generator.standard_normal((side * side * filters, inputs), np.float32),),
        "fc8": (np.asfortranarray(generator.standard_normal((inputs, filters), np.float32)),),
    }
    layers = {
        name: (kernel, generator.standard_normal(kernel.shape[-1], np.float32))
        for name, (kernel,) in layers.items()
    }
    path = tmp_path_factory.getbasetemp() / "round.pth"
    write_pth(path, layers, variant)
    found = read_pth(path)
    assert (found.variant, list(found.layers)) == (variant, list(layers))
    for name, pair in layers.items():
        for one, other in zip(found.layers[name], pair, strict=True):
            np.testing.assert_array_equal(one, other)


def test_writing_holds_a_block_at_a_time(tmp_path):
    layers = {
        "conv5": (np.ones((1, 1, 1, 256), np.float32), np.ones(256, np.float32)),
        "fc6": (np.ones((9216, 2048), np.float32), np.ones(2048, np.float32)),
    }
    tracemalloc.start()
    try:
        write_pth(tmp_path / "w.pth", layers)
        assert tracemalloc.get_traced_memory()[1] < layers["fc6"][0].nbytes / 2
    finally:
        tracemalloc.stop()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "w.pth"
    write_pth(path, LAYERS)
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("weights.torch_writer.channels_first_blocks", fail)
    with pytest.raises(WeightsError, match="cannot be written: .*No space left"):
        write_pth(path, LAYERS)
    assert os.listdir(tmp_path) == ["w.pth"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "noted",
    [
        b"}" + text("variant") + b"K\x01s",
        b"}" + text("variant") + text("two words") + b"s",
        b"}" + text("variant") + b"]s",
        b"}" + text("variant") + b"cnobody\nthis\n)Rs",
    ],
)
def test_what_stands_for_the_variant_is_checked(tmp_path, noted):
    pickled = noting(noted)
    refusal = assert_refused(read_pth, save(tmp_path / "w.pth", zip_around(pickled)))
    assert refusal.startswith("_metadata alexnet_keras: expected the name of a variant, got ")


@pytest.mark.parametrize("noted", [b"}", b"N", b"]", text("paper"), b"cnobody\nthis\n)R"])
def test_metadata_without_a_variant_name_none(tmp_path, noted):
    assert read_pth(save(tmp_path / "w.pth", zip_around(noting(noted)))).variant is None


def noting(noted):
    """A state dict whose ``_metadata`` has this under ``alexnet_keras``."""
    pickled = ordered_dict({"fc8.weight": tensor(), "fc8.bias": tensor(shape=(2,))})
    empty = text("_metadata") + b"ccollections\nOrderedDict\n)R"
    assert pickled.count(empty) == 1
    return pickled.replace(empty, empty + text("alexnet_keras") + noted + b"s")
