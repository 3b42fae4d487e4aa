"""The images of an array, read from its file as they are needed."""

from __future__ import annotations

import h5py
import numpy as np

from alexnet_keras.errors import DataError

MAX_PIXELS = 2**28
_BLOCK_BYTES = 64 << 20


class PixelArray:
    """Images of one size, (N, height, width, 3) RGB.

    ``array``: (N, H, W, 3), or grey (N, H, W) or (N, H, W, 1); uint8, or floating-point 0-1 or
    0-255. It is floating-point 0-1 if no value is above 1. ``place`` begins errors.

    Attributes:
        notes: sentences for the user about how the array is understood.
    """

    def __init__(self, array: np.ndarray | h5py.Dataset, place: str):
        self._array = array
        self.notes: tuple[str, ...] = ()
        self._scale = 1
        self._check_shape(place)
        if self._is_grey:
            self.notes += (f"{place}: grey images: each is repeated as red, green and blue",)
        if array.dtype != np.uint8:
            self._check_values(place)

    def __len__(self) -> int:
        return self._array.shape[0]

    @property
    def dtype(self) -> type:
        """Of :meth:`row`: uint8 or float32."""
        return np.uint8 if self._array.dtype == np.uint8 else np.float32

    def describe(self) -> dict:
        """How the array is understood, JSON-ready."""
        return {
            "dtype": str(self._array.dtype),
            "range": [0, 1 if self._scale == 255 else 255],
            "channels": "grey, repeated" if self._is_grey else "RGB",
        }

    def row(self, index: int) -> np.ndarray:
        """An image, (height, width, 3) uint8 or float32, RGB, 0-255."""
        row = np.asarray(self._array[int(index)])
        row = row.reshape(*row.shape[:2], -1)
        if row.dtype != np.uint8:
            row = row.astype(np.float32) * np.float32(self._scale)
        return np.repeat(row, 3, axis=2) if row.shape[2] == 1 else np.ascontiguousarray(row)

    @property
    def _is_grey(self) -> bool:
        return self._array.ndim == 3 or self._array.shape[-1] == 1

    def _check_shape(self, place: str) -> None:
        shape = tuple(self._array.shape)
        expected = "(N, height, width, 3)"
        if len(shape) == 4 and shape[3] not in (1, 3):
            hint = ""
            if shape[3] == 4:
                hint = "; blend the alpha channel with a background, and keep three channels"
            elif shape[1] in (1, 3):
                hint = "; move the channels last: array.transpose(0, 2, 3, 1)"
            raise DataError(f"{place}: expected images of shape {expected}, got {shape}{hint}")
        if len(shape) not in (3, 4) or (len(shape) == 3 and shape[2] <= 4):
            hint = "; give a single image as array[None]" if shape[-1:] == (3,) else ""
            raise DataError(f"{place}: expected images of shape {expected}, got {shape}{hint}")
        if 0 in shape:
            raise DataError(f"{place}: expected one or more images, got shape {shape}")
        if shape[1] * shape[2] > MAX_PIXELS:
            raise DataError(f"{place}: expected images of up to {MAX_PIXELS} pixels, got {shape}")
        if self._array.dtype != np.uint8 and self._array.dtype.kind != "f":
            raise DataError(
                f"{place}: expected uint8 0-255, or floating-point 0-1 or 0-255, got "
                f"{self._array.dtype}"
            )

    def _check_values(self, place: str) -> None:
        """Read all of a floating-point array once, to see its range."""
        rows = max(1, _BLOCK_BYTES // (int(np.prod(self._array.shape[1:])) * 8))
        largest = 0.0
        for start in range(0, len(self), rows):
            block = np.asarray(self._array[start : start + rows])
            lowest, highest = block.min(), block.max()
            if not (lowest >= 0 and highest <= 255):  # NaN too
                wrong = ~((block >= 0) & (block <= 255)).reshape(len(block), -1).all(1)
                row = int(np.argmax(wrong))
                found = block[row]
                value = "NaN" if np.isnan(found).any() else f"{found.min():g} to {found.max():g}"
                raise DataError(
                    f"{place}[{start + row}]: expected values 0-1 or 0-255, got {value}"
                )
            largest = max(largest, float(highest))
        self._scale = 255 if largest <= 1 else 1
        scale = "0-1" if largest <= 1 else "0-255"
        self.notes += (f"{place}: read as values {scale}: the largest is {largest:g}",)
