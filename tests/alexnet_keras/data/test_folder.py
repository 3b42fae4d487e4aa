"""The folder reader: what a tree means, and which trees it refuses."""

import os

import numpy as np
import pytest

from alexnet_keras.data.folder import read_folder, splits
from alexnet_keras.errors import DataError


def write(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_splits_of_classes(tmp_path):
    write(
        tmp_path,
        "train/dog/b.JPG",
        "train/dog/a.jpeg",
        "train/cat/c.png",
        "train/cat/d.bmp",
        "train/cat/e.gif",
        "train/cat/.hidden.jpg",
        "train/cat/notes.txt",
        "train/cat/deeper/f.jpg",
        "train/.git/x",
        "train/list.txt",
        "val/cat/g.jpg",
        "extra/dog/h.jpg",
    )
    samples = read_folder(tmp_path, "train")
    assert samples.ids.tolist() == [
        "cat/c.png",
        "cat/d.bmp",
        "cat/e.gif",
        "dog/a.jpeg",
        "dog/b.JPG",
    ]
    assert samples.paths[0] == str(tmp_path / "train/cat/c.png")
    assert samples.labels.tolist() == [0, 0, 0, 1, 1]
    assert samples.labels.dtype == np.int32
    assert (samples.boxes, samples.class_names, samples.split, samples.skipped) == (
        None,
        ("cat", "dog"),
        "train",
        {},
    )
    assert samples.warnings == (
        f"{tmp_path / 'train'}: 1 files were not read as images: .txt 1",
        f"{tmp_path / 'train'}: 1 folders within the class folders were not read",
    )
    assert splits(tmp_path) == ("train", "val", "extra")
    assert read_folder(tmp_path, "extra").labels.tolist() == [1]


def test_own_names_of_splits(tmp_path):
    write(
        tmp_path,
        "validation/cat/a.jpg",
        "validation/dog/a.jpg",
        "training/cat/a.jpg",
        "training/dog/a.jpg",
    )
    assert splits(tmp_path) == ("training", "validation")
    assert read_folder(tmp_path, "val").split == "validation"


def test_relative_root_gives_absolute_paths(tmp_path, monkeypatch):
    write(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg")
    monkeypatch.chdir(tmp_path)
    assert read_folder(".", "train").paths[0] == str(tmp_path / "train/cat/a.jpg")


def test_classes_alone_have_a_fifth_held_out(tmp_path):
    write(
        tmp_path, *(f"{name}/{number}.jpg" for name in ("cat", "train") for number in range(200))
    )
    assert splits(tmp_path) == ("train", "val")
    train, val = read_folder(tmp_path, "train"), read_folder(tmp_path, "val")
    assert train.class_names == val.class_names == ("cat", "train")
    assert sorted([*train.ids, *val.ids]) == sorted(
        f"{c}/{i}.jpg" for c in ("cat", "train") for i in range(200)
    )
    assert np.bincount(val.labels).tolist() == [40, 40]
    assert {"cat/3.jpg", "cat/13.jpg", "cat/30.jpg"} < set(val.ids)  # by sha256sum(1)
    assert {"cat/0.jpg", "cat/1.jpg", "cat/2.jpg"} < set(train.ids)


SUFFIXES = (
    "a.webp",
    "b.WEBP",
    "c.tiff",
    "d.jfif",
    "e.JFIF",
    "f.jpe",
    "g.JPG",
    "h.Jpeg",
    "i",
    "j.PNG",
)


def test_every_jpeg_is_read_and_other_files_are_counted_by_suffix(tmp_path):
    write(tmp_path, "train/dog/a.jpg", *(f"train/cat/{name}" for name in SUFFIXES))
    samples = read_folder(tmp_path, "train")
    assert samples.ids.tolist() == [
        *(f"cat/{name}" for name in ("d.jfif", "e.JFIF", "f.jpe", "g.JPG", "h.Jpeg", "j.PNG")),
        "dog/a.jpg",
    ]
    assert samples.warnings == (
        f"{tmp_path / 'train'}: 4 files were not read as images: .webp 2, .tiff 1, no suffix 1",
    )


def test_every_class_has_images_on_both_sides(tmp_path):
    classes = [f"class {number:02d}" for number in range(40)]
    write(tmp_path, *(f"{name}/{number}.jpg" for name in classes for number in range(5)))
    train, val = read_folder(tmp_path, "train"), read_folder(tmp_path, "val")
    assert np.bincount(train.labels).tolist() == [4] * 40
    assert np.bincount(val.labels).tolist() == [1] * 40
    assert train.warnings == val.warnings == ()


def test_a_class_of_one_image_is_learned_and_named(tmp_path):
    write(tmp_path, "cat/a.jpg", "dog/a.jpg", "dog/b.jpg")
    train, val = read_folder(tmp_path, "train"), read_folder(tmp_path, "val")
    assert (train.labels.tolist(), val.labels.tolist()) == ([0, 1], [1])
    assert (
        train.warnings
        == val.warnings
        == (f"{tmp_path}: classes with too few images for val: cat",)
    )


def test_nothing_depends_on_the_order_of_the_directory(tmp_path, monkeypatch):
    write(
        tmp_path,
        *(
            f"{split}/{name}/{number}.jpg"
            for split in ("val", "train")
            for name in "ba"
            for number in "21"
        ),
    )
    before = read_folder(tmp_path, "train")
    scan = os.scandir

    class Backwards(list):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(
        os,
        "scandir",
        lambda path: Backwards(sorted(scan(path), key=lambda e: e.name, reverse=True)),
    )
    assert before.ids.tolist() == ["a/1.jpg", "a/2.jpg", "b/1.jpg", "b/2.jpg"]
    assert read_folder(tmp_path, "train").ids.tolist() == before.ids.tolist()
    assert splits(tmp_path) == ("train", "val")


def test_links_that_loop_or_lead_nowhere_are_no_images(tmp_path):
    write(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg")
    (tmp_path / "train/cat/up").symlink_to(tmp_path)
    (tmp_path / "train/cat/loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "train/cat/gone.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "train/loop").symlink_to("loop")
    (tmp_path / "train/cat/same.jpg").symlink_to("a.jpg")
    assert read_folder(tmp_path, "train").ids.tolist() == [
        "cat/a.jpg",
        "cat/same.jpg",
        "dog/a.jpg",
    ]


@pytest.mark.parametrize(
    ("paths", "split", "message"),
    [
        ([], "train", "expected <split>/<class>/ or <class>/ with images"),
        (["a.jpg", "b.jpg"], "train", "expected <split>/<class>/ or <class>/ with images"),
        (["cat/a.txt", "dog/a.txt"], "train", "expected <split>/<class>/ or <class>/ with images"),
        (
            ["train/a.jpg", "val/a.jpg", "annotations/a.json"],
            "train",
            "expected <split>/<class>/ or <class>/ with images",
        ),
        (["cat/a.jpg"], "train", "expected two or more class folders, got cat"),
        (["train/cat/a.jpg"], "train", "train: expected two or more class folders, got cat"),
        (
            ["train/cat/a.jpg", "train/dog/a.txt"],
            "train",
            r"train/dog: expected images \(.jpg .*\), got .txt 1$",
        ),
        (["cat/a.jpg", "dog/a.txt"], "train", r"dog: expected images"),
        (
            ["train/cat/a.jpg", "train/dog/a.jpg", "val/cow/a.jpg"],
            "val",
            r"val: expected classes of train \(cat, dog\), got cow",
        ),
        (["train/cat/a.jpg", "train/dog/a.jpg"], "val", "split 'val': expected one of train"),
        (["val/cat/a.jpg", "val/dog/a.jpg"], "train", "split 'train': expected one of val"),
        (["test/cat/a.jpg", "test/dog/a.jpg"], "", "split '': expected one of test"),
        (
            ["cat/0.jpg", "dog/0.jpg"],
            "val",
            "split 'val': expected at least one held-out image, got none of 2",
        ),
    ],
)
def test_refused(tmp_path, paths, split, message):
    with pytest.raises(DataError, match=message):
        read_folder(write(tmp_path, *paths), split)


def test_a_root_that_is_not_there_or_a_file(tmp_path):
    with pytest.raises(DataError, match="expected a folder, got nothing"):
        read_folder(tmp_path / "absent", "train")
    with pytest.raises(DataError, match="expected a folder, got a file"):
        read_folder(write(tmp_path, "file") / "file", "train")


def test_a_name_that_is_not_utf8(tmp_path):
    write(tmp_path, "train/cat/a.jpg", "train/dog/a.jpg")
    try:
        open(os.fsencode(tmp_path / "train/cat") + b"/\xff.jpg", "wb").close()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with pytest.raises(DataError, match="train/cat: expected file names in UTF-8"):
        read_folder(tmp_path, "train")
