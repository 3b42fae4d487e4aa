"""Every bad input through the command line: one line that names what is wrong, exit code 2,
nothing written.
"""

import json
import os
from dataclasses import replace

import keras
import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET, InitialValues
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from tests.alexnet_keras.trees import assert_refused, class_folders, coco_tree, invoke

pytestmark = pytest.mark.usefixtures("empty_folder")
linux = pytest.mark.skipif(
    not os.path.isdir("/proc"), reason="needs a folder that nobody can write into"
)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Data sets and weights that are read and never changed."""
    folder = tmp_path_factory.mktemp("files")
    coco_tree(folder / "coco")
    class_folders(folder / "tree", count=1)
    keras.utils.set_random_seed(0)
    tiny_model(replace(ALEXNET.with_width(0.05), initial_values=InitialValues(kernels="he"))).save(
        folder / "tiny.keras"
    )
    np.savez(
        folder / "tiny.npz",
        variant="alexnet",
        **{
            f"{name}/{kind}": array
            for name, arrays in tiny_layers(size=227).items()
            for kind, array in zip(("kernel", "bias"), arrays, strict=True)
        },
    )
    return folder


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        (
            "transfer",
            ("--partial",),
            "partial: has no effect on a saved model ({})",
        ),
        (
            "extract",
            ("--partial",),
            "partial: has no effect on a saved model ({})",
        ),
        (
            "extract",
            ("--variant", "alexnet"),
            "variant: has no effect on a saved model ({})",
        ),
        (
            "extract",
            ("--variant", "paper"),
            "variant: has no effect on a saved model ({})",
        ),
        (
            "transfer",
            ("--mean", "imagenet_mean"),
            "mean: has no effect on a saved model ({})",
        ),
        (
            "extract",
            ("--mean", "mean.npy"),
            "mean: has no effect on a saved model ({})",
        ),
        (
            "extract",
            ("--variant", "owt"),
            "{}: these are weights of alexnet, not of owt",
        ),
    ],
)
def test_options_that_would_have_no_effect_on_the_weights(files, command, options, says):
    weights = files / "tiny.keras"
    assert_refused(
        command,
        "--data",
        files / "coco",
        "--weights",
        weights,
        *options,
        says=says.format(weights),
    )


@pytest.mark.parametrize("command", ["transfer", "extract", "evaluate", "predict"])
@pytest.mark.parametrize(
    ("mean", "says"),
    [
        ("pixel", "mean: expected imagenet_mean, a file or a run, got 'pixel'"),
        ("mean.npy", "mean: expected an image of 227x227 or 256x256 pixels, got 9x9"),
        ("tiny.keras", "tiny.keras: expected a network with a mean image, got one without"),
        ("tiny.npz", "tiny.npz: expected a .keras file of this project, got: "),
    ],
)
def test_mean_images_that_are_none_of_the_weights(files, command, mean, says):
    if not (files / "mean.npy").exists():
        np.save(files / "mean.npy", np.full((9, 9, 3), 100.0))
    weights = files / "tiny.npz"
    named = (weights,) if command == "evaluate" else ("--weights", weights)
    data = (files / "tree/val/cat/0.jpg",) if command == "predict" else ("--data", files / "tree")
    mean = mean if mean == "pixel" else files / mean
    assert_refused(command, *named, *data, "--mean", mean, says=says)


VALUES = [
    (("--epochs", "0"), "epochs: expected 1 to 1000000, got 0"),
    (("--epochs", "-1"), "epochs: expected 1 to 1000000, got -1"),
    (("--batch-size", "0"), "batch_size: expected 1 to 1000000, got 0"),
    (("--batch-size", "-5"), "batch_size: expected 1 to 1000000, got -5"),
    (("--lr", "nan"), "lr: expected a positive number, got nan"),
    (("--lr", "0"), "lr: expected a positive number, got 0"),
    (("--lr", "-1"), "lr: expected a positive number, got -1"),
    (("--lr", "inf"), "lr: expected a positive number, got inf"),
]


@pytest.mark.parametrize("command", ["scratch", "transfer"])
@pytest.mark.parametrize(("options", "says"), VALUES)
def test_values_of_the_training_options(files, command, options, says):
    assert_refused(command, "--data", files / "coco", *options, says=says)


@pytest.mark.parametrize("command", ["scratch", "summary"])
@pytest.mark.parametrize("width", ["0", "-1", "nan", "inf", "1e30"])
def test_widths(files, command, width):
    data = ("--data", files / "coco") if command == "scratch" else ()
    assert_refused(
        command,
        *data,
        "--width",
        width,
        says=f"width: expected a positive number up to 100, got {float(width)}",
    )


def test_a_batch_of_nothing(files):
    assert_refused(
        "extract",
        "--data",
        files / "coco",
        "--weights",
        files / "tiny.keras",
        "--batch-size",
        "0",
        says="batch_size: expected at least 1, got 0",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("scratch", "--seed", "-1"),
        ("scratch", "--threads", "0"),
        ("scratch", "--lr", "much"),
        ("scratch", "--weights", "demo"),
        ("transfer", "--width", "1"),
        ("extract", "--epochs", "1"),
        ("extract", "--output", "runs"),
        ("evaluate",),
        ("evaluate", "demo", "--output", "f"),
        ("extract", "--resume", "runs"),
        ("scratch", "--variant", "vgg"),
        ("summary", "--num-classes", "0"),
        ("extract", "--format", "voc"),
        ("unheard-of",),
        ("scratch", "runs"),
    ],
)
def test_usage_errors_are_clicks_own(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")
    assert "Error: " in result.stderr


@pytest.mark.parametrize("command", ["extract", "transfer"])
def test_weights_that_are_not_there(files, command):
    assert_refused(
        command,
        "--data",
        files / "coco",
        "--weights",
        "nowhere",
        says="weights: expected an existing file or one of caffe, ",
    )


def test_weights_of_another_kind(files, tmp_path):
    contents = {
        "empty": b"",
        "text": b"hello world, hello world",
        "cut.keras": (files / "tiny.keras").read_bytes()[:9000],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert_refused(
            "extract", "--data", files / "coco", "--weights", tmp_path / name, says=tmp_path / name
        )


def test_weights_that_do_not_fit_list_every_layer(files, tmp_path):
    layers = tiny_layers(size=227)
    layers["fc9"] = layers.pop("fc7")
    layers["conv1"] = (layers["conv1"][0][:7], layers["conv1"][1])
    np.savez(
        tmp_path / "odd.npz",
        **{
            f"{name}/{kind}": array
            for name, arrays in layers.items()
            for kind, array in zip(("kernel", "bias"), arrays, strict=True)
        },
    )
    assert_refused(
        "extract",
        "--data",
        files / "coco",
        "--weights",
        tmp_path / "odd.npz",
        says=(
            f"{tmp_path / 'odd.npz'}: does not fit alexnet; missing: fc7; extra: fc9; of another "
            "shape: "
            "conv1 (expected 11x11x3x4 and 4, got 7x11x3x4 and 4), "
        ),
    )


@pytest.mark.parametrize(
    ("command", "option", "says"),
    [
        ("extract", "--layer", "layer: expected one of conv1, norm1, pool1, conv2, "),
        (
            "transfer",
            "--train-from",
            "train_from: expected one of conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8, got ",
        ),
    ],
)
def test_unknown_layers_list_the_valid_ones(files, command, option, says):
    assert_refused(
        command,
        "--data",
        files / "coco",
        "--weights",
        files / "tiny.keras",
        option,
        "fc9",
        says=(says, "got fc9"),
    )


def test_features_of_layers_that_the_weights_lack(files, tmp_path):
    weights = dict(np.load(files / "tiny.npz"))
    np.savez(
        tmp_path / "trunk.npz",
        **{name: array for name, array in weights.items() if not name.startswith("fc")},
    )
    arguments = ("extract", "--data", files / "coco", "--weights", tmp_path / "trunk.npz")
    assert_refused(*arguments, says=(tmp_path / "trunk.npz", "missing: fc6, fc7, fc8"))
    result = invoke(*arguments, "--partial")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: {tmp_path / 'trunk.npz'}: fc7 depends on fc6, which is missing from the file"
    )


# Where nothing can be written.


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("f.txt", "out: expected a name that ends in .npy, .npz, .h5, .mat or .csv, got f.txt"),
        ("none/f.npy", "none: expected an existing folder to write"),
        ("/dev/null/f.npy", "/dev/null: expected an existing folder to write"),
        pytest.param("/proc/f.npy", "cannot be written: ", marks=linux),
    ],
)
def test_out_that_cannot_be_written(files, out, says):
    assert_refused(
        "extract",
        "--data",
        files / "coco",
        "--weights",
        files / "tiny.keras",
        "--out",
        out,
        says=says,
    )


@pytest.mark.parametrize(
    "output", ["/dev/null", "/dev/null/run", pytest.param("/proc/run", marks=linux)]
)
def test_output_that_cannot_be_written(files, output):
    assert_refused(
        "scratch",
        "--data",
        files / "coco",
        "--width",
        "0.05",
        "--output",
        output,
        says=f"{output}: expected a folder to write the run into, got: ",
    )


def test_a_cache_that_cannot_be_written(monkeypatch):
    monkeypatch.setenv("KERAS_HOME", "/dev/null")
    assert_refused("scratch", says="expected a writable folder for the demonstration set")


def test_an_unreadable_file_in_extraction_and_in_evaluation(tmp_path, files):
    root = class_folders(tmp_path / "tree", count=1)
    bad = root / "val" / "dog" / "0.jpg"
    bad.write_bytes(b"")
    arguments = (
        "extract",
        "--data",
        root,
        "--weights",
        files / "tiny.keras",
        "--out",
        tmp_path / "f.npy",
    )
    assert_refused(*arguments, says=f"{bad}: expected a readable image, got: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cwd", "tree"]
    result = invoke(*arguments, "--skip-bad")
    assert (result.exit_code, result.stderr.count("\n")) == (0, 1)
    assert result.stderr.startswith(f"warning: {bad}: skipped, not a readable image: ")
    made = json.loads((tmp_path / "f.json").read_text())
    assert (made["bad_rows"], made["region"]) == ([4], None)
    assert np.isnan(np.load(tmp_path / "f.npy")[4]).all()


# Runs that are none.


def test_evaluate_what_is_no_run(tmp_path):
    assert_refused(
        "evaluate",
        tmp_path,
        says=f"{tmp_path}: expected a run folder, or --data; got no config.json",
    )
    assert_refused(
        "evaluate", "caffe", says="caffe: expected a run folder, or --data; got no config.json"
    )
    assert_refused("evaluate", "/dev/null", says="/dev/null: expected a run folder, or --data")


CONFIGS = [
    "",
    "{",
    "[]",
    "{}",
    '{"data": 3}',
    '{"data": {"name": "x", "root": 5, "layout": "folder"}}',
    '{"data": {"name": "x", "root": "/", "layout": "coco"}}',
    "[" * 100_000,
    "\xff",
    *(
        f'{{"data": {{"name": "x", "root": "/", "layout": "coco", {options}}}}}'
        for options in (
            '"classes": 4, "min_size": 1, "region": {}',
            '"classes": null, "min_size": 1, "region": {"context": "x"}',
            '"classes": null, "min_size": 1, "region": {"odd": 1}',
        )
    ),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_evaluate_a_damaged_config(tmp_path, config):
    (tmp_path / "config.json").write_text(config, encoding="latin-1")
    assert_refused("evaluate", tmp_path, says=f"{tmp_path / 'config.json'}: ")


def test_evaluate_a_run_that_did_not_finish(files, tmp_path):
    data = {"name": "tree", "root": str(files / "tree"), "layout": "folder"}
    (tmp_path / "config.json").write_text(json.dumps({"data": data}))
    assert_refused(
        "evaluate",
        tmp_path,
        says=f"{tmp_path / 'model.keras'}: expected a model saved by this project, got nothing",
    )


def test_evaluate_on_other_classes(files):
    assert_refused(
        "evaluate",
        files / "tiny.keras",
        "--data",
        files / "coco",
        says=f"{files / 'coco'}: expected the 5 classes of {files / 'tiny.keras'}, got 3 others",
    )


# Names of files are text like any other.


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "[/bold]", "ünï 日本", "a\tb"])
def test_a_name_is_told_on_one_line(tmp_path, name):
    line = assert_refused(
        "extract", "--data", tmp_path / name, says="expected a folder or a file, got nothing"
    )
    assert line[:-1].isprintable()


def test_a_name_that_is_not_utf_8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9")
    class_folders(tmp_path / "tree", count=1).rename(path)
    assert_refused(
        "extract", "--data", path, says=r"caf\udce9: expected a path in UTF-8, got one that is not"
    )
