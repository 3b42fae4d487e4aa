"""What a person sees while a network trains."""

from __future__ import annotations

from time import perf_counter

import keras

from alexnet_keras.cli.console import PLAIN_LINE_SECONDS, console, progress_bar


class TrainingProgress(keras.callbacks.Callback):
    """Rate, loss, accuracy and time left, over all steps of a run; a line stays for every
    epoch.
    """

    def __init__(self):
        super().__init__()
        self.progress = self.task = None

    def on_train_begin(self, logs=None):
        self.epochs, self.steps, self.first = (
            int(logs[name]) for name in ("epochs", "steps", "step")
        )
        self.began = self.told = perf_counter()
        if console.is_terminal:
            self.progress = progress_bar("{task.fields[figures]}")
            self.progress.start()
            self.task = self.progress.add_task(
                "training", total=self.steps, completed=self.first, figures=""
            )

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, step, logs=None):
        figures = (
            f"loss {logs['loss']:.3f}  top-1 {logs['top1']:.1%}  "
            f"{logs['images_per_second']:.0f} images/s"
        )
        if self.progress:
            self.progress.update(self.task, completed=step + 1, figures=figures)
        elif perf_counter() - self.told > PLAIN_LINE_SECONDS:
            self.told = perf_counter()
            left = (self.told - self.began) / (step + 1 - self.first) * (self.steps - step - 1)
            console.print(f"  step {step + 1}/{self.steps}  {figures}  {left:.0f} s left")

    def on_epoch_end(self, epoch, logs=None):
        seconds = perf_counter() - self.began
        print_to = self.progress.console if self.progress else console
        val = f"  val top-1 {logs['val_top1']:.1%}" if "val_top1" in logs else ""
        print_to.print(
            f"epoch {epoch + 1}/{self.epochs}  loss {logs['loss']:.3f}  top-1 "
            f"{logs['top1']:.1%}{val}  "
            f"{logs['images_per_second']:.0f} images/s  {seconds:.0f} s"
        )

    def on_train_end(self, logs=None):
        if self.progress:
            self.progress.stop()
