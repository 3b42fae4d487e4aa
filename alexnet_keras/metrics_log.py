"""``metrics.jsonl``: a line every few steps and every epoch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import keras

from alexnet_keras.errors import RunError
from alexnet_keras.whole_files import whole_files

STEPS_A_LINE = 10


class MetricsLog(keras.callbacks.Callback):
    """Appends; a run that goes on first drops what it is going to write again."""

    def __init__(self, path: Path):
        super().__init__()
        self.path, self.epoch, self.steps = path, 0, 0

    def on_train_begin(self, logs=None):
        self.steps = int(logs["step"])
        if self.path.exists():
            with whole_files(self.path) as (partial,):
                partial.write_text("".join(_lines_before(self.path, self.steps, int(logs["epoch"]))), encoding="utf-8")

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, step, logs=None):
        self.steps = step + 1
        if self.steps % STEPS_A_LINE == 0:
            self._append({"event": "step", "step": self.steps, "epoch": self.epoch, **logs})

    def on_epoch_end(self, epoch, logs=None):
        self._append({"event": "epoch", "step": self.steps, "epoch": epoch, **logs})

    def _append(self, line: dict) -> None:
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written: {error.strerror}") from None


def _lines_before(path: Path, step: int, epoch: int) -> Iterator[str]:
    """The lines that a run continued at ``step`` of ``epoch`` will not write again; not what a kill left of a line."""
    with open(path, encoding="utf-8") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line["step"] <= step if line["event"] == "step" else line["epoch"] < epoch:
                yield text
