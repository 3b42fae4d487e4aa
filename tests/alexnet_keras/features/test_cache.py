"""Features that are kept: computed once for the same weights, rule and files, again for any other,
never half-written.
"""

import logging
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alexnet_keras.configs.loading import BoxRegion
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.feature_batches import FeatureBatches
from alexnet_keras.errors import RunError
from alexnet_keras.features import cache
from alexnet_keras.features.cache import layer_inputs
from tests.alexnet_keras.tiny import encoded, picture, picture_files, samples_of, slow, tiny_model
from tests.alexnet_keras.trees import class_folders, invoke

COUNT, WIDTH = 6, 205

BOXES = [(5, 5, 30, 30)] * COUNT


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "pictures").mkdir()
    return picture_files(tmp_path / "pictures", COUNT)


@pytest.fixture
def computed(monkeypatch):
    """A list that grows by one whenever features are computed."""
    times, extract = [], cache.extract

    def counted(*arguments, **options):
        times.append(1)
        return extract(*arguments, **options)

    monkeypatch.setattr(cache, "extract", counted)
    return times


def batches_of(model, paths, boxes=None, preprocessing=None, **options):
    return EvaluationBatches(
        samples_of(paths, boxes=boxes),
        preprocessing or model.preprocessing,
        4,
        bad="mark",
        **options,
    )


def kept(model, folder, batches):
    return layer_inputs(model, "fc8", batches, folder)


def test_the_file_holds_what_memory_does_bit_for_bit(model, paths, tmp_path, computed):
    in_memory = layer_inputs(model, "fc8", batches_of(model, paths))
    first, again = (kept(model, tmp_path / "kept", batches_of(model, paths)) for _ in range(2))
    assert len(computed) == 2
    for features in (first, again):
        assert isinstance(features, np.memmap)
        assert not features.flags.writeable
        assert (features.shape, features.dtype) == ((COUNT, WIDTH), np.float32)
        assert features.tobytes() == in_memory.tobytes()


def another_rule(model, paths):
    return batches_of(
        model, paths, preprocessing=replace(model.preprocessing, mean=(1.0, 2.0, 3.0))
    )


def with_a_mean_image(model, paths):
    image = MeanImage.from_array(np.full((model.preprocessing.crop,) * 2 + (3,), 90))
    return batches_of(model, paths, preprocessing=replace(model.preprocessing, mean_image=image))


def touched(model, paths):
    os.utime(paths[2], ns=(0, 12_345))
    return batches_of(model, paths)


def other_contents(model, paths):
    """As long ago as before: what tells is the size."""
    before = os.stat(paths[2])
    Path(paths[2]).write_bytes(encoded(picture(77)) + b"\0")
    os.utime(paths[2], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat(paths[2]).st_size != before.st_size
    return batches_of(model, paths)


def removed(model, paths):
    os.unlink(paths[2])
    return batches_of(model, paths)


def another_order(model, paths):
    return batches_of(model, paths[::-1])


def fewer(model, paths):
    return batches_of(model, paths[:-1])


@pytest.mark.parametrize(
    "change",
    [
        another_rule,
        touched,
        removed,
        *slow(with_a_mean_image, other_contents, another_order, fewer),
    ],
)
def test_anything_else_is_computed_again_and_the_first_file_is_left(
    model, paths, tmp_path, computed, change
):
    kept(model, tmp_path / "kept", batches_of(model, paths))
    batches = change(model, paths)
    features = kept(model, tmp_path / "kept", batches)
    assert len(computed) == 2
    assert len(list((tmp_path / "kept").iterdir())) == 2
    assert features.tobytes() == layer_inputs(model, "fc8", batches).tobytes()


@pytest.mark.parametrize("layer", ["conv1", *slow("conv3", "fc7")])
def test_other_weights_below_the_layer_are_computed_again(model, paths, tmp_path, computed, layer):
    bias = model.get_layer(layer).bias
    before, first = bias.numpy(), kept(model, tmp_path / "kept", batches_of(model, paths)).copy()
    try:
        bias.assign(before + 0.25)
        assert (kept(model, tmp_path / "kept", batches_of(model, paths)) != first).any()
    finally:
        bias.assign(before)
    assert len(computed) == 2
    np.testing.assert_array_equal(kept(model, tmp_path / "kept", batches_of(model, paths)), first)
    assert len(computed) == 2


def test_weights_that_the_features_do_not_rest_on_do_not_matter(model, paths, tmp_path, computed):
    kept(model, tmp_path / "kept", batches_of(model, paths))
    model.get_layer("fc8").bias.assign_add(np.ones(5, np.float32))
    kept(model, tmp_path / "kept", batches_of(model, paths))
    assert len(computed) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"boxes": BOXES[1:] + [(6, 5, 30, 30)]},
        *slow({"region": BoxRegion(0.3)}, {"region": BoxRegion(square=False)}, {"boxes": None}),
    ],
    ids=str,
)
def test_other_boxes_and_crops_are_computed_again(model, paths, tmp_path, computed, change):
    kept(model, tmp_path / "kept", batches_of(model, paths, boxes=BOXES))
    kept(model, tmp_path / "kept", batches_of(model, paths, **{"boxes": BOXES} | change))
    assert len(computed) == 2


def truncated(file):
    with open(file, "r+b") as stream:
        stream.truncate(file.stat().st_size - 5)


def of_another_shape(file):
    np.save(file, np.zeros((COUNT, WIDTH + 1), np.float32))


def of_another_type(file):
    np.save(file, np.zeros((COUNT, WIDTH), np.float64))


def empty(file):
    file.write_bytes(b"")


def pickled(file):
    np.save(file, np.array([{}], object))


def text(file):
    file.write_text("no array\nat all")


@pytest.mark.parametrize(
    "damage", [truncated, pickled, *slow(of_another_shape, of_another_type, empty, text)]
)
def test_a_damaged_file_is_never_read(model, paths, tmp_path, computed, caplog, damage):
    first = kept(model, tmp_path / "kept", batches_of(model, paths)).copy()
    (file,) = (tmp_path / "kept").iterdir()
    file.unlink()  # the memory map above still has the whole one
    np.save(file, first)
    damage(file)
    with caplog.at_level(logging.WARNING):
        np.testing.assert_array_equal(
            kept(model, tmp_path / "kept", batches_of(model, paths)), first
        )
    assert len(computed) == 2
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{file}: expected ")
    assert message.endswith("; recomputing")
    assert "\n" not in message


def test_what_was_interrupted_leaves_nothing_that_is_read(model, paths, tmp_path, computed):
    def stop(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer_inputs(model, "fc8", batches_of(model, paths), tmp_path / "kept", stop)
    assert list((tmp_path / "kept").iterdir()) == []
    kept(model, tmp_path / "kept", batches_of(model, paths))
    assert len(computed) == 2


@pytest.mark.parametrize("blocked", ["kept", "kept/deeper"])
def test_a_folder_that_cannot_be_is_one_line(model, paths, tmp_path, blocked):
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(
        RunError,
        match=rf"^{tmp_path / blocked}: expected a folder for the feature cache, got: [^\n]+$",
    ):
        kept(model, tmp_path / blocked, batches_of(model, paths))


def test_a_file_that_cannot_be_written_is_one_line(model, paths, tmp_path, monkeypatch):
    def refused(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("alexnet_keras.features.array_files.open", refused, raising=False)
    with pytest.raises(
        RunError,
        match=rf"^{tmp_path}/kept/features-\w+\.npy: cannot be written: Permission denied$",
    ):
        kept(model, tmp_path / "kept", batches_of(model, paths))


def test_the_rows_of_unreadable_files_are_nan_and_weigh_nothing(model, tmp_path):
    paths = picture_files(tmp_path, COUNT, {2: b"none"})
    features = kept(model, tmp_path / "kept", batches_of(model, paths))
    np.testing.assert_array_equal(np.isnan(features).all(axis=1), np.arange(COUNT) == 2)
    for batch in FeatureBatches(features, samples_of(paths), 4, seed=0).iterate(0, 3):
        np.testing.assert_array_equal(batch.weights, batch.rows != 2)
        assert np.isfinite(batch.images).all()


def test_batches_of_a_memory_map_are_centered_and_scaled(model, paths, tmp_path):
    features = kept(model, tmp_path / "kept", batches_of(model, paths))
    center, scale = np.linspace(0, 1, WIDTH, dtype=np.float32), 3.0
    rows = []
    for batch in FeatureBatches(
        features, samples_of(paths), 3, seed=1, center=center, scale=scale
    ).iterate(0, 4):
        expected = (np.array(features)[batch.rows] - center) / np.float32(3)
        assert batch.images.dtype == np.float32
        np.testing.assert_array_equal(batch.images, expected)
        rows.extend(batch.rows.numpy().tolist())
    assert sorted(rows) == sorted([*range(COUNT)] * 2)


@pytest.mark.slow
def test_the_command_keeps_them_for_the_next_run(tmp_path, computed):
    tiny_model(classes=3).save(tmp_path / "tiny.keras")
    folder, data = tmp_path / "kept", class_folders(tmp_path / "data")

    def run(name):
        result = invoke(
            "transfer",
            "--data",
            data,
            "--weights",
            tmp_path / "tiny.keras",
            "--epochs",
            "1",
            "--feature-cache",
            folder,
            "--output",
            tmp_path / name,
        )
        assert (result.exit_code, result.stderr) == (0, "")
        return (tmp_path / name / "result.json").read_text()

    run("one")
    (first,) = folder.iterdir()
    changed = first.stat().st_mtime_ns
    run("again")
    assert (len(computed), [*folder.iterdir()], first.stat().st_mtime_ns) == (1, [first], changed)

    (tmp_path / "file").write_text("")
    refused = invoke(
        "transfer",
        "--data",
        data,
        "--weights",
        tmp_path / "tiny.keras",
        "--feature-cache",
        tmp_path / "file",
        "--output",
        tmp_path / "refused",
    )
    assert refused.exit_code == 2
    assert (
        refused.stderr
        == f"error: {tmp_path / 'file'}: expected a folder for the feature cache, got: "
        "File exists\n"
    )
