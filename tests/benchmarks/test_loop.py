"""The training loop that is let through one step at a time."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET
from benchmarks import loop
from benchmarks.peers import random_images

TINY = ALEXNET.widened(0.05)


@pytest.fixture
def paced(monkeypatch):
    monkeypatch.setattr(loop, "ALEXNET", TINY)
    return loop.PacedLoop(random_images(2, TINY.input_size), np.arange(2, dtype=np.int32))


def test_each_call_lets_one_step_pass(paced):
    paced.step()
    paced.step()
    assert not paced.training.done()
    paced.close()
    assert paced.training.result().steps == 2


def test_what_ends_the_loop_ends_the_measurement(monkeypatch):
    def fail(self):
        raise IndexError("out of batches")

    monkeypatch.setattr(loop.PacedLoop, "_train", fail)
    with pytest.raises(IndexError, match="out of batches"):
        loop.PacedLoop(random_images(1, 8), np.zeros(1, np.int32))
