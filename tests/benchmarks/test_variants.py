"""The comparison of two variants runs."""

from dataclasses import replace

import pytest

from alexnet_keras.configs.architecture import ALEXNET, KRIZHEVSKY
from benchmarks import variants
from benchmarks.measure import Options


@pytest.mark.slow
def test_both_kinds_of_work_are_compared(monkeypatch):
    for name, architecture, size in (("ALEXNET", ALEXNET, 67), ("KRIZHEVSKY", KRIZHEVSKY, 64)):
        tiny = replace(architecture.with_width(0.05), input_size=size)
        monkeypatch.setattr(variants, name, tiny)
    found = list(variants.lines(Options(batch_sizes=(2,), repetitions=1)))
    assert [line.measure for line in found] == [
        "inference of krizhevsky, batch 2",
        "training step of krizhevsky, batch 2",
    ]
    for line in found:
        assert line.others == ["alexnet"]
        assert line.ratio("alexnet") > 0
