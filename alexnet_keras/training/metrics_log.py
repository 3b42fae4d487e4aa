"""``metrics.jsonl``: a line every ten steps and every epoch."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import keras

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import error_reason

STEPS_PER_LINE = 10
logger = logging.getLogger(__name__)


class MetricsLog(keras.callbacks.Callback):
    """Appends lines; a resumed run first drops those that it will write again."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.epoch = 0
        self.steps = 0
        self.failing = False

    def on_train_begin(self, logs=None):
        self.steps = int(logs["step"])
        if self.path.exists():
            with atomic_write(self.path) as (partial,):
                partial.write_bytes(
                    b"".join(_lines_before(self.path, self.steps, int(logs["epoch"])))
                )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, step, logs=None):
        self.steps = step + 1
        if self.steps % STEPS_PER_LINE == 0:
            self._append({"event": "step", "step": self.steps, "epoch": self.epoch, **logs})

    def on_epoch_end(self, epoch, logs=None):
        self._append({"event": "epoch", "step": self.steps, "epoch": epoch, **logs})

    def _append(self, line: dict) -> None:
        """Append a complete line, or none: a full disk loses lines but does not end the run."""
        size = self.path.stat().st_size if self.path.is_file() else 0
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            with suppress(OSError):
                os.truncate(self.path, size)
            if not self.failing:
                logger.warning(
                    "%s: cannot be written: %s; training continues", self.path, error_reason(error)
                )
            self.failing = True
        else:
            self.failing = False


def _lines_before(path: Path, step: int, epoch: int) -> Iterator[bytes]:
    """The complete lines that a run resumed at ``step`` of ``epoch`` will not write again."""
    with open(path, "rb") as file:
        for text in file:
            with suppress(ValueError, TypeError, KeyError, RecursionError):
                line = json.loads(text)
                if line["step"] <= step if line["event"] == "step" else line["epoch"] < epoch:
                    yield text
