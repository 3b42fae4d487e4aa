"""Rates of several candidates, measured in turn in one run, and what of them makes a line of the
report.

Candidates take turns, in an order that is rotated, so that a machine with other load slows all of
them alike; what it does to each is told by the spread.
"""

from __future__ import annotations

import itertools
import math
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

SGEMM, COPY = "sgemm", "memory copy"
SGEMM_SIZE, COPY_BYTES = 4096, 1 << 28
LEAST_SECONDS = 0.25
REST_SECONDS = 0.03
TABLE_WIDTH = 130


@dataclass(frozen=True)
class Options:
    """What the command line asks of every module. ``threads`` are those of ours and of each peer.

    ``batch_sizes``: instead of a module's own, where it has any.
    """

    batch_sizes: tuple[int, ...] = ()
    repetitions: int = 10
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def sizes(self, usual: tuple[int, ...]) -> tuple[int, ...]:
        """The batch sizes of a module that usually takes these."""
        return self.batch_sizes or usual


@dataclass(frozen=True)
class Candidate:
    """``run`` takes no arguments, is done when it returns, and processes ``items`` items."""

    name: str
    run: Callable[[], object]
    items: float


@dataclass(frozen=True)
class Rate:
    """Items a second: median, least and greatest of the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Rate:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Line:
    """One measure: ``rates`` of ``ours``, of each peer and, where they were measured, of the
    ceilings.

    ``targets``: the least ratio of ours to a peer, or fraction of a ceiling. The ceilings SGEMM
    (GFLOP/s) and COPY (GB/s) are compared with what ours does in ``flops_per_item`` and
    ``bytes_per_item``. ``less_is_better`` for seconds and bytes.
    """

    measure: str
    ours: str
    rates: dict[str, Rate]
    targets: dict[str, float] = field(default_factory=dict)
    flops_per_item: float | None = None
    bytes_per_item: float | None = None
    notes: str = ""
    unit: str = "images/s"
    less_is_better: bool = False

    @property
    def others(self) -> list[str]:
        """Peers, then the ceilings that apply."""
        peers = [name for name in self.rates if name not in (self.ours, SGEMM, COPY)]
        return peers + [
            name for name, work in self._work().items() if work is not None and name in self.rates
        ]

    def ratio(self, other: str) -> float:
        """How much better ours is than a peer, or the fraction of a ceiling that it reaches."""
        ours, theirs = self.rates[self.ours].median, self.rates[other].median
        if self.less_is_better:
            return theirs / ours
        return ours * (self._work().get(other) or 1) / theirs

    @property
    def missed(self) -> list[str]:
        """Those whose least ratio is not reached."""
        return [
            other
            for other in self.others
            if self.ratio(other) < self.targets.get(other, -math.inf)
        ]

    def _work(self) -> dict[str, float | None]:
        return {
            SGEMM: self.flops_per_item and self.flops_per_item / 1e9,
            COPY: self.bytes_per_item and self.bytes_per_item / 1e9,
        }


def interleaved(
    candidates: Sequence[Candidate], repetitions: int = 10, warm_up: int = 2
) -> dict[str, Rate]:
    """Rates of the candidates, each of which runs once, or for a quarter of a second, in every
    repetition.
    """
    calls = {}
    for candidate in candidates:
        seconds = min(_seconds(candidate, 1) for _ in range(max(1, warm_up)))
        calls[candidate.name] = max(1, math.ceil(LEAST_SECONDS / max(seconds, 1e-9)))
    rates = {candidate.name: [] for candidate in candidates}
    for repetition in range(repetitions):
        first = repetition % len(candidates)
        for candidate in (*candidates[first:], *candidates[:first]):
            time.sleep(REST_SECONDS)  # a peer's threads spin for a while after its last call
            seconds = _seconds(candidate, calls[candidate.name])
            rates[candidate.name].append(candidate.items * calls[candidate.name] / seconds)
    return {name: Rate.of(values) for name, values in rates.items()}


def _seconds(candidate: Candidate, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        candidate.run()
    return time.perf_counter() - began


def rotating(function: Callable, inputs: Iterable) -> Callable[[], object]:
    """``function`` of one of the inputs after the other."""
    turns = itertools.cycle(inputs)
    return lambda: function(next(turns))


def ceilings(threads: int) -> list[Candidate]:
    """What the machine can do: a matrix product in GFLOP/s, and reading and writing memory in
    GB/s.
    """
    import tensorflow as tf

    matrix = tf.random.stateless_normal((SGEMM_SIZE, SGEMM_SIZE), (0, 0))
    source = [np.ones(COPY_BYTES // 4 // threads, np.float32) for _ in range(threads)]
    target = [np.empty_like(part) for part in source]
    return [
        Candidate(
            SGEMM, lambda: tf.linalg.matmul(matrix, matrix).numpy(), 2 * SGEMM_SIZE**3 / 1e9
        ),
        Candidate(COPY, _copying(source, target), 2 * COPY_BYTES / 1e9),
    ]


def _copying(source: list[np.ndarray], target: list[np.ndarray]) -> Callable[[], object]:
    from concurrent.futures import ThreadPoolExecutor

    threads = ThreadPoolExecutor(len(source))
    return lambda: list(threads.map(np.copyto, target, source))


def installed(packages: dict[str, str]) -> tuple[list[str], list[str]]:
    """Of peers and the modules that they need, the names of those that are installed and of those
    that are not.
    """
    there = [name for name, module in packages.items() if find_spec(module) is not None]
    return there, [name for name in packages if name not in there]


def print_table(lines: Iterable[Line]) -> None:
    """The table on the terminal, no narrower than it needs."""
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table(lines))


def show(lines: Sequence[Line]) -> None:
    """The table, what is to know about each line, and the targets that are missed."""
    print_table(lines)
    for line in lines:
        if line.notes:
            click.echo(f"{line.measure}: {line.notes}")
    for line in lines:
        for other in line.missed:
            click.echo(
                f"missed: {line.measure} against {other}: {line.ratio(other):.2f}, expected "
                f"{line.targets[other]:g}"
            )


def table(lines: Iterable[Line]) -> Table:
    """A row for each peer and ceiling; the spread is the least and greatest of the repetitions."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("measure", "ours", "spread", "against", "theirs", "spread", "ratio", "target"):
        found.add_column(
            header, justify="left" if header in ("measure", "against") else "right", no_wrap=True
        )
    for line in lines:
        ours = (f"{line.measure}, {line.unit}", *_cells(line.rates[line.ours]))
        for other in line.others or [None]:
            found.add_row(*ours, *(_comparison(line, other) if other else ()))
            ours = ("", "", "")
        found.add_section()
    return found


def _comparison(line: Line, other: str) -> tuple[str, ...]:
    unit = {SGEMM: " GFLOP/s", COPY: " GB/s"}.get(other, "")
    target = f"{line.targets[other]:g}" if other in line.targets else ""
    missed = " missed" if other in line.missed else ""
    return (
        f"{other}{unit}",
        *_cells(line.rates[other]),
        f"{line.ratio(other):.2f}",
        target + missed,
    )


def _cells(rate: Rate) -> tuple[str, str]:
    digits = max(0, 2 - math.floor(math.log10(abs(rate.median) or 1)))
    return f"{rate.median:.{digits}f}", f"{rate.low:.{digits}f}-{rate.high:.{digits}f}"


def to_json(lines: Iterable[Line], environment: dict) -> dict:
    """All figures, and what they were measured on."""
    return {
        "environment": environment,
        "lines": [
            {
                **asdict(line),
                "ratios": {other: line.ratio(other) for other in line.others},
                "missed": line.missed,
            }
            for line in lines
        ],
    }
