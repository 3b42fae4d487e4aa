"""One door to every weight file: recognised by content, read into canonical form, written by
suffix.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path

from weights.canonical import Layers, WeightSet
from weights.errors import WeightsError
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

    Raises ``WeightsError`` naming the file and what it is, if it holds no bare layers (a
    ``.keras`` archive and a run folder are opened by ``alexnet_keras.load_model``).
    """
    file_format = recognise(path)
    if file_format not in _READERS:
        raise WeightsError(
            f"{path}: expected a weight file ({', '.join(_READERS)}), got: {file_format}"
        )
    return _function(_READERS[file_format])(Path(path))


def write_weights(path: str | Path, layers: Layers, layer_order: Iterable[str] = ()) -> None:
    """Write canonical ``layers`` in the format that :func:`written_suffix` finds.

    ``layer_order``: all public layers as the network has them; of these formats only
    ``.caffemodel`` can tell it.
    """
    suffix = written_suffix(path)
    order = {"layer_order": layer_order} if suffix == ".caffemodel" else {}
    _function(_WRITERS[suffix])(Path(path), layers, **order)


def written_suffix(path: str | Path) -> str:
    """The suffix that chooses the format of a file to write. Raises ``WeightsError`` listing the
    valid ones.
    """
    for suffix in WRITTEN_SUFFIXES:
        if Path(path).name.endswith(suffix):
            return suffix
    raise WeightsError(
        f"{path}: expected a name that ends in one of {', '.join(WRITTEN_SUFFIXES)}"
    )


def _function(place: tuple[str, str]) -> Callable:
    """Imported at its first use: only a file of that format needs its library."""
    module, name = place
    return getattr(import_module(module), name)
