"""``distance``: two files, two folders, and what cannot be compared."""

import json
import os

import numpy as np
import pytest

import alexnet_keras
from alexnet_keras.errors import DataError
from alexnet_keras.perceptual.lpips import PerceptualDistance
from tests.alexnet_keras.perceptual.test_lpips import CONVOLUTIONS, write_heads
from tests.alexnet_keras.tiny import encoded, picture, tiny_model
from tests.alexnet_keras.trees import invoke


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network and its heads, as options of the command and of Python."""
    folder = tmp_path_factory.mktemp("distance")
    model = tiny_model("owt", width=0.07)
    model.save(folder / "owt.keras")
    channels = [model.get_layer(name).filters for name in CONVOLUTIONS]
    heads = write_heads(folder / "heads.pth", channels)
    return {"weights": folder / "owt.keras", "heads": heads}


def flags(saved):
    return [f"--{name}={path}" for name, path in saved.items()]


def pictures(folder, seeds, suffix="png", size=(40, 50)):
    folder.mkdir()
    for index, seed in enumerate(seeds):
        image = picture(seed, *size)
        content = encoded(image, {"png": "PNG", "jpg": "JPEG"}[suffix])
        (folder / f"{index}.{suffix}").write_bytes(content)
    return folder


def test_two_files_and_two_folders(saved, tmp_path):
    a = pictures(tmp_path / "a", (0, 1, 2))
    b = pictures(tmp_path / "b", (0, 1, 5), "jpg")
    folders = invoke("distance", a, b, *flags(saved))
    lines = [line.split("\t") for line in folders.stdout.splitlines()]
    assert [path for _, path in lines] == [str(a / f"{index}.png") for index in range(3)]
    first, _, last = (float(value) for value, _ in lines)
    assert 0 < first < last / 2  # JPEG of the same picture; another picture
    metric = PerceptualDistance(**saved)
    assert last == pytest.approx(float(metric(picture(2), decoded(b / "2.jpg"))), abs=1e-6)
    alone = invoke("distance", a / "2.png", b / "2.jpg", *flags(saved))
    assert alone.stdout == f"{last:.6f}\n"
    in_python = alexnet_keras.distance(a, b, verbose=0, **saved)
    assert in_python.values.tolist() == pytest.approx(
        [float(value) for value, _ in lines], abs=1e-6
    )


def decoded(path):
    import tensorflow as tf

    from alexnet_keras.data.decoding import decode_image

    return decode_image(tf.io.read_file(str(path))).numpy()


def test_json_says_what_was_computed(saved, tmp_path):
    a = pictures(tmp_path / "a", (0,))
    found = json.loads(invoke("distance", a, a, "--json", *flags(saved)).stdout)
    assert found["metric"] == "LPIPS v0.1"
    assert found["weights"]["file"] == "owt.keras"
    assert len(found["heads"]["sha256"]) == 64
    path = str(a / "0.png")
    assert found["pairs"] == [{"a": path, "b": path, "distance": 0.0}]


def test_what_cannot_be_compared(saved, tmp_path):
    a = pictures(tmp_path / "a", (0, 1))
    others = {
        pictures(tmp_path / "b", (0,)): "expected an image '1' as in",
        pictures(tmp_path / "c", (0, 1), size=(41, 50)): "expected 50x40 pixels as .*, got 50x41",
        pictures(
            tmp_path / "d", (0, 1), size=(30, 50)
        ): "expected at least 31x31 pixels, got 50x30",
        tmp_path / "e": "expected a readable image, got: .*No such file",
    }
    for other, message in others.items():
        with pytest.raises(DataError, match=message):
            alexnet_keras.distance(a if other.is_dir() else a / "0.png", other, verbose=0, **saved)
    for pair in ((a, a / "0.png"), (a / "0.png", a)):
        with pytest.raises(DataError, match="a: expected a file as .*0.png, or two folders, got"):
            alexnet_keras.distance(*pair, verbose=0, **saved)
    (a / "1.jpg").write_bytes(encoded(picture(0)))
    with pytest.raises(DataError, match="a: expected one image '1', got 1.jpg and 1.png"):
        alexnet_keras.distance(a, a, **saved)
    (a / "0.png").write_bytes(np.random.default_rng(0).bytes(100))
    refused = invoke("distance", a / "0.png", a / "0.png", *flags(saved))
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"error: {a / '0.png'}: expected a readable image, got: ")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match="pipe.png: expected an image file, got a folder or dev"):
        alexnet_keras.distance(tmp_path / "pipe.png", a / "1.png", verbose=0, **saved)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="empty: expected images, got none"):
        alexnet_keras.distance(empty, empty, **saved)
