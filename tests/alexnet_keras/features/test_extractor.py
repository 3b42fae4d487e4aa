"""Frozen features: the right activations, every row once, whole files or none."""

import errno
import re

import h5py
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.features.extraction import extract
from alexnet_keras.features.extractor import feature_extractor, layer_of, resolve_layers
from alexnet_keras.features.feature_files import open_feature_files
from alexnet_keras.models import layers
from tests.alexnet_keras.tiny import picture_files, samples_of, tiny_model

PUBLIC = (
    "conv1",
    "norm1",
    "pool1",
    "conv2",
    "norm2",
    "pool2",
    "conv3",
    "conv4",
    "conv5",
    "pool5",
    "fc6",
    "fc7",
    "fc8",
    "prob",
)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def photographs(count=2):
    return np.random.default_rng(0).standard_normal((count, 67, 67, 3), np.float32) * 60


def test_activations_of_every_public_layer(model):
    found = feature_extractor(model, PUBLIC)(photographs())
    assert tuple(found) == PUBLIC
    for name, activations in found.items():
        assert activations.shape == (2, *model.get_layer(name).output.shape[1:])
    by_hand = np.maximum(
        np.tensordot(found["fc6"], model.get_layer("fc7").kernel, 1) + model.get_layer("fc7").bias,
        0,
    )
    np.testing.assert_allclose(
        found["fc7"], by_hand, rtol=1e-4, atol=1e-6
    )  # after the ReLU, without dropout
    assert min(found["conv1"].numpy().min(), found["fc6"].numpy().min()) == 0
    logits = (
        np.tensordot(found["fc7"], model.get_layer("fc8").kernel, 1) + model.get_layer("fc8").bias
    )
    np.testing.assert_allclose(found["fc8"], logits, rtol=1e-4, atol=1e-6)  # before the softmax
    np.testing.assert_allclose(
        found["prob"], np.exp(logits) / np.exp(logits).sum(1, keepdims=True), rtol=1e-4
    )
    np.testing.assert_allclose(found["prob"], model(photographs()), rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_name_may_be_given_as_text(variant):
    extractor = feature_extractor(tiny_model(variant), "pool5")
    assert list(extractor.output) == ["pool5"]


@pytest.mark.parametrize(
    ("layers", "found"),
    [("fc9", "fc9"), (["fc7", "conv9", "x"], r"conv9, x \(near: conv5, conv4\)"), ([], "none")],
)
def test_unknown_names_are_refused_and_the_valid_ones_listed(model, layers, found):
    with pytest.raises(
        ConfigurationError,
        match=f"^layer: expected one of conv1, norm1, .*fc8, prob; got {found}$",
    ):
        feature_extractor(model, layers)


def collect(model, samples, layers, batch_size, **options):
    rows, told = {name: [] for name in layers}, []
    sinks = {name: blocks.append for name, blocks in rows.items()}
    batches = EvaluationBatches(samples, model.preprocessing, batch_size, **options)
    extract(feature_extractor(model, layers), batches, sinks, told.append)
    assert sum(told) == len(samples)
    return {name: np.concatenate(blocks) for name, blocks in rows.items()}, batches


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10])
def test_row_i_is_sample_i_and_padding_is_dropped(tmp_path, model, batch_size):
    samples = samples_of(picture_files(tmp_path, 7))
    found, _ = collect(model, samples, ("fc7", "pool5"), batch_size)
    assert (found["fc7"].shape, found["pool5"].shape) == ((7, 205), (7, 1, 1, 12))
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}
    images = np.concatenate(
        [batch.images for batch in EvaluationBatches(samples, model.preprocessing, 7)]
    )
    np.testing.assert_allclose(
        found["fc7"], feature_extractor(model, "fc7")(images)["fc7"], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize(
    "bad", [{0: b""}, {6: b""}, {1: b"", 2: b"no image", 6: b""}, dict.fromkeys(range(7), b"")]
)
def test_rows_of_unreadable_files_are_nan(tmp_path, model, bad):
    found, batches = collect(
        model, samples_of(picture_files(tmp_path, 7, bad)), ("fc7",), 3, bad="mark"
    )
    np.testing.assert_array_equal(np.isnan(found["fc7"]).all(1), np.isin(range(7), list(bad)))
    np.testing.assert_array_equal(np.isnan(found["fc7"]).any(1), np.isin(range(7), list(bad)))
    np.testing.assert_array_equal(batches.bad_rows, sorted(bad))


BLOCKS = {
    "fc7": np.arange(20, dtype=np.float32).reshape(5, 4),
    "pool5": np.arange(60, dtype=np.float32).reshape(5, 2, 2, 3),
}
SHAPES = {name: block.shape for name, block in BLOCKS.items()}


def places(folder, suffix):
    one = folder / f"features{suffix}"
    return {
        name: one if suffix == ".h5" else folder / f"features-{name}{suffix}" for name in BLOCKS
    }


def write(sinks, rows=5):
    for start, end in ((0, 2), (2, 2), (2, rows)):
        for name, sink in sinks.items():
            sink(BLOCKS[name][start:end])


def read(paths):
    if ".h5" in {path.suffix for path in paths.values()}:
        with h5py.File(next(iter(paths.values())), "r") as file:
            return {name: dataset[...] for name, dataset in file.items()}
    return {name: np.load(path, allow_pickle=False) for name, path in paths.items()}


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_blocks_become_whole_files(tmp_path, suffix):
    paths = places(tmp_path, suffix)
    with open_feature_files(paths, SHAPES) as sinks:
        write(sinks)
        assert not any(path.exists() for path in paths.values())
    found = read(paths)
    assert set(found) == set(BLOCKS)
    for name, block in BLOCKS.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], block)
    assert set(tmp_path.iterdir()) == set(paths.values())


def test_one_layer_in_one_file_and_rows_of_other_layouts(tmp_path):
    path = tmp_path / "features.npy"
    with open_feature_files({"fc7": path}, {"fc7": (4, 5)}) as sinks:
        sinks["fc7"](BLOCKS["fc7"].T[:3].astype(np.float64))
        sinks["fc7"](BLOCKS["fc7"].T[3:])
    np.testing.assert_array_equal(np.load(path), BLOCKS["fc7"].T)


def interrupted(sinks):
    write(sinks)
    raise KeyboardInterrupt("by the user")


def disk_full(sinks):
    write(sinks)
    raise OSError(errno.ENOSPC, "No space left on device")


FAILURES = {
    "too few rows": (lambda sinks: write(sinks, 4), RunError, "expected 5 rows of fc7, got 4"),
    "no row": (lambda sinks: None, RunError, "expected 5 rows of fc7, got 0"),
    "interrupted": (interrupted, KeyboardInterrupt, "by the user"),
    "disk full": (disk_full, RunError, "cannot be written: No space left on device"),
}


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_after_a_failure_only_what_was_there_before_is_there(tmp_path, suffix, failure):
    act, error, message = FAILURES[failure]
    paths = places(tmp_path, suffix)
    for path in paths.values():
        path.write_bytes(b"before")
    with (
        pytest.raises(error, match=re.escape(message)),
        open_feature_files(paths, SHAPES) as sinks,
    ):
        act(sinks)
    assert {path.read_bytes() for path in paths.values()} == {b"before"}
    assert set(tmp_path.iterdir()) == set(paths.values())


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize("parent", ["nowhere", "file"])
def test_a_folder_that_cannot_be_written(tmp_path, suffix, parent):
    (tmp_path / "file").touch()
    paths = places(tmp_path / parent, suffix)
    first = re.escape(str(paths["fc7"]))
    with (
        pytest.raises(RunError, match=rf"^{first}: cannot be written: [^\n]+$"),
        open_feature_files(paths, SHAPES),
    ):
        pytest.fail("opened")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


PREACTIVATED = {
    "krizhevsky": "pool1 conv2 conv3 conv4 pool5 fc6 fc7",
    "others": "conv1 conv2 conv3 conv4 conv5 fc6 fc7",
}


def varied(model):
    """``model`` with weights for which about half of the values before a ReLU are negative."""
    generator = np.random.default_rng(1)
    for variable in model.weights:
        variable.assign(generator.standard_normal(variable.shape) * 0.1)
    return model


@pytest.mark.parametrize(
    ("variant", "splits_groups"),
    [
        ("alexnet", False),
        ("krizhevsky", True),
        *(
            pytest.param(name, False, marks=pytest.mark.slow)
            for name in ("caffenet", "paper", "owt", "slim")
        ),
    ],
)
def test_the_relu_of_the_values_before_it_is_the_output_bit_for_bit(
    variant, splits_groups, monkeypatch
):
    monkeypatch.setattr(layers, "should_split_groups", lambda dtype: splits_groups)
    model = varied(tiny_model(variant))
    names = PREACTIVATED.get(variant, PREACTIVATED["others"]).split()
    extractor = feature_extractor(model, ["all", *(f"{name}:pre" for name in names)])
    size = model.input.shape[1]
    images = np.random.default_rng(0).standard_normal((2, size, size, 3), np.float32) * 60
    found = tf.function(extractor, autograph=False)(images)
    for layer in names:
        before = found[f"{layer}:pre"].numpy()
        assert before.min() < 0 < before.max()
        np.testing.assert_array_equal(np.maximum(before, 0), found[layer])
    plain = tf.function(feature_extractor(model, "all"), autograph=False)(images)
    assert list(plain) == [*model.architecture.layer_names] == list(extractor.output)[: len(plain)]
    for layer, activations in plain.items():
        np.testing.assert_allclose(found[layer], activations, rtol=1e-5, atol=1e-6)
    assert {id(each) for each in extractor.weights} == {id(each) for each in model.weights}


def test_the_values_before_a_relu_by_pytorch(model):
    torch = pytest.importorskip("torch")
    images = photographs()
    asked = ("pool1", "conv2:pre", "pool5", "fc6:pre")
    found = {name: each.numpy() for name, each in feature_extractor(model, asked)(images).items()}
    kernel, bias = (torch.tensor(each) for each in model.get_layer("conv2").get_weights())
    x = torch.tensor(found["pool1"]).permute(0, 3, 1, 2)
    before = torch.nn.functional.conv2d(
        x, kernel.permute(3, 2, 0, 1), bias, padding=2, groups=2
    ).permute(0, 2, 3, 1)
    np.testing.assert_allclose(found["conv2:pre"], before, rtol=1e-4, atol=1e-6)
    kernel, bias = (torch.tensor(each) for each in model.get_layer("fc6").get_weights())
    before = torch.tensor(found["pool5"]).flatten(1) @ kernel + bias
    np.testing.assert_allclose(found["fc6:pre"], before, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", ["fc8:pre", "prob:pre", "norm1:pre", "pool1:pre", "drop6:pre"])
def test_no_values_before_the_relu_of_a_layer_without_one(model, layer):
    named = ", ".join(f"{name}:pre" for name in PREACTIVATED["others"].split())
    with pytest.raises(
        ConfigurationError,
        match=rf"^layer: expected :pre of a layer with a ReLU \({named}\), got {layer}$",
    ):
        feature_extractor(model, ["fc7", layer])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (["fc7", "conv1", "fc7"], "expected each once, got fc7, fc7"),
        (["all", "conv3"], "expected each once, got conv3, conv3"),
        ("con3:pre", r"expected one of conv1, .*; got con3 \(near: conv3\)"),
        ("conv3:post", r"expected one of conv1, .*; got conv3:post"),
        ("all:pre", r"expected one of conv1, .*; got all"),
    ],
)
def test_names_that_are_refused(model, layers, message):
    with pytest.raises(ConfigurationError, match=f"^layer: {message}"):
        resolve_layers(model, layers)


def test_what_names_stand_for(model):
    assert resolve_layers(model, "all") == PUBLIC
    assert resolve_layers(model, ["fc6:pre", "all"]) == ("fc6:pre", *PUBLIC)
    assert [layer_of(name) for name in ("fc6:pre", "fc6")] == ["fc6", "fc6"]


def test_rows_pooled_and_flat(model):
    images = photographs(3)
    asked = ["conv2:pre", "conv2", "fc6"]
    plain = {
        name: each.numpy().astype(np.float64)
        for name, each in feature_extractor(model, asked)(images).items()
    }
    for pool, reference in (("avg", np.mean), ("max", np.max)):
        pooled = feature_extractor(model, asked, pool=pool)(images)
        for name in ("conv2:pre", "conv2"):
            np.testing.assert_allclose(
                pooled[name], reference(plain[name], axis=(1, 2)), rtol=1e-5, atol=1e-6
            )
        np.testing.assert_array_equal(pooled["fc6"], plain["fc6"])
    flat = feature_extractor(model, asked, flatten=True)(images)
    for name, values in plain.items():
        np.testing.assert_array_equal(flat[name], values.reshape(3, -1))


def test_nothing_to_pool(model):
    with pytest.raises(
        ConfigurationError, match="^pool: expected a layer with height and width, got fc6, prob$"
    ):
        feature_extractor(model, ["fc6", "prob"], pool="avg")
    with pytest.raises(ConfigurationError, match="^pool: expected avg or max, got 'mean'$"):
        feature_extractor(model, "conv1", pool="mean")


def test_values_beyond_float16_are_counted(tmp_path, model):
    samples = samples_of(picture_files(tmp_path, 2))
    network = tiny_model()
    network.set_weights([values * 1e5 for values in model.get_weights()])
    rows = {"conv1": [], "prob": []}
    overflows = extract(
        feature_extractor(network, rows),
        EvaluationBatches(samples, network.preprocessing, 2),
        {name: blocks.append for name, blocks in rows.items()},
        dtype="float16",
    )
    assert rows["conv1"][0].dtype == rows["prob"][0].dtype == np.float16
    assert overflows["conv1"] == np.isinf(rows["conv1"][0]).sum() > 0 == overflows["prob"]
