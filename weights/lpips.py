"""The linear heads of LPIPS as its authors publish them, read without PyTorch."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from weights.errors import WeightsError
from weights.formats import detect_format
from weights.torch import read_tensors

_HEAD = re.compile(r"lin([0-9])\.model\.[01]\.weight")  # 1 behind a dropout, else 0


def read_linear_heads(path: Path) -> tuple[np.ndarray, ...]:
    """The weights of each layer's channels, ``lin0`` first, (channels,) float32 each.

    ``path``: a ``.pth`` of richzhang/PerceptualSimilarity (``lpips/weights/v0.1/alex.pth``), or
    the state dict of a whole ``lpips.LPIPS``. Raises ``WeightsError`` for another file, and for
    weights that are not finite.
    """
    file = detect_format(path)
    if file.format != "pth":
        raise WeightsError(f"{path}: expected LPIPS's heads in a .pth file, got {file.format}")
    tensors = {
        int(found[1]): (name, tensor)
        for name, tensor in read_tensors(path).items()
        if (found := _HEAD.fullmatch(name))
    }
    if not tensors or sorted(tensors) != list(range(len(tensors))):
        raise WeightsError(
            f"{path}: expected LPIPS's heads lin0.model.1.weight, lin1..., got "
            + (", ".join(name for name, _ in tensors.values()) or "none of them")
        )
    return tuple(_head(path, *tensors[index]) for index in sorted(tensors))


def _head(path: Path, name: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.ndim != 4 or tensor.size != tensor.shape[1]:
        raise WeightsError(
            f"{path}: {name}: expected shape (1, channels, 1, 1), got {tensor.shape}"
        )
    weights = tensor.reshape(-1).astype(np.float32)
    if not np.isfinite(weights).all():
        raise WeightsError(f"{path}: {name}: expected finite numbers, got NaN or infinity")
    return weights
