"""Batches: a pure function of (seed, step), each sample once, and what bad files do to them."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from alexnet_keras.configs.augmentation import AUGMENTATIONS
from alexnet_keras.configs.loading import BoxRegion, Shard
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import decoding, image_ops
from alexnet_keras.data.bad_files import BadFiles
from alexnet_keras.data.batches import EvaluationBatches, TrainingBatches
from alexnet_keras.data.feature_batches import FeatureBatches
from alexnet_keras.data.sample_loader import SampleLoader
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from tests.alexnet_keras.tiny import (
    PREPROCESSING_16,
    encoded,
    picture,
    picture_files,
    samples_of,
    slow,
)

COUNT = 10
TRUNCATED = encoded(picture(3))[:-100]
BAD = {
    "empty": b"",
    "truncated": TRUNCATED,
    "text": b"not an image",
    "html": b"<html>404</html>",
    "header only": b"\xff\xd8\xff\xe0" + bytes(60),
}


@pytest.fixture
def samples(tmp_path):
    return samples_of(picture_files(tmp_path, COUNT))


def training(samples, batch_size=4, seed=5, **options):
    return TrainingBatches(
        samples, options.pop("preprocessing", PREPROCESSING_16), batch_size, seed=seed, **options
    )


def evaluation(samples, batch_size=4, **options):
    return EvaluationBatches(
        samples, options.pop("preprocessing", PREPROCESSING_16), batch_size, **options
    )


def arrays(batches):
    return [tuple(tensor.numpy() for tensor in batch) for batch in batches]


def assert_same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_training_batches_are_a_pure_function_of_seed_and_step(samples):
    whole = arrays(training(samples).iterate(0, 9))
    assert_same(whole, arrays(training(samples, num_threads=5).iterate(0, 9)))
    assert_same(whole, arrays(training(samples, num_threads=1).iterate(0, 9)))
    assert_same(whole[5:], arrays(training(samples).iterate(5, 9)))
    again = training(samples)
    assert_same(whole[7:8], arrays(again.iterate(7, 8)))
    assert_same(whole[2:4], arrays(again.iterate(2, 4)))


@pytest.mark.parametrize("make", [training, evaluation])
@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    "contents",
    [
        pytest.param(encoded(picture(3)), id="sound", marks=pytest.mark.slow),
        pytest.param(b"", id="empty"),
    ],
)
def test_the_shares_of_workers_are_the_batch(tmp_path, make, count, contents):
    samples = with_bad(tmp_path, contents)
    whole = arrays(make(samples, bad="mark").iterate(0, 3))
    workers = [make(samples, bad="mark", shard=Shard(index, count)) for index in range(count)]
    shares = [[*arrays(worker.iterate(0, 1)), *arrays(worker.iterate(1, 3))] for worker in workers]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert_same([batch], [tuple(map(np.concatenate, zip(*parts, strict=True)))])


def test_another_seed_gives_other_orders_and_other_crops(samples):
    one, other = (
        arrays(training(samples).iterate(0, 5)),
        arrays(training(samples, seed=6).iterate(0, 5)),
    )
    assert any((a[3] != b[3]).any() for a, b in zip(one, other, strict=True))
    crops = [{batch[0][batch[3] == 0].tobytes() for batch in batches} for batches in (one, other)]
    assert crops[0] != crops[1]


@pytest.mark.parametrize("batch_size", [1, 4, 13])
def test_every_sample_once_an_epoch_also_where_batches_cross_its_end(samples, batch_size):
    rows = np.concatenate(
        [
            batch[3]
            for batch in arrays(training(samples, batch_size).iterate(0, -(-40 // batch_size)))
        ]
    )
    epochs = rows[:40].reshape(4, COUNT)
    for epoch in epochs:
        assert sorted(epoch) == list(range(COUNT))
    assert len({tuple(epoch) for epoch in epochs}) == 4


@pytest.mark.parametrize(
    ("batch_size", "first_steps"),
    [
        (4, [0, 3, 5, 8, 10]),
        (10, [0, 1, 2, 3, 4]),
        (13, [0, 1, 2, 3, 4]),
        (30, [0, 1, 1, 1, 2]),
        (1, [0, 10, 20, 30, 40]),
    ],
)
def test_first_step_of_an_epoch(samples, batch_size, first_steps):
    assert [
        training(samples, batch_size).first_step_of(epoch) for epoch in range(5)
    ] == first_steps


def test_images_are_random_windows_of_the_resized_image_and_its_mirror(samples):
    seen = set()
    for images, labels, weights, rows in arrays(training(samples).iterate(0, 15)):
        assert images.shape == (4, 16, 16, 3)
        assert images.dtype == np.float32
        np.testing.assert_array_equal(weights, 1)
        np.testing.assert_array_equal(labels, samples.labels[rows])
        for image, row in zip(images, rows, strict=True):
            places = windows_like(image, resized(samples, row))
            assert places, "no window of the image"
            seen |= set(places)
    assert len({place[2] for place in seen}) == 2
    assert len({place[:2] for place in seen}) > 10


def resized(samples, row):
    image = decoding.decode_image(Path(samples.paths[row]).read_bytes())
    return image_ops.to_network_input(
        image_ops.resize(image, PREPROCESSING_16), PREPROCESSING_16
    ).numpy()


def windows_like(image, whole):
    """(top, left, mirrored) of the windows of ``whole`` that are ``image``."""
    return [
        (top, left, mirrored)
        for top in range(5)
        for left in range(5)
        for mirrored in (False, True)
        if np.array_equal(
            image[:, ::-1] if mirrored else image, whole[top : top + 16, left : left + 16]
        )
    ]


@pytest.mark.parametrize("make", [training, evaluation, partial(evaluation, crops=10)])
@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_every_crop_loses_the_same_mean_image(samples, make, order):
    """Never shifted with the crop, nor mirrored with it: the difference from the crops alone."""
    levels = np.random.default_rng(0).uniform(0, 255, (16, 16, 3)).astype(np.float32)
    rule = replace(PREPROCESSING_16, channel_order=order, mean=(0, 0, 0))
    crops = arrays(make(samples, preprocessing=rule).iterate(0, 6))
    rule = replace(rule, mean_image=MeanImage.from_array(levels))
    for batch, plain in zip(
        arrays(make(samples, preprocessing=rule).iterate(0, 6)), crops, strict=True
    ):
        sound = batch[2] > 0  # padding stays zero
        in_order = levels[..., ::-1] if order == "BGR" else levels
        np.testing.assert_array_equal(batch[0][sound], plain[0][sound] - in_order)
        np.testing.assert_array_equal(batch[0][~sound], 0)


def test_a_sample_is_cropped_anew_each_epoch(samples):
    first = {
        batch[0][index].tobytes()
        for batch in arrays(training(samples, 10).iterate(0, 6))
        for index in range(10)
        if batch[3][index] == 0
    }
    assert len(first) > 2


def test_without_augmentation_every_epoch_shows_the_centre(samples):
    for images, _, _, rows in arrays(
        training(samples, augmentation=AUGMENTATIONS["none"]).iterate(0, 5)
    ):
        for image, row in zip(images, rows, strict=True):
            np.testing.assert_array_equal(image, resized(samples, row)[2:18, 2:18])


@pytest.mark.parametrize("batch_size", [1, 4, 10, 13])
def test_evaluation_gives_every_sample_once_in_order_and_pads_with_weight_0(samples, batch_size):
    batches = evaluation(samples, batch_size)
    found = arrays(batches)
    assert len(found) == len(batches) == batches.steps == -(-COUNT // batch_size)
    images, labels, weights, rows = (np.concatenate(column) for column in zip(*found, strict=True))
    assert len(rows) == len(found) * batch_size
    np.testing.assert_array_equal(weights, np.arange(len(rows)) < COUNT)
    np.testing.assert_array_equal(rows[:COUNT], np.arange(COUNT))
    np.testing.assert_array_equal(labels[:COUNT], samples.labels)
    assert not images[COUNT:].any()
    for row in range(COUNT):
        np.testing.assert_array_equal(images[row], resized(samples, row)[2:18, 2:18])
    assert_same(found, arrays(evaluation(samples, batch_size, num_threads=1)))


def test_an_evaluation_can_be_run_again(samples):
    batches = evaluation(samples)
    assert_same(arrays(batches), arrays(batches))


@pytest.mark.parametrize(
    ("crops", "rows", "columns"),
    [
        (None, (0, 28), (8, 36)),
        (BoxRegion(0.0, square=False), (9, 19), (10, 34)),
        (BoxRegion(0.5), (-10, 38), (-2, 46)),
    ],
)
def test_boxes_are_cropped_with_their_context(tmp_path, crops, rows, columns):
    samples = samples_of(picture_files(tmp_path, 2), boxes=[(10, 9, 24, 10), (0, 0, 50, 40)])
    whole = decoding.decode_image((tmp_path / "000.jpg").read_bytes()).numpy() - np.float32(
        PREPROCESSING_16.mean
    )
    region = np.pad(whole, [(50, 50), (50, 50), (0, 0)])[
        50 + rows[0] : 50 + rows[1], 50 + columns[0] : 50 + columns[1]
    ]
    expected = image_ops.center_crop(
        image_ops.resize(tf.constant(region), PREPROCESSING_16), PREPROCESSING_16
    ).numpy()[..., ::-1]
    np.testing.assert_allclose(
        arrays(evaluation(samples, region=crops))[0][0][0], expected, atol=2e-4
    )


def with_bad(folder, contents, count=COUNT, bad=3):
    return samples_of(picture_files(folder, count, {bad: contents}))


@pytest.mark.parametrize(
    ("make", "kind"),
    [*((evaluation, kind) for kind in (*BAD, "missing", "folder")), (training, "truncated")],
)
def test_a_bad_file_is_an_error_where_asked(tmp_path, make, kind):
    samples = with_bad(tmp_path, BAD.get(kind, b""))
    path = tmp_path / "003.jpg"
    if kind in ("missing", "folder"):
        path.unlink()
    if kind == "folder":
        path.mkdir()
    with pytest.raises(DataError, match=rf"^{path}: expected a readable image, got: [^\n]{{5,}}$"):
        arrays(make(samples, bad="error").iterate(0, 3))


@pytest.mark.parametrize("make", [training, evaluation])
def test_one_bad_file_of_ten_is_more_than_a_hundredth(tmp_path, make):
    samples = with_bad(tmp_path, b"")
    with pytest.raises(
        DataError,
        match=r"^val: expected at most 1% unreadable image files, got 1 of 10; the first is "
        rf"{tmp_path}/003.jpg$",
    ):
        arrays(make(samples).iterate(0, 3))


@pytest.mark.parametrize("make", [training, evaluation])
def test_one_bad_file_of_a_hundred_is_skipped_and_named(tmp_path, caplog, make):
    paths = picture_files(tmp_path, 12, {3: TRUNCATED})
    linked = [str(tmp_path / f"more{index}.jpg") for index in range(88)]
    for path in linked:
        (tmp_path / path).hardlink_to(paths[0])
    samples = samples_of([*paths, *linked])
    batches = make(samples, 25)
    with caplog.at_level(logging.WARNING):
        found = arrays(batches.iterate(0, 4))
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [paths[3]]
    np.testing.assert_array_equal(batches.bad_rows, [3])
    weights, rows = np.concatenate([b[2] for b in found]), np.concatenate([b[3] for b in found])
    assert sorted(rows) == list(range(100))
    np.testing.assert_array_equal(weights, rows != 3)
    assert not np.concatenate([b[0] for b in found])[rows == 3].any()
    if make is training:
        sound = arrays(
            make(samples_of([*paths[:3], paths[0], *paths[4:], *linked]), 25).iterate(0, 4)
        )
        for with_bad_file, without in zip(found, sound, strict=True):
            good = with_bad_file[3] != 3
            np.testing.assert_array_equal(with_bad_file[0][good], without[0][good])


@pytest.mark.parametrize("make", [training, evaluation])
def test_marked_files_are_accepted_in_any_number_and_told(tmp_path, make):
    bad = dict(zip((1, 3, 4, 8, 9), BAD.values(), strict=True))
    batches = make(samples_of(picture_files(tmp_path, COUNT, bad)), bad="mark")
    found = arrays(batches.iterate(0, 3))
    rows, weights = (
        np.concatenate([batch[column] for batch in found])[:COUNT] for column in (3, 2)
    )
    np.testing.assert_array_equal(batches.bad_rows, sorted(bad))
    np.testing.assert_array_equal(weights, ~np.isin(rows, list(bad)))


def test_all_samples_of_a_bad_file_are_bad_and_it_is_named_once(tmp_path, caplog):
    paths = picture_files(tmp_path, 2, {1: b""})
    batches = evaluation(
        samples_of([paths[0], paths[1], paths[1]], boxes=[(0, 0, 20, 20)] * 3), 1, bad="mark"
    )
    assert [batch[2] for batch in arrays(batches)] == [1, 0, 0]
    np.testing.assert_array_equal(batches.bad_rows, [1, 2])
    assert len(caplog.records) == 1


def test_whole_boxes_of_a_damaged_file_are_used_whatever_was_read_before(tmp_path):
    contents = encoded(picture(0, 200, 200))
    (tmp_path / "cut.jpg").write_bytes(contents[: len(contents) * 2 // 3])
    boxes = [(5, 5, 40, 40), (5, 155, 40, 40), (90, 5, 40, 40)]
    batches = evaluation(samples_of([str(tmp_path / "cut.jpg")] * 3, boxes=boxes), 1, bad="mark")
    first = arrays(batches)
    assert [batch[2] for batch in first] == [1, 0, 1]
    assert_same(first, arrays(batches))
    np.testing.assert_array_equal(batches.bad_rows, [1])


def test_no_bad_rows_among_sound_files(samples):
    batches = evaluation(samples)
    list(batches)
    assert batches.bad_rows.shape == (0,)


def test_no_samples_at_all():
    empty = samples_of([])
    assert arrays(evaluation(empty)) == []
    assert evaluation(empty).steps == training(empty).first_step_of(3) == 0


@pytest.mark.parametrize("seed", [0, -1, 2**62])
def test_any_seed(samples, seed):
    rows = np.concatenate([batch[3] for batch in arrays(training(samples, 5, seed).iterate(0, 2))])
    assert sorted(rows) == list(range(COUNT))


def test_file_names_of_every_language(tmp_path):
    path = tmp_path / "картина 図 é.jpg"
    path.write_bytes(encoded(picture(0)))
    assert arrays(evaluation(samples_of([str(path)]), 1, bad="error"))[0][2] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
        (
            {"batch_size": 5, "shard": Shard(0, 2)},
            "batch_size: expected a multiple of 2 \\(devices x accumulate\\), got 5",
        ),
        ({"num_threads": 0}, "num_threads: expected at least 1, got 0"),
    ],
)
def test_refuses(samples, options, message):
    with pytest.raises(ConfigurationError, match=message):
        evaluation(samples, **options)


@pytest.mark.parametrize("context", [-0.1, 11, float("nan")])
def test_crops_refuse(context):
    with pytest.raises(ConfigurationError, match="context: expected a fraction from 0 to 10, got"):
        BoxRegion(context)


def test_other_preprocessing_other_images(samples):
    rule = Preprocessing(
        resize="short_side",
        resize_to=20,
        antialias=True,
        crop=8,
        channel_order="RGB",
        mean=(100.0, 110.0, 120.0),
        std=(50.0, 60.0, 70.0),
    )
    image = arrays(evaluation(samples, preprocessing=rule))[0][0][2]
    pixels = decoding.decode_image(Path(samples.paths[2]).read_bytes()).numpy() - np.float32(
        rule.mean
    )
    expected = tf.image.resize(pixels, (20, 25), antialias=True).numpy()[6:14, 8:16] / np.float32(
        [50, 60, 70]
    )
    np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


def test_feature_batches_are_shuffled_rows_of_the_same_kind():
    features = np.arange(30, dtype=np.float32).reshape(10, 3)
    features[4] = np.nan
    samples = samples_of([str(index) for index in range(10)])
    batches = FeatureBatches(features, samples, 4, seed=1)
    found = arrays(batches.iterate(0, 10))
    rows = np.concatenate([batch[3] for batch in found])
    for epoch in rows.reshape(4, 10):
        assert sorted(epoch) == list(range(10))
    assert_same(found[3:5], arrays(FeatureBatches(features, samples, 4, seed=1).iterate(3, 5)))
    for images, labels, weights, rows in found:
        np.testing.assert_array_equal(weights, rows != 4)
        np.testing.assert_array_equal(labels, samples.labels[rows])
        np.testing.assert_array_equal(images, np.where(rows[:, None] == 4, 0, features[rows]))


def png_damaged(place):
    contents = bytearray(encoded(picture(3), "PNG"))
    contents[place] ^= 255
    return bytes(contents)


@pytest.mark.parametrize(
    "contents",
    [
        *BAD.values(),
        png_damaged(len(encoded(picture(3), "PNG")) // 2),
        encoded(picture(3), "GIF")[:-40],
    ],
    ids=[*BAD, "png", "gif"],
)
def test_a_bad_file_does_not_end_the_pipeline(tmp_path, monkeypatch, contents):
    batches = training(with_bad(tmp_path, contents), bad="mark")
    made = []
    dataset = batches._dataset
    monkeypatch.setattr(batches, "_dataset", lambda *steps: made.append(steps) or dataset(*steps))
    assert len(arrays(batches.iterate(0, 5))) == 5
    assert made == [(0, 5)]
    np.testing.assert_array_equal(batches.bad_rows, [3])


def test_a_bad_file_is_decoded_once_to_learn_the_reason(tmp_path, monkeypatch):
    batches = evaluation(with_bad(tmp_path, encoded(picture(3))[:-40]), bad="mark")
    failure, tried = SampleLoader.failure, []
    monkeypatch.setattr(
        SampleLoader, "failure", lambda loader, row: tried.append(row) or failure(loader, row)
    )
    arrays(batches)
    np.testing.assert_array_equal(batches.bad_rows, [3])
    assert tried == [3]


@pytest.mark.parametrize(
    "contents",
    [
        encoded(picture(3)) + b"trailer",
        encoded(picture(3), "PNG") + b"trailer",
        encoded(picture(3), "PNG"),
        encoded(picture(3), "GIF"),
        encoded(picture(3), "BMP"),
    ],
)
def test_a_file_that_only_looks_odd_is_used(tmp_path, contents):
    batches = evaluation(with_bad(tmp_path, contents))
    assert np.concatenate([batch[2] for batch in arrays(batches)])[:COUNT].all()
    assert len(batches.bad_rows) == 0


def test_bad_files_are_remembered(tmp_path, caplog):
    samples = with_bad(tmp_path, TRUNCATED)
    record = tmp_path / "bad_files.csv"
    first = training(samples, bad="mark", bad_files=BadFiles(record))
    expected = arrays(first.iterate(0, 6))
    assert record.read_text().splitlines() == [
        "split,id,path,reason",
        f"val,id3,{tmp_path / '003.jpg'},{first._loader.failure(3)}",
    ]
    assert len(caplog.records) == 1
    (tmp_path / "003.jpg").write_bytes(encoded(picture(3)))  # what was skipped stays so
    again = training(samples, bad="mark", bad_files=BadFiles(record))
    np.testing.assert_array_equal(again.bad_rows, [3])
    assert_same(expected[2:], arrays(again.iterate(2, 6)))
    assert len(caplog.records) == 1
    other = samples_of(samples.paths.tolist(), split="train")
    assert len(evaluation(other, bad_files=BadFiles(record)).bad_rows) == 0


def test_a_record_of_bad_files_that_was_cut_off_or_is_none(tmp_path):
    record = tmp_path / "bad_files.csv"
    record.write_text('split,id,path,reason\nval,id1,"a,\n.jpg",short\nval,id2,b.jp')
    known = BadFiles(record)
    assert known.mask(samples_of(["a", "b", "c"])).tolist() == [False, True, False]
    record.write_text("something else\n")
    with pytest.raises(RunError, match="expected the columns split,id,path,reason"):
        BadFiles(record)


def sized(samples, *sizes):
    return replace(samples, image_sizes=np.array(sizes, np.int32))


def turned(orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    return encoded(picture(0, 40, 50), exif=exif)  # stored 50 wide and 40 high


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_box_is_one_of_the_image_as_it_is_displayed(tmp_path, orientation):
    """Of every size that the annotations give, held against Pillow."""
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned(orientation))
    displayed = ImageOps.exif_transpose(Image.open(path))
    box = (5, 11, 21, 17)
    samples = sized(samples_of([str(path)], boxes=[box]), displayed.size)
    loader = SampleLoader(samples, PREPROCESSING_16, BoxRegion(0, False))
    found, is_meant = loader.load(tf.io.read_file(str(path)), 0)
    assert is_meant
    left, top, width, height = box
    expected = displayed.crop((left, top, left + width, top + height))
    np.testing.assert_allclose(found, np.asarray(expected), atol=1e-4)


def test_a_box_of_the_stored_image_where_its_size_says_so(tmp_path):
    path = tmp_path / "turned.jpg"
    path.write_bytes(turned(6))
    stored = Image.open(path)
    samples = sized(samples_of([str(path)], boxes=[(5, 11, 21, 17)]), stored.size)
    loader = SampleLoader(samples, PREPROCESSING_16, BoxRegion(0, False))
    found, is_meant = loader.load(tf.io.read_file(str(path)), 0)
    assert is_meant
    np.testing.assert_allclose(found, np.asarray(stored.crop((5, 11, 26, 28))), atol=1e-4)


@pytest.mark.parametrize(
    "contents",
    [
        encoded(picture()),
        *slow(encoded(picture(), "PNG"), turned(6)),
    ],
)
def test_an_image_of_another_size_than_annotated_is_an_error_that_names_it(tmp_path, contents):
    path = tmp_path / "resized.jpg"
    path.write_bytes(contents)
    samples = sized(samples_of([str(path)], boxes=[(0, 0, 20, 20)]), (100, 80))
    seen = "40 x 50" if contents == turned(6) else "50 x 40"
    reason = f"expected 100 x 80 pixels as annotated, got {seen}"
    message = f"{path}: expected a readable image, got: {reason}"
    with pytest.raises(DataError, match=f"^{message}$"):
        list(evaluation(samples, 1, bad="error"))
    batches = evaluation(samples, 1, bad="mark")
    images, _, weights, _ = arrays(batches)[0]
    assert not weights.any()
    assert not images.any()
