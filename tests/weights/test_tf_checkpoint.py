"""TensorFlow's checkpoints without TensorFlow: what its Saver writes, TF-Slim's forward pass, and
damaged ones.
"""

import shutil

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings

from alexnet_keras.configs.preprocessing import SLIM_PREPROCESSING
from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.loading import load_pretrained
from tests.weights.refusal import (
    EDITS,
    assert_memory_in_proportion,
    assert_refused,
    mutated,
    read_or_refuse,
)
from tests.weights.tf_checkpoints import NEWEST, OLDEST, SHAPES, random_arrays, save
from weights.formats import detect_format
from weights.reading import read_weights
from weights.tf_checkpoint import read_checkpoint

ARRAYS = random_arrays()
BESIDE = {
    "global_step": np.int64(7),
    "alexnet_v2/conv1/weights/RMSProp": np.ones((11, 11, 3, 4), np.float32),
    "alexnet_v2/conv1/weights/Momentum": np.ones((11, 11, 3, 4), np.float32),
    "alexnet_v2/conv1/weights/ExponentialMovingAverage": np.ones((11, 11, 3, 4), np.float32),
    "beta1_power": np.float32(0.9),
}


def slim_forward(arrays, images):
    """alexnet_v2 on plain ``tf.nn``: padding, strides and order as in slim/nets/alexnet.py."""
    x = images
    for layer in SHAPES:
        stride = 4 if layer == "conv1" else 1
        padding = "VALID" if layer in ("conv1", "fc6") else "SAME"
        x = tf.nn.conv2d(x, arrays[f"{layer}/weights"], stride, padding)
        x = x + arrays[f"{layer}/biases"]
        if layer != "fc8":
            x = tf.nn.relu(x)
        if layer in ("conv1", "conv2", "conv5"):
            x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    return tf.nn.softmax(x[:, 0, 0]).numpy()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return save(tmp_path_factory.mktemp("slim") / "model.ckpt-7", ARRAYS, beside=BESIDE, **NEWEST)


def index_of(prefix):
    return prefix.with_name(f"{prefix.name}.index")


def data_of(prefix):
    return prefix.with_name(f"{prefix.name}.data-00000-of-00001")


def test_forward_pass_equals_tensorflows(tmp_path):
    arrays = random_arrays(1, SHAPES | {"fc6": (5, 5, 6, 10)})
    pretrained = load_pretrained(save(tmp_path / "model.ckpt", arrays, **NEWEST))
    assert pretrained.model.architecture.name == "slim"
    assert pretrained.model.preprocessing == SLIM_PREPROCESSING
    images = np.random.default_rng(2).standard_normal((2, 224, 224, 3), np.float32)
    found = pretrained.model.predict(images, verbose=0)
    np.testing.assert_allclose(found, slim_forward(arrays, images), atol=1e-5)


def test_every_number_is_the_files(checkpoint):
    found = read_weights(checkpoint)
    assert (found.file_format, found.variant) == ("slim", "slim")
    assert set(found.layers) == set(SHAPES)  # nothing of what stands beside them
    for name, (kernel, bias) in found.layers.items():
        assert kernel.ndim == (4 if name.startswith("conv") else 2)
        np.testing.assert_array_equal(kernel.ravel(), ARRAYS[f"{name}/weights"].ravel())
        np.testing.assert_array_equal(bias, ARRAYS[f"{name}/biases"])
        assert not kernel.flags.owndata  # a view of the data file
        assert not kernel.flags.writeable


def test_prefix_index_data_and_folder_stand_for_the_checkpoint(checkpoint):
    index = index_of(checkpoint)
    for path in (checkpoint, str(checkpoint), index, data_of(checkpoint), checkpoint.parent):
        found = detect_format(path)
        assert (found.path, found.format) == (index, "slim")


def test_the_newest_of_several_checkpoints_in_a_folder(tmp_path):
    for step in (9, 10):
        save(tmp_path / f"model.ckpt-{step}", ARRAYS, **NEWEST)
    assert detect_format(tmp_path).path.name == "model.ckpt-10.index"
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model.ckpt-9"\n')
    assert detect_format(tmp_path).path.name == "model.ckpt-9.index"
    (tmp_path / "checkpoint").unlink()
    refusal = assert_refused(detect_format, tmp_path)
    assert refusal == "expected one checkpoint, got several: model.ckpt-10, model.ckpt-9; name one"


def test_matrices_in_any_scope_are_no_slim(tmp_path):
    arrays = {
        name: array.reshape(array.shape[-2:]) if name in ("fc6/weights", "fc7/weights") else array
        for name, array in ARRAYS.items()
        if not name.startswith("fc8")
    }
    found = read_weights(save(tmp_path / "w", arrays, scope="", **NEWEST))
    assert found.variant is None
    np.testing.assert_array_equal(found.layers["fc6"][0], arrays["fc6/weights"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_types_of_numbers(tmp_path, dtype):
    arrays = {name: tf.cast(array, dtype).numpy() for name, array in ARRAYS.items()}
    found = read_weights(save(tmp_path / "w", arrays, **NEWEST))
    expected = arrays["conv3/weights"].astype(np.float32)
    np.testing.assert_array_equal(found.layers["conv3"][0], expected)


def test_a_checkpoint_of_several_data_files(tmp_path):
    save(tmp_path / "w", ARRAYS, sharded=True, **NEWEST)
    np.testing.assert_array_equal(
        read_weights(tmp_path / "w").layers["fc8"][1], ARRAYS["fc8/biases"]
    )


def copied(checkpoint, folder, index=None, data=None):
    """A copy with other bytes in one of its files; the path of its index."""
    prefix = folder / checkpoint.name
    for path, content in ((index_of, index), (data_of, data)):
        whole = path(checkpoint).read_bytes()
        path(prefix).write_bytes(whole if content is None else content(whole))
    return index_of(prefix)


@pytest.mark.parametrize("name", ["model.ckpt-7", "model.ckpt-7.data-00000-of-00001"])
def test_a_checkpoint_without_its_index(checkpoint, tmp_path, name):
    shutil.copy(data_of(checkpoint), tmp_path)
    refusal = assert_refused(detect_format, tmp_path / name)
    assert refusal == (
        "expected model.ckpt-7.index beside it, the index of the checkpoint, got none"
    )
    if name == "model.ckpt-7":
        with pytest.raises(WeightsError, match="expected model.ckpt-7.index beside it"):
            load_pretrained(tmp_path / name)


def test_a_checkpoint_without_its_data(checkpoint, tmp_path):
    shutil.copy(index_of(checkpoint), tmp_path)
    missing = "expected model.ckpt-7.data-00000-of-00001 beside it, got none$"
    with pytest.raises(WeightsError, match=missing):
        read_checkpoint(tmp_path / "model.ckpt-7.index")


def test_a_checkpoint_of_format_v1(tmp_path):
    path = save(tmp_path / "model.ckpt", ARRAYS, **OLDEST)
    assert detect_format(path).format == "slim"
    assert "format V2" in assert_refused(read_checkpoint, path)


def test_a_checkpoint_of_another_network(tmp_path):
    path = index_of(save(tmp_path / "w", {"dense/kernel": np.float32([1])}, "", **NEWEST))
    refusal = assert_refused(read_checkpoint, path)
    assert refusal.endswith("such as alexnet_v2/conv1/weights, got dense/kernel")


DAMAGES = {
    "NaN": ARRAYS | {"fc8/biases": np.full(7, np.nan, np.float32)},
    "integers": ARRAYS | {"fc8/biases": np.ones(7, np.int32)},
    "a scalar": ARRAYS | {"fc8/biases": np.float32(1)},
    "no bias": {name: array for name, array in ARRAYS.items() if name != "conv2/biases"},
    "two of a layer": ARRAYS | {"tower/conv1/biases": ARRAYS["conv1/biases"]},
    "no numbers": ARRAYS | {"fc6/weights": np.ones((1, 0, 6, 10), np.float32)},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_refuses_in_one_line(tmp_path, damage):
    prefix = save(tmp_path / "w", DAMAGES[damage], **NEWEST)
    assert_refused(read_checkpoint, index_of(prefix))


@pytest.mark.parametrize("end", [0, 10, 60, -1])
def test_truncated_indexes(checkpoint, tmp_path, end):
    path = copied(checkpoint, tmp_path, index=lambda whole: whole[:end])
    assert_refused(read_checkpoint, path)


def test_truncated_data(checkpoint, tmp_path):
    path = copied(checkpoint, tmp_path, data=lambda whole: whole[:-100])
    assert "(truncated?)" in assert_refused(read_checkpoint, path)


@settings(max_examples=150, deadline=None)
@given(edits=EDITS)
@example([(4, 1, 2, "set")])  # two data files, of which one is there
def test_a_mutated_index_never_crashes(checkpoint, tmp_path_factory, edits):
    path = copied(
        checkpoint, tmp_path_factory.mktemp("mutated"), index=lambda whole: mutated(whole, edits)
    )
    found = read_or_refuse(read_checkpoint, path)
    assert found is None or len(found.layers) <= len(SHAPES)


def table_of(entries, repeated=1):
    """A table with one block, that its index names ``repeated`` times."""
    block = b"".join(
        bytes([0, len(key)]) + varint(len(value)) + key + value for key, value in entries.items()
    )
    block += (0).to_bytes(4, "little")
    handle = varint(0) + varint(len(block))
    index = bytes([0, 1]) + varint(len(handle)) + b"z" + handle
    index = index * repeated + (0).to_bytes(4, "little")
    footer = b"\0\0" + varint(len(block) + 5) + varint(len(index))
    return (
        block
        + bytes(5)
        + index
        + bytes(5)
        + footer.ljust(40, b"\0")
        + bytes.fromhex("57fb808b247547db")
    )


def varint(value):
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def entry(shape, size):
    dimensions = b"".join(
        b"\x12" + bytes([1 + len(varint(n))]) + b"\x08" + varint(n) for n in shape
    )
    return b"\x08\x01\x12" + varint(len(dimensions)) + dimensions + b"\x28" + varint(size)


@pytest.mark.parametrize("size", [4, 1 << 39, (1 << 63) - 1])
@pytest.mark.parametrize("shape", [(1 << 18, 1 << 19), (1 << 62,), (1,) * 9, (0,)])
def test_declared_sizes_take_no_memory(tmp_path, shape, size):
    path = tmp_path / "w.index"
    path.write_bytes(table_of({b"": b"\x08\x01", b"fc8/weights": entry(shape, size)}))
    (tmp_path / "w.data-00000-of-00001").write_bytes(bytes(64))
    assert_refused(read_checkpoint, path)


@pytest.mark.parametrize(
    "content",
    [
        table_of({b"": b"\x08\x01", b"a": b""}, repeated=20_000),
        table_of({b"": b"\x08" + varint(1 << 40)}),
        table_of({b"": b"\x08\x01", b"fc8/weights": b"\x12\xff\xff\xff\x7f"}),
        table_of({b"": b"\x08\x01" * (1 << 20)}),
        table_of({b"": b"\x08\x01", b"fc8/weights": entry((), 0) * (1 << 18)}),
        table_of({b"x" * 100: bytes(1 << 20)}, repeated=20_000),
    ],
    ids=[
        "a block named often",
        "many shards",
        "a shape beyond the end",
        "a long header",
        "a long entry",
        "a large value often",
    ],
)
def test_hostile_indexes_take_no_memory(tmp_path, content):
    path = tmp_path / "w.index"
    path.write_bytes(content)
    (tmp_path / "w.data-00000-of-00001").write_bytes(bytes(64))
    assert_memory_in_proportion(read_checkpoint, path)
    assert_refused(read_checkpoint, path)
