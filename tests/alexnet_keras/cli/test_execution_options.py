"""How a run is carried out: precision, accumulation, TensorBoard, and saves that the file system
refuses.
"""

import json
import shutil
import subprocess

import keras
import numpy as np
import pytest

from alexnet_keras.models.saving import load_model
from alexnet_keras.training import checkpoints
from tests.alexnet_keras.trees import class_folders, invoke, read

TINY = (
    "--width",
    "0.02",
    "--recipe",
    "demo",
    "--batch-size",
    "4",
    "--epochs",
    "1",
    "--save-every",
    "0",
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("files") / "tree", count=2)


def run_on(tree, folder, *options):
    result = invoke("scratch", "--data", tree, *TINY, *options, "--output", folder)
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_leaves_a_network_in_float32(tree, tmp_path, precision):
    """Trained in parts, with TensorBoard; what result.json tells is what evaluate finds of the
    network that is left.
    """
    run_on(tree, tmp_path / "run", "--precision", precision, "--accumulate", "2", "--tensorboard")
    assert keras.config.dtype_policy().name == "float32"
    model, result = load_model(tmp_path / "run"), read(tmp_path / "run" / "result.json")
    assert {layer.dtype_policy.name for layer in model.layers} == {"float32"}
    assert {array.dtype for array in model.get_weights()} == {np.dtype(np.float32)}
    assert (result["steps"], result["finished"]) == (2, True)
    evaluated = invoke("evaluate", tmp_path / "run", "--out", tmp_path / "tables")
    assert f"top-1 {result['top1']:.2%}, top-5 {result['top5']:.2%}, " in evaluated.stdout
    for name in ("classes.csv", "confusion.csv"):
        assert (tmp_path / "tables" / name).read_bytes() == (tmp_path / "run" / name).read_bytes()
    assert [path.name[:20] for path in (tmp_path / "run" / "tensorboard").iterdir()] == [
        "events.out.tfevents."
    ]


@pytest.mark.slow
def test_overwrite_replaces_checkpoints_and_tensorboard(tree, tmp_path):
    run_on(tree, tmp_path / "run", "--tensorboard")
    before = {path.name for path in (tmp_path / "run").iterdir()}
    (tmp_path / "run" / "checkpoints" / "old").touch()
    (tmp_path / "run" / "tensorboard" / "old").touch()
    assert invoke("scratch", "--data", tree, *TINY, "--output", tmp_path / "run").exit_code == 2
    run_on(tree, tmp_path / "run", "--overwrite")
    assert {path.name for path in (tmp_path / "run").iterdir()} == before - {"tensorboard"}
    assert not list((tmp_path / "run").rglob("old"))


def refusing(times, error):
    """A write of a checkpoint that fails so many times."""
    left, write = [times], checkpoints.write_checkpoint

    def refused(*arguments):
        if left[0]:
            left[0] -= 1
            raise error
        write(*arguments)

    return refused


def test_saves_that_are_refused_for_a_while_are_told_and_tried_again(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(
        checkpoints, "write_checkpoint", refusing(2, OSError(30, "Read-only file system"))
    )
    result = run_on(tree, tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints"
    first, second = result.stderr.splitlines()
    assert first == (
        f"warning: {folder}: step 1 cannot be saved: Read-only file system; training continues, "
        "the next save will retry"
    )
    assert second == first.replace("step 1", "step 2")
    assert "Read-only file system" in (tmp_path / "run" / "run.log").read_text()
    assert [path.name for path in folder.iterdir()] == ["000001-step-2"]
    assert read(tmp_path / "run" / "result.json")["finished"]


@pytest.mark.slow
def test_saves_that_are_always_refused_do_not_keep_a_run_from_its_end(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(
        checkpoints, "write_checkpoint", refusing(99, OSError(28, "No space left on device"))
    )
    result = run_on(tree, tmp_path / "run")
    assert all(
        line.endswith("training continues, the next save will retry")
        for line in result.stderr.splitlines()
    )
    assert list((tmp_path / "run" / "checkpoints").iterdir()) == []
    assert read(tmp_path / "run" / "result.json")["steps"] == 2
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    ]
    assert lines[-1]["val_loss"] == read(tmp_path / "run" / "result.json")["loss"]


@pytest.mark.slow
def test_a_generation_is_checked_by_hand(tree, tmp_path):
    """``sha256sum -c SHA256SUMS``, as docs/usage.md says."""
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum on this machine")
    run_on(tree, tmp_path / "run")
    for checkpoint in (tmp_path / "run" / "checkpoints").iterdir():
        subprocess.run(
            ["sha256sum", "-c", "SHA256SUMS"], cwd=checkpoint, check=True, capture_output=True
        )


@pytest.mark.slow
def test_one_step_of_transfer_in_every_precision(tree, tmp_path):
    run_on(tree, tmp_path / "base")
    for precision in ("float32", "mixed_bfloat16"):
        result = invoke(
            "transfer",
            "--data",
            tree,
            "--weights",
            tmp_path / "base",
            "--steps",
            "1",
            "--batch-size",
            "4",
            "--precision",
            precision,
            "--output",
            tmp_path / precision,
        )
        assert (result.exit_code, result.stderr) == (0, "")
        assert load_model(tmp_path / precision).get_layer("fc8").compute_dtype == "float32"
    finished = invoke("transfer", "--resume", tmp_path / "float32")
    assert "finished already, after 1 steps" in finished.stdout
    (tmp_path / "base" / "model.keras").write_bytes(
        (tmp_path / "mixed_bfloat16" / "model.keras").read_bytes()
    )
    refused = invoke("transfer", "--resume", tmp_path / "float32", "--steps", "2")
    assert refused.exit_code == 2
    assert (
        f"{tmp_path / 'base'}: expected the weights that the run began with (sha256 "
        in refused.stderr
    )
