"""Prediction: what is on an image, by the names of the classes that the network was trained on.

What it is: the class probabilities of image files, from the centre crop or as the mean over the
paper's ten crops (``crops=10``).

When to use it: to look at single images; ``evaluate`` measures a whole split.

What to expect: names of ImageNet's 1000 classes from published weights, of your own classes from a
run; a network always names some class, also for an image that shows none of them.
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
    """A class and its probability, 0-1. ``id``: the wnid of ImageNet's classes, of others the
    index as text.
    """

    id: str
    name: str
    probability: float


@dataclass(frozen=True)
class Predictions:
    """What :func:`alexnet_keras.predict` found: for each of ``images`` its ``top`` classes, best
    first.

    ``probabilities``: (images, classes) float32, of all ``class_names``; ``source``: the weights.
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
    """Name what is on images, with probabilities.

    The same as the command ``predict``. ``images``: one image file or several; JPEG, PNG, BMP or
    GIF. ``verbose``: 0 does not show a download. Raises ``ConfigurationError``, ``DataError``
    naming the file, and ``WeightsError``.

    Example::

        found = alexnet_keras.predict(["dog.jpg"], weights="caffe")
        found.top[0][0].name, found.probabilities.shape
    """
    options = read_options(PredictOptions, options)
    progress = Progress(verbose)
    paths = tuple(map(Path, [images] if isinstance(images, str | os.PathLike) else images))
    _check_files(paths)
    source = open_network(options.weights, options, progress)
    check_loaded(source, [FINAL_LAYER])
    probabilities = predict(source.model, paths, crops=options.crops)
    names = source.model.class_names or tuple(map(str, range(probabilities.shape[1])))
    published = names == tuple(name for _, name in imagenet_classes())
    decoded = decode_predictions(probabilities, options.top, None if published else names)
    best = tuple(tuple(Prediction(*each) for each in of_image) for of_image in decoded)
    return Predictions(paths, best, probabilities, names, source)


def _check_files(paths: Sequence[Path]) -> None:
    """A folder is found out before any weights are fetched."""
    for path in paths:
        if path.is_dir():
            raise DataError(
                f"{path}: expected an image file, got a folder; name the files in it, such as "
                f"{path / '*.jpg'}"
            )
