"""Mean images of the catalogue, of files and of networks; and what is none."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.mean_image import read_mean_image
from tests.alexnet_keras.tiny import tiny_model
from tests.weights.caffe_files import v1_blob

RGB = np.random.default_rng(0).uniform(20, 200, (6, 6, 3)).astype(np.float32)
BGR = RGB.transpose(2, 0, 1)[::-1]


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(v1_blob(BGR)),
        lambda path: np.save(path, BGR),
        lambda path: np.save(path, BGR.astype("f8")),
        lambda path: np.save(path, RGB),
        lambda path: np.save(path, np.asfortranarray(RGB)),
    ],
    ids=["binaryproto", "Caffe's npy", "float64", "channels last", "Fortran"],
)
def test_every_layout_of_a_file_gives_the_same_image(tmp_path, write):
    write(tmp_path / "mean.npy")
    assert read_mean_image(tmp_path / "mean.npy") == MeanImage.from_array(RGB)


def test_caffes_own(shared_data):
    """Sky above and ground below: blue is brightest above."""
    array = read_mean_image(shared_data / "ilsvrc_2012_mean.npy").array
    assert array.shape == (256, 256, 3)
    np.testing.assert_allclose(array.mean((0, 1)), [122.679, 116.669, 104.007], atol=0.01)
    np.testing.assert_array_equal(
        array, np.load(shared_data / "ilsvrc_2012_mean.npy")[::-1].transpose(1, 2, 0).astype("f4")
    )


def test_the_published_one_is_fetched_by_name(tmp_path, monkeypatch):
    (tmp_path / "imagenet_mean.binaryproto").write_bytes(v1_blob(BGR))
    monkeypatch.setattr(
        "alexnet_keras.pretrained.mean_image.fetch", lambda file: tmp_path / file.name
    )
    assert read_mean_image("imagenet_mean").size == 6


@pytest.fixture
def model():
    return tiny_model(width=0.02)


def test_that_of_a_network(tmp_path, model):
    levels = np.random.default_rng(1).uniform(0, 255, (67, 67, 3))
    image = MeanImage.from_array(levels)
    rule = model.preprocessing.with_mean_image(image)
    run = tmp_path / "run"
    run.mkdir()
    tiny_model(width=0.02, preprocessing=rule).save(run / "model.keras")
    assert read_mean_image(run) == read_mean_image(run / "model.keras") == image


def test_a_network_without_one(tmp_path, model):
    model.save(tmp_path / "model.keras")
    with pytest.raises(
        WeightsError, match="expected a network with a mean image, got one without"
    ):
        read_mean_image(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="^[^\n]*empty[^\n]*$"):
        read_mean_image(tmp_path / "empty")


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (BGR[:, 0, 0], "expected a square mean image, got one of shape 3"),
        (BGR[:, :5], "expected a square mean image, got one of shape 5x6x3"),
        (BGR / 255, "expected grey levels of 0 to 255, got 0.0[0-9]+ to 0.[0-9]+"),
        (BGR * 0, "expected grey levels of 0 to 255, got 0 to 0"),
        (BGR * 2, "expected grey levels, 0 to 255, got"),
        (BGR - 128, "expected grey levels, 0 to 255, got"),
        (BGR * np.nan, "expected grey levels, 0 to 255, got nan to nan"),
        (BGR[:2], r"expected shape \(3,\), \(3, H, W\) or \(H, W, 3\)"),
        (BGR.astype(object), "dtype"),
        (np.moveaxis(BGR, 0, 1), r"expected shape \(3,\), \(3, H, W\) or \(H, W, 3\)"),
    ],
)
def test_a_file_of_something_else_is_refused_in_one_line(tmp_path, array, says):
    np.save(tmp_path / "mean.npy", array)
    with pytest.raises(WeightsError, match=rf"^{re.escape(str(tmp_path))}[^\n]*{says}[^\n]*$"):
        read_mean_image(tmp_path / "mean.npy")


def test_a_picture_is_no_mean_image(tmp_path):
    Image.fromarray(RGB.astype("u1")).save(tmp_path / "mean.png")
    with pytest.raises(WeightsError, match="got a PNG image$"):
        read_mean_image(tmp_path / "mean.png")


def test_another_archive_is_no_network(tmp_path):
    np.savez(tmp_path / "mean.npz", mean=RGB)
    with pytest.raises(WeightsError, match=r"^[^\n]*mean.npz: expected a .keras file[^\n]*$"):
        read_mean_image(tmp_path / "mean.npz")


def test_nothing_there():
    message = "^mean: expected imagenet_mean, a file or a run, got 'mean.npy'$"
    with pytest.raises(WeightsError, match=message):
        read_mean_image("mean.npy")


def test_a_run_that_cannot_be_looked_into(tmp_path, monkeypatch):
    def forbidden(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", forbidden)
    monkeypatch.setattr(Path, "is_dir", lambda path: True)
    with pytest.raises(WeightsError, match="expected a model saved by this project, got nothing$"):
        read_mean_image(tmp_path)
