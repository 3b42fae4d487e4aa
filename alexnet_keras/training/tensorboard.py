"""Event files for TensorBoard. The ``tensorboard`` package is needed to view them, not to write
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from time import time

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.errors import RunError

BUCKETS = 30
STEPS_PER_POINT = 10
VAL_PREFIX = "val_"
Event = tf.compat.v1.Event
Summary = tf.compat.v1.Summary


class TensorBoardLog(keras.callbacks.Callback):
    """Writes an event file into ``folder`` while :func:`alexnet_keras.training.loop.train` runs,
    by global step, counted from 0.

    Every ten steps the numbers of the logs become scalars ``train/<name>``. At the end of an epoch
    they become ``epoch/<name>``, or ``val/<name>`` if they are called ``val_<name>``, and every
    weight becomes a histogram ``<layer>/<variable>`` of its finite values. All of it is in the
    file when the method returns.

    When a run is resumed at step s (``{"step": s}`` in the logs of ``on_train_begin``),
    TensorBoard drops the points of step s and later that the killed run had written; its fast
    loader does so for each tag when the tag's next value is read. Raises ``RunError`` if the file
    cannot be written.
    """

    def __init__(self, folder: Path):
        super().__init__()
        self.folder = Path(folder)

    def on_train_begin(self, logs=None):
        # Keras passes numbers on as floats.
        first_step = int((logs or {}).get("step", 0))
        self.step = first_step - 1
        with _as_run_error(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Readers take the files in the order of their names.
            self.file = tf.io.TFRecordWriter(
                str(self.folder / f"events.out.tfevents.{time():.6f}")
            )
        self._write(Event(file_version="brain.Event:2"))
        # At every START event but the first in a folder, readers drop all points from its step on.
        self._write(
            Event(
                step=first_step,
                session_log=tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START),
            )
        )

    def on_train_batch_end(self, step, logs=None):
        self.step = step
        if (step + 1) % STEPS_PER_POINT == 0:
            self._summarize([_scalar(f"train/{name}", value) for name, value in _numbers(logs)])

    def on_epoch_end(self, epoch, logs=None):
        self._summarize(
            [
                _scalar(
                    f"val/{name.removeprefix(VAL_PREFIX)}"
                    if name.startswith(VAL_PREFIX)
                    else f"epoch/{name}",
                    value,
                )
                for name, value in _numbers(logs)
            ]
        )
        for variable in self.model.weights:
            self._summarize([_histogram(variable.path, keras.ops.convert_to_numpy(variable))])

    def on_train_end(self, logs=None):
        with _as_run_error(self.folder):
            self.file.close()

    def _summarize(self, values: list[Summary.Value]) -> None:
        self._write(Event(step=self.step, summary=Summary(value=values)))

    def _write(self, event: Event) -> None:
        event.wall_time = time()
        with _as_run_error(self.folder):
            self.file.write(event.SerializeToString())
            self.file.flush()


def _numbers(logs: dict | None) -> list[tuple[str, float]]:
    return [
        (name, float(value)) for name, value in (logs or {}).items() if isinstance(value, Real)
    ]


def _scalar(tag: str, value: float) -> Summary.Value:
    return Summary.Value(tag=tag, simple_value=value)


def _histogram(tag: str, values: np.ndarray) -> Summary.Value:
    values = np.asarray(values, np.float32)
    values = values[np.isfinite(values)]
    if not values.size:
        return Summary.Value(tag=tag, histo=tf.compat.v1.HistogramProto())
    edges = np.linspace(float(values.min()), float(values.max()), BUCKETS + 1)
    # Given a number of buckets instead of edges, NumPy raises for a narrow range.
    counts, _ = np.histogram(values, edges)
    return Summary.Value(
        tag=tag,
        histo=tf.compat.v1.HistogramProto(
            min=edges[0], max=edges[-1], num=values.size, bucket_limit=edges[1:], bucket=counts
        ),
    )


@contextmanager
def _as_run_error(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = (
            getattr(error, "strerror", None)
            or str(getattr(error, "message", error)).splitlines()[0]
        )
        raise RunError(f"{folder}: the TensorBoard events cannot be written: {reason}") from None
