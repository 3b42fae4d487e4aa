"""Any form of images in: the same features, and accuracies of labelled tables."""

import csv
import json
import shutil

import h5py
import keras
import numpy as np
import pytest
from PIL import Image

from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.errors import DataError
from alexnet_keras.pretrained.loading import Pretrained
from modes import evaluate as evaluation_mode
from modes.evaluate import run_evaluation
from modes.extract import extract_features
from tests.alexnet_keras.tiny import encoded, picture, tiny_model


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    keras.utils.set_random_seed(0)
    path = tmp_path_factory.mktemp("source") / "tiny.keras"
    path.write_bytes(b"tiny")
    return Pretrained(tiny_model(), "tiny", path)


@pytest.fixture
def images(tmp_path):
    """Six PNG files and their pixels, (6, 71, 90, 3) uint8."""
    pixels = np.stack([picture(number, 71, 90) for number in range(6)])
    folder = tmp_path / "images"
    folder.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder, pixels


def extracted(data, out, source, layers=("pool5",), **options):
    paths = extract_features(open_dataset(data), out, source=source, layers=layers, **options)
    with open(out.with_suffix(".csv"), newline="") as file:
        return np.load(paths[layers[0]]), list(csv.DictReader(file))


def test_a_flat_copy_of_photographs_equals_the_tree(shared_data, tmp_path, source):
    tree = shared_data / "imagenet_sample"
    (tmp_path / "flat").mkdir()
    for path in sorted(tree.glob("val/*/*"))[::10]:
        shutil.copy(path, tmp_path / "flat")
    features, table = extracted(tmp_path / "flat", tmp_path / "flat.npy", source)
    expected, all_rows = extracted(tree, tmp_path / "tree.npy", source)
    row_of = {row["path"].rpartition("/")[2]: int(row["row"]) for row in all_rows}
    assert len(features) == 10
    rows = [row_of[row["path"].rpartition("/")[2]] for row in table]
    np.testing.assert_array_equal(features, expected[rows])
    assert {row["label"] + row["class"] for row in table} == {""}


def test_arrays_have_the_features_of_files_and_say_how_they_are_read(tmp_path, source, images):
    folder, pixels = images
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("stimuli", data=pixels, compression="gzip")
    expected, _ = extracted(folder, tmp_path / "files.npy", source)
    features, table = extracted(f"{tmp_path / 'a.h5'}:stimuli", tmp_path / "a.npy", source)
    np.testing.assert_array_equal(features, expected)
    assert table[5]["path"] == f"{tmp_path / 'a.h5'}[5]"
    described = json.loads((tmp_path / "a.json").read_text())["data"]
    assert described["pixels"] == {"dtype": "uint8", "range": [0, 255], "channels": "RGB"}
    grey = open_dataset(pixels[..., :1] / 255).describe()["pixels"]
    assert grey == {"dtype": "float64", "range": [0, 1], "channels": "grey, repeated"}


def table_of(folder, labels):
    path = folder / "t.csv"
    rows = (f"{number}.png,{label}\n" for number, label in enumerate(labels))
    path.write_text("path,label\n" + "".join(rows))
    return path


@pytest.fixture
def evaluated(monkeypatch, source):
    """Evaluates the tiny network, whose classes may be unnamed."""

    def evaluate(data, model=source.model, **options):
        network = Pretrained(model, "tiny", source.path)
        monkeypatch.setattr(evaluation_mode, "open_network", lambda *_: network)
        return run_evaluation("tiny", data=data, verbose=0, **options)

    return evaluate


@pytest.mark.slow
def test_a_table_is_evaluated_by_names_and_numbers_of_the_classes(images, source, evaluated):
    folder, _ = images
    confusion = evaluated(table_of(folder, [f"class {i}" for i in (4, 0, 0, 3, 1, 4)])).confusion
    assert confusion.sum(1).tolist() == [2, 1, 0, 1, 2]
    numbers = table_of(folder, (4, 0, 0, 3, 1, 4))
    np.testing.assert_array_equal(evaluated(numbers).confusion, confusion)
    unnamed = tiny_model(class_names=())
    unnamed.set_weights(source.model.get_weights())
    np.testing.assert_array_equal(evaluated(numbers, unnamed).confusion, confusion)


def test_images_without_labels_are_not_evaluated(images, evaluated):
    folder, pixels = images
    with pytest.raises(DataError, match=r"/2\.png: expected a label for evaluation, got none \(1"):
        evaluated(table_of(folder, (4, 0, "", 3, 1, 4)))
    for data in (pixels, folder, [str(folder / "1.png")]):
        with pytest.raises(DataError, match="expected a label for evaluation, got none"):
            evaluated(data)
    with pytest.raises(DataError, match="label 'dog': expected one of the 5 classes"):
        evaluated(table_of(folder, ("dog", 0)))


def test_a_broken_file_in_a_list_is_named(tmp_path, source):
    (tmp_path / "a.png").write_bytes(encoded(picture(), "PNG"))
    (tmp_path / "b.png").write_bytes(encoded(picture(), "PNG")[:-200])
    (tmp_path / "l.txt").write_text("a.png\nb.png\n")
    with pytest.raises(DataError, match=r"b\.png"):
        extracted(tmp_path / "l.txt", tmp_path / "f.npy", source)
