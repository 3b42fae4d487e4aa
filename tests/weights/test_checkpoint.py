"""Whole checkpoints of PyTorch: the state dict is found, and nothing beside it is read, refused or
run.
"""

import base64
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from tests.weights import checkpoint_golden as golden
from tests.weights.npy_files import integer, save
from tests.weights.refusal import (
    EDITS,
    assert_memory_in_proportion,
    assert_refused,
    mutated,
    read_or_refuse,
)
from tests.weights.test_pickle_hostile import CALLS
from tests.weights.torch_files import (
    legacy_around,
    legacy_file,
    ordered_dict,
    tensor,
    text,
    write_pth,
    zip_around,
)
from weights.safetensors import read_safetensors
from weights.state_dict import TORCHVISION_NAMES, WRAPPERS
from weights.torch import read_pth

FOUR = np.arange(4, dtype="<f4").tobytes()
PAIR = {"fc8.weight": tensor(), "fc8.bias": tensor(shape=(2,))}


def decoded(encoded):
    return zlib.decompress(base64.b64decode(encoded))


def assert_golden(layers):
    assert list(layers) == ["conv1", "fc8"]
    counted = np.arange(24, dtype=np.float32).reshape(3, 2, 2, 2).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(layers["conv1"][0], counted)
    np.testing.assert_array_equal(layers["conv1"][1], [100, 101, 102])
    np.testing.assert_array_equal(layers["fc8"][0], [[200, 203], [201, 204], [202, 205]])
    np.testing.assert_array_equal(layers["fc8"][1], [300, 301])


def assert_pair(layers):
    np.testing.assert_array_equal(layers["fc8"][0], [[0, 2], [1, 3]])
    np.testing.assert_array_equal(layers["fc8"][1], [0, 1])


@pytest.mark.parametrize("encoded", [golden.ZIP, golden.LEGACY], ids=["zip", "legacy"])
def test_a_checkpoint_that_pytorch_wrote(tmp_path, encoded):
    assert_golden(read_pth(save(tmp_path / "w.pth.tar", decoded(encoded))).layers)


def test_the_golden_file_is_what_pytorch_writes_today(tmp_path):
    torch = pytest.importorskip("torch")
    from tests.weights.oracles.make_checkpoint_golden import checkpoint

    for zipped in (True, False):
        torch.save(checkpoint(), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
        assert_golden(read_pth(tmp_path / "w.pth").layers)


def full_state_dict():
    """Every layer of torchvision's network, tiny, by torchvision's names."""
    generator = np.random.default_rng(0)
    shapes = {name: (2, 2, 1, 1) for name in TORCHVISION_NAMES if name.startswith("features")}
    shapes |= {name: (2, 2) for name in TORCHVISION_NAMES if name.startswith("classifier")}
    return {
        f"{name}.{role}": generator.standard_normal(shape[: None if role == "weight" else 1], "f4")
        for name, shape in shapes.items()
        for role in ("weight", "bias")
    }


def public(name):
    layer, _, role = name.rpartition(".")
    return f"{TORCHVISION_NAMES[layer]}.{role}"


def parallel_features(name):
    return name.replace("features.", "features.module.")


RENAMED = {
    "module": "module.{}".format,
    "twice": "module.module.{}".format,
    "features.module": parallel_features,
    "module.features.module": lambda name: f"module.{parallel_features(name)}",
    "Lightning, model": "model.{}".format,
    "Lightning, net": lambda name: f"net.{public(name)}",
    "compiled": "_orig_mod.module.{}".format,
    "flattened": lambda name: f"state_dict.model.{public(name)}",
    "public": public,
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("rename", RENAMED.values(), ids=RENAMED)
def test_prefixes_in_names(tmp_path, rename, legacy):
    stored = full_state_dict()
    expected = read_pth(write_pth(tmp_path / "plain.pth", stored)).layers
    renamed = {rename(name): array for name, array in stored.items()}
    found = read_pth(write_pth(tmp_path / "w.pth", renamed, legacy)).layers
    assert list(found) == list(expected)
    for name, pair in expected.items():
        for one, other in zip(found[name], pair, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rename", RENAMED.values(), ids=RENAMED)
def test_prefixes_in_safetensors(tmp_path, rename):
    stored = full_state_dict()
    save_file({rename(name): array for name, array in stored.items()}, tmp_path / "w")
    found = read_safetensors(tmp_path / "w").layers
    assert sorted(found) == sorted(TORCHVISION_NAMES.values())
    np.testing.assert_array_equal(found["fc8"][0], stored["classifier.6.weight"].T)


@settings(max_examples=40, deadline=None)
@given(keys=st.lists(st.sampled_from(WRAPPERS), max_size=4), legacy=st.booleans())
def test_wrappers_nested_in_any_order(tmp_path_factory, keys, legacy):
    wrapped = ordered_dict(PAIR, legacy)[2:-1]
    for key in keys:
        wrapped = b"}(" + text("epoch") + integer(3) + text(key) + wrapped + b"u"
    around = legacy_around if legacy else zip_around
    path = save(
        tmp_path_factory.getbasetemp() / "wrapped.pth", around(b"\x80\x02" + wrapped + b".", FOUR)
    )
    assert_pair(read_pth(path).layers)


def python2(value):
    return b"U" + bytes([len(value)]) + value


def test_a_pth_tar_of_python_2(tmp_path):
    """Byte strings, Latin-1 text, a NumPy scalar and arguments, names with ``features.module``."""
    items = b"".join(
        python2(b"features.module.0." + role) + opcodes(True).replace(b"X\x07\0\0\0", b"U\x07")
        for role, opcodes in (
            (b"weight", tensor(shape=(2, 1, 1, 2))),
            (b"bias", tensor(shape=(2,))),
        )
    )
    pickled = (
        b"\x80\x02}("
        + python2(b"arch")
        + python2(b"alexn\xe9t")
        + python2(b"best_prec1")
        + b"cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n"
        + python2(b"f8")
        + b"K\x00K\x01\x87R(K\x03"
        + python2(b"<")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        + python2(b"\xff" * 8)
        + b"\x86R"
        + python2(b"args")
        + b"cargparse\nNamespace\n)\x81}"
        + python2(b"lr")
        + b"K\x01sb"
        + python2(b"seen")
        + b"c__builtin__\nset\n](K\x01e\x85R"
        + python2(b"state_dict")
        + b"ccollections\nOrderedDict\n)R("
        + items
        + b"uu."
    )
    content = legacy_file(pickled, ["0"]) + struct.pack("<q", 4) + FOUR
    found = read_pth(save(tmp_path / "w.pth.tar", content)).layers
    np.testing.assert_array_equal(found["conv1"][0][0], [[[0, 2]], [[1, 3]]])
    np.testing.assert_array_equal(found["conv1"][1], [0, 1])


def beside(opcodes, legacy=False):
    """A good state dict in a checkpoint, and something under ``extra``."""
    inner = ordered_dict(PAIR, legacy)[2:-1]
    pickled = b"\x80\x02}(" + text("extra") + opcodes + text("state_dict") + inner + b"u."
    return (legacy_around if legacy else zip_around)(pickled, FOUR)


STEPPED_OVER = {
    "numpy runstring": b"cnumpy.testing\nrunstring\n" + text("open('canary', 'w')") + b"}\x86R",
    "torch hub": b"ctorch.hub\nload\n" + text("canary") + b"\x85R",
    "a class of nobody": b"cnobody.knows\nThis\n)\x81}" + text("__setstate__") + b"K\x01sb",
    "a call of a call": b"canybody\nf\n)R0canybody\nf\n)R",
    "a list of another class": b"canybody\nf\n)R(K\x01K\x02e",
    "a storage of another kind": (
        b"(" + text("storage") + b"ctorch\nQUInt8Storage\n" + text("7") + text("cpu") + b"K\x04tQ"
    ),
    "a tensor in it": (
        b"ctorch._utils\n_rebuild_parameter\nctorch._utils\n_rebuild_qtensor\n)R\x88N\x87R"
    ),
    "keys of all kinds": b"}(K\x01\x85NN)NG" + bytes(8) + b"u",
    "keys of a dictionary of protocol 0": b"(K\x01\x85NNNd",
    "text of a page": b"X\x00\x20\x00\x00" + b"a" * 0x2000,
}


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("opcodes", STEPPED_OVER.values(), ids=STEPPED_OVER)
def test_what_stands_beside_is_stepped_over(tmp_path, monkeypatch, opcodes, legacy):
    monkeypatch.chdir(tmp_path)
    assert_pair(read_pth(save(tmp_path / "w", beside(opcodes, legacy))).layers)
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("attack", CALLS.values(), ids=CALLS)
def test_an_attack_beside_good_weights_is_refused(tmp_path, monkeypatch, attack, legacy):
    monkeypatch.chdir(tmp_path)
    opcodes = attack.removeprefix(b"\x80\x04").removeprefix(b"\x80\x02").removesuffix(b".")
    assert_refused(read_pth, save(tmp_path / "w", beside(opcodes, legacy)))
    assert [entry.name for entry in tmp_path.iterdir()] == ["w"]


def wrapped(opcodes, key="state_dict"):
    return zip_around(b"\x80\x02}" + text(key) + opcodes + b"s.", FOUR)


def of_weight(opcodes):
    return zip_around(ordered_dict(PAIR | {"fc8.weight": lambda legacy: opcodes}), FOUR)


NO_LAYERS = "expected layers such as conv1, got none"
HOSTILE = {
    "a network, not its state dict": (
        wrapped(b"ctorchvision.models.alexnet\nAlexNet\n)\x81}b", "model"),
        "opcode GLOBAL at byte 13: expected a global of the array types, got "
        "'torchvision.models.alexnet AlexNet', which is not allowed",
    ),
    "a weight of another library": (
        of_weight(b"cnumpy.core.multiarray\nscalar\n)R"),
        "opcode GLOBAL at byte 45: expected a global of the array types, got "
        "'numpy.core.multiarray scalar', which is not allowed",
    ),
    "a weight of text": (of_weight(text("a")), "'fc8.weight': expected a tensor, got str"),
    "integer weights": (
        of_weight(tensor("LongStorage", key="1", numel=2, shape=(1, 2))(False)),
        "tensor 'fc8.weight': expected floating-point numbers, got int64",
    ),
    "an empty state dict": (wrapped(b"}"), NO_LAYERS),
    "a state dict of numbers": (
        wrapped(b"}K\x01K\x02s"),
        NO_LAYERS,
    ),
    "nothing but an epoch": (
        wrapped(b"K\x01", "epoch"),
        NO_LAYERS,
    ),
    "a state dict in itself": (
        zip_around(b"\x80\x02}q\x00" + text("model") + b"h\x00s.", FOUR),
        NO_LAYERS,
    ),
    "one layer by two prefixes": (
        zip_around(ordered_dict(PAIR | {"module.fc8.bias": tensor(), "net.fc8.bias": tensor()})),
        "tensor 'module.fc8.bias': expected one tensor for fc8's bias, got two",
    ),
    "nothing but prefixes": (
        zip_around(ordered_dict({"module.model.weight": tensor()}), FOUR),
        "expected a layer's name such as conv1, got ''",
    ),
}


@pytest.mark.parametrize(("content", "expected"), HOSTILE.values(), ids=HOSTILE)
def test_a_checkpoint_without_weights_is_refused(tmp_path, content, expected):
    assert expected in assert_refused(read_pth, save(tmp_path / "w.pth", content))


def test_wrappers_without_end_are_refused(tmp_path):
    pickled = b"\x80\x02" + (b"}" + text("model")) * 5000 + b"}" + b"s" * 5000 + b"."
    assert_refused(read_pth, save(tmp_path / "w.pth", zip_around(pickled, FOUR)))


BOMBS = {
    "names": lambda: b"(" + b"".join(b"ca\nb%d\n" % n for n in range(90_000)) + b"t",
    "objects": lambda: b"ca\nb\nq\x010](" + b"h\x01)\x81" * 30_000 + b"e",
    "keys": lambda: b"}(" + b")N" * 45_000 + b"u",
    "one list in many calls": lambda: (
        b"](" + b"N" * 9000 + b"eq\x010ca\nb\nq\x020(" + b"h\x02h\x01\x85R" * 20_000 + b"t"
    ),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=BOMBS)
def test_memory_stays_in_proportion_to_what_stands_beside(tmp_path, make):
    assert_memory_in_proportion(read_pth, save(tmp_path / "w.pth", beside(make())), "WeightSet")


def test_an_optimizer_s_tensors_are_not_counted_as_weights(tmp_path):
    """Momentum of every weight beside the weights, in one storage: nothing of it is copied."""
    momentum = b"}(" + b"".join(integer(n) + tensor()(False) for n in range(200)) + b"u"
    assert_pair(read_pth(save(tmp_path / "w.pth", beside(momentum))).layers)


@pytest.mark.parametrize("encoded", [golden.ZIP, golden.LEGACY], ids=["zip", "legacy"])
def test_a_checkpoint_cut_short_is_refused(tmp_path, encoded):
    content = decoded(encoded)
    for end in range(0, len(content), 7):
        assert_refused(read_pth, save(tmp_path / "w.pth", content[:end]))


@settings(max_examples=200, deadline=None)
@given(encoded=st.sampled_from([golden.ZIP, golden.LEGACY]), edits=EDITS)
def test_a_mutated_checkpoint_is_read_or_refused(tmp_path_factory, encoded, edits):
    path = save(tmp_path_factory.getbasetemp() / "mutated.pth", mutated(decoded(encoded), edits))
    found = read_or_refuse(read_pth, path)
    for pair in found.layers.values() if found else ():
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in pair)
