"""What can be compared: RGB images of one size, large enough for the network."""

from __future__ import annotations

import functools

import numpy as np

from alexnet_keras.configs.architecture import OWT, Convolution
from alexnet_keras.errors import DataError
from alexnet_keras.perceptual.loading import specs_to_conv5


def checked_images(name: str, images):
    """``images`` as they are if they can be compared. Raises ``DataError``."""
    try:
        images = images if hasattr(images, "shape") else np.asarray(images)
    except ValueError:
        raise DataError(f"{name}: expected images of one size, got several") from None
    shape = tuple(images.shape)
    if len(shape) not in (3, 4) or shape[-1] != 3 or shape[0] == 0:
        raise DataError(
            f"{name}: expected RGB images (batch, height, width, 3) or (height, width, 3), got "
            f"{shape}"
        )
    check_size(name, *shape[-3:-1])
    if isinstance(images, np.ndarray):
        _check_levels(name, images)
    return images


def _check_levels(name: str, images: np.ndarray) -> None:
    if images.dtype.kind not in "uif":
        raise DataError(f"{name}: expected numbers, got {images.dtype}")
    low, high = (float(value) for value in (images.min(initial=255), images.max(initial=0)))
    if not (low >= 0 and high <= 255):  # also NaN
        raise DataError(f"{name}: expected RGB levels of 0 to 255, got {low:g} to {high:g}")
    if images.dtype.kind == "f" and 0 < high <= 1:
        raise DataError(
            f"{name}: expected RGB levels of 0 to 255, got {low:g} to {high:g}; multiply by 255"
        )


def check_same_shape(a, b) -> None:
    """Raise ``DataError`` where sizes that are known differ."""
    shapes = [tuple(images.shape) for images in (a, b)]
    if len(shapes[0]) != len(shapes[1]) or any(
        None not in sizes and sizes[0] != sizes[1] for sizes in zip(*shapes, strict=True)
    ):
        raise DataError(f"b: expected images of shape {shapes[0]} as in a, got {shapes[1]}")


def check_size(name: str, height: int | None, width: int | None) -> None:
    """Raise ``DataError`` for images that are too small for the network; None is not known."""
    smallest = _smallest_side()
    if any(side is not None and side < smallest for side in (height, width)):
        raise DataError(
            f"{name}: expected at least {smallest}x{smallest} pixels, got {width}x{height}"
        )


@functools.cache
def _smallest_side() -> int:
    """Of an image from which conv5 has one value: each layer needs a whole window."""
    side = 1
    for spec in reversed(specs_to_conv5(OWT)):
        if isinstance(spec, Convolution):
            side = (side - 1) * spec.stride + spec.kernel - 2 * spec.padding
        else:
            side = (side - 1) * spec.stride + spec.size
    return side
