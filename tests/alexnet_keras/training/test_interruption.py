"""What a run leaves when it ends before its time, in processes of their own."""

import signal
import time

import pytest

from alexnet_keras.models.saving import load_model
from tests.alexnet_keras.trees import (
    CATEGORIES,
    SMALL,
    assert_refused,
    coco_tree,
    invoke,
    process,
    read,
)

pytestmark = pytest.mark.slow


def wait_for(path, running, seconds=60):
    end = time.monotonic() + seconds
    while not (path.is_file() and path.stat().st_size):
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


LONG = ("--width", "0.05", "--epochs", "1000", "--batch-size", "4")


def test_ctrl_c_keeps_what_was_done(tmp_path):
    running = process(
        "scratch", "--data", coco_tree(tmp_path / "coco"), *LONG, "--output", tmp_path / "run"
    )
    wait_for(tmp_path / "run" / "metrics.jsonl", running)
    running.send_signal(signal.SIGINT)
    printed, errors = running.communicate(timeout=60)
    result = read(tmp_path / "run" / "result.json")
    assert running.returncode == 130
    assert (
        errors
        == f"warning: interrupted after {result['steps']} steps; the weights so far are kept\n"
    )
    assert printed.splitlines()[-1].startswith(f"{tmp_path / 'run'}: top-1 {result['top1']:.2%}, ")
    assert (result["finished"], result["images"]) == (False, 8)
    assert result["steps"] > 0
    assert load_model(tmp_path / "run").class_names == tuple(CATEGORIES.values())


def test_ctrl_c_while_features_are_extracted(tmp_path):
    many = coco_tree(tmp_path / "many", {"train2017": 300, "val2017": 2})
    running = process(
        "extract",
        "--data",
        many,
        "--weights",
        "demo",
        "--out",
        tmp_path / "f.npy",
        "--batch-size",
        "1",
    )
    deadline = time.monotonic() + 60
    unfinished = tmp_path / "f.unfinished"
    while not (unfinished / "f.npy").exists() or (unfinished / "f.npy").stat().st_size < 5000:
        assert time.monotonic() < deadline
        assert running.poll() is None, running.communicate()
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.splitlines()[-1] == "interrupted"
    assert errors.splitlines()[-2].endswith(" rows are kept; --resume continues")
    assert {path.name for path in tmp_path.iterdir()} == {"many", "f.unfinished"}


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 143)]
)
def test_a_run_that_was_ended_leaves_nothing_that_could_be_taken_for_whole_and_goes_on(
    tmp_path, number, code
):
    run = tmp_path / "run"
    running = process(
        "scratch",
        "--data",
        coco_tree(tmp_path / "coco"),
        *LONG,
        "--output",
        run,
        "--save-every",
        "0",
    )
    wait_for(run / "metrics.jsonl", running)
    for options in (
        ("--resume", run),
        ("--data", tmp_path / "coco", *SMALL, "--output", run, "--overwrite"),
    ):
        assert_refused("scratch", *options, says=f"{run}: another process is using this run")
    assert running.poll() is None
    running.send_signal(number)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == code
    if number == signal.SIGTERM:
        saved = max(int(path.name.split("-")[-1]) for path in (run / "checkpoints").iterdir())
        assert errors == f"error: terminated after {saved} steps; saved after step {saved}\n"
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "run.log",
        "samples.csv.gz",
    }
    refused = invoke("evaluate", run)
    assert (refused.exit_code, refused.stderr) == (
        2,
        f"error: {run / 'model.keras'}: expected a model saved by this project, got nothing\n",
    )
    began = max(int(path.name.split("-")[-1]) for path in (run / "checkpoints").iterdir())
    resumed = invoke("scratch", "--resume", run, "--steps", began + 1)
    assert (resumed.exit_code, resumed.stderr) == (0, "")
    assert f"the newest complete checkpoint: step {began}\n" in resumed.stdout
    assert read(run / "result.json")["steps"] == began + 1
    assert (
        invoke(
            "scratch", "--data", tmp_path / "coco", *SMALL, "--output", run, "--overwrite"
        ).exit_code
        == 0
    )


def test_a_run_on_a_full_disk(tmp_path):
    """A limit of 200,000 bytes a file is a disk too full for the model and for every
    checkpoint.
    """
    run = tmp_path / "run"
    running = process(
        "scratch",
        "--data",
        coco_tree(tmp_path / "coco"),
        *SMALL,
        "--output",
        run,
        "--save-every",
        "0",
    )
    resource = pytest.importorskip("resource")
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (200_000, 200_000))
    _, errors = running.communicate(timeout=120)
    assert running.returncode == 2
    *warnings, last = errors.splitlines()
    assert last == f"error: {run / 'model.keras'}: cannot be written: File too large"
    assert warnings
    for line in warnings:
        assert line.startswith(f"warning: {run / 'checkpoints'}: step ")
        assert line.endswith(
            " cannot be saved: File too large; training continues, the next save will retry"
        )
    assert {path.name for path in run.iterdir()} == {
        ".lock",
        "checkpoints",
        "config.json",
        "metrics.jsonl",
        "run.log",
        "samples.csv.gz",
    }
    assert list((run / "checkpoints").iterdir()) == []
    assert "ERROR" in (run / "run.log").read_text()
