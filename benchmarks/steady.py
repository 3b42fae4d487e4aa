"""Throughput of code that runs on its own and reports each batch that it has finished."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.measure import Rate

WARM_UP_BATCHES = 3


class Clock:
    """Call it with the number of items of each batch that is finished.

    :meth:`rate` ignores the first batches, during which pipelines and functions are still built.
    """

    def __init__(self):
        self.finished = []

    def __call__(self, items: float) -> None:
        self.finished.append((time.perf_counter(), items))

    def rate(self) -> float:
        """Items per second after the warm-up."""
        (began, _), *after = self.finished[WARM_UP_BATCHES - 1 :]
        return sum(items for _, items in after) / (after[-1][0] - began)


def steady_rates(
    runs: dict[str, Callable[[Clock], object]], repetitions: int
) -> dict[str, list[float]]:
    """The rate of each of ``runs`` in each repetition; they take turns, in an order that
    rotates.
    """
    rates = {name: [] for name in runs}
    for repetition in range(repetitions):
        names = list(runs)
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            clock = Clock()
            runs[name](clock)
            rates[name].append(clock.rate())
    return rates


def sequential_rate(first: list[float], second: list[float]) -> Rate:
    """The rate at which every item goes through both stages without overlap."""
    return Rate.of(1 / (1 / a + 1 / b) for a, b in zip(first, second, strict=True))
