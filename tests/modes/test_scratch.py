"""Training from scratch, on a network of 67 pixels and a COCO data set of eight pictures."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET, InitialValues
from alexnet_keras.configs.loading import BoxRegion, Loading
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.errors import DataError
from alexnet_keras.evaluation.evaluator import evaluate
from alexnet_keras.models.saving import load_model
from alexnet_keras.training.run_folder import new_run_folder
from modes.scratch import run_scratch, train_from_scratch
from tests.alexnet_keras.tiny import encoded, picture
from tests.alexnet_keras.trees import CATEGORIES, class_folders, coco_tree

ARCHITECTURE = replace(ALEXNET.with_width(0.05), initial_values=InitialValues(kernels="he"))
PREPROCESSING = CAFFE_PREPROCESSING.with_input_size(67)
RECIPE = Recipe("tiny", batch_size=4, epochs=2, schedule=DropAt((1,)), learning_rate=0.001)


def learn(dataset, folder, recipe=RECIPE, **options):
    run = new_run_folder(folder, "scratch")
    outcome = train_from_scratch(
        dataset,
        run,
        architecture=options.pop("architecture", ARCHITECTURE),
        preprocessing=PREPROCESSING,
        recipe=recipe,
        **options,
    )
    return run.path, outcome


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(coco_tree(tmp_path / "coco"))


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_run_folder_tells_what_happened(dataset, tmp_path):
    folder, outcome = learn(dataset, tmp_path / "run", replace(RECIPE, epochs=3))
    assert {entry.name for entry in folder.iterdir()} == {
        ".lock",
        "metrics.jsonl",
        "model.keras",
        "result.json",
        "classes.csv",
        "confusion.csv",
    }
    written = lines(folder)
    assert [(line["event"], line["step"], line["epoch"]) for line in written] == [
        ("epoch", 4, 0),
        ("epoch", 8, 1),
        ("step", 10, 2),
        ("epoch", 12, 2),
    ]
    for line in written:
        assert {"loss", "top1", "top5", "images_per_second"} <= set(line)
        assert 0 <= line["top1"] <= line["top5"] <= 1
    result = json.loads((folder / "result.json").read_text())
    assert result == {**outcome.evaluation.metrics(), "steps": 12, "finished": True}
    assert {"top1", "top5", "mean_per_class", "images", "seconds", "images_per_second"} <= set(
        result
    )
    assert result["images"] == 8
    assert written[-1]["val_loss"] == result["loss"]

    model = load_model(folder)
    assert (model.architecture, model.preprocessing, model.class_names) == (
        ARCHITECTURE,
        PREPROCESSING,
        tuple(CATEGORIES.values()),
    )


@pytest.mark.slow
def test_it_learns_red_from_blue_and_the_result_is_that_of_the_saved_weights(tmp_path):
    root = class_folders(tmp_path / "tree", ("blue", "red"))
    for path in root.glob("*/*/*.jpg"):
        tint = np.array([0, 0, 180] if "blue" in path.parts else [180, 0, 0], np.uint8)
        path.write_bytes(encoded(picture(int(path.stem)) // 4 + tint))
    dataset = open_dataset(root)
    recipe = replace(
        RECIPE, batch_size=8, epochs=6, schedule=DropAt(()), learning_rate=0.02, clip_norm=1.0
    )
    wide_start = replace(
        ARCHITECTURE, initial_values=InitialValues(stddev=0.06, hidden_stddev=0.12)
    )
    folder, outcome = learn(dataset, tmp_path / "run", recipe, architecture=wide_start)
    assert outcome.evaluation.top1 == 1
    again = evaluate(
        load_model(folder), EvaluationBatches(dataset.samples("val"), PREPROCESSING, 3)
    )
    assert (again.top1, again.images) == (1, 8)
    assert again.loss == pytest.approx(outcome.evaluation.loss, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["alexnet", "krizhevsky"])
def test_the_demonstration_is_learned(tmp_path, variant):
    run = run_scratch(variant=variant, output=tmp_path / "run", verbose=0)
    assert run.result["top1"] > 0.9


@pytest.mark.slow
def test_one_seed_is_one_run_and_another_is_another(dataset, tmp_path):
    region = BoxRegion(0.3, square=False)
    weights = []
    for number, (seed, loading) in enumerate(
        [
            (1, Loading(num_threads=1)),
            (1, Loading(num_threads=3)),
            (2, Loading()),
            (1, Loading(region)),
        ]
    ):
        folder, _ = learn(dataset, tmp_path / str(number), seed=seed, loading=loading)
        weights.append(
            np.concatenate([array.ravel() for array in load_model(folder).get_weights()])
        )
    np.testing.assert_array_equal(weights[0], weights[1])
    assert (weights[0] != weights[2]).any()
    assert (weights[0] != weights[3]).any()


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_learned(dataset, tmp_path):
    def interrupt(step, logs):
        if step == 4:
            raise KeyboardInterrupt

    folder, outcome = learn(
        dataset,
        tmp_path / "run",
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)],
    )
    result = json.loads((folder / "result.json").read_text())
    assert (outcome.finished, result["finished"], result["steps"], result["images"]) == (
        False,
        False,
        5,
        8,
    )
    assert load_model(folder).class_names == dataset.class_names


@pytest.mark.slow
def test_an_unreadable_file_is_skipped_counted_and_named(tmp_path, caplog):
    root = class_folders(
        class_folders(tmp_path / "tree", ("a", "b"), 51, ("train",)), ("a", "b"), 2, ("val",)
    )
    bad = root / "train" / "b" / "7.jpg"
    bad.write_bytes(b"not an image")
    folder, outcome = learn(
        open_dataset(root), tmp_path / "run", replace(RECIPE, batch_size=17, epochs=1)
    )
    assert f"{bad}: skipped, not a readable image" in caplog.text
    assert outcome.evaluation.images == 4
    (root / "train" / "a" / "0.jpg").write_bytes(b"")
    (root / "train" / "a" / "1.jpg").write_bytes(encoded(picture())[:-200])
    with pytest.raises(
        DataError,
        match=r"^train: expected at most 1% unreadable image files, got [23] of 102; the first ",
    ):
        learn(open_dataset(root), tmp_path / "again", replace(RECIPE, batch_size=17, epochs=1))
    assert not (tmp_path / "again" / "model.keras").exists()
    assert not (tmp_path / "again" / "result.json").exists()


def test_a_split_that_is_not_there_is_found_out_first(tmp_path):
    dataset = open_dataset(class_folders(tmp_path / "tree", splits=("val",)))
    with pytest.raises(DataError, match="split 'train'"):
        learn(dataset, tmp_path / "run")
