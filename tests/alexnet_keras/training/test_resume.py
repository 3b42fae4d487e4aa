"""A run that was killed, and went on, ends with the bits of one that was not."""

import json
import random
import signal
import time
from dataclasses import replace

import pytest

from alexnet_keras.configs.schedule import Plateau
from alexnet_keras.training.checkpoints import Checkpoints
from tests.alexnet_keras.training.resumable import (
    RECIPE,
    AfterSeconds,
    AtFileEvent,
    AtTheSecondSave,
    go_on,
    in_a_process,
    outcome_of,
)
from tests.alexnet_keras.trees import class_folders

SAVES = "checkpoints"  # the thread that writes checkpoints
KILLED, SECOND_SAVE = -signal.SIGKILL, 7
MIDWAY = AtFileEvent(70, thread=SAVES)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data") / "tree", ("cat", "dog"), 13)


@pytest.fixture(scope="module")
def whole(root, tmp_path_factory):
    """The outcome of a run that nothing disturbed, and the seconds it took."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    in_a_process(int)  # starts the server
    began = time.monotonic()
    assert in_a_process(go_on, root, folder) == 0
    return outcome_of(folder), time.monotonic() - began


def same(folder, expected):
    """Weights and momentum, figures, tables and metrics, with no line missing and none twice."""
    found = outcome_of(folder)
    for name, value in expected.items():
        assert found[name] == value, name


def steps_saved(folder):
    return [int(path.name[12:]) for path in sorted((folder / "checkpoints").glob("[0-9]*"))]


@pytest.mark.slow
def test_the_run_is_one_worth_resuming(whole):
    """It saves, drops its rate, measures itself, and epochs end within batches."""
    outcome, _ = whole
    lines = outcome["metrics"]
    assert outcome["progress"]["step"] == 33
    assert [line["step"] for line in lines if line["event"] == "step"] == [10, 20, 30]
    epochs = [line for line in lines if line["event"] == "epoch"]
    assert [(line["epoch"], line["step"]) for line in epochs] == [
        (0, 7),
        (1, 13),
        (2, 20),
        (3, 26),
        (4, 33),
    ]
    assert epochs[-1]["learning_rate"] == pytest.approx(epochs[0]["learning_rate"] / 10)
    assert (
        len({line["val_loss"] for line in epochs}) == len({line["loss"] for line in epochs}) == 5
    )
    assert any(name.startswith("velocity/") for name in outcome["checkpoint"])


@pytest.mark.slow
def test_killed_once_inside_a_write(root, whole, tmp_path):
    assert in_a_process(go_on, root, tmp_path / "run", plan=MIDWAY) == KILLED
    assert not (tmp_path / "run" / "result.json").exists()
    assert 0 < max(steps_saved(tmp_path / "run")) < 33
    assert in_a_process(go_on, root, tmp_path / "run") == 0
    same(tmp_path / "run", whole[0])


@pytest.mark.slow
def test_killed_at_random_moments(root, whole, tmp_path):
    """Again and again, until a run is through at last; then another, until twenty kills have
    hit.
    """
    kills, runs, moments = 0, 0, random.Random(4)
    while kills < 24:
        folder, code = tmp_path / str(runs), KILLED
        while code == KILLED:
            code = in_a_process(
                go_on, root, folder, plan=AfterSeconds(moments.uniform(0, 0.8 * whole[1]))
            )
            kills += code == KILLED
        assert code == 0
        same(folder, whole[0])
        runs += 1


@pytest.mark.slow
def test_killed_at_every_file_event_of_a_save(root, whole, tmp_path):
    """Each process of one run dies at the next file operation of its first save, until a save
    outlives them all.
    """
    folder, codes = tmp_path / "run", []
    in_a_process(go_on, root, folder, plan=MIDWAY)
    while not codes or codes[-1] == KILLED:
        codes.append(
            in_a_process(
                go_on, root, folder, plan=AtTheSecondSave(AtFileEvent(len(codes), thread=SAVES))
            )
        )
    assert codes[-1] == SECOND_SAVE
    assert len(codes) > 20
    assert max(steps_saved(folder)) < 33
    assert in_a_process(go_on, root, folder) == 0
    same(folder, whole[0])


@pytest.mark.slow
def test_killed_at_every_file_event_of_the_end(root, whole, tmp_path):
    """From the moment that the model is written until the result is there."""
    folder, codes = tmp_path / "run", []
    while not codes or codes[-1] == KILLED:
        codes.append(
            in_a_process(go_on, root, folder, plan=AtFileEvent(2 * len(codes), "model.keras"))
        )
        assert codes[-1] in (KILLED, 0)
        if codes[-1] == KILLED and (folder / "result.json").exists():
            same(folder, whole[0])
    assert len(codes) > 5
    same(folder, whole[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["variables.npz", "state.json", "SHA256SUMS"])
def test_a_damaged_generation_is_passed_over(root, whole, tmp_path, name):
    folder = tmp_path / "run"
    in_a_process(go_on, root, folder, plan=MIDWAY)
    newest = Checkpoints(folder / "checkpoints").newest()
    file = newest.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert Checkpoints(folder / "checkpoints").newest().number < newest.number
    assert in_a_process(go_on, root, folder) == 0
    same(folder, whole[0])


@pytest.mark.slow
def test_killed_before_the_first_generation(root, whole, tmp_path):
    folder = tmp_path / "run"
    assert in_a_process(go_on, root, folder, plan=AtFileEvent(3, thread=SAVES)) == KILLED
    assert steps_saved(folder) == []
    assert in_a_process(go_on, root, folder) == 0
    same(folder, whole[0])


@pytest.mark.slow
def test_a_longer_run_is_one_that_was_as_long_from_the_beginning(root, whole, tmp_path):
    """The drop stays where it was, so the schedule is the same."""
    folder = tmp_path / "run"
    assert in_a_process(go_on, root, folder, replace(RECIPE, epochs=3)) == 0
    assert json.loads((folder / "result.json").read_text())["steps"] == 20
    assert in_a_process(go_on, root, folder) == 0
    same(folder, whole[0])


@pytest.mark.slow
def test_a_plateau_is_remembered_and_its_end_is_the_end(root, tmp_path):
    """Killed while it waits, after a drop, and after the last plateau ended the run but before its
    result was written.
    """
    recipe = replace(RECIPE, epochs=40, schedule=Plateau(times=1, patience=2), learning_rate=1e-4)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert in_a_process(go_on, root, whole, recipe) == 0
    outcome = outcome_of(whole)
    assert outcome["progress"]["plateaus"] == 2
    assert outcome["progress"]["epoch"] < 40
    for plan in (MIDWAY, MIDWAY, AtFileEvent(0, "model.keras")):
        assert in_a_process(go_on, root, cut, recipe, plan=plan) == KILLED
    assert in_a_process(go_on, root, cut, recipe) == 0
    same(cut, outcome)


@pytest.mark.slow
def test_parts_of_a_batch_change_only_the_order_of_additions(root, whole, tmp_path):
    """The same samples, crops and masks: another would change a loss by far more than 1e-5."""
    folder = tmp_path / "run"
    assert in_a_process(go_on, root, folder, accumulate=4) == 0
    found = outcome_of(folder)
    ours, theirs = ([line["loss"] for line in each["metrics"]] for each in (found, whole[0]))
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert found["checkpoint"] != whole[0]["checkpoint"]
