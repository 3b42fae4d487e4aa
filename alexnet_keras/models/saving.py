"""Load models that ``AlexNetModel.save`` wrote."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import keras

import alexnet_keras.models.layers  # noqa: F401  registers the layers that saved models name
from alexnet_keras.errors import WeightsError, error_reason
from alexnet_keras.models.alexnet import AlexNetModel

_MAX_EXPANSION = 4
_SMALL_BYTES = 1 << 24
MODEL_FILE = "model.keras"
"""The name of the model in a run folder."""


def load_model(path: str | os.PathLike) -> AlexNetModel:
    """Load a ``.keras`` file of this project, or the ``model.keras`` of a run folder.

    Its ``architecture``, ``preprocessing`` and ``class_names`` are those it was saved with. Raises
    ``WeightsError`` for a file that is missing, damaged or not a model of this project; runs no
    code that the file contains.
    """
    path = model_path(path)
    if not os.path.isfile(path):  # which, unlike Path, has no errors for forbidden folders
        raise WeightsError(f"{path}: expected a model saved by this project, got nothing")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_sizes(archive, path)
            damaged = archive.testzip()
            if not damaged:
                _check_parameters(archive, path)
        if damaged:
            raise WeightsError(
                f"{path}: expected an undamaged archive, got a wrong checksum of {damaged}"
            )
        model = keras.saving.load_model(path, compile=False)
    except WeightsError:
        raise
    # Keras raises exceptions of any type for a damaged or foreign archive.
    except Exception as error:
        reason = error_reason(error)[:200]
        raise WeightsError(
            f"{path}: expected a .keras file of this project, got: {reason}"
        ) from None
    if not isinstance(model, AlexNetModel):
        raise WeightsError(
            f"{path}: expected a network of this project, got {type(model).__name__}"
        )
    return model


def _check_sizes(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive that would expand to many times its size; Keras stores its members
    uncompressed.
    """
    size = sum(member.file_size for member in archive.infolist())
    limit = _SMALL_BYTES + _MAX_EXPANSION * path.stat().st_size
    if size > limit:
        raise WeightsError(
            f"{path}: expected members of at most {limit:,} bytes in all, got {size:,}"
        )


def _check_parameters(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse layers of more parameters than the file holds, which Keras would allocate before it
    reads the first weight.

    Counted are at least the products of the units or filters of consecutive layers.
    """
    at_least, inputs = 0, 1
    for layer in json.loads(archive.read("config.json"))["config"]["layers"]:
        config = layer["config"]
        outputs = config.get("units", config.get("filters"))
        if outputs is not None:
            at_least += outputs * max(1, inputs // config.get("groups", 1))
            inputs = outputs
    available = archive.getinfo("model.weights.h5").file_size // 4
    if at_least > available:
        raise WeightsError(
            f"{path}: expected layers of at most {available:,} parameters, as many as the file "
            f"can hold, got {at_least:,} or more"
        )


def model_path(path: str | os.PathLike) -> Path:
    """The ``.keras`` file itself, where ``path`` is a run folder."""
    path = Path(path)
    return path / MODEL_FILE if path.is_dir() else path
