"""Rates of what runs by itself and tells of each piece of work that it has done."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.measure import Rate


class Clock:
    """Told of the items done, one piece after the other; ``rate`` leaves out the first, while all
    is still prepared.
    """

    def __init__(self, first: int = 3):
        self.first, self.told = first, []

    def __call__(self, items: float) -> None:
        self.told.append((time.perf_counter(), items))

    def rate(self) -> float:
        """Items a second after the first pieces."""
        (began, _), *after = self.told[self.first - 1 :]
        return sum(items for _, items in after) / (after[-1][0] - began)


def steady_rates(
    runs: dict[str, Callable[[Clock], object]], repetitions: int
) -> dict[str, list[float]]:
    """Of each of ``runs``, which take turns, the rates of the repetitions."""
    rates = {name: [] for name in runs}
    for repetition in range(repetitions):
        names = list(runs)
        for name in names[repetition % len(names) :] + names[: repetition % len(names)]:
            clock = Clock()
            runs[name](clock)
            rates[name].append(clock.rate())
    return rates


def one_after_the_other(some: list[float], others: list[float]) -> Rate:
    """The rate of doing both to every item, where neither helps the other."""
    return Rate.of(1 / (1 / one + 1 / other) for one, other in zip(some, others, strict=True))
