"""One door to every weight file: recognised by content, read into canonical form, written by suffix."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from alexnet_keras.errors import WeightsError
from weights.canonical import Layers, WeightSet
from weights.recognise import recognise

_READERS = {
    "caffemodel": ("weights.caffe", "read_caffemodel"),
    "npy": ("weights.numpy_pickle", "read_npy"),
    "npz": ("weights.npz", "read_npz"),
    "pth": ("weights.torch", "read_pth"),
    "safetensors": ("weights.safetensors", "read_safetensors"),
    "onnx": ("weights.onnx", "read_onnx"),
    "weights.h5": ("weights.hdf5", "read_weights_h5"),
}
_WRITERS = {
    ".caffemodel": ("weights.caffe_writer", "write_caffemodel"),
    ".npz": ("weights.npz", "write_npz"),
    ".safetensors": ("weights.safetensors", "write_safetensors"),
    ".weights.h5": ("weights.hdf5", "write_weights_h5"),
}
WRITTEN_SUFFIXES = tuple(_WRITERS)


def read_weights(path: str | Path) -> WeightSet:
    """Any weight file, in canonical form; its format is told by its content, not by its suffix.

    Raises ``WeightsError`` naming the file and what it is, if it holds no bare layers (a ``.keras`` archive and a run
    folder are opened by ``alexnet_keras.load_model``).
    """
    file_format = recognise(path)
    if file_format not in _READERS:
        raise WeightsError(f"{path}: expected a weight file ({', '.join(_READERS)}), found: {file_format}")
    return _function(_READERS[file_format])(Path(path))


def write_weights(path: str | Path, layers: Layers) -> None:
    """Write canonical ``layers`` in the format that the suffix of ``path`` names: one of ``WRITTEN_SUFFIXES``."""
    path = Path(path)
    writer = next((writer for suffix, writer in _WRITERS.items() if path.name.endswith(suffix)), None)
    if writer is None:
        raise WeightsError(f"{path}: expected a name that ends in one of {', '.join(_WRITERS)}")
    _function(writer)(path, layers)


def _function(place: tuple[str, str]) -> Callable:
    """Imported at its first use: only a file of that format needs its library."""
    module, name = place
    return getattr(import_module(module), name)
