"""The real trained trunk on real crops: features equal to OpenCV's on the same pixels, and worth
more than random ones.
"""

import csv
import json

import cv2
import keras
import numpy as np
import pytest
from PIL import Image

from alexnet_keras.configs.architecture import ALEXNET
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.features.classifiers import Classifier
from alexnet_keras.features.extraction import extract
from alexnet_keras.features.extractor import feature_extractor
from alexnet_keras.features.probing import cross_validate
from alexnet_keras.models.alexnet import new_model
from alexnet_keras.pretrained.loading import load_pretrained
from tests.alexnet_keras.trees import invoke
from tests.weights import caffe_files

MEAN_BGR = np.float32([104.00698793, 116.66876762, 122.67891434])
FOLDS = 5


@pytest.fixture
def trunk(shared_data):
    return shared_data / "bvlc_alexnet_trunk.caffemodel"


@pytest.fixture
def coco(shared_data):
    return shared_data / "coco128"


def boxes_of(coco):
    """``{annotation id: (x, y, width, height)}`` straight from the JSON file."""
    annotations = json.loads((coco / "annotations" / "instances_train2017.json").read_text())[
        "annotations"
    ]
    return {annotation["id"]: annotation["bbox"] for annotation in annotations}


def crop_by_hand(path, box, mean=MEAN_BGR):
    """Caffe's input of one object, (227, 227, 3) BGR: a square around it with a tenth added on
    each side, warped to 256.
    """
    image = np.asarray(Image.open(path).convert("RGB"), np.float32)[..., ::-1] - mean
    x, y, width, height = box
    half = max(width, height) * 1.2 / 2
    left, top = (int(np.round(center - half)) for center in (x + width / 2, y + height / 2))
    right, bottom = (int(np.round(center + half)) for center in (x + width / 2, y + height / 2))
    region = np.zeros((bottom - top, right - left, 3), np.float32)  # zero is the mean
    inside = image[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    region[
        max(-top, 0) : max(-top, 0) + inside.shape[0],
        max(-left, 0) : max(-left, 0) + inside.shape[1],
    ] = inside
    return cv2.resize(region, (256, 256), interpolation=cv2.INTER_LINEAR)[14:241, 14:241]


def opencv_pool5(trunk, crops):
    network = caffe_files.opencv_network(
        trunk, caffe_files.prototxt(batch=len(crops), last="pool5")
    )
    network.setInput(np.ascontiguousarray(np.stack(crops).transpose(0, 3, 1, 2)))
    return network.forward("pool5").transpose(0, 2, 3, 1)


def relative(found, expected):
    """The distance of every row over its length."""
    difference = (found - expected).reshape(len(found), -1)
    return np.linalg.norm(difference, axis=1) / np.linalg.norm(
        expected.reshape(len(found), -1), axis=1
    )


@pytest.mark.slow
def test_extracted_rows_equal_opencvs_on_the_same_crops(trunk, coco, tmp_path):
    """By the command line, pool5 of val objects; and what swapped channels or a wrong mean would
    do is far away.
    """
    out = tmp_path / "pool5.npy"
    result = invoke(
        "extract",
        "--data",
        coco,
        "--weights",
        trunk,
        "--variant",
        "alexnet",
        "--partial",
        "--layer",
        "pool5",
        "--split",
        "val",
        "--out",
        out,
    )
    assert result.exit_code == 0, result.output
    with open(out.with_suffix(".csv"), newline="") as file:
        rows = list(csv.DictReader(file))[::9]
    found, boxes = np.load(out)[::9], boxes_of(coco)
    objects = [(row["path"], boxes[int(row["id"].split(":")[-1])]) for row in rows]
    assert len(objects) >= 8
    crops = [crop_by_hand(*it) for it in objects]
    assert relative(found, opencv_pool5(trunk, crops)).max() < 1e-4
    swapped = opencv_pool5(trunk, [crop[..., ::-1] for crop in crops])
    assert relative(found, swapped).min() > 0.1
    zero_mean = opencv_pool5(trunk, [crop_by_hand(*it, mean=np.float32(0)) for it in objects])
    assert relative(found, zero_mean).min() > 0.1
    rgb_mean = opencv_pool5(trunk, [crop_by_hand(*it, mean=MEAN_BGR[::-1]) for it in objects])
    assert relative(found, rgb_mean).min() > 0.1


@pytest.mark.slow
def test_a_linear_probe_on_pool5_beats_random_filters_twofold(trunk, coco):
    """Balanced accuracy on held-out images of coco128, mean of five folds by image."""
    dataset = open_dataset(coco)
    parts = [dataset.samples(split) for split in dataset.split_names]
    labels, paths = (
        np.concatenate([getattr(part, column) for part in parts]) for column in ("labels", "paths")
    )
    fold = np.unique(paths, return_inverse=True)[1] % FOLDS
    keras.utils.set_random_seed(0)
    networks = {
        "trunk": load_pretrained(str(trunk), "alexnet", partial=True).model,
        "random": new_model(ALEXNET, CAFFE_PREPROCESSING, dataset.class_names),
    }
    reached = {}
    for name, model in networks.items():
        blocks = []
        for part in parts:
            extract(
                feature_extractor(model, "pool5"),
                EvaluationBatches(part, CAFFE_PREPROCESSING, 32),
                {"pool5": blocks.append},
            )
        x = np.concatenate(blocks)
        folds = [
            (np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out))
            for held_out in range(FOLDS)
        ]
        reached[name] = cross_validate(
            x,
            np.arange(len(x)),
            labels,
            fold,
            lambda labels, folds=folds: folds,
            Classifier("logistic"),
        ).balanced_accuracy
    assert reached["trunk"] > 0.2
    assert reached["trunk"] >= 2 * reached["random"]
