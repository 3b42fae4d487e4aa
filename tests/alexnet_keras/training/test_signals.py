"""Ctrl-C and SIGTERM, as real signals to this process."""

import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest

from alexnet_keras.errors import TerminatedError
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.loop import ExecutionConfig, train
from alexnet_keras.training.signals import SIGNALS, catch_stop_signals
from tests.alexnet_keras.training.test_loop import PLAIN, Record, feature_batches, linear


@pytest.fixture(autouse=True)
def ctrl_c():
    """Python's own Ctrl-C, which a test run in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_the_handlers_come_back(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with catch_stop_signals() as request:
        assert request.signal is None
        send(number)
        assert request.signal == number
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_the_handlers_come_back_after_an_error():
    with pytest.raises(ZeroDivisionError), catch_stop_signals():
        1 / 0  # noqa: B018


@pytest.mark.parametrize("first", SIGNALS)
def test_a_ctrl_c_after_another_signal_does_not_wait(first):
    with catch_stop_signals():
        send(first)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


def test_sigterm_can_come_twice():
    with catch_stop_signals() as request:
        send(signal.SIGTERM)
        send(signal.SIGTERM)
        assert request.signal == signal.SIGTERM


def test_outside_the_main_thread_there_are_no_signals():
    found = []

    def body():
        with catch_stop_signals() as request:
            found.append((request.signal, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert found == [(None, signal.default_int_handler)]


def at(moment, number, *signals):
    """A callback to which these signals come at that moment."""

    def act(name, when, callback):
        if (name, when) == (moment, number):
            for each in signals:
                send(each)

    return Record(act)


def learn(record, folder=None, **changes):
    model = linear()
    execution = ExecutionConfig(checkpoints=folder and Checkpoints(folder), save_seconds=1e9)
    return model, train(
        model,
        feature_batches(np.eye(8, 2)),
        replace(PLAIN, epochs=9, **changes),
        callbacks=[record],
        execution=execution,
    )


@pytest.mark.parametrize(
    ("moment", "number", "steps"),
    [("step begins", 2, 3), ("step ends", 2, 4), ("epoch ends", 0, 3)],
)
def test_the_step_under_way_is_finished_and_saved(moment, number, steps, tmp_path):
    record = at(moment, number, signal.SIGINT)
    model, outcome = learn(record, tmp_path / "checkpoints")
    assert (outcome.finished, outcome.steps) == (False, steps)
    assert [number for number, _ in record.named("step ends")] == list(range(steps))
    saved = Checkpoints(tmp_path / "checkpoints").newest()
    assert saved.state["step"] == steps
    np.testing.assert_array_equal(
        saved.arrays["fc8/kernel"], model.get_layer("fc8").kernel.numpy()
    )


def test_sigterm_is_an_error_of_its_own_when_all_is_saved(tmp_path):
    record = at("step begins", 4, signal.SIGTERM)
    with pytest.raises(TerminatedError, match="^terminated after 5 steps; saved after step 5$"):
        learn(record, tmp_path / "checkpoints")
    assert Checkpoints(tmp_path / "checkpoints").newest().state["step"] == 5
    assert record.calls[-1][0] == "train ends"


def test_sigterm_where_nothing_can_be_saved(tmp_path):
    with pytest.raises(
        TerminatedError, match="^terminated after 5 steps; the last steps could not be saved$"
    ):
        learn(at("step begins", 4, signal.SIGTERM), tmp_path / "not there" / "checkpoints")


def test_a_second_ctrl_c_ends_it_at_once(tmp_path):
    record = at("step begins", 2, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        learn(record, tmp_path / "checkpoints")
    assert record.calls[-1][0] == "train ends"
    assert len(record.named("step ends")) == 2


def test_a_signal_during_the_last_step_changes_nothing():
    _, outcome = learn(at("step ends", 17, signal.SIGINT))
    assert (outcome.finished, outcome.steps) == (True, 18)
