"""Images that are not resized to one size: those that do not fit are named, or marked."""

import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from alexnet_keras.configs.preprocessing_override import overridden
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.errors import ConfigurationError, DataError
from tests.alexnet_keras.tiny import PREPROCESSING_16, encoded, picture, samples_of

RULE = replace(PREPROCESSING_16, mean=(0.0, 0.0, 0.0), channel_order="RGB")


def files(folder, *sizes):
    """A PNG of each (height, width); bytes are written as they are."""
    paths = []
    for row, size in enumerate(sizes):
        path = folder / f"{row}.png"
        content = size if isinstance(size, bytes) else encoded(picture(row, *size), "PNG")
        path.write_bytes(content)
        paths.append(str(path))
    return paths


def images_of(paths, rule, **options):
    batches = EvaluationBatches(samples_of(paths), rule, 2, **options)
    found = [batch.images.numpy() for batch in batches]
    return np.concatenate(found)[: len(paths)], batches


def pixels_of(path):
    return np.asarray(Image.open(path)).astype(np.float32)


def test_images_keep_their_size_and_are_cropped(tmp_path):
    paths = files(tmp_path, (20, 30), (16, 16), (40, 17))
    found, _ = images_of(paths, overridden(RULE, "none"))
    for path, image, (top, left) in zip(paths, found, ((2, 7), (0, 0), (12, 0)), strict=True):
        np.testing.assert_array_equal(image, pixels_of(path)[top : top + 16, left : left + 16])


def test_whole_images_of_one_size(tmp_path):
    paths = files(tmp_path, (20, 30), (20, 30))
    found, batches = images_of(paths, overridden(RULE, "none", "none"))
    assert batches.input_size == (20, 30)
    np.testing.assert_array_equal(found, [pixels_of(path) for path in paths])


def test_whole_images_whose_shorter_side_is_resized(tmp_path):
    found, batches = images_of(
        files(tmp_path, (20, 40), (40, 80)), overridden(RULE, "short_side", "none")
    )
    assert batches.input_size == (16, 32)
    assert found.shape == (2, 16, 32, 3)


@pytest.mark.parametrize(
    ("crop", "reason"),
    [
        (None, "expected at least 16 x 16 pixels for the crop, got 90 x 15"),
        (
            "none",
            "expected 20 x 18 pixels like the first image, as there is no crop, got 90 x 15",
        ),
    ],
)
def test_an_image_that_does_not_fit(tmp_path, crop, reason):
    paths = files(tmp_path, b"", (18, 20), (15, 90), (18, 20))
    rule = overridden(RULE, "none", crop)
    found, batches = images_of(paths, rule, bad="mark")
    assert batches.bad_rows.tolist() == [0, 2]
    assert batches.bad_reasons[2] == reason
    assert not found[[0, 2]].any()
    assert found[[1, 3]].any((1, 2, 3)).all()
    with pytest.raises(
        DataError, match=f"^{re.escape(paths[2])}: expected a readable image, got: {reason}$"
    ):
        images_of(paths[1:], rule, bad="error")


def test_no_image_whose_size_could_be_taken(tmp_path):
    with pytest.raises(
        DataError, match="^crop: expected a readable image, whose size is taken, got none$"
    ):
        images_of(files(tmp_path, b"", b"\x89PNG"), overridden(RULE, "none", "none"), bad="mark")


def test_no_ten_crops_of_whole_images(tmp_path):
    with pytest.raises(
        ConfigurationError, match="^crops: expected 1 where images are taken whole, got 10$"
    ):
        images_of(files(tmp_path, (18, 20)), overridden(RULE, "none", "none"), crops=10)


def test_padded_images_by_pillow(tmp_path):
    sizes = ((18, 20), (60, 20), (1, 200), (16, 16))
    paths = files(tmp_path, *sizes)
    rule = replace(overridden(RULE, "pad"), antialias=True, mean=(130.0, 20.0, 70.0))
    for path, size, found in zip(paths, sizes, images_of(paths, rule)[0], strict=True):
        width, height = (max(1, round(16 * side / max(size))) for side in size[::-1])
        left, top = round((16 - width) / 2), round((16 - height) / 2)
        expected = Image.new("RGB", (16, 16), (130, 20, 70))
        resized = Image.open(path).resize((width, height), Image.Resampling.BILINEAR)
        expected.paste(resized, (left, top))
        difference = found + np.float32(rule.mean) - np.asarray(expected).astype(np.float32)
        assert abs(difference).max() <= 1  # Pillow rounds to grey levels, twice
        outside = np.ones((16, 16), bool)
        outside[top : top + height, left : left + width] = False
        assert not found[outside].any()  # the mean is 0 after preprocessing
