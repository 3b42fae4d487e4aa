"""Progress output during training."""

from __future__ import annotations

from time import perf_counter

import keras

from alexnet_keras import progress as progress_module
from alexnet_keras.progress import Progress, new_bar


class TrainingProgress(keras.callbacks.Callback):
    """Shows throughput, loss, accuracy and the time left of the run, and prints a line after
    every epoch.
    """

    def __init__(self, progress: Progress):
        super().__init__()
        self.progress = progress
        self.bar = None
        self.task = None

    def on_train_begin(self, logs=None):
        self.epochs = int(logs["epochs"])
        self.steps = int(logs["steps"])
        self.first_step = int(logs["step"])
        self.began = perf_counter()
        self.last_line = self.began
        if self.progress.draws_bars:
            self.bar = new_bar("{task.fields[figures]}")
            self.bar.start()
            self.task = self.bar.add_task(
                "training", total=self.steps, completed=self.first_step, figures=""
            )

    def on_train_batch_end(self, step, logs=None):
        if not self.progress.every_step:
            return
        due = perf_counter() - self.last_line > progress_module.PLAIN_LINE_SECONDS
        if self.bar is None and not due:
            return
        figures = (
            f"loss {logs['loss']:.3f}  top-1 {logs['top1']:.1%}  "
            f"{logs['images_per_second']:.0f} images/s"
        )
        if self.bar:
            self.bar.update(self.task, completed=step + 1, figures=figures)
        else:
            self.last_line = perf_counter()
            seconds_per_step = (self.last_line - self.began) / (step + 1 - self.first_step)
            self.progress.print(
                f"  step {step + 1}/{self.steps}  {figures}  "
                f"{seconds_per_step * (self.steps - step - 1):.0f} s left"
            )

    def on_epoch_end(self, epoch, logs=None):
        seconds = perf_counter() - self.began
        val = f"  val top-1 {logs['val_top1']:.1%}" if "val_top1" in logs else ""
        self.progress.print(
            f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.3f}  top-1 "
            f"{logs['top1']:.1%}{val}  "
            f"{logs['images_per_second']:.0f} images/s  {seconds:.0f} s"
        )

    def on_train_end(self, logs=None):
        if self.bar:
            self.bar.stop()
