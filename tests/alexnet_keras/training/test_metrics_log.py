"""metrics.jsonl: what is appended, and what a continued run drops first."""

import json
import logging
import signal

import pytest

from alexnet_keras.errors import RunError
from alexnet_keras.training.metrics_log import MetricsLog


def train(path, first_step=0, last_step=24, epoch=0):
    """What a loop tells its callbacks: epochs of 12 steps from ``first_step`` on."""
    log = MetricsLog(path)
    log.on_train_begin({"epochs": 2, "steps": 24, "step": first_step, "epoch": epoch})
    if first_step % 12:
        log.on_epoch_begin(epoch)
    for step in range(first_step, last_step):
        if step % 12 == 0:
            log.on_epoch_begin(epoch)
        log.on_train_batch_end(step, {"loss": step / 100, "images_per_second": 9.0})
        if step % 12 == 11:
            log.on_epoch_end(epoch, {"loss": 0.25, "val_top1": 1.0})
            epoch += 1


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_line_every_ten_steps_and_every_epoch(tmp_path):
    path = tmp_path / "metrics.jsonl"
    train(path)
    assert lines(path) == [
        {"event": "step", "step": 10, "epoch": 0, "loss": 0.09, "images_per_second": 9.0},
        {"event": "epoch", "step": 12, "epoch": 0, "loss": 0.25, "val_top1": 1.0},
        {"event": "step", "step": 20, "epoch": 1, "loss": 0.19, "images_per_second": 9.0},
        {"event": "epoch", "step": 24, "epoch": 1, "loss": 0.25, "val_top1": 1.0},
    ]


@pytest.mark.parametrize("killed_after", [*range(1, 25)])
@pytest.mark.parametrize("behind", [0, 1, 11])
def test_a_continued_run_ends_with_the_lines_of_one_that_was_not(tmp_path, killed_after, behind):
    """Wherever it was killed, and however far back the checkpoint lies that it goes on from."""
    whole, path = tmp_path / "whole.jsonl", tmp_path / "metrics.jsonl"
    train(whole)
    train(path, last_step=killed_after)
    saved = max(killed_after - behind, 0)
    train(path, first_step=saved, epoch=saved // 12)
    assert path.read_bytes() == whole.read_bytes()


def test_a_generation_of_the_end_of_an_epoch_whose_line_is_not_written_yet(tmp_path):
    """A save between the last step and the evaluation: the epoch's line is written by the run that
    goes on.
    """
    path = tmp_path / "metrics.jsonl"
    train(path)
    MetricsLog(path).on_train_begin({"step": 12, "epoch": 0})
    assert [(line["event"], line["step"]) for line in lines(path)] == [("step", 10)]
    train(path)
    MetricsLog(path).on_train_begin({"step": 12, "epoch": 1})
    assert [(line["event"], line["step"]) for line in lines(path)] == [("step", 10), ("epoch", 12)]


@pytest.mark.parametrize(
    "rest",
    [
        b'{"event": "st',
        b"\0" * 20,
        b'{"event": "step", "step": 20, "epoch": 1, "lo',
        b"\xff\xfe",
        b"[]\n",
        b"3\n",
        b"{}\n",
        b'{"event": "step", "step": "x", "epoch": 1}\n',
        b"[" * 99_999,
    ],
)
def test_what_a_kill_or_a_full_disk_left_of_a_line_is_dropped(tmp_path, rest):
    path = tmp_path / "metrics.jsonl"
    train(path, last_step=12)
    whole = path.read_bytes()
    path.write_bytes(whole + rest)
    train(path, first_step=12, last_step=12, epoch=1)
    assert path.read_bytes() == whole


def test_a_new_run_begins_without_a_file(tmp_path):
    MetricsLog(tmp_path / "metrics.jsonl").on_train_begin({"step": 0, "epoch": 0})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_for_a_while_costs_lines_and_not_the_run(
    tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(
        logging.getLogger("alexnet_keras"), "handlers", []
    )  # stderr may be a file as well
    resource, path = pytest.importorskip("resource"), tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.on_epoch_end(0, {"loss": 1.0})
    whole, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 5, limits[1]))
    try:
        for epoch in (1, 2):
            log.on_epoch_end(epoch, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == whole
    assert caplog.messages == [f"{path}: cannot be written: File too large; training continues"]
    log.on_epoch_end(3, {"loss": 1.0})
    assert [line["epoch"] for line in lines(path)] == [0, 3]


def test_a_continued_run_whose_metrics_cannot_be_read(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match="metrics.jsonl: cannot be written: Is a directory$"):
        MetricsLog(tmp_path / "metrics.jsonl").on_train_begin({"step": 0, "epoch": 0})
