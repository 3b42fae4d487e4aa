"""Event files, read back by TensorBoard's own two readers."""

from unittest.mock import patch

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import (
    EventAccumulator as PluginEventAccumulator,
)
from tensorboard.util.tensor_util import make_ndarray

from alexnet_keras.errors import RunError
from alexnet_keras.training import tensorboard
from alexnet_keras.training.tensorboard import TensorBoardLog, _histogram
from tests.alexnet_keras.tiny import tiny_model

EVERYTHING = {"scalars": 0, "histograms": 0, "tensors": 0}
STEP = {"loss": 2.5, "top1": 0.25, "top5": 0.75, "learning_rate": 0.01, "images_per_second": 96.0}


def net():
    inputs = keras.Input((2,))
    return keras.Model(
        inputs, keras.layers.Dense(3, name="fc8")(keras.layers.Dropout(0.5)(inputs))
    )


def run(
    folder,
    first,
    last,
    *,
    steps_per_epoch=10,
    killed=False,
    every_steps=tensorboard.STEPS_PER_POINT,
    logs_of=lambda step: {"loss": float(step)},
):
    """Log the steps ``first <= step < last``; the training of a killed run never ends."""
    log = TensorBoardLog(folder)
    log.set_model(net())
    log.on_train_begin({"epochs": 9, "steps": 90, "step": first})
    with patch.object(tensorboard, "STEPS_PER_POINT", every_steps):
        for step in range(first, last):
            log.on_train_batch_end(step, logs_of(step))
            if (step + 1) % steps_per_epoch == 0:
                logs = {"loss": float(step), "val_top1": step / 100}
                log.on_epoch_end(step // steps_per_epoch, logs)
    if not killed:
        log.on_train_end()


def read(folder):
    return EventAccumulator(str(folder), EVERYTHING).Reload()


def scalars(events, tag):
    return [(event.step, event.value) for event in events.Scalars(tag)]


def test_scalars_of_steps_by_global_step(tmp_path):
    run(
        tmp_path,
        0,
        9,
        every_steps=3,
        logs_of=lambda step: STEP | {"loss": 0.5 * step, "batches": 7, "note": "text"},
    )
    events = read(tmp_path)
    assert set(events.Tags()["scalars"]) == {f"train/{name}" for name in (*STEP, "batches")}
    assert scalars(events, "train/loss") == [(2, 1.0), (5, 2.5), (8, 4.0)]
    assert scalars(events, "train/learning_rate") == [
        (step, pytest.approx(0.01)) for step in (2, 5, 8)
    ]
    assert scalars(events, "train/batches") == [(2, 7), (5, 7), (8, 7)]


def test_scalars_of_epochs_and_of_val(tmp_path):
    run(tmp_path, 0, 20)
    events = read(tmp_path)
    assert scalars(events, "epoch/loss") == [(9, 9), (19, 19)]
    assert scalars(events, "val/top1") == [(9, pytest.approx(0.09)), (19, pytest.approx(0.19))]
    assert scalars(events, "train/loss") == [(9, 9), (19, 19)]


def test_numbers_of_numpy_are_numbers(tmp_path):
    run(
        tmp_path,
        0,
        1,
        every_steps=1,
        logs_of=lambda step: {"loss": np.float32(1.5), "images": np.int64(3), "rows": [1]},
    )
    events = read(tmp_path)
    assert {tag: scalars(events, tag) for tag in events.Tags()["scalars"]} == {
        "train/loss": [(0, 1.5)],
        "train/images": [(0, 3)],
    }


def test_histograms_of_every_weight_at_the_end_of_an_epoch(tmp_path):
    log, model = TensorBoardLog(tmp_path), tiny_model()
    log.set_model(model)
    kernel = np.linspace(-1, 2, model.get_layer("fc8").kernel.shape[0] * 5).reshape(-1, 5)
    model.get_layer("fc8").set_weights([kernel, np.full(5, 0.5)])
    log.on_train_begin({"step": 4})
    log.on_train_batch_end(4, STEP)
    log.on_epoch_end(0, STEP)
    log.on_train_end()
    events = read(tmp_path)
    layers = [layer.name for layer in model.layers if layer.weights]
    assert set(events.Tags()["histograms"]) == {
        f"{name}/{kind}" for name in layers for kind in ("kernel", "bias")
    }
    (event,) = events.Histograms("fc8/kernel")
    found = event.histogram_value
    assert (event.step, found.min, found.max, found.num) == (4, -1, 2, kernel.size)
    np.testing.assert_allclose(found.bucket_limit, np.linspace(-1, 2, 31)[1:])
    assert sum(found.bucket) == kernel.size
    assert max(found.bucket) - min(found.bucket) <= 1  # evenly spread values
    constant = events.Histograms("fc8/bias")[0].histogram_value
    assert (constant.min, constant.max, sum(constant.bucket)) == (0.5, 0.5, 5)


@settings(deadline=None)
@given(arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32)))
def test_a_histogram_counts_every_finite_value_in_its_bucket(values):
    histogram, finite = (
        _histogram("fc8/kernel", values).histo,
        values[np.isfinite(values)].astype(np.float64),
    )
    assert sum(histogram.bucket) == histogram.num == len(finite)
    if len(finite):
        assert list(histogram.bucket_limit) == sorted(histogram.bucket_limit)
        assert (histogram.min, histogram.max) == (finite.min(), finite.max())
        below = [(finite < limit).sum() for limit in histogram.bucket_limit[:-1]]
        assert list(np.cumsum(histogram.bucket)[:-1]) == below


def test_steps_that_a_killed_run_logged_after_its_checkpoint_are_dropped(tmp_path):
    run(tmp_path, 0, 38, every_steps=2, killed=True)
    assert scalars(read(tmp_path), "train/loss")[-1] == (37, 37)
    run(tmp_path, 20, 26, every_steps=2, killed=True, logs_of=lambda step: {"loss": -float(step)})
    events = read(tmp_path)
    kept = [(step, step) for step in range(1, 20, 2)]
    assert scalars(events, "train/loss") == [*kept, (21, -21), (23, -23), (25, -25)]
    assert scalars(events, "val/top1") == [(9, pytest.approx(0.09)), (19, pytest.approx(0.19))]
    assert [event.step for event in events.Histograms("fc8/kernel")] == [9, 19]
    run(tmp_path, 24, 40, every_steps=2, logs_of=lambda step: {"loss": 100.0 + step})
    events = read(tmp_path)
    assert scalars(events, "train/loss") == [
        *kept,
        (21, -21),
        (23, -23),
        *((step, 100 + step) for step in range(25, 40, 2)),
    ]
    assert [step for step, _ in scalars(events, "epoch/loss")] == [9, 19, 29, 39]


def test_the_step_it_resumes_with_is_dropped_and_the_one_before_is_kept(tmp_path):
    run(tmp_path, 0, 6, every_steps=1, killed=True)
    run(tmp_path, 4, 4)
    assert scalars(read(tmp_path), "train/loss") == [(step, step) for step in range(4)]


def test_an_epoch_whose_last_step_was_before_the_kill_ends_at_that_step(tmp_path):
    log = TensorBoardLog(tmp_path)
    log.set_model(net())
    log.on_train_begin({"step": 20})
    log.on_epoch_end(1, {"val_loss": 3.0})
    log.on_train_end()
    assert scalars(read(tmp_path), "val/loss") == [(19, 3.0)]


def test_the_server_s_reader_agrees(tmp_path):
    run(tmp_path, 0, 38, every_steps=2, killed=True)
    run(tmp_path, 20, 26, every_steps=2, logs_of=lambda step: {"loss": -float(step)})
    events = PluginEventAccumulator(str(tmp_path)).Reload()
    found = [
        (event.step, float(make_ndarray(event.tensor_proto)))
        for event in events.Tensors("train/loss")
    ]
    assert found == [*((step, step) for step in range(1, 20, 2)), (21, -21), (23, -23), (25, -25)]
    (first, _) = events.Tensors("fc8/bias")
    # left, right, count of the zeros
    np.testing.assert_array_equal(make_ndarray(first.tensor_proto), [[0, 0, 3]])
    assert events.SummaryMetadata("fc8/bias").plugin_data.plugin_name == "histograms"


def test_a_fresh_run_starts_at_step_0(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "STEPS_PER_POINT", 1)
    log = TensorBoardLog(tmp_path / "new" / "folder")
    log.on_train_begin({"epochs": 1, "steps": 1})
    log.on_train_batch_end(0, STEP)
    assert scalars(read(log.folder), "train/loss") == [(0, 2.5)]  # already, not only at the end


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        RunError, match="file: the TensorBoard events cannot be written: File exists"
    ):
        TensorBoardLog(tmp_path / "file").on_train_begin({})


def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("alexnet_keras.training.tensorboard.time", lambda: 1.0)
    (tmp_path / "events.out.tfevents.1.000000").symlink_to("/dev/full")
    with pytest.raises(RunError, match="cannot be written: .*No space left on device$"):
        TensorBoardLog(tmp_path).on_train_begin({})
