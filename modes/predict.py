"""Prediction: the most probable classes of images.

What it is: the class probabilities of images, from the centre crop or averaged over the paper's
ten crops (``crops=10``): of one file, or of as many as a folder or a list names, row by row.

When to use it: for images whose classes nobody knows; ``evaluate`` measures the accuracy on a
split.

What to expect: published weights predict ImageNet's 1000 classes, a run predicts its own. The
probabilities always sum to 1, even for an image that shows none of the classes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import check_keeps_inputs
from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.option_fields import accept_options, read_options
from alexnet_keras.configs.options import PredictOptions
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.data.layouts import open_images
from alexnet_keras.data.samples import Samples, join_samples
from alexnet_keras.errors import DataError, TerminatedError
from alexnet_keras.evaluation.prediction import predict, prediction_batches
from alexnet_keras.evaluation.prediction_files import (
    check_output,
    csv_text,
    json_text,
    write_text,
)
from alexnet_keras.evaluation.predictions import ImagePrediction, Prediction, TopClasses
from alexnet_keras.pretrained.from_options import open_network
from alexnet_keras.pretrained.loading import Pretrained, check_loaded
from alexnet_keras.progress import Progress
from alexnet_keras.training.signals import catch_stop_signals

Images = str | os.PathLike | Sequence[str | os.PathLike] | np.ndarray


@dataclass(frozen=True)
class Predictions:
    """The result of :func:`alexnet_keras.predict`.

    ``images``: their paths. ``top``: for each of them its most probable classes, best first.
    ``probabilities``: (images, classes) float32, in the order of ``class_names``; None with
    ``out``, where only the most probable ones are kept. ``source``: the weights. ``errors``: why
    an image could not be read, by its position in ``images``; its ``top`` is empty, and its
    probabilities are NaN.
    """

    images: tuple[Path, ...]
    top: Sequence[tuple[Prediction, ...]]
    probabilities: np.ndarray | None
    class_names: tuple[str, ...]
    source: Pretrained
    errors: Mapping[int, str]


@accept_options(PredictOptions, name="predict")
def run_prediction(images: Images, *, verbose: str | int = "auto", **options) -> Predictions:
    """Classify images and return class probabilities.

    Does the same as the command ``predict``. ``images``: files (JPEG, PNG, BMP or GIF), globs and
    folders, one or several; or one list, table, array or data set, like ``data`` of ``extract``.
    With ``out`` the rows are written as they are computed, and their probabilities are not all
    kept: 10^5 images take 60 MB instead of 450. ``verbose``: 0 hides the progress, which is shown
    on stderr. Raises ``ConfigurationError``, ``DataError`` naming the file, ``RunError`` and
    ``WeightsError``.

    Example::

        predictions = alexnet_keras.predict(["dog.jpg"], weights="caffe")
        predictions.top[0][0].name, predictions.probabilities.shape
        alexnet_keras.predict("photographs", out="predictions.csv")
    """
    options = read_options(PredictOptions, options)
    progress = Progress(verbose)
    if options.out is not None:
        check_output(options.out, options.overwrite)
    stream = PredictionStream(images, options, progress)
    with progress.track("predict", len(stream.samples), on_stderr=True) as advance:
        if options.out is None:
            probabilities = stream.all_probabilities(advance)
        else:
            probabilities = None
            _write(stream, options, progress, advance)
    return Predictions(
        tuple(Path(_shown(stream.samples, row)) for row in range(len(stream.samples))),
        stream.top,
        probabilities,
        stream.class_names,
        stream.source,
        stream.errors,
    )


class PredictionStream:
    """The predictions of images, in order, computed as they are asked for."""

    def __init__(self, images: Images, options: PredictOptions, progress: Progress):
        dataset = open_images(images, options.recursive)
        if options.out is not None:
            check_keeps_inputs([options.out], [dataset.file])
        parts = [dataset.samples(name) for name in dataset.split_names]
        self.samples = join_samples(parts)
        self.columns = _table_columns(parts, self.samples)
        self.source = open_network(options.weights, options, progress)
        check_loaded(self.source, [FINAL_LAYER])
        model = self.source.model
        marks_bad = options.skip_bad or options.out is not None
        self._batches = prediction_batches(
            model,
            self.samples,
            options.batch_size,
            options.crops,
            Loading(num_threads=options.num_threads, bad="mark" if marks_bad else "error"),
        )
        outputs = model.get_layer(FINAL_LAYER).units
        self.class_names = model.class_names or tuple(map(str, range(outputs)))
        self.top = TopClasses(_with_ids(self.class_names), len(self.samples), options.top)

    @property
    def errors(self) -> dict[int, str]:
        """Why the samples that could not be read so far could not, by position."""
        return self._batches.bad_reasons

    def all_probabilities(self, advance: Callable[[int], None]) -> np.ndarray:
        """(images, classes) float32; NaN for unreadable images."""
        found = np.empty((len(self.samples), len(self.class_names)), np.float32)
        for first, block in self._blocks(advance):
            found[first : first + len(block)] = block
        return found

    def rows(self, advance: Callable[[int], None]) -> Iterator[ImagePrediction]:
        """The images' predictions, one by one."""
        for first, block in self._blocks(advance):
            for row in range(first, first + len(block)):
                shown = _shown(self.samples, row)
                yield ImagePrediction(shown, self.top[row], self.errors.get(row))

    def _blocks(self, advance: Callable[[int], None]) -> Iterator[tuple[int, np.ndarray]]:
        """The probabilities of each batch and its first position. Raises ``DataError`` at the end
        if no image could be read.
        """
        first = 0
        for block in predict(self.source.model, self._batches):
            self.top.set(first, block)
            yield first, block
            first += len(block)
            advance(len(block))
        if len(self.errors) == first:
            raise DataError(
                f"{self.samples.paths[0]}: expected a readable image, got: {self.errors[0]}"
                + (f"; nor is any other of the {first} readable" if first > 1 else "")
            )


def _write(stream: PredictionStream, options: PredictOptions, progress: Progress, advance) -> None:
    """Write the rows as they are computed. Ctrl-C and SIGTERM keep those that are finished, in a
    file of another name.
    """
    with catch_stop_signals() as request:
        rows = takewhile(lambda row: request.signal is None, stream.rows(advance))
        if options.out.suffix == ".json":
            text = json_text(stream.source.describe(), options.crops, rows)
        else:
            text = csv_text(stream.columns, stream.top.width, rows)
        written = write_text(options.out, text, lambda: request.signal is None)
    if request.signal is None:
        progress.print(f"{len(stream.samples)} images -> {written}")
    elif request.signal == signal.SIGTERM:
        raise TerminatedError(f"{written}: holds the rows that were finished before SIGTERM")
    else:
        progress.print_error(f"the rows that were finished are in {written}")
        raise KeyboardInterrupt


def _table_columns(parts: Sequence[Samples], samples: Samples) -> dict[str, Sequence]:
    """What a table of predictions tells of ``samples``, the ``parts`` in turn, besides paths."""
    columns = {}
    if len(parts) > 1:
        splits = np.array([part.split for part in parts], object)
        columns["split"] = np.repeat(splits, list(map(len, parts)))
    if samples.boxes is not None:
        columns["id"] = samples.ids
    if samples.class_names:
        names = np.array([*samples.class_names, ""], object)  # the last is for the label -1
        columns["class"] = names[samples.labels]
    return columns | dict(samples.columns)


def _shown(samples: Samples, row: int) -> str:
    """The path of an image as it was named, where that leads to it from the working directory."""
    path = samples.paths[row]
    name = str(samples.ids[row])
    for each in (name, name.rpartition("#")[0]):
        if each and os.path.abspath(each) == path:
            return each
    return path


def _with_ids(class_names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """``(id, name)`` of each class."""
    if class_names == tuple(name for _, name in imagenet_classes()):
        return imagenet_classes()
    return tuple((str(label), name) for label, name in enumerate(class_names))
