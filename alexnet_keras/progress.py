"""Progress output: bars on a terminal and in a notebook, plain lines elsewhere, or nothing."""

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
# File names are no markup.
PLAIN = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
VERBOSE = ("auto", 0, 1, 2)
console = Console(**PLAIN)
_errors = Console(**PLAIN, stderr=True)


def printable(text: str) -> str:
    """``text`` as one line of printable characters: file names may contain line ends, escape
    sequences and invalid bytes.
    """
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


class Progress:
    """Where a call reports its progress, with Keras's ``verbose``.

    ``verbose``: 0 is silent; 1 and ``"auto"`` show a bar on a terminal and in a notebook with
    ipywidgets, elsewhere a plain line every ten seconds; 2 prints a line for each epoch or result.
    Raises ``ConfigurationError`` for any other value.
    """

    def __init__(self, verbose: str | int = "auto"):
        if isinstance(verbose, bool) or verbose not in VERBOSE:
            raise ConfigurationError(f"verbose: expected 'auto', 0, 1 or 2, got {verbose!r}")
        self.silent = verbose == 0
        self._downloads = DownloadProgress()
        self.every_step = verbose in ("auto", 1)
        self.draws_bars = self._draws_bars_on(console)

    def _draws_bars_on(self, target: Console) -> bool:
        return self.every_step and (
            target.is_terminal or (target.is_jupyter and find_spec("ipywidgets") is not None)
        )

    def print(self, text: str) -> None:
        """Print a line on stdout."""
        if not self.silent:
            console.print(printable(text))

    def print_error(self, text: str) -> None:
        """Print a line on stderr."""
        if not self.silent:
            _errors.print(printable(text))

    def show_evaluation(self, evaluation, label: str) -> None:
        """Print the metrics of an evaluation on one line."""
        self.print(
            f"{label}: top-1 {evaluation.top1:.2%}, top-5 {evaluation.top5:.2%}, mean per class "
            f"{evaluation.mean_per_class:.2%} on {evaluation.images} images, "
            f"{evaluation.images / evaluation.seconds:.0f} images/s"
        )

    @contextmanager
    def track(
        self,
        label: str,
        total: int,
        on_stderr: bool = False,
        unit: str = "images",
        done: int = 0,
    ) -> Iterator[Callable[[int], None]]:
        """Show progress over ``total`` images, or what ``unit`` names, with their rate and the
        time left: yields a function to call with the number that was finished since the last call.

        ``on_stderr``: for a command whose result is what it prints on stdout. ``done``: how many
        an earlier call finished, which do not count towards the rate.
        """
        target = _errors if on_stderr else console
        counter = _Counter(label, total, target, unit, done)
        if not self._draws_bars_on(target):
            yield counter.print_when_due if self.every_step else counter.add
            return
        bar = new_bar("{task.fields[rate]}", target)
        task = bar.add_task(label, total=total, completed=done, rate="")

        def advance(count: int) -> None:
            counter.add(count)
            bar.update(task, completed=counter.done, rate=f"{counter.rate():.0f}/s")

        with bar:
            yield advance

    def download(self, name: str, done: int, total: int | None) -> None:
        """A ``progress`` callback for :mod:`weights.store`."""
        if not self.silent:
            self._downloads(name, done, total)


class _Counter:
    """The number of images finished, and a plain line about it every ten seconds."""

    def __init__(self, label: str, total: int, target: Console, unit: str, done: int):
        self.label = label
        self.total = total
        self.target = target
        self.unit = unit
        self.done = done
        self.done_before = done
        self.began = perf_counter()
        self.last_line = self.began

    def add(self, count: int) -> None:
        self.done += count

    def rate(self) -> float:
        return (self.done - self.done_before) / max(perf_counter() - self.began, 1e-9)

    def print_when_due(self, count: int) -> None:
        self.add(count)
        if perf_counter() - self.last_line > PLAIN_LINE_SECONDS:
            self.last_line = perf_counter()
            rate = self.rate()
            digits = 0 if rate >= 10 else 1
            self.target.print(
                f"  {self.label} {self.done}/{self.total} {self.unit}  {rate:.{digits}f}/s  "
                f"{(self.total - self.done) / max(rate, 1e-9):.0f} s left"
            )


class DownloadProgress:
    """A callback for ``weights.store``: (file, bytes so far, total bytes or None). It prints on
    stderr, since stdout may be JSON.
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


def new_bar(figures: str, target: Console | None = None) -> Bar:
    """A rich progress bar with count and times, and ``figures``, rich markup for further columns;
    on stdout unless ``target`` is another console.
    """
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(figures),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=target or console,
        # What is printed on stdout stays there, though the bar may be on stderr.
        redirect_stdout=target in (None, console),
    )
