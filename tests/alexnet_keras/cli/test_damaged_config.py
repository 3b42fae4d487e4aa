"""A config.json of a run that lost or changed any of its fields: one line that names the file or
the field, or no matter.
"""

import json
import shutil

import numpy as np
import pytest

from alexnet_keras.evaluation.evaluator import Evaluation
from alexnet_keras.training.loop import TrainingResult
from tests.alexnet_keras.trees import assert_refused, class_folders, invoke, read

WRONG = (None, -3, 0.5, "x", [], [3], {}, {"odd": 1}, True, float("nan"), 10**30, "\u0000")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    class_folders(folder / "tree", count=1)
    with pytest.MonkeyPatch.context() as patch:
        untrained(patch)
        result = invoke(
            "scratch",
            "--data",
            folder / "tree",
            "--width",
            "0.02",
            "--batch-size",
            "4",
            "--augment",
            "paper",
            "--init",
            "alexnet",
            "--output",
            folder / "run",
        )
    assert (result.exit_code, result.stderr) == (130, "")
    return folder


def untrained(patch):
    """The network and its batches are made, and not trained."""
    patch.setattr(
        "modes.scratch.train",
        lambda *arguments, **options: TrainingResult(
            False, 0, Evaluation(0, 0, 0, 0, 1, 1, np.eye(3, dtype=np.int64), np.ones(3, np.int64))
        ),
    )


@pytest.fixture
def run(files, tmp_path, monkeypatch):
    untrained(monkeypatch)
    return shutil.copytree(files / "run", tmp_path / "run")


def fields(value, path=()):
    """The places of all values in nested dictionaries."""
    for name, each in value.items():
        yield (*path, name)
        if isinstance(each, dict):
            yield from fields(each, (*path, name))


def put(run, config, path, value):
    """``config`` with another value at ``path``, or none (``...``)."""
    config = json.loads(json.dumps(config))
    inner = config
    for name in path[:-1]:
        inner = inner[name]
    if value is ...:
        inner.pop(path[-1])
    else:
        inner[path[-1]] = value
    (run / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (("mode",), ..., "config.json: mode: expected scratch, got None"),
        (("options",), 3, "config.json: options: expected"),
        (("recipe",), [], "config.json: recipe: expected"),
        (("options", "width"), "wide", ("options.width: expected a number", "got 'wide'")),
        (("options", "seed"), None, ("options.seed: expected an integer", "got None")),
        (("options", "classes"), 3, ("options.classes: expected", "got 3")),
        (
            ("options", "precision"),
            "float8",
            ("options.precision: expected one of float32", "got"),
        ),
        (("options", "keep"), 0, ("options.keep: expected", "got 0")),
        (("options", "square"), [1], ("options.square: expected", "got [1]")),
        (
            ("recipe", "schedule"),
            ...,
            "config.json: recipe.schedule: expected an object, got none",
        ),
        (
            ("recipe", "schedule", "kind"),
            "Cosine",
            "recipe.schedule.kind: expected one of DropAt, DropEvery, Plateau, got 'Cosine'",
        ),
        (("recipe", "steps"), 0, "config.json: steps: expected 1 to"),
        (("recipe", "learning_rate"), -1, "lr: expected a positive"),
        (("recipe", "batch_size"), None, "recipe.batch_size: expected an integer, got None"),
        (("recipe", "batch_size"), 4.5, "recipe.batch_size: expected an integer, got 4.5"),
        (
            ("recipe", "augmentation", "mirror"),
            1,
            "recipe.augmentation.mirror: expected true or false, got 1",
        ),
        (
            ("recipe", "preprocessing", "mean"),
            "x",
            "recipe.preprocessing.mean: expected a list, got 'x'",
        ),
        (
            ("recipe", "preprocessing", "mean_image"),
            "x",
            "recipe.preprocessing.mean_image: expected an object, got 'x'",
        ),
        (
            ("recipe", "preprocessing", "mean_image"),
            {"size": 227, "values": "AAAA"},
            "mean_image.values: expected 227x227x3 float32 values in base64, got 4 characters",
        ),
        (
            ("recipe", "preprocessing", "mean_image"),
            {"size": 1, "values": "AADgQAAA4EAAAOBA"},
            "preprocessing.mean_image: expected 227x227 pixels, as many as the crop, got 1x1",
        ),
        (("recipe", "mean"), "median", "recipe.mean: expected pixel or image, got 'median'"),
        (
            ("recipe", "initial_values", "stddev"),
            "x",
            "recipe.initial_values.stddev: expected a finite number, got 'x'",
        ),
    ],
)
def test_a_field_that_no_run_writes(run, path, value, says):
    put(run, read(run / "config.json"), path, value)
    assert_refused("scratch", "--resume", run, says=says)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b"\xff", b"[" * 99_999, b'{"mode": "scratch"}']
)
def test_a_config_that_is_none(run, content):
    (run / "config.json").write_bytes(content)
    assert_refused("scratch", "--resume", run, says=f"{run / 'config.json'}: ")


@pytest.mark.slow
@pytest.mark.parametrize("section", ["mode", "seed", "options", "recipe", "environment"])
def test_every_field_lost_or_of_another_kind(run, section):
    """No traceback: what is not needed to go on does no harm, everything else is refused in one
    line.
    """
    config = read(run / "config.json")
    whole = {path.name: path.read_bytes() for path in run.iterdir()}
    for place, path in enumerate(fields({section: config[section]})):
        for value in (..., *WRONG)[place % 3 :: 3]:  # each field meets a third of them
            for name, content in whole.items():
                (run / name).write_bytes(content)
            put(run, config, path, value)
            result = invoke("scratch", "--resume", run)
            assert result.exit_code in (2, 130), (path, value, result.output)
            if result.exit_code == 2:
                assert result.stderr.startswith("error: "), (path, value, result.stderr)
                assert result.stderr.count("\n") == 1, (path, value, result.stderr)
