"""What is shown while work goes on."""

import io
import re

import pytest
from rich.console import Console

from alexnet_keras import progress as shown
from alexnet_keras.errors import RunError
from alexnet_keras.progress import Progress, printable
from alexnet_keras.training.progress_callback import TrainingProgress

LOGS = {"loss": 1.25, "top1": 0.5, "top5": 1.0, "images_per_second": 99.6, "learning_rate": 0.01}


@pytest.fixture(params=[False, True], ids=["plain", "terminal"])
def screen(request, monkeypatch):
    """A console that keeps what it prints; plain lines are due at once."""
    console = Console(file=io.StringIO(), force_terminal=request.param, width=200, **shown.PLAIN)
    monkeypatch.setattr(shown, "console", console)
    monkeypatch.setattr(shown, "PLAIN_LINE_SECONDS", 0)
    return console


def text_of(screen):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue()).replace("\r", "\n")


def test_a_line_stays_for_every_epoch(screen):
    progress = TrainingProgress(Progress())
    progress.on_train_begin({"epochs": 2, "steps": 4, "step": 0})
    for epoch in range(2):
        progress.on_epoch_begin(epoch)
        for step in (2 * epoch, 2 * epoch + 1):
            progress.on_train_batch_end(step, LOGS)
        progress.on_epoch_end(epoch, {**LOGS, "val_top1": 0.75} if epoch else LOGS)
    progress.on_train_end()
    text = text_of(screen)
    assert re.search(
        r"^epoch 1/2  loss 1\.250  top-1 50\.0%  100 images/s  \d+ s", text, re.MULTILINE
    )
    assert re.search(
        r"^epoch 2/2  loss 1\.250  top-1 50\.0%  val top-1 75\.0%  100 images/s",
        text,
        re.MULTILINE,
    )
    assert "4/4" in text
    if not screen.is_terminal:
        assert re.search(
            r"^  step 2/4  loss 1\.250  top-1 50\.0%  100 images/s  \d+ s left$",
            text,
            re.MULTILINE,
        )
        assert "\x1b" not in screen.file.getvalue()


def test_the_bar_ends_where_the_run_fails(screen):
    """Else a terminal would be left without its cursor."""
    progress = TrainingProgress(Progress())
    progress.on_train_begin({"epochs": 2, "steps": 4, "step": 0})
    progress.on_train_end()

    def fails():
        with Progress().track("extract", 10) as advance:
            advance(3)
            raise RunError("full")

    with pytest.raises(RunError, match="^full$"):
        fails()
    assert screen.file.getvalue().count("\x1b[?25l") == screen.file.getvalue().count("\x1b[?25h")


def test_counting(screen):
    with Progress().track("extract", 10) as advance:
        advance(3)
        advance(7)
    text = text_of(screen)
    assert "10/10" in text
    if not screen.is_terminal:
        assert re.search(r"^  extract 3/10 images  \d+/s  \d+ s left$", text, re.MULTILINE)


@pytest.mark.parametrize("text", ["[red]a[/red]", "runs/[/b]", ":smile:", "x" * 300, "a  b"])
def test_names_are_printed_as_they_are(screen, text):
    screen.print(text)
    assert text_of(screen) == f"{text}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b ünï 日本", "a b ünï 日本"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31m", r"\x1b[31m"),
        ("caf\udce9", r"caf\udce9"),
        ("\u2028\x9b", r"\u2028\x9b"),
        ("", ""),
    ],
)
def test_printable(text, expected):
    assert printable(text) == expected
    printable(text).encode()


@pytest.mark.parametrize("widgets", [None, "ipywidgets"])
def test_a_notebook_has_bars_where_it_can_show_them(monkeypatch, widgets):
    """Without ipywidgets rich would warn at each step; plain lines need nothing."""
    monkeypatch.setattr(shown, "console", Console(force_jupyter=True, **shown.PLAIN))
    monkeypatch.setattr(shown, "find_spec", lambda name: widgets)
    assert Progress().draws_bars == bool(widgets)
    assert not Progress(2).draws_bars


def test_silence(screen):
    progress = Progress(0)
    progress.print("a line")
    with progress.track("extract", 2) as advance:
        advance(2)
    callback = TrainingProgress(progress)
    callback.on_train_begin({"epochs": 1, "steps": 1, "step": 0})
    callback.on_train_batch_end(0, LOGS)
    callback.on_epoch_end(0, LOGS)
    callback.on_train_end()
    assert screen.file.getvalue() == ""


def test_downloads_are_shown_on_stderr(monkeypatch):
    console = Console(file=io.StringIO(), **shown.PLAIN)
    monkeypatch.setattr(shown, "_errors", console)
    progress = shown.DownloadProgress()
    progress("caffe", 10_000_000, 240_000_000)
    progress("caffe", 240_000_000, 240_000_000)
    progress("other", 5_000_000, None)
    assert console.file.getvalue().splitlines()[-1] in (
        "  caffe: 240.0 of 240.0 MB",
        "  other: 5.0 MB",
    )
    assert "  caffe: 240.0 of 240.0 MB" in console.file.getvalue()


def test_what_was_done_before_is_no_part_of_the_rate(screen, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(shown, "perf_counter", lambda: float(next(clock)))
    with Progress().track("extract", 1000, done=900) as advance:
        advance(50)
    text = text_of(screen)
    assert "950/1000" in text
    rate = int(re.search(r"(\d+)/s", text)[1])
    assert rate <= 50
