"""The mean image that the catalogue, a file or a trained network holds."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.errors import WeightsError
from alexnet_keras.models.saving import load_model
from alexnet_keras.pretrained.catalog import PUBLISHED
from weights.caffe import read_mean
from weights.store import fetch

PUBLISHED_MEAN = "imagenet_mean"


def read_mean_image(source: str | os.PathLike, words: tuple[str, ...] = ()) -> MeanImage:
    """The mean image of ``source``: ``imagenet_mean`` of the catalogue, a ``.binaryproto`` or
    ``.npy`` (:func:`weights.caffe.read_mean`), or a run folder or ``.keras`` file whose network
    has one. ``words``: what else the caller accepts. Raises ``WeightsError``.
    """
    path = Path(source)
    if source == PUBLISHED_MEAN:
        path = fetch(PUBLISHED[PUBLISHED_MEAN].file)
    elif not os.path.exists(source):
        expected = ", ".join([*words, PUBLISHED_MEAN, "a file or a run"])
        raise WeightsError(f"mean: expected {expected}, got {str(source)!r}")
    elif path.is_dir() or zipfile.is_zipfile(path):
        return _of_network(path)
    levels = read_mean(path)
    if levels.ndim == 1 or levels.shape[0] != levels.shape[1]:
        shape = "x".join(map(str, levels.shape))
        raise WeightsError(f"{path}: expected a square mean image, got one of shape {shape}")
    # Its own pixels tell nothing else: no photographs are that dark on average.
    if levels.max() <= 1:
        raise WeightsError(
            f"{path}: expected grey levels of 0 to 255, got {levels.min():g} to {levels.max():g}"
        )
    return MeanImage.from_array(levels)


def _of_network(path: Path) -> MeanImage:
    rule = load_model(path).preprocessing
    if rule is None or rule.mean_image is None:
        raise WeightsError(f"{path}: expected a network with a mean image, got one without")
    return rule.mean_image
