"""Every bad input through the command line: one line that names what is wrong, exit code 2, nothing written."""

import json
import os
from dataclasses import replace

import keras
import numpy as np
import pytest

from alexnet_keras.spec import ALEXNET, InitialValues
from tests.alexnet_keras.data.coco_files import SMALL, changed, write
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from tests.alexnet_keras.trees import assert_refused, class_folders, coco_tree, invoke

WNIDS = ("n01440764", "n01443537")
linux = pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs a folder that nobody can write into")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Data sets and weights that are read and never changed."""
    folder = tmp_path_factory.mktemp("files")
    coco_tree(folder / "coco")
    class_folders(folder / "tree", count=1)
    class_folders(folder / "imagenet", WNIDS, count=1, splits=("val",))
    keras.utils.set_random_seed(0)
    tiny_model(replace(ALEXNET.widened(0.05), initial_values=InitialValues(kernels="he"))).save(folder / "tiny.keras")
    np.savez(folder / "tiny.npz", **{f"{name}/{kind}": array for name, arrays in tiny_layers(size=227).items()
                                     for kind, array in zip(("kernel", "bias"), arrays, strict=True)})
    return folder


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """What a refused command leaves behind in the current folder: nothing."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert [str(path) for path in folder.rglob("*")] == []


# Data sets that no command can use.

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
    write(root, {**SMALL, "categories": SMALL["categories"][:1],
                 "annotations": [row for row in SMALL["annotations"] if row["category_id"] == 90]})


def no_objects(root):
    write(root, {**SMALL, "annotations": []})


ROOTS = {
    "nothing": (nothing, "expected a folder, found nothing"),
    "a file": (a_file, "expected a folder, found a file"),
    "empty": (empty, "no layout recognised"),
    "unknown layout": (of_unknown_layout, "no layout recognised"),
    "images without classes": (images_without_classes, "no layout recognised"),
    "one class": (one_class, "expected two or more class folders, found cat"),
    "a class without images": (a_class_without_images, "train/owl: expected images"),
    "a class that train lacks": (a_class_that_train_lacks, "val/yak: expected a class of train"),
    "no wnid": (no_wnid, "cat: expected one of the 1000 wnids"),
    "one category": (one_category, "categories: expected two or more, found 1"),
    "no objects": (no_objects, "no object for split"),
    "no JSON": (lambda root: write(root, "{"), "expected a JSON file"),
    "not COCO": (lambda root: write(root, "[1]"), "categories: expected a field of an object"),
    "no tables": (lambda root: write(root, "{}"), "categories: expected list, found no such field"),
    "a dangling image": (lambda root: write(root, changed("annotations", 0, image_id=99)),
                         "annotation 5: image_id: expected one of the file, found 99"),
    "a dangling category": (lambda root: write(root, changed("annotations", 0, category_id=99)),
                            "annotation 5: category_id: expected one of the file, found 99"),
    "a file name out of the root": (lambda root: write(root, changed("images", 0, file_name="../../b.jpg")),
                                    "file_name '../../b.jpg': expected a path within"),
    "an image that is not there": (lambda root: write(root, files=("a.jpg",)), "expected a file in"),
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


BOXES = {"zero height": [10, 10, 40, 0], "outside": [500, 10, 40, 40], "too small": [10, 10, 4, 40],
         "of text": ["a", 10, 40, 40], "of three": [10, 10, 40], "NaN": [float("nan"), 10, 40, 40]}


@pytest.mark.parametrize("kind", BOXES)
def test_boxes_that_are_no_boxes_are_left_out_and_counted(tmp_path, kind):
    """One such box is no error; where no other is left, the error counts them."""
    broken = {**SMALL, "annotations": [{**row, "bbox": BOXES[kind]} for row in SMALL["annotations"]]}
    write(tmp_path / "data", broken)
    assert_refused("extract", "--data", tmp_path / "data", says=("no object for split 'val2017'; left out: {'box ", ": 3}"))


@pytest.mark.parametrize(("command", "split", "says"), [
    (("scratch",), "imagenet", "expected a train split to learn from and a val split to measure on, found only val"),
    (("transfer",), "imagenet", "expected a train split to learn from and a val split to measure on, found only val"),
    (("extract", "--split", "train"), "imagenet", "split 'train'"), (("extract", "--split", "test"), "coco", "split 'test'"),
    (("extract", "--split", "val2018"), "coco", "split 'val2018': expected one of train2017, val2017"),
    (("evaluate", "demo", "--split", "test"), "tree", "split 'test': expected one of train, val"),
    (("extract", "--probe"), "imagenet", "split 'train'")])
def test_a_split_that_is_not_there(files, command, split, says):
    assert_refused(*command, "--data", files / split, says=(files / split, says))


@pytest.mark.parametrize(("options", "says"), [
    (("--context", "0.2"), "context: cuts objects out of a coco data set"),
    (("--context", "0.1"), "context: cuts objects out of a coco data set"),
    (("--square",), "square: cuts objects out of a coco data set"),
    (("--no-square",), "square: cuts objects out of a coco data set"),
    (("--min-size", "10"), "min_size: chooses objects of a coco data set"),
    (("--min-size", "32"), "min_size: chooses objects of a coco data set"),
    (("--classes", "cat", "--classes", "dog"), "classes: chooses objects of a coco data set")])
@pytest.mark.parametrize("data", ["tree", "imagenet"])
def test_options_that_would_have_no_effect_on_the_data(files, data, options, says):
    layout = {"tree": "folder", "imagenet": "imagenet"}[data]
    assert_refused("extract", "--data", files / data, *options,
                   says=(says, f"{data} is {layout}, where it would have no effect"))


@pytest.mark.parametrize(("command", "options", "says"), [
    ("transfer", ("--partial",), "partial: {} is a whole network, where it would have no effect"),
    ("extract", ("--partial",), "partial: {} is a whole network, where it would have no effect"),
    ("extract", ("--variant", "alexnet"), "variant: {} is a whole network, where it would have no effect"),
    ("extract", ("--variant", "paper"), "variant: {} is a whole network, where it would have no effect"),
    ("extract", ("--variant", "owt"), "{}: these are weights of alexnet, and the network asked for is owt")])
def test_options_that_would_have_no_effect_on_the_weights(files, command, options, says):
    weights = files / "tiny.keras"
    assert_refused(command, "--data", files / "coco", "--weights", weights, *options, says=says.format(weights))


@pytest.mark.parametrize(("options", "says"), [
    (("--min-size", "nan"), "min_size: expected 0 pixels or more, found nan"),
    (("--min-size", "-1"), "min_size: expected 0 pixels or more, found -1.0"),
    (("--min-size", "inf"), "min_size: expected 0 pixels or more, found inf"),
    (("--context", "nan"), "context: expected a fraction from 0 to 10, found nan"),
    (("--context", "-0.1"), "context: expected a fraction from 0 to 10, found -0.1"),
    (("--context", "inf"), "context: expected a fraction from 0 to 10, found inf"),
    (("--classes", "circle"), "classes: expected two or more of circle, square, star; found circle"),
    (("--classes", "circle", "--classes", "yak"), "classes: expected two or more of circle, square, star; found yak"),
    (("--format", "folder"), "expected <split>/<class>/ or <class>/ with images, found neither"),
    (("--format", "imagenet"), "expected train/<wnid>/ or val/<wnid>/")])
def test_values_of_the_data_options(files, options, says):
    assert_refused("extract", "--data", files / "coco", *options, says=says)


VALUES = [
    (("--epochs", "0"), "epochs: expected at least 1, found 0"),
    (("--epochs", "-1"), "epochs: expected at least 1, found -1"),
    (("--batch-size", "0"), "batch size: expected at least 1, found 0"),
    (("--batch-size", "-5"), "batch size: expected at least 1, found -5"),
    (("--lr", "nan"), "lr: expected a positive number, found nan"),
    (("--lr", "0"), "lr: expected a positive number, found 0"),
    (("--lr", "-1"), "lr: expected a positive number, found -1"),
    (("--lr", "inf"), "lr: expected a positive number, found inf")]


@pytest.mark.parametrize("command", ["scratch", "transfer"])
@pytest.mark.parametrize(("options", "says"), VALUES)
def test_values_of_the_training_options(files, command, options, says):
    assert_refused(command, "--data", files / "coco", *options, says=says)


@pytest.mark.parametrize("command", ["scratch", "summary"])
@pytest.mark.parametrize("width", ["0", "-1", "nan", "inf"])
def test_widths(files, command, width):
    data = ("--data", files / "coco") if command == "scratch" else ()
    assert_refused(command, *data, "--width", width, says=f"width: expected a positive number, found {float(width)}")


def test_a_batch_of_nothing(files):
    assert_refused("extract", "--data", files / "coco", "--weights", files / "tiny.keras", "--batch-size", "0",
                   says="batch size: expected at least 1, found 0")


@pytest.mark.parametrize("arguments", [
    ("scratch", "--seed", "-1"), ("scratch", "--workers", "0"), ("scratch", "--lr", "much"),
    ("scratch", "--weights", "demo"), ("transfer", "--width", "1"),
    ("extract", "--epochs", "1"), ("extract", "--output", "runs"), ("evaluate",),
    ("evaluate", "demo", "--out", "f.npy"), ("extract", "--resume"), ("scratch", "--variant", "vgg"),
    ("summary", "--num-classes", "0"),
    ("extract", "--format", "voc"), ("unheard-of",), ("scratch", "runs")])
def test_usage_errors_are_clicks_own(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert "Error: " in result.stderr


@pytest.mark.parametrize("command", ["extract", "transfer"])
def test_weights_that_are_not_there(files, command):
    assert_refused(command, "--data", files / "coco", "--weights", "nowhere",
                   says="'nowhere' is neither an existing file nor one of caffe, ")


def test_weights_of_another_kind(files, tmp_path):
    contents = {"empty": b"", "text": b"hello world, hello world", "cut.keras": (files / "tiny.keras").read_bytes()[:9000]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert_refused("extract", "--data", files / "coco", "--weights", tmp_path / name, says=tmp_path / name)


def test_weights_that_do_not_fit_list_every_layer(files, tmp_path):
    layers = tiny_layers(size=227)
    layers["fc9"] = layers.pop("fc7")
    layers["conv1"] = (layers["conv1"][0][:7], layers["conv1"][1])
    np.savez(tmp_path / "odd.npz", **{f"{name}/{kind}": array for name, arrays in layers.items()
                                      for kind, array in zip(("kernel", "bias"), arrays, strict=True)})
    assert_refused("extract", "--data", files / "coco", "--weights", tmp_path / "odd.npz", says=(
        f"{tmp_path / 'odd.npz'}: does not fit alexnet; missing: fc7; extra: fc9; of another shape: "
        "conv1 (expected 11x11x3x4 and 4, found 7x11x3x4 and 4), "))


@pytest.mark.parametrize(("command", "option", "says"), [
    ("extract", "--layer", "layer: expected one of conv1, norm1, pool1, conv2, "),
    ("transfer", "--train-from", "train-from: expected one of conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8; found ")])
def test_unknown_layers_list_the_valid_ones(files, command, option, says):
    assert_refused(command, "--data", files / "coco", "--weights", files / "tiny.keras", option, "fc9",
                   says=(says, "found fc9"))


def test_features_of_layers_that_the_weights_lack(files, tmp_path):
    weights = dict(np.load(files / "tiny.npz"))
    np.savez(tmp_path / "trunk.npz", **{name: array for name, array in weights.items() if not name.startswith("fc")})
    arguments = ("extract", "--data", files / "coco", "--weights", tmp_path / "trunk.npz")
    assert_refused(*arguments, says=(tmp_path / "trunk.npz", "missing: fc6, fc7, fc8"))
    result = invoke(*arguments, "--partial")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'trunk.npz'}: layer fc7 rests on fc6, fc7, which the file does not hold")


# Where nothing can be written.

@pytest.mark.parametrize(("out", "says"), [
    ("f.txt", "out: expected a name that ends in .npy or .h5, found f.txt"),
    ("none/f.npy", "none: expected a folder to write"), ("/dev/null/f.npy", "/dev/null: expected a folder to write"),
    pytest.param("/proc/f.npy", "cannot be written: ", marks=linux)])
def test_out_that_cannot_be_written(files, out, says):
    assert_refused("extract", "--data", files / "coco", "--weights", files / "tiny.keras", "--out", out, says=says)


@pytest.mark.parametrize("output", ["/dev/null", "/dev/null/run", pytest.param("/proc/run", marks=linux)])
def test_output_that_cannot_be_written(files, output):
    assert_refused("scratch", "--data", files / "coco", "--width", "0.05", "--output", output,
                   says=f"{output}: expected a folder to write the run into, found: ")


def test_a_cache_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("KERAS_HOME", "/dev/null")
    assert_refused("scratch", says="the demonstration set cannot be written")


def test_an_unreadable_file_in_extraction_and_in_evaluation(tmp_path, files):
    root = class_folders(tmp_path / "tree", count=1)
    bad = root / "val" / "dog" / "0.jpg"
    bad.write_bytes(b"")
    arguments = ("extract", "--data", root, "--weights", files / "tiny.keras", "--out", tmp_path / "f.npy")
    assert_refused(*arguments, says=f"{bad}: expected a readable image, found: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cwd", "tree"]
    result = invoke(*arguments, "--skip-bad")
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    assert result.stderr.startswith(f"warning: {bad}: skipped, not a readable image: ")
    made = json.loads((tmp_path / "f.json").read_text())
    assert (made["bad_rows"], made["crops"]) == ([4], None)
    assert np.isnan(np.load(tmp_path / "f.npy")[4]).all()


# Runs that are none.

def test_evaluate_what_is_no_run(tmp_path):
    assert_refused("evaluate", tmp_path, says=f"{tmp_path}: expected a run folder, or --data; found no config.json")
    assert_refused("evaluate", "caffe", says="caffe: expected a run folder, or --data; found no config.json")
    assert_refused("evaluate", "/dev/null", says="/dev/null: expected a run folder, or --data")


CONFIGS = ["", "{", "[]", "{}", '{"data": 3}', '{"data": {"name": "x", "root": 5, "layout": "folder"}}',
           '{"data": {"name": "x", "root": "/", "layout": "coco"}}', "[" * 100_000, "\xff",
           *(f'{{"data": {{"name": "x", "root": "/", "layout": "coco", {options}}}}}' for options in (
               '"classes": 4, "min_size": 1, "crops": {}', '"classes": null, "min_size": 1, "crops": {"context": "x"}',
               '"classes": null, "min_size": 1, "crops": {"odd": 1}'))]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_evaluate_a_damaged_config(tmp_path, config):
    (tmp_path / "config.json").write_text(config, encoding="latin-1")
    assert_refused("evaluate", tmp_path, says=f"{tmp_path / 'config.json'}: ")


def test_evaluate_a_run_that_did_not_finish(files, tmp_path):
    data = {"name": "tree", "root": str(files / "tree"), "layout": "folder"}
    (tmp_path / "config.json").write_text(json.dumps({"data": data}))
    assert_refused("evaluate", tmp_path,
                   says=f"{tmp_path / 'model.keras'}: expected a model saved by this project, found nothing")


def test_evaluate_on_other_classes(files):
    assert_refused("evaluate", files / "tiny.keras", "--data", files / "coco",
                   says=f"{files / 'coco'}: expected the 5 classes of {files / 'tiny.keras'}, found 3 others")


# Names of files are text like any other.

@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "[/bold]", "ünï 日本", "a\tb"])
def test_a_name_is_told_on_one_line(tmp_path, name):
    line = assert_refused("extract", "--data", tmp_path / name, says="expected a folder, found nothing")
    assert line[:-1].isprintable()


def test_a_name_that_is_not_utf_8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    class_folders(tmp_path / "tree", count=1).rename(path)
    assert_refused("extract", "--data", path, says=r"caf\udce9: expected a path in UTF-8, found one that is not")
