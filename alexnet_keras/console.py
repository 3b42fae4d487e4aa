"""What a person sees while work goes on: a rich line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_LINE_SECONDS = 10.0
console = Console(highlight=False, soft_wrap=True)
_errors = Console(highlight=False, soft_wrap=True, stderr=True)


@contextmanager
def counting(label: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Progress over a known number of items: yields a function to tell how many more are done."""
    began = told = perf_counter()
    done = 0
    bar = progress_bar("") if console.is_terminal else None
    task = bar.add_task(label, total=total) if bar else None

    def advance(count: int) -> None:
        nonlocal done, told
        done += count
        if bar:
            bar.update(task, completed=done)
        elif perf_counter() - told > PLAIN_LINE_SECONDS:
            told = perf_counter()
            rate = done / (told - began)
            console.print(f"  {label} {done}/{total} {unit}  {rate:.0f}/s  {(total - done) / max(rate, 1e-9):.0f} s left")
    try:
        if bar:
            bar.start()
        yield advance
    finally:
        if bar:
            bar.stop()


class DownloadProgress:
    """A callable for ``weights.store``: (file, bytes there, bytes expected or None). On stderr: stdout may be JSON."""

    def __init__(self):
        self.told = 0.0

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if perf_counter() - self.told > (0.5 if _errors.is_terminal else PLAIN_LINE_SECONDS) or done == total:
            self.told = perf_counter()
            size = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
            _errors.print(f"  {name}: {size}", end="\r" if _errors.is_terminal and done != total else "\n")


def log_to(path: Path) -> None:
    """Also write the library's log to ``path``; warnings keep going to the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("alexnet_keras", "weights", "modes"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)


def progress_bar(figures: str) -> Progress:
    """A rich bar with count and times, and the text of the field ``figures`` where that is asked for."""
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if figures:
        columns.append(TextColumn(figures))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
