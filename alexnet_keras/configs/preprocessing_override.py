"""Another resize and crop than those that belong to the weights."""

from __future__ import annotations

from dataclasses import replace

from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.preprocessing import MAX_RESIZE_TO, Preprocessing
from alexnet_keras.errors import ConfigurationError

WHOLE = "none"
OF_ANY_SHAPE = ("none", "short_side")
"""Resizes after which an image need not be square."""


def overridden(
    preprocessing: Preprocessing, resize: str | None = None, crop: str | int | None = None
) -> Preprocessing:
    """``preprocessing`` with another resize and crop; None keeps what it has.

    ``resize``: ``"warp"``, ``"short_side"`` and ``"square"`` resize to ``resize_to`` pixels as
    before; ``"pad"`` fits the whole image into the crop, so that nothing is cut off; ``"none"``
    keeps the image's own size. ``crop``: the side of the central square in pixels, or ``"none"``:
    images are resized to the size of the crop that there was, and taken whole. After
    ``"short_side"`` and ``"none"`` these may have any shape. Raises ``ConfigurationError`` for
    another crop, and one that is larger than the resized image or the mean image.
    """
    how = resize or preprocessing.resize
    check_crop(crop)
    side = preprocessing.crop if crop in (None, WHOLE) else int(crop)
    if crop == WHOLE:
        changed = {"crop": None if how in OF_ANY_SHAPE else side, "resize_to": side}
    else:
        changed = {"crop": side, "resize_to": side if how == "pad" else preprocessing.resize_to}
    if how != "none" and side > changed["resize_to"]:
        raise ConfigurationError(
            f"crop: expected at most {changed['resize_to']} pixels, which images are resized to, "
            f"got {crop}"
        )
    mean_image = _mean_image(preprocessing.mean_image, changed["crop"])
    return replace(preprocessing, resize=how, mean_image=mean_image, **changed)


def check_crop(crop: str | int | None) -> None:
    """Raise ``ConfigurationError`` for a crop that no preprocessing can have."""
    text = str(crop)
    is_size = text.isascii() and text.isdecimal() and 0 < int(text[:9]) <= MAX_RESIZE_TO
    if not is_size and crop not in (None, WHOLE):
        raise ConfigurationError(
            f"crop: expected a number of pixels up to {MAX_RESIZE_TO}, or none; got {crop!r}"
        )


def resize_and_crop_in_words(preprocessing: Preprocessing) -> str:
    """Such as ``resize warp to 256, crop 227``."""
    to = "" if preprocessing.resize == "none" else f" to {preprocessing.resize_to}"
    return f"resize {preprocessing.resize}{to}, crop {preprocessing.crop or WHOLE}"


def _mean_image(image: MeanImage | None, crop: int | None) -> MeanImage | None:
    if image is None or image.size == crop:
        return image
    if crop is None or crop > image.size:
        raise ConfigurationError(
            f"crop: expected at most {image.size} pixels, the size of the mean image, got "
            f"{crop or WHOLE}"
        )
    return image.central(crop)
