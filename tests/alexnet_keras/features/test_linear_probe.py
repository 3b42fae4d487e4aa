"""The linear probe, on features whose classes a line can and cannot tell apart."""

import csv

import h5py
import numpy as np
import pytest

from alexnet_keras.data.layouts import Dataset
from alexnet_keras.errors import DataError
from alexnet_keras.features.classifiers import Classifier, standardize
from alexnet_keras.features.linear_probe import fit_linear_probe
from alexnet_keras.features.probing import balanced_accuracy
from tests.alexnet_keras.tiny import samples_of


def clouds(labels):
    """(rows, 8) features that are their class's own corner, and noise."""
    noise = np.random.default_rng(0).standard_normal((len(labels), 8), np.float32)
    return 100 * np.eye(5, 8, dtype=np.float32)[labels] + noise


def written(folder, features, labels, split_of, suffix=".npy"):
    path = folder / f"f{suffix}"
    if suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["fc7"] = features
    else:
        np.save(path, features)
    with open(folder / "f.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "split", "id", "path", "label", "class"))
        writer.writerows(
            (row, split, row, "x.jpg", label, "c")
            for row, (split, label) in enumerate(zip(split_of, labels, strict=True))
        )
    return path, folder / "f.csv"


def dataset(tmp_path):
    samples = {split: samples_of(["x.jpg"], split=f"{split}2017") for split in ("train", "val")}
    return Dataset("d", "coco", tmp_path, ("train2017", "val2017"), {}, samples.__getitem__)


LABELS = np.arange(60) % 5
SPLITS = ["train2017"] * 40 + ["val2017"] * 20


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
@pytest.mark.parametrize("shape", [(8,), (2, 2, 2)])
def test_classes_that_a_line_tells_apart(tmp_path, suffix, shape):
    path, rows = written(tmp_path, clouds(LABELS).reshape(60, *shape), LABELS, SPLITS, suffix)
    result = fit_linear_probe(path, "fc7", rows, dataset(tmp_path))
    assert (result.accuracy, result.balanced_accuracy, result.images) == (1, 1, 20)


def test_it_is_measured_on_val_and_learned_from_train(tmp_path):
    """Labels that are right in train and turned by one in val: every answer is wrong."""
    turned = np.where(np.arange(60) < 40, LABELS, (LABELS + 1) % 5)
    path, rows = written(tmp_path, clouds(LABELS), turned, SPLITS)
    assert fit_linear_probe(path, "fc7", rows, dataset(tmp_path)).accuracy == 0


def test_few_samples_of_many_features_are_read_too():
    """As with pool5's 9216 features and some hundred crops, where too strong a penalty answers the
    commonest class only.
    """
    generator = np.random.default_rng(0)
    labels = np.concatenate([np.zeros(60, int), np.arange(90) % 9 + 1])
    centres = generator.standard_normal((10, 9216)).astype(np.float32)
    x = np.maximum(
        0.3 * centres[labels] + generator.standard_normal((150, 9216)).astype(np.float32), 0
    )
    fold = standardize(x, np.arange(0, 150, 2), np.arange(1, 150, 2))
    predicted, converged = Classifier("logistic").predict(fold, labels[::2])
    assert converged
    assert balanced_accuracy(labels[1::2], predicted) > 0.9


def test_unreadable_rows_are_left_out(tmp_path):
    features = clouds(LABELS)
    features[[3, 45]] = np.nan
    path, rows = written(tmp_path, features, LABELS, SPLITS)
    result = fit_linear_probe(path, "fc7", rows, dataset(tmp_path))
    assert (result.accuracy, result.images) == (1, 19)


@pytest.mark.parametrize(
    ("labels", "splits", "says"),
    [
        (LABELS, ["val2017"] * 60, "expected rows of the train split, got none"),
        (LABELS, ["train2017"] * 60, "expected rows of the val split, got none"),
        (LABELS * 0, SPLITS, "expected rows of two or more classes in the train split, got one"),
    ],
)
def test_nothing_to_learn_from(tmp_path, labels, splits, says):
    path, rows = written(tmp_path, clouds(LABELS), labels, splits)
    with pytest.raises(DataError, match=f"^{path}: probe: {says}$"):
        fit_linear_probe(path, "fc7", rows, dataset(tmp_path))
