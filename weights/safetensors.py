"""``.safetensors``, in the names and the order of PyTorch, so that its users can load networks
trained here.

:func:`write_safetensors` writes ``conv1.weight`` (out, in / groups, height, width),
``conv1.bias`` (out,) ... ``fc8.weight`` (out, in), float32, fc6's columns in channel, height,
width order; the metadata say so under ``layout``.
"""

from __future__ import annotations

from pathlib import Path

import ml_dtypes  # noqa: F401 - the library finds bfloat16 only once this has registered it with NumPy
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from weights.arrays import to_canonical
from weights.atomic_files import atomic_write
from weights.canonical import Layers, WeightSet, check_variant, to_channels_first
from weights.errors import WeightsError, error_reason
from weights.memory_map import map_file
from weights.state_dict import by_layer

_METADATA = {
    "format": "pt",
    "layout": "channels first: kernels OIHW, dense (out, in), fc6 in C,H,W order",
}
_VARIANT = "alexnet_keras.variant"
_DTYPES = ("F16", "BF16", "F32", "F64")
_MAX_HEADER_BYTES = 1 << 20


def read_safetensors(path: Path) -> WeightSet:
    """Weights of a ``.safetensors`` in PyTorch's order, in canonical form as float32.

    Tensors are named ``conv1.weight``, ``conv1.bias`` ... or as torchvision names them
    (``features.0.weight`` ...), and are float16, bfloat16, float32 or float64 (rounded). Raises
    ``WeightsError``.
    """
    path = Path(path)
    data = map_file(path)
    length = int.from_bytes(data[:8], "little")
    # Before the library parses it: it keeps several times the header in memory.
    if length > _MAX_HEADER_BYTES:
        raise WeightsError(
            f"{path}: byte 0: expected a header of at most {_MAX_HEADER_BYTES} bytes, got {length}"
        )
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: _read_tensor(file, name, path) for name in file.keys()}  # noqa: SIM118
            variant = (file.metadata() or {}).get(_VARIANT)
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: safetensors: {error_reason(error)[:300]}") from None
    if variant is not None:
        variant = check_variant(variant, f"{path}: metadata {_VARIANT}")
    layers = to_canonical(by_layer(tensors, path), path, len(data), channels_first=True)
    return WeightSet(layers, path, "safetensors", variant=variant)


def write_safetensors(path: Path, layers: Layers, variant: str | None = None) -> None:
    """Write canonical layers as float32 in PyTorch's names and order, the ``variant`` in the
    metadata; ``path`` changes in one step.

    :func:`read_safetensors` gives the same bits back. Raises ``WeightsError`` where the file
    cannot be written.
    """
    tensors = {
        f"{layer}.{role}": np.ascontiguousarray(array, np.float32)
        for layer, pair in to_channels_first(layers, path).items()
        for role, array in zip(("weight", "bias"), pair, strict=True)
    }
    metadata = _METADATA if variant is None else {**_METADATA, _VARIANT: variant}
    with atomic_write(Path(path)) as (temporary,):
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from None


def _read_tensor(file: safe_open, name: str, path: Path) -> np.ndarray:
    dtype = file.get_slice(name).get_dtype()
    if dtype not in _DTYPES:
        raise WeightsError(
            f"{path}: tensor {name[:80]!r}: expected one of {', '.join(_DTYPES)}, got {dtype}"
        )
    return file.get_tensor(name)
