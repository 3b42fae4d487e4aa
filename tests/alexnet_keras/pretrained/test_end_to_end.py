"""From a name to a run or to features: catalogue, mirror, download, digest, reader, network, all
by the command line.

The files have the official forms (V1 ``.caffemodel``, a Python 2 pickle in ``.npy``); what comes
out is held against the file itself and against OpenCV's Caffe importer.
"""

import csv
import hashlib
import json

import cv2
import numpy as np
import pytest
from PIL import Image

from alexnet_keras import load_model
from alexnet_keras.models.assign import layer_weights
from tests.alexnet_keras.trees import assert_refused, class_folders, invoke
from tests.weights import caffe_files, npy_files
from tests.weights.mirror import Answer, Mirror, isolated_mirror, sha1
from weights.canonical import from_channels_first
from weights.store import cache_folder

NARROW = {"width": 1 / 16, "classes": 1000}
FILES = {"caffe": "bvlc_alexnet.caffemodel", "tensorflow": "bvlc_alexnet.npy"}


@pytest.fixture
def publisher(monkeypatch, tmp_path):
    with isolated_mirror(monkeypatch, tmp_path) as publisher:
        yield publisher


@pytest.fixture
def mirror(publisher):
    return publisher.mirror


@pytest.fixture
def publish(publisher, tmp_path):
    """Lay the files of the two names, of one random network, on the mirror; returns the layers in
    Caffe's order.
    """

    def lay(**size):
        layers = caffe_files.random_layers(seed=4, **size)
        caffe_files.write_v1(tmp_path / "v1", layers)
        npy_files.write_python2_npy(tmp_path / "npy", from_channels_first(layers, tmp_path))
        contents = {
            "caffe": (tmp_path / "v1").read_bytes(),
            "tensorflow": (tmp_path / "npy").read_bytes(),
        }
        facts = {
            "caffe": sha1(contents["caffe"]),
            "tensorflow": {"size": len(contents["tensorflow"])},
        }
        for name, content in contents.items():
            url = publisher.mirror.serve(f"/{FILES[name]}", Answer(content))
            publisher.change(name, mirrors=(url,), **facts[name])
        return layers

    return lay


@pytest.fixture
def data(tmp_path):
    return class_folders(tmp_path / "data", ("cat", "dog"), count=2)


def opencv_features(path, layer, images, **size):
    """What OpenCV's importer makes of image files as Caffe prepares them, after the ReLU, channels
    last.
    """
    mean = np.array([104.00698793, 116.66876762, 122.67891434])
    decoded = [
        np.asarray(Image.open(image).convert("RGB"), np.float32)[..., ::-1] for image in images
    ]
    warped = [cv2.resize(np.ascontiguousarray(image), (256, 256)) - mean for image in decoded]
    blob = np.stack([image[14:241, 14:241].transpose(2, 0, 1) for image in warped]).astype(
        np.float32
    )
    network = caffe_files.opencv_network(
        path, caffe_files.prototxt(batch=len(images), last=layer, **size)
    )
    network.setInput(blob)
    features = np.maximum(network.forward(layer), 0)
    return np.moveaxis(features, 1, -1)


def transfer_by_name(data, tmp_path, layers):
    run = tmp_path / "run"
    result = invoke(
        "transfer",
        "--weights",
        "caffe",
        "--data",
        data,
        "--epochs",
        1,
        "--batch-size",
        2,
        "--output",
        run,
    )
    assert result.exit_code == 0, result.output
    expected = from_channels_first(layers, run)
    found = layer_weights(load_model(run))
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        for one, other in zip(found[name], expected[name], strict=True):
            np.testing.assert_array_equal(
                one, other, err_msg=f"{name} is frozen and must be what the file says"
            )
    assert found["fc8"][0].shape == (expected["fc7"][1].size, 2)
    assert np.abs(found["fc6"][0] - expected["fc6"][0]).max() > 0
    recorded = json.loads((run / "config.json").read_text())["weights"]
    assert recorded == {
        "source": "caffe",
        "file": FILES["caffe"],
        "missing": [],
        "sha256": hashlib.sha256((cache_folder() / FILES["caffe"]).read_bytes()).hexdigest(),
    }


def extract_by_name(data, tmp_path, layer="fc7", **size):
    out = tmp_path / "feats.npy"
    result = invoke(
        "extract", "--weights", "tensorflow", "--data", data, "--layer", layer, "--out", out
    )
    assert result.exit_code == 0, result.output
    with open(out.with_suffix(".csv"), newline="") as file:
        images = [row["path"] for row in csv.DictReader(file)]
    expected = opencv_features(tmp_path / "v1", layer, images, **size)
    found = np.load(out)
    assert found.shape == expected.shape
    assert np.linalg.norm(found - expected) <= 1e-4 * np.linalg.norm(expected)
    assert np.ptp(expected, axis=0).max() > 0.01 * expected.max(), (
        "all images look alike, which shows nothing"
    )


@pytest.mark.slow
def test_transfer_from_caffe_by_name(publish, mirror, data, tmp_path):
    transfer_by_name(data, tmp_path, publish(**NARROW))
    assert [asked.path for asked in mirror.asked] == [f"/{FILES['caffe']}"]


def test_extract_from_tensorflow_by_name(publish, mirror, data, tmp_path):
    publish(**NARROW)
    extract_by_name(data, tmp_path, **NARROW)
    assert [asked.path for asked in mirror.asked] == [f"/{FILES['tensorflow']}"]
    record = cache_folder() / f"{FILES['tensorflow']}.sha256"
    assert (
        record.read_text().split()[0]
        == hashlib.sha256((tmp_path / "npy").read_bytes()).hexdigest()
    )


def test_both_names_hold_the_same_network(publish, tmp_path):
    publish(**NARROW)
    result = invoke("weights", "verify", "tensorflow", "--against", "caffe")
    assert result.exit_code == 0, result.output
    assert "bit for bit, equal to caffe" in result.stdout


@pytest.mark.slow
def test_the_full_size_by_name(publish, data, tmp_path):
    layers = publish()
    transfer_by_name(data, tmp_path, layers)
    extract_by_name(data, tmp_path)
    assert invoke("weights", "verify", "caffe", "--against", "tensorflow").exit_code == 0


def test_offline_with_a_cache_never_touches_the_network(
    publish, mirror, data, tmp_path, monkeypatch
):
    publish(**NARROW)
    assert invoke("weights", "fetch", "caffe", "tensorflow").exit_code == 0
    del mirror.asked[:]
    monkeypatch.setenv("ALEXNET_KERAS_OFFLINE", "1")
    extract_by_name(data, tmp_path, "pool5", **NARROW)
    assert invoke("weights", "verify", "caffe").exit_code == 0
    assert mirror.asked == []


@pytest.mark.parametrize(
    "command", [("extract", "--out", "feats.npy"), ("transfer", "--output", "run")]
)
def test_offline_without_a_cache_is_one_line_and_leaves_nothing(
    publish, mirror, data, tmp_path, monkeypatch, command
):
    publish(**NARROW)
    monkeypatch.setenv("ALEXNET_KERAS_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    digest = hashlib.sha1((tmp_path / "v1").read_bytes()).hexdigest()
    assert_refused(
        *command,
        "--weights",
        "caffe",
        "--data",
        data,
        says=(
            "and downloads are off",
            mirror.url(f"/{FILES['caffe']}"),
            digest,
            cache_folder() / FILES["caffe"],
        ),
    )
    assert sorted(tmp_path.iterdir()) == before
    assert mirror.asked == []


def test_a_mirror_that_is_down_is_told_and_the_next_one_asked(
    publish, publisher, mirror, data, tmp_path
):
    publish(**NARROW)
    with Mirror() as gone:
        dead = gone.url("/file")
    publisher.change("caffe", mirrors=(dead, mirror.url(f"/{FILES['caffe']}")))
    result = invoke("weights", "fetch", "caffe")
    assert result.exit_code == 0
    assert f"warning: {dead}: connection refused" in result.stderr.splitlines()


def test_a_cut_download_is_continued_by_the_next_command(publish, mirror, tmp_path):
    publish(**NARROW)
    content = (tmp_path / "v1").read_bytes()
    half = len(content) // 2
    mirror.serve(f"/{FILES['caffe']}", Answer(content, cut_after=half), Answer(status=503))
    assert invoke("weights", "fetch", "caffe").exit_code == 2
    mirror.serve(f"/{FILES['caffe']}", Answer(content))
    assert invoke("weights", "verify", "caffe").exit_code == 0
    assert mirror.asked[-1].range == f"bytes={half}-"


def test_a_file_damaged_in_the_cache_is_replaced(publish, mirror, tmp_path):
    publish(**NARROW)
    assert invoke("weights", "fetch", "caffe").exit_code == 0
    path = cache_folder() / FILES["caffe"]
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    result = invoke("weights", "verify", "caffe")
    assert result.exit_code == 0
    assert f"warning: {path}: wrong digest: " in result.stderr
    assert len(mirror.asked) == 2
