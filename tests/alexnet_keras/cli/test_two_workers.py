"""A command on two workers, each a process: one run, begun, resumed and finished by both."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from alexnet_keras.models.saving import load_model
from tests.alexnet_keras.distribute.test_workers import free_ports
from tests.alexnet_keras.trees import class_folders, invoke, read
from tests.conftest import ROOT

TINY = ("--width", "0.02", "--recipe", "demo", "--batch-size", "4", "--epochs", "1")


def on_two_workers(*arguments):
    """The exit codes, the lines on stdout and those on stderr of both."""
    ports, running = free_ports(2), []
    for index in range(2):
        config = {
            "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
            "task": {"type": "worker", "index": index},
        }
        environ = {"PYTHONPATH": str(ROOT), "TF_CONFIG": json.dumps(config)}
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "alexnet_keras", *map(str, arguments)],
                env={**os.environ, **environ},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    printed = [process.communicate(timeout=300) for process in running]
    return [process.returncode for process in running], *zip(*printed, strict=True)


@pytest.mark.slow
def test_begun_and_finished_by_both(tmp_path):
    tree, run = class_folders(tmp_path / "tree", count=2), tmp_path / "run"
    run.mkdir()  # as a job leaves it that was killed before it wrote its config
    arguments = ("scratch", "--data", tree, *TINY, "--resume", run)
    codes, (chief, other), errors = on_two_workers(*arguments)
    assert codes == [0, 0], errors
    assert f"writing {run}\n" in chief
    assert other == "worker 1 of 2: only the chief writes the run folder\n"
    assert read(run / "result.json")["finished"]

    codes, (chief, other), errors = on_two_workers(*arguments)
    assert codes == [0, 0], errors
    assert chief.startswith(f"{run}: finished already, after 2 steps; ")
    assert other.startswith("the run: finished already, after 2 steps; ")

    codes, _, errors = on_two_workers("scratch", "--resume", run, "--seed", "4")
    assert codes == [2, 2]
    assert all("--seed: cannot change when a run is resumed" in text for text in errors)


@pytest.mark.slow
def test_the_mean_image_is_that_of_one_worker_in_every_bit(tmp_path):
    """Each reads a part, and only once."""
    tree = class_folders(tmp_path / "tree", count=5)
    arguments = ("scratch", "--data", tree, *TINY, "--mean")
    one, both = tmp_path / "one", tmp_path / "both"
    assert invoke(*arguments, "image", "--output", one).exit_code == 0
    codes, (chief, other), errors = on_two_workers(*arguments, "image", "--output", both)
    assert codes == [0, 0], errors
    assert all("mean image: computed from 15 images in " in text for text in (chief, other))
    configs = [read(run / "config.json")["recipe"]["preprocessing"] for run in (one, both)]
    assert configs[0]["mean_image"] == configs[1]["mean_image"] is not None
    codes, (chief, other), errors = on_two_workers(
        "scratch", "--resume", both, "--epochs", "2", "--seed", "0"
    )
    assert codes == [0, 0], errors
    assert "mean image" not in chief + other


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_every_val_image_is_counted_once(tmp_path, precision):
    """Also in the evaluation of the float32 copy that is saved; and no log warns of retracing."""
    tree, run = class_folders(tmp_path / "tree", count=3), tmp_path / "run"
    codes, _, errors = on_two_workers(
        "scratch", "--data", tree, *TINY, "--precision", precision, "--output", run
    )
    assert codes == [0, 0], errors
    assert read(run / "result.json")["images"] == 9
    with open(run / "confusion.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert sum(int(count) for row in rows[1:] for count in row[1:]) == 9
    assert not any("retracing" in text for text in (*errors, (run / "run.log").read_text()))


@pytest.mark.slow
def test_the_recipe_of_2012_is_that_of_one_worker(tmp_path):
    """Past its drops, the end of its noise and its freeze; one worker in two parts."""
    tree = class_folders(tmp_path / "tree", count=2)
    arguments = ("scratch", "--data", tree, "--variant", "krizhevsky", "--width", "0.02")
    arguments += ("--batch-size", "2", "--epochs", "6")
    one, both = tmp_path / "one", tmp_path / "both"
    assert invoke(*arguments, "--accumulate", "2", "--output", one).exit_code == 0
    codes, _, errors = on_two_workers(*arguments, "--output", both)
    assert codes == [0, 0], errors
    assert read(one / "config.json")["recipe"] == read(both / "config.json")["recipe"]
    for ours, theirs in zip(
        load_model(one).get_weights(), load_model(both).get_weights(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * abs(theirs).max())
