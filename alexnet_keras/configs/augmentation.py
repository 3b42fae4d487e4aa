"""Data augmentation settings as a frozen dataclass."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from alexnet_keras.configs.serialization import ADDED_LATER
from alexnet_keras.errors import ConfigurationError

# PCA of ImageNet's RGB values as Krizhevsky published it (cuda-convnet2, make-data/input_meta):
# standard deviations in grey levels times unit vectors. The paper's words say eigenvalues, their
# squares; see alexnet_keras.data.colour_pca.
IMAGENET_COLOUR_AXES = tuple(
    tuple(deviation * part for part in axis)
    for deviation, axis in (
        (121.780, (0.56351, 0.57618, 0.59200)),
        (37.094, (0.71258, 0.02354, -0.70120)),
        (19.721, (-0.41796, 0.81698, -0.39731)),
    )
)


@dataclass(frozen=True)
class Augmentation:
    """Data augmentation, which depends on (seed, position in the training stream) alone.

    ``crop``: ``"center"``; ``"random"`` places the window uniformly (the paper, Caffe);
    ``"resized"`` cuts ``area`` (a range of fractions) of the original image at an ``aspect`` ratio
    (a range, log-uniform) and resizes it (torchvision). ``colour_sigma`` > 0 adds ``sum(a_i *
    colour_axes[i])`` to all pixels, ``a_i`` drawn from N(0, colour_sigma): the three axes are RGB
    in grey levels (0-255), each as long as the standard deviation along it (paper, section 4.1). A
    sigma of 0.1 moves an image by 12 grey levels along ImageNet's first axis, 7 in each of red,
    green and blue. The network's input, mean subtracted, is then divided by ``colour_divisor``.
    Both end with the epoch ``colour_until``; None is never.
    """

    name: str
    crop: str = "random"
    mirror: bool = True
    colour_sigma: float = 0.0
    colour_axes: tuple[tuple[float, float, float], ...] = IMAGENET_COLOUR_AXES
    area: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    colour_divisor: float = field(default=1.0, metadata=ADDED_LATER)
    colour_until: float | None = field(default=None, metadata=ADDED_LATER)

    def __post_init__(self):
        if self.crop not in ("center", "random", "resized"):
            raise ConfigurationError(
                f"augmentation.crop: expected center, random or resized, got {self.crop!r}"
            )
        if not 0 <= self.colour_sigma < math.inf:
            raise ConfigurationError(
                "augmentation.colour_sigma: expected zero or a positive number, got "
                f"{self.colour_sigma}"
            )
        if not 0 < self.colour_divisor < math.inf:
            raise ConfigurationError(
                "augmentation.colour_divisor: expected a positive number, got "
                f"{self.colour_divisor}"
            )
        if self.colour_until is not None and not 0 <= self.colour_until < math.inf:
            raise ConfigurationError(
                "augmentation.colour_until: expected zero or a positive number, got "
                f"{self.colour_until}"
            )
        for name, (low, high), most in (("area", self.area, 1), ("aspect", self.aspect, math.inf)):
            if not 0 < low <= high <= most or high == math.inf:
                raise ConfigurationError(
                    f"augmentation.{name}: expected two positive numbers in order"
                    f"{'' if most == math.inf else f', at most {most}'}, got {low} and {high}"
                )
        parts = [part for axis in self.colour_axes for part in axis]
        if [len(axis) for axis in self.colour_axes] != [3, 3, 3] or not all(
            map(math.isfinite, parts)
        ):
            raise ConfigurationError(
                "augmentation.colour_axes: expected three axes of three numbers, got "
                f"{self.colour_axes}"
            )

    def scaled(self, ratio: float) -> Augmentation:
        """The same augmentation for a run whose length is multiplied by ``ratio``."""
        return replace(self, colour_until=self.colour_until and self.colour_until * ratio)


AUGMENTATIONS = {
    augmentation.name: augmentation
    for augmentation in (
        Augmentation("none", crop="center", mirror=False),
        Augmentation("standard"),
        Augmentation("paper", colour_sigma=0.1),
        Augmentation("torchvision", crop="resized"),
    )
}
