"""What a person sees while work goes on: a rich line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

PLAIN_LINE_SECONDS = 10.0
console = Console(highlight=False, soft_wrap=True)


class TrainingProgress(keras.callbacks.Callback):
    """Rate, loss, accuracy and time left, over all steps of a run; a line stays for every epoch."""

    def __init__(self):
        super().__init__()
        self.progress = self.task = None

    def on_train_begin(self, logs=None):
        self.epochs, self.steps = int(logs["epochs"]), int(logs["steps"])
        self.began = self.told = perf_counter()
        if console.is_terminal:
            self.progress = _bar("{task.fields[figures]}")
            self.progress.start()
            self.task = self.progress.add_task("training", total=self.steps, figures="")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, step, logs=None):
        figures = f"loss {logs['loss']:.3f}  top-1 {logs['top1']:.1%}  {logs['images_per_second']:.0f} images/s"
        if self.progress:
            self.progress.update(self.task, completed=step + 1, figures=figures)
        elif perf_counter() - self.told > PLAIN_LINE_SECONDS:
            self.told = perf_counter()
            left = (self.told - self.began) / (step + 1) * (self.steps - step - 1)
            console.print(f"  step {step + 1}/{self.steps}  {figures}  {left:.0f} s left")

    def on_epoch_end(self, epoch, logs=None):
        seconds = perf_counter() - self.began
        print_to = self.progress.console if self.progress else console
        val = f"  val top-1 {logs['val_top1']:.1%}" if "val_top1" in logs else ""
        print_to.print(f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.3f}  top-1 {logs['top1']:.1%}{val}  "
                       f"{logs['images_per_second']:.0f} images/s  {seconds:.0f} s")

    def on_train_end(self, logs=None):
        if self.progress:
            self.progress.stop()


@contextmanager
def counting(label: str, total: int, unit: str = "images") -> Iterator[Callable[[int], None]]:
    """Progress over a known number of items: yields a function to tell how many more are done."""
    began = told = perf_counter()
    done = 0
    bar = _bar("") if console.is_terminal else None
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
    """A callable for ``weights.store``: (file, bytes there, bytes expected or None)."""

    def __init__(self):
        self.told = 0.0

    def __call__(self, name: str, done: int, total: int | None) -> None:
        if perf_counter() - self.told > (0.5 if console.is_terminal else PLAIN_LINE_SECONDS) or done == total:
            self.told = perf_counter()
            console.print(f"  {name}: {done / 1e6:.1f} of {total / 1e6:.1f} MB" if total else f"  {name}: {done / 1e6:.1f} MB")


def log_to(path: Path) -> None:
    """Also write the library's log to ``path``; warnings keep going to the terminal."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name in ("alexnet_keras", "weights", "modes"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)


def _bar(figures: str) -> Progress:
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    if figures:
        columns.append(TextColumn(figures))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console)
