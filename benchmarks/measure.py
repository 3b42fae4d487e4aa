"""Throughput of several candidates measured in one run, and the report that compares them.

Candidates take turns, in an order that rotates, so that other load on the machine slows all of
them alike; the spread shows how much it did.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec

import click
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

SGEMM = "sgemm"
COPY = "memory copy"
SGEMM_SIZE = 4096
COPY_BYTES = 1 << 28
MIN_SECONDS = 0.25
PAUSE_SECONDS = 0.03
TABLE_WIDTH = 130


@dataclass(frozen=True)
class Options:
    """Options of the command line that every benchmark gets.

    ``batch_sizes`` replace a benchmark's own, if it has any; ``threads`` is the number of threads
    of this project and of each peer.
    """

    batch_sizes: tuple[int, ...] = ()
    repetitions: int = 10
    threads: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))

    def sizes(self, default: tuple[int, ...]) -> tuple[int, ...]:
        """The batch sizes to measure: those of the command line, else ``default``."""
        return self.batch_sizes or default


@dataclass(frozen=True)
class Candidate:
    """Something to measure: ``run()`` processes ``items`` items and returns when they are done."""

    name: str
    run: Callable[[], object]
    items: float


@dataclass(frozen=True)
class Rate:
    """Items per second: median, minimum and maximum over the repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Rate:
        values = list(values)
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Line:
    """One line of the report: a measure, and the ``rates`` of ``ours``, of each peer and of the
    machine's limits.

    ``targets``: the smallest acceptable ratio to a peer, or fraction of a limit. The limits SGEMM
    (GFLOP/s) and COPY (GB/s) are compared with the work that ours does, ``flops_per_item`` and
    ``bytes_per_item`` per item. ``less_is_better`` is for seconds and bytes.
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
        """The peers, then the limits that apply."""
        peers = [name for name in self.rates if name not in (self.ours, SGEMM, COPY)]
        return peers + [
            name for name, work in self._work().items() if work is not None and name in self.rates
        ]

    def ratio(self, other: str) -> float:
        """How many times better ours is than a peer, or the fraction of a limit that it
        reaches.
        """
        ours = self.rates[self.ours].median
        compared = self.rates[other].median
        if self.less_is_better:
            return compared / ours
        return ours * (self._work().get(other) or 1) / compared

    @property
    def missed(self) -> list[str]:
        """The peers and limits whose target is missed."""
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
    """The candidates' rates; each runs once per repetition, or for a quarter of a second if that
    is longer.
    """
    calls = {}
    for candidate in candidates:
        seconds = min(_seconds(candidate, 1) for _ in range(max(1, warm_up)))
        calls[candidate.name] = max(1, math.ceil(MIN_SECONDS / max(seconds, 1e-9)))
    rates = {candidate.name: [] for candidate in candidates}
    for repetition in range(repetitions):
        first = repetition % len(candidates)
        for candidate in (*candidates[first:], *candidates[:first]):
            time.sleep(PAUSE_SECONDS)  # a peer's threads keep spinning after its last call
            seconds = _seconds(candidate, calls[candidate.name])
            rates[candidate.name].append(candidate.items * calls[candidate.name] / seconds)
    return {name: Rate.of(values) for name, values in rates.items()}


def _seconds(candidate: Candidate, calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        candidate.run()
    return time.perf_counter() - began


def rotating(function: Callable, inputs: Iterable) -> Callable[[], object]:
    """A function that calls ``function`` on the next of ``inputs``, starting over at the end."""
    endless = itertools.cycle(inputs)
    return lambda: function(next(endless))


def ceilings(threads: int) -> list[Candidate]:
    """The machine's limits: a matrix product in GFLOP/s, and reading and writing memory in
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
    """The names of the peers whose module is installed, and of those whose module is missing.

    ``packages`` maps each peer to the module that it needs.
    """
    available = [name for name, module in packages.items() if find_spec(module) is not None]
    return available, [name for name in packages if name not in available]


def run_json(arguments: list[str], **variables: str) -> dict:
    """Run ``python <arguments>`` in a fresh process and return its last line, a JSON object.

    ``variables`` are added to its environment. Raises ``CalledProcessError`` if it fails.
    """
    finished = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        text=True,
        stdout=subprocess.PIPE,
        env={**os.environ, **variables},
    )
    return json.loads(finished.stdout.splitlines()[-1])


def parse_batch_sizes(context, parameter, value: str | None) -> tuple[int, ...]:
    """The callback of ``--batch-sizes``."""
    sizes = value.split(",") if value else []
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise click.BadParameter(f"expected positive integers such as 1,32,128, got {value!r}")
    return tuple(map(int, sizes))


def print_table(lines: Iterable[Line]) -> None:
    """Print the table, at least as wide as its contents."""
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table(lines))


def show(lines: Sequence[Line]) -> None:
    """Print the table, the notes on each line and the targets that are missed."""
    print_table(lines)
    for line in lines:
        if line.notes:
            click.echo(f"{line.measure}: {line.notes}")
    for line in lines:
        for other in line.missed:
            click.echo(
                f"missed: {line.measure} against {other}: expected {line.targets[other]:g}, got "
                f"{line.ratio(other):.2f}"
            )


def table(lines: Iterable[Line]) -> Table:
    """A row for each peer and limit; the spread is the minimum and maximum over the
    repetitions.
    """
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("measure", "ours", "spread", "against", "value", "spread", "ratio", "target"):
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
    """All results as JSON, with the environment that they were measured in."""
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
