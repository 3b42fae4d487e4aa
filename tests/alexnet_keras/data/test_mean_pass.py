"""The mean image against NumPy and Pillow, and that no order of additions changes a bit of it."""

import io
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_keras.configs.loading import BoxRegion, Shard
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PAPER_PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.data.mean_pass import PRECISION, CentralCrops, mean_of, sums_of_crops
from alexnet_keras.errors import DataError
from tests.alexnet_keras.tiny import encoded, picture, picture_files, samples_of

SQUARE = Preprocessing("square", 20, True, 16, "RGB")
COUNT = 11


def mean_image(samples, rule, batch_size=4, steps=2, **options):
    """The mean, in float64, and the number of images."""
    crops = CentralCrops(samples, rule, batch_size, **options)
    total, count = map(sum, zip(*sums_of_crops(crops, steps), strict=True))
    return mean_of(total, count), count


def by_pillow(contents, rule):
    """The central crop of an image whose shorter side Pillow has resized, antialiased, in
    floating point: (crop, crop, 3) float64.
    """
    image = Image.open(io.BytesIO(contents)).convert("RGB")
    size = [rule.resize_to * side // min(image.size) for side in image.size]
    left, top = ((side - rule.crop) // 2 for side in size)
    planes = [
        np.asarray(Image.fromarray(np.float32(channel)).resize(size, Image.Resampling.BILINEAR))
        for channel in np.moveaxis(np.asarray(image), 2, 0)
    ]
    return np.stack(planes, 2)[top : top + rule.crop, left : left + rule.crop].astype(np.float64)


def test_of_png_files_it_is_pillows_and_numpys(tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(COUNT)]
    for index, path in enumerate(paths):
        path.write_bytes(encoded(picture(index, 40, 50 + index), "PNG"))
    found, count = mean_image(samples_of(paths), SQUARE)
    expected = np.mean([by_pillow(path.read_bytes(), SQUARE) for path in paths], axis=0)
    assert count == COUNT
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_of_photographs_it_is_pillows_and_numpys(shared_data):
    paths = sorted((shared_data / "imagenet_sample" / "val").glob("*/*"))[::5]
    found, _ = mean_image(samples_of(paths), replace(PAPER_PREPROCESSING, crop=224))
    rule = replace(PAPER_PREPROCESSING, crop=224)
    expected = np.mean([by_pillow(path.read_bytes(), rule) for path in paths], axis=0)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_images_of_their_final_size_by_hand(tmp_path):
    """Nothing is resized, so sums are of whole numbers: exact."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 20, 20, 3), np.uint8)
    paths = [tmp_path / f"{index}.png" for index in range(COUNT)]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(encoded(image, "PNG"))
    found, _ = mean_image(samples_of(paths), replace(SQUARE, antialias=False))
    np.testing.assert_array_equal(found, images[:, 2:18, 2:18].sum(0) / COUNT)


@pytest.mark.parametrize(
    "rule",
    [
        PAPER_PREPROCESSING,
        pytest.param(CAFFE_PREPROCESSING, marks=pytest.mark.slow),
        pytest.param(TORCHVISION_PREPROCESSING, marks=pytest.mark.slow),
    ],
)
def test_every_number_of_threads_parts_and_workers_gives_the_same_bits(tmp_path, rule):
    rule = rule.with_input_size(31)
    samples = samples_of(picture_files(tmp_path, COUNT, bad={3: b"no image"}))
    expected, count = mean_image(samples, rule, bad="mark")
    assert count == COUNT - 1
    for options in ({"num_threads": 5}, {"batch_size": 1, "steps": 1}, {"batch_size": 16}):
        found, _ = mean_image(samples, rule, bad="mark", **options)
        assert found.tobytes() == expected.tobytes()
    for workers in (4,):
        parts = [
            part
            for index in range(workers)
            for part in sums_of_crops(
                CentralCrops(samples, rule, 4, bad="mark", shard=Shard(index, workers)), 1
            )
        ]
        total, of_all = map(sum, zip(*parts, strict=True))
        assert (mean_of(total, of_all).tobytes(), of_all) == (expected.tobytes(), count)


def test_neither_channel_order_nor_what_is_subtracted_matters(tmp_path):
    samples = samples_of(picture_files(tmp_path, 3))
    expected, _ = mean_image(samples, SQUARE)
    for change in ({"channel_order": "BGR"}, {"std": (9.0, 9.0, 9.0)}, {"mean": (1.0, 2.0, 3.0)}):
        np.testing.assert_array_equal(mean_image(samples, replace(SQUARE, **change))[0], expected)


def test_sums_of_imagenets_size_are_exact():
    """The largest sum of 1.3 million images, in multiples of the precision, one more and one
    less.
    """
    whole = 1_281_167 * 255 / PRECISION
    assert whole + 1 - 1 == whole < 2**53 / 2**6
    assert np.float32(255 / PRECISION) + np.float32(-1) == 255 / PRECISION - 1


def test_regions_of_boxes_outside_the_image_have_the_mean_colour(tmp_path):
    """As what the network sees of them."""
    (tmp_path / "black.png").write_bytes(encoded(np.zeros((30, 30, 3), np.uint8), "PNG"))
    samples = samples_of([tmp_path / "black.png"], boxes=[(-30, 0, 60, 30)])
    rule = replace(SQUARE, resize="warp", antialias=False, crop=20)
    found, _ = mean_image(samples, rule, region=BoxRegion(context=0, square=False))
    np.testing.assert_allclose(found[:, 2], np.tile(rule.mean, (20, 1)), atol=1e-4)
    np.testing.assert_array_equal(found[:, -2], 0)


@pytest.mark.slow
def test_damaged_files_are_left_out_as_elsewhere(tmp_path, caplog):
    paths = picture_files(tmp_path, 120, bad={7: b"not an image"})
    with caplog.at_level(logging.WARNING):
        found, count = mean_image(samples_of(paths), SQUARE, batch_size=16)
    (line,) = caplog.messages
    assert "007.jpg: skipped, not a readable image" in line
    sound = samples_of([path for path in paths if "007" not in path])
    np.testing.assert_array_equal(found, mean_image(sound, SQUARE)[0])
    assert count == 119
    for path in paths[:5]:
        Path(path).write_bytes(b"")
    with pytest.raises(DataError, match="expected at most 1% unreadable image files"):
        mean_image(samples_of(paths), SQUARE, batch_size=16)


def test_progress_counts_every_row_once(tmp_path):
    samples = samples_of(picture_files(tmp_path, COUNT))
    told = []
    list(sums_of_crops(CentralCrops(samples, SQUARE, 4), 2, told.append))
    assert told == [4, 4, 3]
