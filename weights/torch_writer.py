"""``.pth`` as ``torch.save`` writes a state dict, without PyTorch.

``torch.load(path, weights_only=True)`` returns an ``OrderedDict`` of float32 tensors in PyTorch's
order, for ``load_state_dict(strict=True)``. The variant is noted in its attribute ``_metadata``,
where modules note their versions, under ``alexnet_keras``: a key among the tensors would be
refused as unexpected.
"""

from __future__ import annotations

import math
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from weights.atomic_files import atomic_write
from weights.canonical import Layers, channels_first_blocks, channels_first_shape
from weights.state_dict import TORCHVISION_NAMES, TORCHVISION_VARIANT, VARIANT_OWNER

_ROOT = "archive"
_ALIGNMENT = 64  # of a storage's bytes in the file, as PyTorch does it
_LOCAL_HEADER_BYTES = 30
_PADDING_HEADER = struct.Struct("<2sH")
_ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def write_pth(path: Path, layers: Layers, variant: str | None = None) -> None:
    """Write canonical layers as float32, by torchvision's names for its own network, ``owt``, and
    by the public ones (``conv1.weight`` ...) otherwise; ``path`` changes in one step.

    Some filters at a time are converted and written. :func:`weights.torch.read_pth` gives the
    same bits back. Raises ``WeightsError`` where the file cannot be written.
    """
    names = {}
    if variant == TORCHVISION_VARIANT:
        names = {layer: name for name, layer in TORCHVISION_NAMES.items()}
    shapes = {}
    for layer, (kernel, bias) in layers.items():
        name = names.get(layer, layer)
        shapes[f"{name}.weight"] = channels_first_shape(kernel)
        shapes[f"{name}.bias"] = bias.shape
    with atomic_write(Path(path)) as (temporary,), zipfile.ZipFile(temporary, "w") as archive:
        _add_bytes(archive, "data.pkl", _pickled(shapes, variant))
        _add_bytes(archive, "byteorder", b"little")
        for index, (size, blocks) in enumerate(_storages(layers, path)):
            _add(archive, f"data/{index}", size, blocks)
        _add_bytes(archive, "version", b"3\n")


def _storages(layers: Layers, path: Path) -> Iterator[tuple[int, Iterable[np.ndarray]]]:
    """How many numbers each storage has, and these in blocks."""
    for name, (kernel, bias) in layers.items():
        yield kernel.size, channels_first_blocks(name, layers, path)
        yield bias.size, [bias]


def _add_bytes(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    archive.writestr(zipfile.ZipInfo(f"{_ROOT}/{name}"), content)


def _add(archive: zipfile.ZipFile, name: str, size: int, blocks: Iterable[np.ndarray]) -> None:
    """A stored member of ``size`` float32, which begins at a multiple of 64 bytes."""
    entry = zipfile.ZipInfo(f"{_ROOT}/{name}")
    entry.file_size = 4 * size  # a large one needs another header
    start = archive.fp.tell() + _LOCAL_HEADER_BYTES + len(entry.filename) + _PADDING_HEADER.size
    padding = -start % _ALIGNMENT
    entry.extra = _PADDING_HEADER.pack(b"FB", padding) + b"Z" * padding
    with archive.open(entry, "w") as file:
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<f4"))


def _pickled(shapes: dict[str, tuple[int, ...]], variant: str | None) -> bytes:
    tensors = b"".join(
        _text(name) + _tensor(str(index), shape)
        for index, (name, shape) in enumerate(shapes.items())
    )
    noted = b"}" + _text("variant") + _text(variant) + b"s" if variant is not None else b"}"
    metadata = _ORDERED_DICT + _text(VARIANT_OWNER) + noted + b"s"
    state = b"}" + _text("_metadata") + metadata + b"sb"
    return b"\x80\x02" + _ORDERED_DICT + b"(" + tensors + b"u" + state + b"."


def _tensor(key: str, shape: tuple[int, ...]) -> bytes:
    """The opcodes of ``_rebuild_tensor_v2(storage, 0, shape, strides, False, {})``."""
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    storage = (
        b"("
        + _text("storage")
        + b"ctorch\nFloatStorage\n"
        + _text(key)
        + _text("cpu")
        + _integer(math.prod(shape))
        + b"tQ"
    )
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + _integer(0)
        + _integers(shape)
        + _integers(strides)
        + b"\x89"
        + _ORDERED_DICT
        + b"tR"
    )


def _integers(values: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_integer, values)) + b"t"


def _integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
