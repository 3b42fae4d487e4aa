"""``--resume`` after signals, from the command line, in processes of their own; and runs that go
on in the same process.
"""

import signal
import time
from dataclasses import replace

import keras
import pytest

from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.models.alexnet import build
from alexnet_keras.pretrained.loading import Pretrained
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.loop import ExecutionConfig
from alexnet_keras.training.run_folder import RunFolder, new_run_folder
from modes.scratch import train_from_scratch
from modes.transfer import train_from_pretrained
from tests.alexnet_keras.training.resumable import NETWORK, RECIPE, RULE, model_arrays, outcome_of
from tests.alexnet_keras.trees import class_folders, process, read

SETTINGS = (
    "--width",
    "0.05",
    "--epochs",
    "3",
    "--batch-size",
    "4",
    "--augment",
    "paper",
    "--save-every",
    "0",
    "--lr",
    "1e-4",
)


@pytest.fixture
def root(tmp_path):
    return class_folders(tmp_path / "tree", ("cat", "dog"), 13)


def command(*arguments):
    running = process(*arguments)
    _, errors = running.communicate(timeout=600)
    return running.returncode, errors


def newest_name(folder):
    return max((path.name for path in folder.glob("checkpoints/0*")), default="")


@pytest.mark.slow
def test_signals_and_resume_from_the_command_line(root, tmp_path):
    """One run is interrupted, terminated and killed, and ends as one that was not."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert command("scratch", "--data", root, *SETTINGS, "--output", whole) == (0, "")
    arguments = ("scratch", "--data", root, *SETTINGS, "--output", cut)
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = newest_name(cut)
        running = process(*arguments)
        while newest_name(cut) <= before:
            assert running.poll() is None, running.communicate()
            time.sleep(0.02)
        running.send_signal(number)
        _, errors = running.communicate(timeout=600)
        assert running.returncode == code, errors
        assert "Traceback" not in errors
        arguments = ("scratch", "--resume", cut)
        if number != signal.SIGKILL:
            step = Checkpoints(cut / "checkpoints").newest().state["step"]
            assert f"after {step} steps" in errors
        if number == signal.SIGTERM:
            assert not (cut / "result.json").exists()
        if number == signal.SIGINT:
            assert read(cut / "result.json")["finished"] is False
    assert command(*arguments) == (0, "")
    expected, found = outcome_of(whole), outcome_of(cut)
    for name, value in expected.items():
        assert found[name] == value, name
    assert len(read(cut / "config.json")["continued"]) == 3
    assert command(*arguments) == (0, "")
    assert read(cut / "result.json")["steps"] == 20


def interrupting(step):
    """Ctrl-C at the end of a step."""

    def act(number, logs):
        if number == step:
            raise KeyboardInterrupt

    return keras.callbacks.LambdaCallback(on_train_batch_end=act)


def execution_of(run):
    checkpoints = run.checkpoints()
    checkpoint = checkpoints.newest()
    return ExecutionConfig(
        checkpoints=checkpoints, resume=checkpoint is not None, checkpoint=checkpoint
    )


def from_scratch(dataset, run, callbacks):
    train_from_scratch(
        dataset,
        run,
        architecture=NETWORK,
        preprocessing=RULE,
        recipe=replace(RECIPE, epochs=2),
        seed=3,
        callbacks=callbacks,
        execution=execution_of(run),
    )


def transferred(dataset, run, callbacks):
    keras.utils.set_random_seed(0)
    base = build(NETWORK, keras.Input((19, 19, 3)), 4, preprocessing=RULE)
    head = Recipe("head", batch_size=8, epochs=3, schedule=DropAt(()))
    train_from_pretrained(
        dataset,
        run,
        base=Pretrained(base, "base", run.path / "base.keras"),
        head_recipe=head,
        recipe=replace(RECIPE, epochs=2, dropout=0.5, head_multiplier=10.0),
        train_from="conv2",
        seed=3,
        callbacks=callbacks,
        execution=execution_of(run),
    )


@pytest.mark.slow
@pytest.mark.parametrize("learn", [from_scratch, transferred])
def test_ctrl_c_in_the_middle_of_an_epoch_and_on_in_the_same_process(root, tmp_path, learn):
    """Whatever Keras has named and numbered since; the epoch's means are of all its images,
    exactly.
    """
    dataset, outcomes = open_dataset(root), []
    for name, breaks in (("whole", []), ("cut", [interrupting(2), interrupting(9)])):
        for callback in [*breaks, None]:
            folder = tmp_path / name
            with RunFolder(folder) if folder.exists() else new_run_folder(folder, "x") as run:
                learn(dataset, run, [callback] if callback else [])
            if callback:
                assert read(folder / "result.json")["finished"] is False
        outcomes.append(outcome_of(folder))
    whole, cut = outcomes
    assert [line["step"] for line in cut["metrics"]] == [7, 10, 13]
    assert cut["metrics"] == whole["metrics"]
    assert cut["progress"] == whole["progress"]
    assert list(cut["checkpoint"].values()) == list(whole["checkpoint"].values())
    assert cut["model"] == whole["model"] == model_arrays(tmp_path / "cut" / "model.keras")
