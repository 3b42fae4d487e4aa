"""Read any weight file into canonical form, whatever its format."""

from __future__ import annotations

import os
from importlib import import_module

from weights.canonical import WeightSet
from weights.errors import WeightsError
from weights.formats import WeightFile, detect_format

_READERS = {
    "caffemodel": ("weights.caffe", "read_caffemodel"),
    "npy": ("weights.numpy_pickle", "read_npy"),
    "npz": ("weights.npz", "read_npz"),
    "pth": ("weights.torch", "read_pth"),
    "safetensors": ("weights.safetensors", "read_safetensors"),
    "onnx": ("weights.onnx", "read_onnx"),
    "mat": ("weights.matconvnet", "read_mat"),
    "weights.h5": ("weights.hdf5", "read_weights_h5"),
    "keras1.h5": ("weights.keras_hdf5", "read_keras_h5"),
    "slim": ("weights.tf_checkpoint", "read_checkpoint"),
}


def read_weights(
    file: WeightFile | str | os.PathLike, kernel_order: str | None = None
) -> WeightSet:
    """The layers of any weight file, in canonical form as float32.

    ``file``: a path, whose format is detected from its content, or what
    :func:`weights.formats.detect_format` returned for it. ``kernel_order``: what
    :func:`weights.keras_hdf5.read_keras_h5` may have to be told; without effect on other formats.
    Raises ``WeightsError`` naming the file
    and its format where it holds no bare layers: a ``.keras`` archive and a run folder are opened
    by ``alexnet_keras.load_model``.
    """
    if not isinstance(file, WeightFile):
        file = detect_format(file)
    if file.format not in _READERS:
        raise WeightsError(
            f"{file.path}: expected a weight file ({', '.join(_READERS)}), got: {file.format}"
        )
    module, function = _READERS[file.format]
    read = getattr(import_module(module), function)  # only its own library is needed
    return read(file.path, kernel_order) if file.format == "keras1.h5" else read(file.path)
