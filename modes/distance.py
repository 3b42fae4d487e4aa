"""Distance: how different two images look.

What it is: LPIPS v0.1 (Zhang et al., CVPR 2018), a weighted distance of the activations of
torchvision's AlexNet, which agrees with people's judgments better than pixel differences do.

When to use it: to score reconstructions, compression or synthesis against originals of the same
size; in Python ``perceptual_distance`` is the same function of arrays and tensors, a loss
function.

What to expect: 0 for equal images, about 0.1 for a visible degradation, 0.5 to 1 for unrelated
photographs. Images are compared at their own size, which matters: a small copy of a pair is
another distance.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.analysis_options import DistanceOptions
from alexnet_keras.configs.option_fields import accept_options, read_options
from alexnet_keras.data.bad_files import reason_of
from alexnet_keras.data.decoding import decode_image
from alexnet_keras.data.listing import image_names, list_folder
from alexnet_keras.errors import DataError
from alexnet_keras.perceptual.images import check_size
from alexnet_keras.perceptual.lpips import PerceptualDistance
from alexnet_keras.progress import Progress
from weights.store import digest_of

Pair = tuple[Path, Path]


@dataclass(frozen=True)
class Distances:
    """The result of :func:`alexnet_keras.distance`.

    ``pairs``: the images compared. ``values``: (pairs,) float32. ``metric``: what computed them.
    ``of_folders``: whether the pairs are those of two folders.
    """

    pairs: tuple[Pair, ...]
    values: np.ndarray
    metric: PerceptualDistance
    of_folders: bool

    def describe(self) -> dict:
        """The distances and what they were computed with, for JSON."""
        heads = self.metric.heads_path
        return {
            "metric": "LPIPS v0.1",
            "weights": self.metric.trunk.describe(),
            "heads": {"file": heads.name, "sha256": digest_of(heads)},
            "pairs": [
                {"a": str(a), "b": str(b), "distance": float(value)}
                for (a, b), value in zip(self.pairs, self.values, strict=True)
            ],
        }


@accept_options(DistanceOptions, name="distance")
def run_distance(
    a: str | os.PathLike, b: str | os.PathLike, *, verbose: str | int = "auto", **options
) -> Distances:
    """Compare two image files, or two folders image by image.

    Does the same as the command ``distance``. ``a``, ``b``: JPEG, PNG, BMP or GIF, of the same
    size and at least 31 x 31 pixels; or folders, whose images are paired by their names without
    suffix. ``verbose``: 0 hides the progress, which is shown on stderr. Raises
    ``ConfigurationError``, ``DataError`` naming the file, and ``WeightsError``.

    Example::

        alexnet_keras.distance("originals", "reconstructions").values.mean()
    """
    options = read_options(DistanceOptions, options)
    progress = Progress(verbose)
    a, b = Path(a), Path(b)
    of_folders = a.is_dir()
    if of_folders != b.is_dir():
        folder, file = (a, b) if of_folders else (b, a)
        raise DataError(f"{folder}: expected a file as {file}, or two folders, got one folder")
    pairs = _pairs(a, b) if of_folders else ((a, b),)
    metric = PerceptualDistance(
        options.weights, options.heads, partial=options.partial, progress=progress
    )
    values = np.empty(len(pairs), np.float32)
    with progress.track("distance", len(pairs), on_stderr=True) as advance:
        for row, pair in enumerate(pairs):
            values[row] = _distance(metric, *pair)
            advance(1)
    return Distances(pairs, values, metric, of_folders)


def _pairs(a: Path, b: Path) -> tuple[Pair, ...]:
    """Images of equal names but for the suffix: an original is often a PNG of a JPEG."""
    images = _images_by_stem(a)
    others = _images_by_stem(b)
    for stem in sorted({*images} ^ {*others}):
        having, lacking = (a, b) if stem in images else (b, a)
        raise DataError(f"{lacking}: expected an image {stem!r} as in {having}, got none")
    if not images:
        raise DataError(f"{a}: expected images, got none")
    return tuple((images[stem], others[stem]) for stem in images)


def _images_by_stem(folder: Path) -> dict[str, Path]:
    found = {}
    for name in image_names(list_folder(folder)):
        path = folder / name
        if path.stem in found:
            raise DataError(
                f"{folder}: expected one image {path.stem!r}, got {found[path.stem].name} and "
                f"{name}"
            )
        found[path.stem] = path
    return found


def _distance(metric: PerceptualDistance, a: Path, b: Path) -> float:
    first = _read(a)
    second = _read(b)
    if first.shape != second.shape:
        raise DataError(f"{b}: expected {_size(first)} pixels as {a}, got {_size(second)}")
    return float(metric(first, second))


def _read(path: Path) -> np.ndarray:
    if path.exists() and not path.is_file():  # opening a named pipe would wait
        raise DataError(f"{path}: expected an image file, got a folder or device")
    try:
        pixels = decode_image(tf.io.read_file(os.fspath(path))).numpy()
    except tf.errors.OpError as error:
        raise DataError(f"{path}: expected a readable image, got: {reason_of(error)}") from None
    check_size(str(path), *pixels.shape[:2])
    return pixels


def _size(pixels: np.ndarray) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
