"""The mean image of a train split as an immutable value, which travels with the weights."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from alexnet_keras.errors import ConfigurationError

if TYPE_CHECKING:  # needed by no command's --help
    import numpy as np


@dataclass(frozen=True)
class MeanImage:
    """A mean image of ``size`` x ``size`` pixels: RGB in grey levels, 0-255.

    ``values``: its float32 values, little-endian, row by row, in base64, so that it can be hashed
    and kept in JSON. :meth:`from_array` and :attr:`array` convert it bit for bit. Raises
    ``ConfigurationError`` for values that are no such image.

    Example::

        image = MeanImage.from_array(np.full((227, 227, 3), 120.0))
        image.array.shape  # (227, 227, 3)
    """

    size: int
    values: str = field(repr=False)

    def __post_init__(self):
        shape = self.array.shape
        if min(shape) < 1:
            raise ConfigurationError(f"mean_image.size: expected at least 1, got {self.size}")
        low, high = self.array.min(), self.array.max()
        if not (low >= 0 and high <= 255):
            raise ConfigurationError(
                f"mean_image: expected grey levels, 0 to 255, got {low:g} to {high:g}"
            )

    @classmethod
    def from_array(cls, array: np.ndarray) -> MeanImage:
        """From (size, size, 3) RGB, 0-255, of any numeric dtype; kept as float32."""
        import numpy as np

        array = np.asarray(array)
        if array.ndim != 3 or array.shape[2] != 3 or array.shape[0] != array.shape[1]:
            raise ConfigurationError(
                f"mean_image: expected a square image (size, size, 3), got {array.shape}"
            )
        return cls(len(array), base64.b64encode(array.astype("<f4").tobytes()).decode("ascii"))

    @cached_property
    def array(self) -> np.ndarray:
        """(size, size, 3) float32 RGB, 0-255, read-only."""
        import numpy as np

        try:
            data = base64.b64decode(self.values, validate=True)
            array = np.frombuffer(data, "<f4").reshape(self.size, self.size, 3)
        except (ValueError, OverflowError):
            raise ConfigurationError(
                f"mean_image.values: expected {self.size}x{self.size}x3 float32 values in base64, "
                f"got {len(self.values)} characters that are not"
            ) from None
        return array.astype(np.float32, copy=False)

    @cached_property
    def sha256(self) -> str:
        """The digest of its values."""
        return hashlib.sha256(self.values.encode()).hexdigest()

    def central(self, size: int) -> MeanImage:
        """Its central window; half a pixel is rounded down."""
        start = (self.size - size) // 2
        return MeanImage.from_array(self.array[start : start + size, start : start + size])

    def scaled_to(self, size: int) -> MeanImage:
        """The same image at another size, interpolated bilinearly."""
        import numpy as np

        rows = _bilinear(self.size, size)
        return MeanImage.from_array(
            np.einsum("yj,jkc,xk->yxc", rows, self.array, rows, optimize=True).clip(0, 255)
        )


def _bilinear(size: int, new_size: int) -> np.ndarray:
    """(new_size, size) float64: the weights of the pixels of a row in those of the scaled row."""
    import numpy as np

    centers = (np.arange(new_size) + 0.5) * size / new_size - 0.5
    return np.stack([np.interp(centers, np.arange(size), unit) for unit in np.eye(size)], 1)
