"""What a person sees while work goes on: a rich line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from alexnet_keras.errors import AlexNetError, RunError

PLAIN_LINE_SECONDS = 10.0
PLAIN = {
    "highlight": False,
    "markup": False,
    "emoji": False,
    "soft_wrap": True,
}  # names of files are no markup
console = Console(**PLAIN)
_errors = Console(**PLAIN, stderr=True)


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
            console.print(
                f"  {label} {done}/{total} {unit}  {rate:.0f}/s  "
                f"{(total - done) / max(rate, 1e-9):.0f} s left"
            )

    try:
        if bar:
            bar.start()
        yield advance
    finally:
        if bar:
            bar.stop()


class DownloadProgress:
    """A callable for ``weights.store``: (file, bytes there, bytes expected or None). On stderr:
    stdout may be JSON.
    """

    def __init__(self):
        self.told = 0.0

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if (
            perf_counter() - self.told > (0.5 if _errors.is_terminal else PLAIN_LINE_SECONDS)
            or done == total
        ):
            self.told = perf_counter()
            size = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
            _errors.print(
                f"  {name}: {size}", end="\r" if _errors.is_terminal and done != total else "\n"
            )


class _LogFile(logging.FileHandler):
    """A log that cannot be written, on a full disk, stops nothing; what matters fails by
    itself.
    """

    def handleError(self, record):  # noqa: N802  logging's own name
        pass

    def close(self):
        with suppress(OSError):
            super().close()


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Also write the library's log to ``path``, and the error that ends the block; warnings keep
    going to the terminal.
    """
    try:
        handler = _LogFile(path, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in ("alexnet_keras", "weights", "modes")]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    try:
        yield
    except AlexNetError as error:
        handler.emit(logging.makeLogRecord({"levelname": "ERROR", "msg": str(error)}))
        raise
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        handler.close()


def progress_bar(figures: str) -> Progress:
    """A rich bar with count and times, and the text of the field ``figures`` where that is asked
    for.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if figures:
        columns.append(TextColumn(figures))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
