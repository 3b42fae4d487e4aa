"""Axes of colours against scikit-learn's PCA, covariances known beforehand and ImageNet's
published axes.
"""

import logging
import math

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA

from alexnet_keras.configs.augmentation import IMAGENET_COLOUR_AXES, Augmentation
from alexnet_keras.data import colour_pca
from alexnet_keras.data.colour_pca import colour_axes
from alexnet_keras.errors import DataError
from tests.alexnet_keras.tiny import picture_files


def png_files(folder, images):
    paths = []
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
        paths.append(str(folder / f"{index}.png"))
    return paths


def lengths(axes):
    return np.linalg.norm(axes, axis=1)


def correlated_images(covariance, count=6, size=(50, 60)):
    draws = np.random.default_rng(0).multivariate_normal(
        (120, 125, 130), covariance, (count, *size)
    )
    return np.clip(np.rint(draws), 0, 255).astype(np.uint8)


COVARIANCE = np.array([[500.0, 300.0, 250.0], [300.0, 450.0, 320.0], [250.0, 320.0, 600.0]])


def test_axes_are_those_of_a_known_covariance(tmp_path):
    axes = np.array(colour_axes(png_files(tmp_path, correlated_images(COVARIANCE))))
    np.testing.assert_allclose(axes.T @ axes, COVARIANCE, rtol=0.05)
    np.testing.assert_allclose(
        lengths(axes), np.sqrt(np.linalg.eigvalsh(COVARIANCE))[::-1], rtol=0.03
    )


def test_axes_are_scikit_learns_components_times_the_deviations(tmp_path):
    images = correlated_images(COVARIANCE)
    pixels = images.reshape(-1, 3).astype(float)
    theirs = PCA().fit(pixels)
    deviations = np.sqrt(theirs.explained_variance_ * (len(pixels) - 1) / len(pixels))
    found = np.array(colour_axes(png_files(tmp_path, images)))
    expected = theirs.components_ * deviations[:, None]
    expected *= np.sign(np.sum(expected * found, 1, keepdims=True))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


def test_two_pixels_by_hand(tmp_path):
    """Values 100 +- (30, 40, 0): the mean square distance along (0.6, 0.8, 0) is 50 squared, and
    there is no other.
    """
    image = np.array([[[70, 60, 100], [130, 140, 100]]], np.uint8)
    assert np.array(colour_axes(png_files(tmp_path, [image]))) == pytest.approx(
        np.array([(30, 40, 0), (0, 0, 0), (0, 0, 0)]), abs=1e-5
    )


def test_the_largest_part_of_each_axis_is_positive(tmp_path):
    for axis in colour_axes(png_files(tmp_path, correlated_images(COVARIANCE))):
        assert max(axis, key=abs) > 0


def test_every_image_counts_the_same_whatever_its_size(tmp_path):
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((40, 40, 3), 200, np.uint8)
    first = colour_axes(png_files(tmp_path, [black, white]))[0]
    assert math.hypot(*first) == pytest.approx(100 * math.sqrt(3))


def test_grey_images_vary_in_brightness_alone(tmp_path):
    greys = [np.full((3, 3), level, np.uint8) for level in (0, 100, 200)]
    axes = colour_axes(png_files(tmp_path, greys))
    np.testing.assert_allclose(axes[0], [math.sqrt(20_000 / 3)] * 3)
    np.testing.assert_allclose(axes[1:], 0, atol=1e-5)


def test_neither_order_nor_threads_nor_repeats_change_a_bit(tmp_path):
    paths = picture_files(tmp_path, 9)
    expected = colour_axes(paths, num_threads=1)
    assert colour_axes(paths[::-1], num_threads=3) == expected
    assert colour_axes([*paths, *paths[:4]]) == expected


def test_of_many_images_evenly_spaced_ones_are_read(tmp_path, monkeypatch):
    paths = picture_files(tmp_path, 9)
    axes = {}
    for most in (1000, 9, 3):
        monkeypatch.setattr(colour_pca, "MAX_IMAGES", most)
        axes[most] = colour_axes(paths)
    assert axes[3] == colour_axes([paths[0], paths[3], paths[6]])
    assert axes[9] == axes[1000] != axes[3]


def test_large_images_are_read_on_a_grid(tmp_path, monkeypatch):
    image = np.random.default_rng(0).integers(0, 256, (64, 50, 3)).astype(np.uint8)
    monkeypatch.setattr(colour_pca, "MAX_PIXELS_PER_IMAGE", 1000)
    (tmp_path / "grid").mkdir()
    assert colour_axes(png_files(tmp_path, [image])) == colour_axes(
        png_files(tmp_path / "grid", [image[::2, ::2]])
    )


def test_unreadable_files_are_skipped_and_named(tmp_path, caplog):
    paths = picture_files(tmp_path, 5, bad={1: b"not an image", 3: b""})
    paths.append(str(tmp_path / "missing.jpg"))
    with caplog.at_level(logging.WARNING):
        found = colour_axes(paths)
    assert found == colour_axes([paths[0], paths[2], paths[4]])
    named = [record.getMessage() for record in caplog.records]
    assert [message.split(": skipped, not a readable image: ")[0] for message in named] == [
        paths[1],
        paths[3],
        paths[5],
    ]
    assert all("\n" not in message for message in named)
    assert not any(".py" in message for message in named)  # no pieces of a traceback


@pytest.mark.parametrize("bad", [{}, {0: b"x", 1: b"y"}])
def test_without_a_readable_image_it_is_an_error(tmp_path, bad):
    with pytest.raises(
        DataError,
        match=rf"^colour axes: expected readable images, got none among {len(bad)} files$",
    ):
        colour_axes(picture_files(tmp_path, len(bad), bad))


def test_an_augmentation_takes_them(tmp_path):
    axes = colour_axes(picture_files(tmp_path, 3))
    assert Augmentation("x", colour_sigma=0.1, colour_axes=axes).colour_axes == axes


def test_photographs_of_imagenet_have_imagenets_published_axes(shared_data):
    """A hundred photographs: directions as published twice, deviations within 30% of
    Krizhevsky's.
    """
    paths = sorted(map(str, (shared_data / "imagenet_sample" / "val").glob("*/*")))
    axes = np.array(colour_axes(paths))
    torch_vectors = np.array(
        [(-0.5675, -0.5808, -0.5836), (0.7192, -0.0045, -0.6948), (0.4009, -0.8140, 0.4203)]
    )
    for published in (np.array(IMAGENET_COLOUR_AXES), torch_vectors):
        cosines = abs(np.sum(axes * published, 1)) / lengths(axes) / lengths(published)
        assert (cosines > 0.999).all()
    np.testing.assert_allclose(lengths(axes), lengths(IMAGENET_COLOUR_AXES), rtol=0.3)
    np.testing.assert_allclose(lengths(axes)[0], lengths(IMAGENET_COLOUR_AXES)[0], rtol=0.1)


def test_objects_of_coco_have_nearly_the_same(shared_data):
    paths = sorted(map(str, (shared_data / "coco128" / "train2017").glob("*.jpg")))[::4]
    axes = np.array(colour_axes(paths))
    assert (
        axes[0] @ IMAGENET_COLOUR_AXES[0] / lengths(axes)[0] / lengths(IMAGENET_COLOUR_AXES)[0]
        > 0.99
    )
