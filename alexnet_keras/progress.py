"""What a person sees while work goes on: bars on a terminal and in a notebook, plain lines
elsewhere, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from time import perf_counter

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bar

from alexnet_keras.errors import ConfigurationError

PLAIN_LINE_SECONDS = 10.0
PLAIN = {
    "highlight": False,
    "markup": False,
    "emoji": False,
    "soft_wrap": True,
}  # names of files are no markup
VERBOSE = ("auto", 0, 1, 2)
console = Console(**PLAIN)
_errors = Console(**PLAIN, stderr=True)


def printable(text: str) -> str:
    """``text`` on one line that any terminal can show: names of files may hold line ends, escapes
    and stray bytes.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


class Progress:
    """Where a call reports what it does, by the ``verbose`` of Keras.

    ``verbose``: 0 is silent; 1, and ``"auto"``, a bar on a terminal and in a notebook that has
    ipywidgets, elsewhere a plain line every ten seconds; 2 a line for each epoch or result. Raises
    ``ConfigurationError`` for any other.
    """

    def __init__(self, verbose: str | int = "auto"):
        if isinstance(verbose, bool) or verbose not in VERBOSE:
            raise ConfigurationError(f"verbose: expected 'auto', 0, 1 or 2, got {verbose!r}")
        self.silent = verbose == 0
        self._downloads = DownloadProgress()
        self.every_step = verbose in ("auto", 1)
        self.draws_bars = self.every_step and (
            console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)
        )

    def say(self, text: str) -> None:
        """One line on stdout."""
        if not self.silent:
            console.print(printable(text))

    def note(self, text: str) -> None:
        """One line on stderr."""
        if not self.silent:
            _errors.print(printable(text))

    def show_evaluation(self, evaluation, label: str) -> None:
        """The figures of an evaluation on one line."""
        self.say(
            f"{label}: top-1 {evaluation.top1:.2%}, top-5 {evaluation.top5:.2%}, mean per class "
            f"{evaluation.mean_per_class:.2%} on {evaluation.images} images, "
            f"{evaluation.images / evaluation.seconds:.0f} images/s"
        )

    @contextmanager
    def counting(
        self, label: str, total: int, unit: str = "images"
    ) -> Iterator[Callable[[int], None]]:
        """Progress over a known number of items: yields a function that takes how many more are
        done.
        """
        counter = _Counter(label, total, unit)
        if not self.draws_bars:
            yield counter.print_when_due if self.every_step else counter.add
            return
        bar = new_bar("")
        task = bar.add_task(label, total=total)

        def advance(count: int) -> None:
            counter.add(count)
            bar.update(task, completed=counter.done)

        with bar:
            yield advance

    def download(self, name: str, done: int, total: int | None) -> None:
        """A ``progress`` callable for :mod:`weights.store`."""
        if not self.silent:
            self._downloads(name, done, total)


class _Counter:
    """Items done of a total, and a plain line about them every ten seconds."""

    def __init__(self, label: str, total: int, unit: str):
        self.label = label
        self.total = total
        self.unit = unit
        self.done = 0
        self.began = self.last_line = perf_counter()

    def add(self, count: int) -> None:
        self.done += count

    def print_when_due(self, count: int) -> None:
        self.add(count)
        now = perf_counter()
        if now - self.last_line > PLAIN_LINE_SECONDS:
            self.last_line = now
            rate = self.done / (now - self.began)
            console.print(
                f"  {self.label} {self.done}/{self.total} {self.unit}  {rate:.0f}/s  "
                f"{(self.total - self.done) / max(rate, 1e-9):.0f} s left"
            )


class DownloadProgress:
    """A callable for ``weights.store``: (file, bytes there, bytes expected or None). On stderr:
    stdout may be JSON.
    """

    def __init__(self):
        self.last_line = 0.0

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if (
            perf_counter() - self.last_line > (0.5 if _errors.is_terminal else PLAIN_LINE_SECONDS)
            or done == total
        ):
            self.last_line = perf_counter()
            size = f"{done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
            _errors.print(
                f"  {name}: {size}", end="\r" if _errors.is_terminal and done != total else "\n"
            )


def new_bar(figures: str) -> Bar:
    """A rich bar with count and times, and the text of the field ``figures`` where that is asked
    for.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if figures:
        columns.append(TextColumn(figures))
    return Bar(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
