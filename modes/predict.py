"""Prediction: the most probable classes of images.

What it is: the class probabilities of image files, from the centre crop or averaged over the
paper's ten crops (``crops=10``).

When to use it: for individual images; ``evaluate`` measures the accuracy on a split.

What to expect: published weights predict ImageNet's 1000 classes, a run predicts its own. The
probabilities always sum to 1, even for an image that shows none of the classes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from alexnet_keras.applications import decode_predictions
from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.option_fields import accept_options, read_options
from alexnet_keras.configs.options import PredictOptions
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.errors import DataError
from alexnet_keras.evaluation.prediction import predict
from alexnet_keras.pretrained.from_options import open_network
from alexnet_keras.pretrained.loading import Pretrained, check_loaded
from alexnet_keras.progress import Progress


class Prediction(NamedTuple):
    """A class and its probability, 0-1. ``id``: the wnid for ImageNet's classes, otherwise the
    class index as text.
    """

    id: str
    name: str
    probability: float


@dataclass(frozen=True)
class Predictions:
    """The result of :func:`alexnet_keras.predict`.

    ``top``: for each of ``images`` its most probable classes, best first. ``probabilities``:
    (images, classes) float32, in the order of ``class_names``. ``source``: the weights.
    """

    images: tuple[Path, ...]
    top: tuple[tuple[Prediction, ...], ...]
    probabilities: np.ndarray
    class_names: tuple[str, ...]
    source: Pretrained


@accept_options(PredictOptions, name="predict")
def run_prediction(
    images: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    verbose: str | int = "auto",
    **options,
) -> Predictions:
    """Classify images and return class probabilities.

    Does the same as the command ``predict``. ``images``: one image file or several: JPEG, PNG, BMP
    or GIF. ``verbose``: 0 hides the progress of downloads. Raises ``ConfigurationError``,
    ``DataError`` naming the file, and ``WeightsError``.

    Example::

        predictions = alexnet_keras.predict(["dog.jpg"], weights="caffe")
        predictions.top[0][0].name, predictions.probabilities.shape
    """
    options = read_options(PredictOptions, options)
    progress = Progress(verbose)
    paths = tuple(map(Path, [images] if isinstance(images, str | os.PathLike) else images))
    _check_files(paths)
    source = open_network(options.weights, options, progress)
    check_loaded(source, [FINAL_LAYER])
    probabilities = predict(source.model, paths, crops=options.crops)
    class_names = source.model.class_names or tuple(map(str, range(probabilities.shape[1])))
    is_imagenet = class_names == tuple(name for _, name in imagenet_classes())
    decoded = decode_predictions(probabilities, options.top, None if is_imagenet else class_names)
    top = tuple(tuple(Prediction(*row) for row in rows) for rows in decoded)
    return Predictions(paths, top, probabilities, class_names, source)


def _check_files(paths: Sequence[Path]) -> None:
    """Refuse folders and missing files, before any weights are downloaded."""
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: expected an image file, got nothing")
        if path.is_dir():
            raise DataError(
                f"{path}: expected an image file, got a folder; name the files in it, such as "
                f"{path / '*.jpg'}"
            )
