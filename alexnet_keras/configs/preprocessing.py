"""Input preprocessing as a frozen dataclass, which belongs to the weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.serialization import ADDED_LATER, from_json
from alexnet_keras.errors import ConfigurationError

MAX_RESIZE_TO = 4096
"""Pixels."""
RESIZES = ("warp", "short_side", "square", "pad", "none")


@dataclass(frozen=True)
class Preprocessing:
    """From a decoded RGB image (height, width, 3), 0-255, to a network's input: resize to
    ``resize_to`` pixels, crop ``crop`` x ``crop`` pixels, then ``(image - mean) / std`` in
    ``channel_order``.

    ``mean`` and ``std`` are in RGB order and grey levels (0-255), whatever ``channel_order`` is.
    ``mean_image``, crop x crop pixels, is subtracted instead of ``mean`` from every crop after it
    is mirrored, always at the same place (Krizhevsky's code of 2012); ``mean`` is then only the
    colour of what lies outside an image.
    ``resize="warp"`` ignores the aspect ratio (Caffe); ``"short_side"`` keeps it (torchvision);
    ``"square"`` keeps it and then keeps the central square only, so that random and corner crops
    are taken from that (paper, section 2). ``"pad"`` scales the whole image to fit a square and
    fills that with ``mean``; ``"none"`` keeps the image's own size. Without ``crop`` the whole
    resized image is the input.
    """

    resize: str = "warp"
    resize_to: int = 256
    antialias: bool = False
    crop: int | None = 227
    channel_order: str = "BGR"
    mean: tuple[float, float, float] = (122.67891434, 116.66876762, 104.00698793)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    # Last, because it is long in JSON.
    mean_image: MeanImage | None = field(default=None, metadata=ADDED_LATER)

    def __post_init__(self):
        if self.resize not in RESIZES:
            raise ConfigurationError(
                f"preprocessing.resize: expected one of {', '.join(RESIZES)}, got {self.resize!r}"
            )
        if self.channel_order not in ("RGB", "BGR"):
            raise ConfigurationError(
                f"preprocessing.channel_order: expected RGB or BGR, got {self.channel_order!r}"
            )
        if self.resize_to > MAX_RESIZE_TO:
            raise ConfigurationError(
                f"preprocessing.resize_to: expected at most {MAX_RESIZE_TO}, got {self.resize_to}"
            )
        largest = MAX_RESIZE_TO if self.resize == "none" else self.resize_to
        if self.crop is not None and not 0 < self.crop <= largest:
            raise ConfigurationError(
                f"preprocessing.crop: expected 1 to resize_to ({largest}), got {self.crop}"
            )
        if not min(self.std) > 0:
            raise ConfigurationError(
                f"preprocessing.std: expected numbers above 0, got {self.std}"
            )
        if self.mean_image is not None and self.mean_image.size != self.crop:
            size = self.mean_image.size
            raise ConfigurationError(
                f"preprocessing.mean_image: expected {self.crop}x{self.crop} pixels, as many as "
                f"the crop, got {size}x{size}"
            )

    def with_input_size(self, size: int) -> Preprocessing:
        """The same preprocessing for an input of ``size`` x ``size`` pixels, with ``resize_to``
        and the mean image scaled in proportion.
        """
        if self.crop in (size, None):
            return self
        return replace(
            self,
            crop=size,
            resize_to=round(self.resize_to * size / self.crop),
            mean_image=self.mean_image and self.mean_image.scaled_to(size),
        )

    def with_mean_image(self, image: MeanImage) -> Preprocessing:
        """The same preprocessing with a mean image of ``crop`` x ``crop`` pixels, or of
        ``resize_to`` x ``resize_to``, of which the central window is kept, as published mean
        images are used. Raises ``ConfigurationError`` for one of another size.
        """
        if image.size == self.crop:
            return replace(self, mean_image=image)
        if image.size != self.resize_to:
            sizes = " or ".join(f"{size}x{size}" for size in (self.crop, self.resize_to))
            raise ConfigurationError(
                f"mean: expected an image of {sizes} pixels, got {image.size}x{image.size}"
            )
        return replace(self, mean_image=image.central(self.crop))

    @classmethod
    def from_dict(cls, values: dict) -> Preprocessing:
        """From ``dataclasses.asdict`` or its JSON; raises ``ConfigurationError`` naming an
        invalid field.
        """
        return from_json(cls, values, "preprocessing")


CAFFE_PREPROCESSING = Preprocessing()
PAPER_PREPROCESSING = Preprocessing(resize="square", antialias=True)
TORCHVISION_PREPROCESSING = Preprocessing(
    resize="short_side",
    antialias=True,
    crop=224,
    channel_order="RGB",
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)
KRIZHEVSKY_PREPROCESSING = Preprocessing(
    resize="square", antialias=True, crop=224, channel_order="RGB"
)
# TF-Slim has none for alexnet_v2 (its preprocessing_factory.py does not list it): this is the one
# of its other networks of ImageNet with 224x224 inputs in grey levels (vgg_preprocessing.py).
SLIM_PREPROCESSING = Preprocessing(
    resize="short_side", crop=224, channel_order="RGB", mean=(123.68, 116.779, 103.939)
)
PREPROCESSING = {
    "alexnet": CAFFE_PREPROCESSING,
    "caffenet": CAFFE_PREPROCESSING,
    "paper": PAPER_PREPROCESSING,
    "owt": TORCHVISION_PREPROCESSING,
    "krizhevsky": KRIZHEVSKY_PREPROCESSING,
    "slim": SLIM_PREPROCESSING,
}
