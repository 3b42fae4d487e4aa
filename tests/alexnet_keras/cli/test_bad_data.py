"""Every data set that cannot be used, through the command line: one line that says why, exit code
2, nothing written.
"""

import pytest

from tests.alexnet_keras.data.coco_files import SMALL, changed, write
from tests.alexnet_keras.trees import assert_refused, class_folders, coco_tree

pytestmark = pytest.mark.usefixtures("empty_folder")
WNIDS = ("n01440764", "n01443537")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Data sets that are read and never changed."""
    folder = tmp_path_factory.mktemp("files")
    coco_tree(folder / "coco")
    class_folders(folder / "tree", count=1)
    class_folders(folder / "imagenet", WNIDS, count=1, splits=("val",))
    return folder


def nothing(root):
    pass


def a_file(root):
    root.write_text("no folder")


def empty(root):
    root.mkdir()


def of_unknown_layout(root):
    (root / "some" / "where").mkdir(parents=True)
    (root / "some" / "where" / "a.txt").touch()


def images_without_classes(root):
    class_folders(root / "tree", count=1)
    (root / "train").mkdir()
    (root / "tree" / "train" / "cat" / "0.jpg").rename(root / "train" / "0.jpg")
    for path in sorted((root / "tree").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (root / "tree").rmdir()


def one_class(root):
    class_folders(root, ("cat",))


def a_class_without_images(root):
    class_folders(root)
    for path in (root / "train" / "owl").iterdir():
        path.rename(path.with_suffix(".txt"))


def a_class_that_train_lacks(root):
    class_folders(class_folders(root, splits=("train",)), ("cat", "dog", "yak"), splits=("val",))


def no_wnid(root):
    class_folders(root, (*WNIDS, "cat"), count=1)


def one_category(root):
    write(
        root,
        {
            **SMALL,
            "categories": SMALL["categories"][:1],
            "annotations": [row for row in SMALL["annotations"] if row["category_id"] == 90],
        },
    )


def no_objects(root):
    write(root, {**SMALL, "annotations": []})


ROOTS = {
    "nothing": (nothing, "expected a folder or a file, got nothing"),
    "a file": (
        a_file,
        "expected a folder, an image or one of .txt .csv .npy .npz .h5 .hdf5, got a file",
    ),
    "empty": (empty, "got none of these"),
    "unknown layout": (of_unknown_layout, "got none of these"),
    "images without classes": (images_without_classes, "got none of these"),
    "one class": (one_class, "expected two or more class folders, got cat"),
    "a class without images": (a_class_without_images, "train/owl: expected images"),
    "a class that train lacks": (a_class_that_train_lacks, "val: expected classes of train"),
    "no wnid": (no_wnid, "expected the wnids of ILSVRC-2012, got cat"),
    "one category": (one_category, "categories: expected two or more, got 1"),
    "no objects": (no_objects, "expected at least one object, got none"),
    "no JSON": (lambda root: write(root, "{"), "expected a JSON file"),
    "not COCO": (lambda root: write(root, "[1]"), "categories: expected a field of a JSON object"),
    "no tables": (lambda root: write(root, "{}"), "categories: expected list, got nothing"),
    "a dangling image": (
        lambda root: write(root, changed("annotations", 0, image_id=99)),
        "annotation 5: image_id: expected an id in this file, got 99",
    ),
    "a dangling category": (
        lambda root: write(root, changed("annotations", 0, category_id=99)),
        "annotation 5: category_id: expected an id in this file, got 99",
    ),
    "a file name out of the root": (
        lambda root: write(root, changed("images", 0, file_name="../../b.jpg")),
        "file_name '../../b.jpg': expected a path within",
    ),
    "an image that is not there": (
        lambda root: write(root, files=("a.jpg",)),
        "expected a file in",
    ),
}


@pytest.mark.parametrize("kind", ROOTS)
def test_data_that_cannot_be_used(tmp_path, kind):
    make, says = ROOTS[kind]
    make(tmp_path / "data")
    assert_refused("extract", "--data", tmp_path / "data", says=(tmp_path / "data", says))


@pytest.mark.parametrize("command", ["scratch", "transfer"])
@pytest.mark.parametrize("kind", ["empty", "one class"])
def test_no_run_folder_is_left_where_the_data_cannot_be_used(tmp_path, command, kind):
    make, says = ROOTS[kind]
    make(tmp_path / "data")
    assert_refused(command, "--data", tmp_path / "data", says=says)


BOXES = {
    "zero height": [10, 10, 40, 0],
    "outside": [500, 10, 40, 40],
    "too small": [10, 10, 4, 40],
    "of text": ["a", 10, 40, 40],
    "of three": [10, 10, 40],
    "NaN": [float("nan"), 10, 40, 40],
}


@pytest.mark.parametrize("kind", BOXES)
def test_boxes_that_are_no_boxes_are_left_out_and_counted(tmp_path, kind):
    """One such box is no error; where no other is left, the error counts them."""
    broken = {
        **SMALL,
        "annotations": [{**row, "bbox": BOXES[kind]} for row in SMALL["annotations"]],
    }
    write(tmp_path / "data", broken)
    assert_refused(
        "extract",
        "--data",
        tmp_path / "data",
        says=("split 'val2017': expected at least one object, got none; skipped: {'box ", ": 3}"),
    )


@pytest.mark.parametrize(
    ("command", "split", "says"),
    [
        (
            ("scratch",),
            "imagenet",
            "expected train and val splits, got only val",
        ),
        (
            ("transfer",),
            "imagenet",
            "expected train and val splits, got only val",
        ),
        (("extract", "--split", "train"), "imagenet", "split 'train'"),
        (("extract", "--split", "test"), "coco", "split 'test'"),
        (
            ("extract", "--split", "val2018"),
            "coco",
            "split 'val2018': expected one of train2017, val2017",
        ),
        (
            ("evaluate", "demo", "--split", "test"),
            "tree",
            "split 'test': expected one of train, val",
        ),
        (("extract", "--probe"), "imagenet", "split 'train'"),
    ],
)
def test_a_split_that_is_not_there(files, command, split, says):
    assert_refused(*command, "--data", files / split, says=(files / split, says))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--context", "0.2"), "context: expected data of the coco layout"),
        (("--context", "0.1"), "context: expected data of the coco layout"),
        (("--square",), "square: expected data of the coco layout"),
        (("--no-square",), "square: expected data of the coco layout"),
        (("--min-size", "10"), "min_size: expected data of the coco layout"),
        (("--min-size", "32"), "min_size: expected data of the coco layout"),
        (
            ("--classes", "cat", "--classes", "dog"),
            "classes: expected data of the coco layout",
        ),
    ],
)
@pytest.mark.parametrize("data", ["tree", "imagenet"])
def test_options_that_would_have_no_effect_on_the_data(files, data, options, says):
    layout = {"tree": "folder", "imagenet": "imagenet"}[data]
    assert_refused(
        "extract",
        "--data",
        files / data,
        *options,
        says=(says, f"{data} has the {layout} layout"),
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--min-size", "nan"), "min_size: expected 0 pixels or more, got nan"),
        (("--min-size", "-1"), "min_size: expected 0 pixels or more, got -1.0"),
        (("--min-size", "inf"), "min_size: expected 0 pixels or more, got inf"),
        (("--context", "nan"), "context: expected a fraction from 0 to 10, got nan"),
        (("--context", "-0.1"), "context: expected a fraction from 0 to 10, got -0.1"),
        (("--context", "inf"), "context: expected a fraction from 0 to 10, got inf"),
        (
            ("--classes", "circle"),
            "classes: expected two or more of circle, square, star; got circle",
        ),
        (
            ("--classes", "circle", "--classes", "yak"),
            "classes: expected two or more of circle, square, star; got yak",
        ),
        (("--format", "folder"), "expected <split>/<class>/ or <class>/ with images, got neither"),
        (("--format", "imagenet"), "expected train/<wnid>/ or val/<wnid>/"),
    ],
)
def test_values_of_the_data_options(files, options, says):
    assert_refused("extract", "--data", files / "coco", *options, says=says)
