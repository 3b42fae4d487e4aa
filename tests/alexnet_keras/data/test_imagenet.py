"""The ImageNet reader, on real photographs and on trees of empty files."""

import csv
import time

import numpy as np
import pytest

from alexnet_keras.data.imagenet import imagenet_classes, read_imagenet, splits
from alexnet_keras.errors import DataError

TENCH, CRANE, TISSUE = "n01440764", "n03126707", "n15075141"


def write(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_table_of_1000(shared_data):
    with open(shared_data / "imagenet_classes.csv", newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert imagenet_classes() == tuple((wnid, name) for _, wnid, name in rows)
    assert [wnid for wnid, _ in imagenet_classes()] == sorted(
        {wnid for wnid, _ in imagenet_classes()}
    )


def test_well_known_labels():
    classes = imagenet_classes()
    assert len(classes) == 1000
    assert [classes[label] for label in (0, 134, 517, 999)] == [
        (TENCH, "tench"),
        ("n02012849", "crane"),
        (CRANE, "crane"),
        (TISSUE, "toilet tissue"),
    ]


def test_real_photographs_have_one_class_in_ten(shared_data):
    samples = read_imagenet(shared_data / "imagenet_sample", "val")
    assert samples.labels.tolist() == list(range(0, 1000, 10))
    assert samples.ids[0] == "n01440764/n01440764_tench.JPEG"
    assert samples.paths[0] == str(shared_data / "imagenet_sample" / "val" / samples.ids[0])
    assert samples.boxes is None
    assert len(samples.class_names) == 1000
    with pytest.raises(DataError, match="split 'train': expected one of val"):
        read_imagenet(shared_data / "imagenet_sample", "train")


def test_a_part_of_the_classes_keeps_its_labels_and_order(tmp_path):
    write(
        tmp_path,
        f"train/{TISSUE}/b.JPEG",
        f"train/{TISSUE}/a.png",
        f"train/{TENCH}/z.jpg",
        f"train/{TENCH}/.y.jpg",
        f"train/{TENCH}/notes.txt",
        f"val/{CRANE}/c.JPEG",
        "val/readme.txt",
    )
    samples = read_imagenet(tmp_path, "train")
    assert samples.ids.tolist() == [f"{TENCH}/z.jpg", f"{TISSUE}/a.png", f"{TISSUE}/b.JPEG"]
    assert samples.labels.tolist() == [0, 999, 999]
    assert samples.labels.dtype == np.int32
    assert samples.class_names[517] == "crane"
    assert splits(tmp_path) == ("train", "val")
    assert read_imagenet(tmp_path, "val").labels.tolist() == [517]


@pytest.mark.parametrize("name", ["n00000000", "cats"])
def test_a_folder_that_is_none_of_the_1000(tmp_path, name):
    write(tmp_path, f"train/{TENCH}/a.jpg", f"train/{name}/a.jpg")
    with pytest.raises(
        DataError,
        match=f"train: expected the wnids of ILSVRC-2012, got {name}",
    ):
        read_imagenet(tmp_path, "train")


def test_a_class_without_images(tmp_path):
    write(tmp_path, f"train/{TENCH}/a.jpg", f"train/{TISSUE}/a.txt")
    with pytest.raises(DataError, match=f"{TISSUE}: expected images .* got .txt 1"):
        read_imagenet(tmp_path, "train")


@pytest.mark.parametrize("path", ["a.jpg", "train/a.jpg", "train/cats/a.jpg"])
def test_a_tree_that_is_not_imagenet(tmp_path, path):
    with pytest.raises(DataError, match="expected train/<wnid>/ or val/<wnid>/"):
        splits(write(tmp_path, path))


@pytest.mark.slow
def test_many_images_are_listed_in_seconds(tmp_path):
    """A hundredth of the training set, 12,800 of 1.28 million images, in a hundredth of a
    minute.
    """
    for wnid, _ in imagenet_classes()[:128]:
        write(tmp_path, *(f"train/{wnid}/{wnid}_{number}.JPEG" for number in range(100)))
    start = time.process_time()
    assert len(read_imagenet(tmp_path, "train")) == 12_800
    assert time.process_time() - start < 0.6
