"""Recognising a data set, and the options that each layout takes."""

import json
import subprocess
import sys

import pytest

from alexnet_keras.data import demo
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.errors import ConfigurationError, DataError


def write(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def write_coco(root, split, names):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"instances_{split}.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.jpg", "width": 50, "height": 50}],
                "categories": [{"id": number, "name": name} for number, name in enumerate(names)],
                "annotations": [
                    {"id": 1, "image_id": 1, "category_id": 0, "bbox": [0, 0, 40, 40]}
                ],
            }
        )
    )
    return write(root, f"{split}/a.jpg")


def test_real_data(shared_data):
    coco, imagenet = (open_dataset(shared_data / name) for name in ("coco128", "imagenet_sample"))
    assert (coco.name, coco.layout, coco.split_names) == ("coco128", "coco", ("train", "val"))
    assert len(coco.class_names) == 80
    assert coco.samples("val") is coco.samples("val")
    assert (imagenet.layout, imagenet.split_names, len(imagenet.samples("val"))) == (
        "imagenet",
        ("val",),
        100,
    )
    assert (
        open_dataset(str(shared_data / "imagenet_sample"), "folder").class_names[0] == "n01440764"
    )


def test_folders_are_recognised(tmp_path, monkeypatch):
    write(tmp_path / "pets", "cat/0.jpg", "dog/1.jpg")
    monkeypatch.chdir(tmp_path / "pets")
    dataset = open_dataset(".")
    assert (dataset.name, dataset.layout, dataset.root) == ("pets", "folder", tmp_path / "pets")
    assert dataset.class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["demo", "demo-new"])
def test_demonstrations(name, keras_home, monkeypatch):
    monkeypatch.setattr(
        demo, "OBJECTS_PER_CLASS", dict.fromkeys(demo.SHAPES, {"train": 2, "val": 1})
    )
    dataset = open_dataset(name)
    assert (dataset.name, dataset.layout, dataset.split_names) == (name, "coco", ("train", "val"))
    assert keras_home in dataset.root.parents
    assert dataset.class_names == tuple(demo.SHAPES[name])
    with pytest.raises(ConfigurationError, match="layout: expected coco for .*demo"):
        open_dataset(name, "folder")


def test_options_reach_the_coco_reader(tmp_path):
    write_coco(tmp_path, "val2017", ["cat", "dog", "cow"])
    dataset = open_dataset(tmp_path, classes=["cow", "cat"], min_size=40)
    assert dataset.class_names == ("cat", "cow")
    with pytest.raises(DataError, match="expected at least one object, got none"):
        open_dataset(tmp_path, min_size=41).samples("val2017")


@pytest.mark.parametrize("option", [{"classes": ["cat", "dog"]}, {"min_size": 5}])
def test_an_option_without_effect_is_refused(tmp_path, option):
    write(tmp_path, "cat/0.jpg", "dog/1.jpg")
    with pytest.raises(
        ConfigurationError, match=f"{next(iter(option))}: expected data of the coco layout"
    ):
        open_dataset(tmp_path, **option)


def test_splits_with_other_classes_are_refused(tmp_path):
    write_coco(tmp_path, "train2017", ["cat", "dog"])
    dataset = open_dataset(write_coco(tmp_path, "val2017", ["cat", "cow"]))
    dataset.samples("train")
    with pytest.raises(
        DataError, match="split val2017: expected the 2 classes of train2017, got 2 different ones"
    ):
        dataset.samples("val")


@pytest.mark.parametrize("paths", [[], ["a.txt"], ["annotations/person.json", "notes/a.txt"]])
def test_unknown_layout(tmp_path, paths):
    with pytest.raises(
        DataError,
        match=r"expected images, annotations/instances_<split>.json \(coco\), train/<wnid>/",
    ):
        open_dataset(write(tmp_path, *paths))
    with pytest.raises(DataError):
        open_dataset(tmp_path, "coco")
    with pytest.raises(
        ConfigurationError,
        match="expected one of coco, imagenet, folder, images, list, table, array, got 'voc'",
    ):
        open_dataset(tmp_path, "voc")


def test_a_path_that_is_no_folder(tmp_path):
    with pytest.raises(DataError, match="absent: expected a folder or a file, got nothing"):
        open_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match="xxx: expected a folder or a file, got nothing"):
        open_dataset(tmp_path / ("x" * 1000))
    with pytest.raises(DataError, match="file: expected a folder, an image or one of"):
        open_dataset(write(tmp_path, "file") / "file")


def test_readers_do_not_import_tensorflow():
    code = (
        "import sys, alexnet_keras.data.layouts; "
        "sys.exit(bool({'tensorflow', 'pycocotools'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
