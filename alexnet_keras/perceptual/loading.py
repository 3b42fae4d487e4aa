"""The two networks of LPIPS: the convolutions of a trained AlexNet, and a linear head for each."""

from __future__ import annotations

import os
from pathlib import Path

import keras
import numpy as np

from alexnet_keras.configs.architecture import OWT, Architecture, Convolution
from alexnet_keras.configs.option_groups import PartialOptions
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.models.alexnet import AlexNetModel
from alexnet_keras.pretrained.catalog import PUBLISHED
from alexnet_keras.pretrained.from_options import open_network
from alexnet_keras.pretrained.loading import Pretrained, check_loaded
from alexnet_keras.progress import Progress
from weights.formats import SAVED_MODELS, detect_format
from weights.lpips import read_linear_heads
from weights.store import fetch

LAST = "conv5"


def open_trunk(
    weights: str | os.PathLike | keras.Model, partial: bool, progress: Progress
) -> Pretrained:
    """The network of ``weights``, as :func:`perceptual_distance` takes them."""
    if isinstance(weights, keras.Model):
        trunk = Pretrained(weights, weights.name, None)
    else:
        name = os.fspath(weights)
        variant = _variant(name)
        trunk = open_network(name, PartialOptions(variant=variant, partial=partial), progress)
    architecture = getattr(trunk.model, "architecture", None)
    _check_variant(architecture.name if architecture else "another network")
    check_loaded(trunk, [LAST])
    return trunk


def _variant(name: str) -> str | None:
    """What has to be said of weights that may not say it themselves."""
    if name in PUBLISHED:
        _check_variant(PUBLISHED[name].variant or OWT.name)  # before the download
        return None
    is_model = os.path.exists(name) and detect_format(name).format in SAVED_MODELS
    return None if is_model else OWT.name


def _check_variant(found: str) -> None:
    if found != OWT.name:
        raise ConfigurationError(f"weights: expected those of {OWT.name}, got {found}")


def find_heads(heads: str | os.PathLike, progress: Progress) -> Path:
    """The file of the linear heads, downloaded if need be."""
    if os.path.exists(heads):
        return Path(heads)
    if heads != "lpips":
        raise WeightsError(f"heads: expected lpips or an existing file, got {str(heads)!r}")
    return fetch(PUBLISHED["lpips"].file, progress=progress.download)


def matching_heads(path: Path, model: AlexNetModel) -> tuple[np.ndarray, ...]:
    """The heads of ``path``, (channels,) float32 each. Raises ``WeightsError`` for those of
    another network.
    """
    heads = read_linear_heads(path)
    expected = [
        each.filters
        for each in specs_to_conv5(model.architecture)
        if isinstance(each, Convolution)
    ]
    found = [len(head) for head in heads]
    if found != expected:
        raise WeightsError(
            f"{path}: expected heads of {', '.join(map(str, expected))} channels, got "
            f"{', '.join(map(str, found))}: those of another network"
        )
    return heads


def specs_to_conv5(architecture: Architecture) -> list:
    """The layers up to conv5."""
    names = [spec.name for spec in architecture.layers]
    return list(architecture.layers[: names.index(LAST) + 1])
