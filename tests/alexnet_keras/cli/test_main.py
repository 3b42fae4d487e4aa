"""The commands from end to end, on narrow networks and a COCO data set of eight pictures."""

import csv
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET, Architecture, InitialValues
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING, Preprocessing
from alexnet_keras.configs.recipe import CAFFE_RECIPE, VARIANT_RECIPES, Recipe
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.models.saving import load_model
from tests.alexnet_keras.tiny import tiny_model
from tests.alexnet_keras.trees import ROOT, SMALL, class_folders, coco_tree, invoke, process, read


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    coco_tree(folder / "coco")
    keras.utils.set_random_seed(0)
    tiny_model(replace(ALEXNET.with_width(0.05), initial_values=InitialValues(kernels="he"))).save(
        folder / "tiny.keras"
    )
    return folder


@pytest.fixture(scope="module")
def run(files):
    """A run of scratch, with data options that are not the defaults."""
    result = invoke(
        "scratch",
        "--data",
        files / "coco",
        *SMALL,
        "--context",
        "0.3",
        "--no-square",
        "--classes",
        "star",
        "--classes",
        "circle",
        "--seed",
        "3",
        "--threads",
        "1",
        "--lr",
        "0.005",
        "--output",
        files / "run",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    return files / "run", result.stdout


# A run.


def test_what_a_run_prints_and_writes(run, files):
    folder, printed = run
    first, epoch, last = (
        line for line in printed.splitlines() if not line.startswith("  step ")
    )  # on a slow machine
    assert first == f"scratch: 10 train and 5 val samples of 2 classes from coco; writing {folder}"
    assert epoch.startswith("epoch 1/1  loss ")
    assert last.startswith(f"{folder}: top-1 ")
    assert last.endswith(" images/s")
    assert " on 5 images, " in last
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        "checkpoints",
        "classes.csv",
        "config.json",
        "confusion.csv",
        "metrics.jsonl",
        "model.keras",
        "result.json",
        "run.log",
        "samples.csv.gz",
    }
    assert "INFO epoch 1 of 1: loss " in (folder / "run.log").read_text()


def test_the_config_says_everything_needed_to_repeat_it(run, files):
    config = read(run[0] / "config.json")
    assert (config["mode"], config["seed"], config["options"]["num_threads"]) == ("scratch", 3, 1)
    assert Architecture.from_dict(config["architecture"]) == ALEXNET.with_width(0.05)
    assert Preprocessing.from_dict(config["preprocessing"]) == CAFFE_PREPROCESSING
    assert Recipe.from_dict(config["recipe"]) == replace(
        CAFFE_RECIPE, batch_size=8, learning_rate=0.005
    ).with_length(10, epochs=1)
    assert config["environment"]["threads"] >= 1
    data = config["data"]
    assert {
        name: data[name]
        for name in ("name", "root", "layout", "min_size", "region", "samples", "skipped")
    } == {
        "name": "coco",
        "root": str(files / "coco"),
        "layout": "coco",
        "min_size": 32,
        "skipped": {},
        "region": {"context": 0.3, "square": False},
        "samples": {"train2017": 10, "val2017": 5},
    }
    assert sorted(data["classes"]) == ["circle", "star"]
    assert data["classes_by_label"] == [
        {"label": 0, "id": "3", "name": "circle"},
        {"label": 1, "id": "90", "name": "star"},
    ]


def test_the_result_is_what_evaluate_finds_with_the_runs_own_data(run):
    folder, result = run[0], read(run[0] / "result.json")
    found = invoke("evaluate", folder)
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.startswith(
        f"{folder} on coco val2017: top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%}, mean "
        "per class "
        f"{result['mean_per_class']:.2%} on 5 images, "
    )
    assert " train2017: " in invoke("evaluate", folder, "--split", "train").stdout


@pytest.mark.slow
def test_a_run_opens_in_a_fresh_process_with_its_preprocessing_and_classes(run):
    code = (
        "import sys, alexnet_keras\nmodel = alexnet_keras.load_model(sys.argv[1])\n"
        "print(model.preprocessing.channel_order, model.preprocessing.crop, model.class_names, "
        "model.output.shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(run[0])],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "BGR 227 ('circle', 'star') (None, 2)\n"


@pytest.mark.slow
def test_runs_are_numbered_and_never_overwritten_unasked(run, files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/transfer-1").mkdir(parents=True)
    result = invoke(
        "transfer", "--data", files / "coco", "--weights", files / "tiny.keras", "--epochs", "1"
    )
    assert (result.exit_code, result.stderr) == (0, "")
    config = read(Path("runs/transfer-2/config.json"))
    assert (config["mode"], config["train_from"]) == ("transfer", "fc6")
    assert config["weights"]["source"] == str(files / "tiny.keras")
    assert len(config["weights"]["sha256"]) == 64
    assert config["head_recipe"]["name"] == "head"

    refused = invoke("scratch", "--data", files / "coco", "--output", "runs/transfer-2")
    assert (refused.exit_code, refused.stderr) == (
        2,
        "error: runs/transfer-2: expected an empty folder, got one with checkpoints; choose "
        "another output, or overwrite\n",
    )
    assert read(Path("runs/transfer-2/config.json")) == config


def test_a_run_is_weights_for_what_follows(run, files, tmp_path):
    out = tmp_path / "f.h5"
    result = invoke(
        "extract",
        "--data",
        files / "coco",
        "--weights",
        run[0],
        "--layer",
        "fc6",
        "--layer",
        "fc7",
        "--out",
        out,
        "--probe",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert [line for line in lines if "->" in line] == [f"fc6 -> {out}", f"fc7 -> {out}"]
    assert lines[-1] == f"rows: {tmp_path / 'f.csv'}, description: {tmp_path / 'f.json'}"
    assert [line.split(":")[0] for line in lines if "accuracy" in line] == [
        "linear probe on fc6",
        "linear probe on fc7",
    ]
    assert all(line.endswith(" on 8 val images") for line in lines if "accuracy" in line)
    assert read(tmp_path / "f.json")["weights"]["file"] == "model.keras"


@pytest.mark.slow
def test_a_folder_called_demo_is_not_the_demonstration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "demo", count=2)
    assert invoke("scratch", "--data", "./demo", *SMALL, "--output", "run").exit_code == 0
    assert "run on demo val: " in invoke("evaluate", "run").stdout
    assert not (tmp_path / "keras").exists()


def test_demonstration_weights_say_what_they_know(files, tmp_path):
    result = invoke(
        "extract",
        "--data",
        files / "coco",
        "--weights",
        "demo",
        "--out",
        tmp_path / "f.npy",
        "--split",
        "val",
    )
    assert result.exit_code == 0
    assert (
        result.stderr
        == "These weights know only the demonstration's shapes; for real images use --weights "
        "caffe.\n"
    )


def weights_of(run):
    with zipfile.ZipFile(run / "model.keras") as archive:
        return archive.read("model.weights.h5")


@pytest.mark.slow
def test_two_processes_end_with_the_same_weights_bit_for_bit(files, tmp_path, monkeypatch):
    """At equal threads of TensorFlow, whatever the number of loader threads; another seed ends
    elsewhere.
    """
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    for name, seed, workers in (("one", 1, 1), ("again", 1, 3), ("other", 2, 1)):
        running = process(
            "scratch",
            "--data",
            files / "coco",
            "--width",
            "0.1",
            "--epochs",
            "4",
            "--batch-size",
            "4",
            "--seed",
            seed,
            "--threads",
            workers,
            "--output",
            tmp_path / name,
        )
        _, errors = running.communicate(timeout=120)
        assert (running.returncode, errors) == (0, "")
        assert read(tmp_path / name / "config.json")["environment"]["threads"] == 2
    assert (
        weights_of(tmp_path / "one")
        == weights_of(tmp_path / "again")
        != weights_of(tmp_path / "other")
    )
    metrics = [
        [
            {name: value for name, value in json.loads(line).items() if "second" not in name}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("one", "again")
    ]
    assert metrics[0] == metrics[1]


@pytest.mark.slow
def test_transfer_is_the_same_twice_also_where_layers_start_anew(files, tmp_path):
    """Layers that the weights lack start from the seed too."""
    weights = files / "trunk.npz"
    layers = {
        name: layer
        for name, layer in (
            (layer.name, layer.get_weights())
            for layer in load_model(files / "tiny.keras").layers
            if layer.weights
        )
        if not name.startswith("fc")
    }
    np.savez(
        weights,
        variant="alexnet",
        **{
            f"{name}/{kind}": array
            for name, arrays in layers.items()
            for kind, array in zip(("kernel", "bias"), arrays, strict=True)
        },
    )
    for name in ("one", "again"):
        result = invoke(
            "transfer",
            "--data",
            files / "coco",
            "--weights",
            weights,
            "--partial",
            "--epochs",
            "1",
            "--lr",
            "1e-5",
            "--output",
            tmp_path / name,
        )
        assert result.exit_code == 0, result.output
    for one, again in zip(
        *(load_model(tmp_path / name).get_weights() for name in ("one", "again")), strict=True
    ):
        np.testing.assert_array_equal(one, again)


@pytest.mark.slow
def test_a_run_is_repeated_from_its_config_alone(run, tmp_path):
    from alexnet_keras.configs.loading import BoxRegion, Loading
    from alexnet_keras.training.run_config import recorded_data_options
    from alexnet_keras.training.run_folder import new_run_folder
    from modes.scratch import train_from_scratch

    config, data = read(run[0] / "config.json"), recorded_data_options(run[0])
    region = BoxRegion(data.pop("context"), data.pop("square"))
    loading = Loading(region, num_threads=config["options"]["num_threads"])
    again = new_run_folder(tmp_path / "again", "scratch")
    train_from_scratch(
        open_dataset(**data),
        again,
        architecture=Architecture.from_dict(config["architecture"]),
        preprocessing=Preprocessing.from_dict(config["preprocessing"]),
        recipe=Recipe.from_dict(config["recipe"]),
        seed=config["seed"],
        loading=loading,
    )
    for one, other in zip(
        load_model(run[0]).get_weights(), load_model(again.path).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["owt", "paper", "krizhevsky"])
def test_every_variant_is_narrow_on_the_demonstration(tmp_path, variant, monkeypatch):
    monkeypatch.setattr(
        "alexnet_keras.data.demo.OBJECTS_PER_CLASS", {"demo": {"train": 4, "val": 4}}
    )
    result = invoke("scratch", "--variant", variant, "--epochs", "1", "--output", tmp_path / "run")
    assert (result.exit_code, result.stderr) == (0, "")
    assert load_model(tmp_path / "run").count_params() < 2_000_000
    assert "a quarter of its filters" in result.stdout
    recipe = VARIANT_RECIPES[variant]
    told = result.stdout.split(f"The run departs from recipe {recipe.name}:\n")[1].splitlines()
    assert told[:2] == [
        f"  batch_size: 16 instead of {recipe.batch_size}",
        f"  epochs: 1 instead of {recipe.epochs}",
    ]


@pytest.mark.slow
def test_commands_run_whatever_backend_keras_is_told_to_use(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    running = process("summary", "--width", "0.1")
    printed, errors = running.communicate(timeout=60)
    assert (running.returncode, errors) == (0, "")
    assert printed.splitlines()[-1].endswith(" GMAC per image")


@pytest.mark.slow
def test_the_three_modes_on_real_photographs(shared_data, tmp_path):
    """To their ends, on COCO's own files; what comes out is counted, not judged: 513 objects teach
    nobody 80 classes.
    """
    coco = ("--data", shared_data / "coco128")
    run, moved, out = tmp_path / "run", tmp_path / "moved", tmp_path / "f.npy"
    for arguments in (
        (
            "scratch",
            *coco,
            "--width",
            "0.1",
            "--epochs",
            "1",
            "--batch-size",
            "64",
            "--output",
            run,
        ),
        ("transfer", *coco, "--weights", run, "--epochs", "1", "--output", moved),
        ("extract", *coco, "--weights", moved, "--layer", "pool5", "--out", out),
    ):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.stderr
        # Some classes have one image alone, and the user is told which.
        (warning,) = result.stderr.splitlines()
        assert "classes with too few images for val: bicycle, bird, " in warning
    with open(tmp_path / "f.csv", newline="") as file:
        splits = [row["split"] for row in csv.DictReader(file)]
    held_out = splits.count("val")
    assert np.load(out).shape[0] == len(splits) == 513
    # More than a fifth, for each of many small classes has an image on both sides.
    assert 513 / 5 < held_out < 513 / 3
    assert [read(folder / "result.json")["images"] for folder in (run, moved)] == [held_out] * 2
    assert load_model(moved).class_names[:3] == ("person", "bicycle", "car")


@pytest.mark.slow
def test_one_image_a_class_and_no_train_split(shared_data, tmp_path):
    imagenet = ("--data", shared_data / "imagenet_sample")
    for mode in ("scratch", "transfer"):
        refused = invoke(mode, *imagenet, "--output", tmp_path / "run")
        assert (refused.exit_code, refused.stderr) == (
            2,
            f"error: {shared_data / 'imagenet_sample'}: expected train and val splits, "
            "got only val\n",
        )
    result = invoke("extract", *imagenet, "--weights", "demo", "--out", tmp_path / "f.npy")
    assert (result.exit_code, np.load(tmp_path / "f.npy").shape[0]) == (0, 100)
    assert not (tmp_path / "run").exists()
