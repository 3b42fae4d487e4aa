"""The run folder: who may write into it, what a config brings back, nothing half-written."""

import gzip
import json
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import RunError
from alexnet_keras.evaluation.evaluator import Evaluation
from alexnet_keras.models.saving import load_model
from alexnet_keras.training.loop import TrainingResult
from alexnet_keras.training.run_config import (
    num_intra_op_threads,
    read_result,
    recorded_data_options,
    runtime_environment,
    write_json,
)
from alexnet_keras.training.run_folder import (
    FILES,
    FOLDERS,
    NullRunFolder,
    new_run_folder,
    resume_run_folder,
)
from tests.alexnet_keras.tiny import tiny_model

EVALUATION = Evaluation(
    0.5, 0.75, 0.25, 1.5, 8, 2.0, np.eye(2, dtype=np.int64), np.ones(2, np.int64)
)


def test_folders_are_numbered_by_mode(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert [
        str(new_run_folder(None, mode).path)
        for mode in ("scratch", "scratch", "transfer", "scratch")
    ] == ["runs/scratch-1", "runs/scratch-2", "runs/transfer-1", "runs/scratch-3"]
    shutil.rmtree("runs/scratch-2")
    assert str(new_run_folder(None, "scratch").path) == "runs/scratch-2"


def test_a_folder_in_use_is_refused_and_cleared_on_request(tmp_path):
    folder = tmp_path / "deep" / "run"
    with new_run_folder(folder, "scratch") as run:
        assert run.path == folder
    for name in (*FILES, ".part-123-model.keras"):
        (folder / name).write_text("old")
    for name in FOLDERS:
        (folder / name / "inside").mkdir(parents=True)
    refusal = (
        f"^{folder}: expected an empty folder, got one with "
        ".part-123-model.keras; choose another output, or overwrite$"
    )
    with pytest.raises(RunError, match=refusal):
        new_run_folder(folder, "scratch")
    assert len(list(folder.iterdir())) == len(FILES) + len(FOLDERS) + 1
    new_run_folder(folder, "scratch", overwrite=True)
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_a_run_is_one_processs_own(tmp_path):
    folder = tmp_path / "run"
    with new_run_folder(folder, "scratch") as run:
        run.write_config({"mode": "scratch", "options": {}, "recipe": {}}, "")
        (folder / "checkpoints").mkdir()
        for enter in (
            lambda: resume_run_folder(folder, "scratch"),
            lambda: new_run_folder(folder, "scratch", overwrite=True),
        ):
            with pytest.raises(RunError, match=f"^{folder}: another process is using this run$"):
                enter()
        assert {path.name for path in folder.iterdir()} == {
            ".lock",
            "config.json",
            "samples.csv.gz",
            "checkpoints",
        }
    again, config = resume_run_folder(folder, "scratch")
    assert (again.path, config["mode"]) == (folder, "scratch")
    again.close()


@pytest.mark.parametrize(
    "foreign",
    ["notes.txt", ".git", "model.keras.bak", "result.json/", "checkpoints", "tensorboard"],
)
def test_what_no_run_writes_is_never_deleted(tmp_path, foreign):
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / foreign.rstrip("/")
    path.mkdir() if foreign.endswith("/") else path.write_text("mine")
    with pytest.raises(
        RunError,
        match=f"^{tmp_path}: expected only files of a run to overwrite, got {path.name}$",
    ):
        new_run_folder(tmp_path, "scratch", overwrite=True)
    assert path.exists()
    assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.parametrize("place", ["file", "file/run"])
def test_no_folder_can_be_made(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(
        RunError,
        match=f"^{tmp_path / place}: expected a folder to write the run into, got: [^\n]+$",
    ):
        new_run_folder(tmp_path / place, "scratch", overwrite=True)


def test_runs_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs").touch()
    with pytest.raises(
        RunError, match="^runs: expected a folder to write the run into, got: File exists$"
    ):
        new_run_folder(None, "scratch")


def test_the_end_of_a_run(tmp_path):
    run, model = new_run_folder(tmp_path / "run", "scratch"), tiny_model(classes=2)
    run.finish(model, TrainingResult(False, 7, EVALUATION))
    assert json.loads((run.path / "result.json").read_text()) == {
        "top1": 0.5,
        "top5": 0.75,
        "mean_per_class": 0.25,
        "loss": 1.5,
        "images": 8,
        "seconds": 2.0,
        "images_per_second": 4.0,
        "steps": 7,
        "finished": False,
    }
    assert load_model(run.path).class_names == ("class 0", "class 1")
    assert {path.name for path in run.path.iterdir()} == {
        ".lock",
        "model.keras",
        "result.json",
        "classes.csv",
        "confusion.csv",
    }
    assert (run.path / "confusion.csv").read_text().splitlines() == [
        ",class 0,class 1",
        "class 0,1,0",
        "class 1,0,1",
    ]


def test_how_far_a_run_came(tmp_path):
    assert read_result(tmp_path) is None
    for text, result in (
        ('{"steps": 7, "finished": true}', {"steps": 7, "finished": True}),
        ('{"steps": 7, "finished": false}', {"steps": 7, "finished": False}),
        ('{"steps": "7", "finished": true}', None),
        ("", None),
        ("[]", None),
        ("{}", None),
        ("\xff", None),
    ):
        (tmp_path / "result.json").write_bytes(text.encode("latin-1"))
        assert read_result(tmp_path) == result, text


class Unsaved:
    """A model that cannot be saved to its end."""

    class_names = ("a", "b")

    def __init__(self, error):
        self.error = error

    def get_layer(self, name):
        return SimpleNamespace(compute_dtype="float32")

    def save(self, path):
        Path(path).write_bytes(b"the beginning")
        raise self.error


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (
            OSError(28, "No space left on device"),
            RunError,
            "model.keras: cannot be written: No space left on device$",
        ),
        (KeyboardInterrupt("by the user"), KeyboardInterrupt, "^by the user$"),
    ],
)
def test_a_model_that_is_not_saved_to_its_end(tmp_path, error, raised, says):
    run = new_run_folder(tmp_path / "run", "scratch")
    with pytest.raises(raised, match=says):
        run.finish(Unsaved(error), TrainingResult(True, 1, EVALUATION))
    assert [path.name for path in run.path.iterdir()] == [".lock"]


def config(folder, **data):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"data": data}))
    return folder


def test_the_data_of_a_run(tmp_path):
    coco = {"classes": ["a", "b"], "min_size": 8, "region": {"context": 0.2, "square": False}}
    assert recorded_data_options(
        config(tmp_path, name="x", root="/x", layout="folder", region=None)
    ) == {
        "data": "/x",
        "layout": "folder",
    }
    assert recorded_data_options(config(tmp_path, name="x", root="/x", layout="coco", **coco)) == {
        "data": "/x",
        "layout": "coco",
        "classes": ["a", "b"],
        "min_size": 8,
        "context": 0.2,
        "square": False,
    }


def test_the_built_in_demonstration_and_a_folder_of_its_name(tmp_path):
    assert (
        recorded_data_options(
            config(tmp_path, name="demo", root="/cache/demo-v1-seed0", layout="folder")
        )["data"]
        == "demo"
    )
    assert (
        recorded_data_options(config(tmp_path, name="demo", root="/mine/demo", layout="folder"))[
            "data"
        ]
        == "/mine/demo"
    )


def test_the_config_records_what_it_ran_on(tmp_path):
    run = new_run_folder(tmp_path / "run", "scratch")
    run.write_config({"mode": "scratch", "seed": 3}, "split,id\n")
    assert gzip.decompress((run.path / "samples.csv.gz").read_bytes()) == b"split,id\n"
    written = json.loads((run.path / "config.json").read_text())
    assert (written["mode"], written["seed"]) == ("scratch", 3)
    assert written["environment"] == runtime_environment()
    assert {"alexnet_keras", "python", "tensorflow", "keras", "numpy", "threads", "onednn"} == set(
        runtime_environment()
    )


def test_a_continuation_is_recorded_and_what_it_cannot_repeat_is_told(tmp_path, caplog):
    run = new_run_folder(tmp_path / "run", "scratch")
    run.write_config({"mode": "scratch", "recipe": {"epochs": 1}}, "")
    run.record_resumption({"epochs": 2}, {"epochs": 2})
    assert caplog.messages == []
    config = json.loads((run.path / "config.json").read_text())
    config["environment"] |= {"numpy": "0.1", "threads": 99}
    write_json(run.path / "config.json", config)
    with caplog.at_level(logging.WARNING):
        run.record_resumption({}, {"epochs": 2})
    assert caplog.messages == [
        f"{name}: began with {began}, resumed with {runtime_environment()[name]}: weights may "
        "differ in their last bits"
        for name, began in (("numpy", "0.1"), ("threads", 99))
    ]
    config = json.loads((run.path / "config.json").read_text())
    assert (config["recipe"], config["mode"]) == ({"epochs": 2}, "scratch")
    assert [each["options"] for each in config["continued"]] == [{"epochs": 2}, {}]


def test_a_worker_that_is_not_the_chief_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outcome = TrainingResult(True, 1, EVALUATION)
    NullRunFolder().finish(None, outcome)
    NullRunFolder().metrics().on_train_begin({"step": 0})
    assert list(tmp_path.iterdir()) == []


def test_threads_are_those_that_tensorflow_uses(monkeypatch):
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 5})
        assert num_intra_op_threads() == 3
    for value, expected in (("7", 7), ("0", None), ("many", None)):
        monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", value)
        assert num_intra_op_threads() == (expected or 3)


def test_files_are_whole_or_not_there(tmp_path):
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    one.write_text("before")

    def write(fails):
        with atomic_write(one, two) as partial:
            assert [path.suffix for path in partial] == [".json", ".json"]
            for path in partial:
                path.write_text("after")
            if fails:
                raise fails

    for error, raised in (
        (ValueError("bad"), ValueError),
        (OSError(5, "Input/output error"), RunError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ):
        with pytest.raises(raised):
            write(error)
        assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [
            ("one.json", "before")
        ]
    write(None)
    assert {(path.name, path.read_text()) for path in tmp_path.iterdir()} == {
        ("one.json", "after"),
        ("two.json", "after"),
    }


def test_a_file_that_was_promised_and_not_written(tmp_path):
    with (
        pytest.raises(RunError, match="a: cannot be written: No such file or directory$"),
        atomic_write(tmp_path / "a"),
    ):
        pass


def test_json_of_any_text(tmp_path):
    content = {"path": os.fsdecode(b"caf\xe9"), "name": "日本"}
    write_json(tmp_path / "a.json", content)
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == content
