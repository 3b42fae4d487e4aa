"""What the loop adds to a step: one compiled call, and results that are read one step late."""

import signal
import sys
from dataclasses import replace

import numpy as np
import pytest

from alexnet_keras.errors import RunError
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.loop import ExecutionConfig, train
from alexnet_keras.training.train_step import PendingResult, TrainStep
from tests.alexnet_keras.training.test_loop import (
    IMAGES,
    LABELS,
    PLAIN,
    Fixed,
    Record,
    feature_batches,
    linear,
)
from tests.alexnet_keras.training.test_signals import send

COMPILED, OPERATION = "TFE_Py_Execute", "TFE_Py_FastPathExecute"


@pytest.fixture(params=[False, True], ids=["at once", "one step late"])
def late(request, monkeypatch):
    """The loop reads results as on a CPU, and as on a GPU, which computes while the host goes
    on.
    """
    monkeypatch.setattr(TrainStep, "returns_early", request.param)
    return request.param


def one_step_late(monkeypatch):
    monkeypatch.setattr(TrainStep, "returns_early", True)


class OneEpoch(Fixed):
    """All steps belong to the first epoch."""

    def first_step_of(self, epoch):
        return len(self.steps) * epoch


class Constant(OneEpoch):
    """The same tensors at every step, so that nothing but the loop runs an operation."""

    def iterate(self, first, last):
        (batch,) = super().iterate(0, 1)
        for _ in range(first, last):
            yield batch


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_is_one_compiled_call(accumulate):
    """Counted in the interpreter: calls of compiled functions and of single operations."""
    executed = []

    def watch(frame, event, function):
        if event == "c_call" and function.__name__ in (COMPILED, OPERATION):
            executed.append(function.__name__)

    def act(name, number, callback):
        if name == "step ends" and number == 2:  # what is traced, is
            sys.setprofile(watch)
        if name == "step ends" and number == 7:
            sys.setprofile(None)

    batches = Constant(*[(IMAGES, LABELS, [1] * 4)] * 9)
    try:
        train(
            linear(),
            batches,
            replace(PLAIN, epochs=None, steps=9),
            callbacks=[Record(act)],
            execution=ExecutionConfig(accumulate=accumulate),
        )
    finally:
        sys.setprofile(None)
    assert executed == [COMPILED] * 5


def test_a_step_is_started_before_the_result_of_the_last_is_read(monkeypatch):
    events = []
    start, fetch = TrainStep.__call__, PendingResult.fetch

    def started(train_step, step, *arguments):
        events.append(("start", step))
        return start(train_step, step, *arguments)

    def fetched(result):
        events.append(("read", sum(name == "read" for name, _ in events)))
        return fetch(result)

    one_step_late(monkeypatch)
    monkeypatch.setattr(TrainStep, "__call__", started)
    monkeypatch.setattr(PendingResult, "fetch", fetched)
    train(linear(), feature_batches(np.ones((12, 2))), replace(PLAIN, epochs=2))
    epoch = ["start", "start", "read", "start", "read", "read"]
    assert [name for name, _ in events] == epoch * 2
    assert [step for name, step in events if name == "read"] == list(range(6))


def test_callbacks_get_every_step_once_and_in_order_before_the_epoch_ends(monkeypatch):
    once, late = Record(), Record()
    train(linear(), feature_batches(np.eye(12, 2)), replace(PLAIN, epochs=2), callbacks=[once])
    one_step_late(monkeypatch)
    train(linear(), feature_batches(np.eye(12, 2)), replace(PLAIN, epochs=2), callbacks=[late])
    ends = [(name, number) for name, number, _ in late.calls if name.endswith("ends")]
    assert ends == [(name, number) for name, number, _ in once.calls if name.endswith("ends")]
    for (_, ours), (_, theirs) in zip(
        late.named("step ends"), once.named("step ends"), strict=True
    ):
        assert ours["loss"] == theirs["loss"]
        assert ours["step_seconds"] >= 0
        assert ours["input_seconds"] >= 0


def bad_in_the_middle():
    """The loss of step 2 is not a number; those of all other steps are."""
    bad = np.where(np.arange(8).reshape(4, 2) == 3, np.nan, IMAGES)
    return (
        [(IMAGES, LABELS, [1] * 4)] * 2
        + [(bad, LABELS, [1] * 4)]
        + [(IMAGES, LABELS, [1] * 4)] * 3
    )


def test_a_bad_step_changes_nothing_is_named_and_is_the_last(late):
    good, model, record = linear(), linear(), Record()
    recipe = replace(PLAIN, momentum=0.9, epochs=None, steps=6)
    train(good, OneEpoch(*bad_in_the_middle()), replace(recipe, steps=2))
    with pytest.raises(RunError, match=r"^step 2: loss: expected a finite number, got nan"):
        train(model, OneEpoch(*bad_in_the_middle()), recipe, callbacks=[record])
    for ours, theirs in zip(model.get_weights(), good.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert [number for number, _ in record.named("step ends")] == [0, 1]
    assert len(record.named("step begins")) == (4 if late else 3)


def test_a_checkpoint_holds_exactly_the_steps_of_its_name(late, tmp_path, monkeypatch):
    """Each checkpoint of a run, against a run that ended there."""
    saved = {}
    save = Checkpoints.save

    def keep(checkpoints, arrays, state):
        saved[state["step"]] = {name: np.array(array) for name, array in arrays.items()}
        return save(checkpoints, arrays, state)

    monkeypatch.setattr(Checkpoints, "save", keep)
    recipe = replace(PLAIN, momentum=0.9, epochs=None, steps=7)
    features = np.random.default_rng(0).standard_normal((12, 2))
    execution = ExecutionConfig(checkpoints=Checkpoints(tmp_path / "all"), save_seconds=0)
    train(linear(), feature_batches(features), recipe, execution=execution)
    assert sorted(saved) == list(range(1, 8))
    monkeypatch.undo()
    for step in (1, 4, 7):
        execution = ExecutionConfig(
            checkpoints=Checkpoints(tmp_path / str(step)), save_seconds=1e9
        )
        train(
            linear(), feature_batches(features), replace(recipe, steps=step), execution=execution
        )
        for name, array in Checkpoints(tmp_path / str(step)).newest().arrays.items():
            np.testing.assert_array_equal(saved[step][name], array, name)


@pytest.mark.parametrize("moment", ["step begins", "step ends"])
def test_a_signal_keeps_every_step_that_was_started(moment, late, tmp_path):
    def act(name, number, callback):
        if (name, number) == (moment, 2):
            send(signal.SIGINT)

    record, model = Record(act), linear()
    execution = ExecutionConfig(checkpoints=Checkpoints(tmp_path / "saved"), save_seconds=1e9)
    outcome = train(
        model,
        feature_batches(np.eye(8, 2)),
        replace(PLAIN, epochs=9),
        callbacks=[record],
        execution=execution,
    )
    steps = [number for number, _ in record.named("step ends")]
    saved = Checkpoints(tmp_path / "saved").newest()
    assert steps == list(range(outcome.steps))
    assert len(record.named("step begins")) == outcome.steps == saved.state["step"]
    np.testing.assert_array_equal(
        saved.arrays["fc8/kernel"], model.get_layer("fc8").kernel.numpy()
    )


def test_what_ends_the_input_does_not_lose_the_step_before_it(late):
    class Broken(Fixed):
        def iterate(self, first, last):
            yield from super().iterate(first, last)
            raise ZeroDivisionError

    record = Record()
    with pytest.raises(ZeroDivisionError):
        train(linear(), Broken((IMAGES, LABELS, [1] * 4)), PLAIN, callbacks=[record])
    assert len(record.named("step ends")) == 1
