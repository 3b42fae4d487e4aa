"""The training loop that runs a few steps at a time."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET
from benchmarks import loop
from benchmarks.measure import Options
from benchmarks.peers import random_images

TINY = ALEXNET.with_width(0.05)


@pytest.fixture
def paced():
    images = random_images(2, TINY.input_size)
    return loop.PacedLoop(TINY, images, np.arange(2, dtype=np.int32), steps=3)


def test_each_call_runs_its_steps(paced):
    paced.run()
    paced.run()
    assert not paced.training.done()
    paced.close()
    assert paced.training.result().steps == 6


def test_an_error_that_ends_the_loop_ends_the_measurement(monkeypatch):
    def fail(self):
        raise IndexError("out of batches")

    monkeypatch.setattr(loop.PacedLoop, "_train", fail)
    with pytest.raises(IndexError, match="out of batches"):
        loop.PacedLoop(TINY, random_images(1, 8), np.zeros(1, np.int32), steps=1)


@pytest.mark.slow
def test_the_tiny_network_is_measured_against_its_own_target(monkeypatch):
    monkeypatch.setattr(loop, "TINY_STEPS_PER_CALL", 1)
    line = next(loop.lines(Options(repetitions=1)))
    assert line.measure == "training loop of width 0.03, batch 1"
    assert line.targets == {"bare step": pytest.approx(0.87, abs=0.001)}
    assert set(line.rates) == {"ours", "bare step"}
