"""PyTorch's ``.pth`` files, zip and legacy, read without PyTorch."""

from __future__ import annotations

import math
import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weights.archive import read_archive
from weights.arrays import BFLOAT16, is_shape, to_canonical
from weights.canonical import WeightSet
from weights.errors import WeightsError
from weights.memory_map import map_file
from weights.restricted_pickle import Buildable, Global, RestrictedUnpickler, fill
from weights.state_dict import by_layer

_STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16,
    "DoubleStorage": np.dtype("<f8"),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def read_pth(path: Path) -> WeightSet:
    """Weights of a state dict saved by ``torch.save``, in canonical form as float32; float32
    arrays are views of the file.

    Names are torchvision's (``features.0.weight`` ...) or public ones (``conv1.weight``), perhaps
    behind ``module.``; the state dict is the object itself or its entry ``state_dict`` or
    ``model``. Tensors are float16, bfloat16, float32 or float64 (rounded), of any strides and
    offset. Runs nothing that the file names. Raises ``WeightsError``.
    """
    path = Path(path)
    data = memoryview(map_file(path))
    if data[:4] == b"PK\x03\x04":
        saved = _load_zip(data, path)
    elif data[0] == pickle.PROTO[0]:
        saved = _load_legacy(data, path)
    else:
        raise WeightsError(
            f"{path}: byte 0: expected PyTorch's zip archive or pickle, got {bytes(data[:8])!r}"
        )
    for key in ("state_dict", "model"):
        saved = saved[key] if isinstance(saved, dict) and key in saved else saved
    if not isinstance(saved, dict):
        raise WeightsError(f"{path}: expected a state dict of tensors, got {type(saved).__name__}")
    arrays = {}
    for name, tensor in saved.items():
        if type(name) is not str or type(tensor) is not _Tensor:
            raise WeightsError(
                f"{path}: {str(name)[:80]!r}: expected a tensor, got {type(tensor).__name__}"
            )
        arrays[name] = tensor.array(f"{path}: tensor {name!r}")
    return WeightSet(
        to_canonical(by_layer(arrays, path), path, len(data), channels_first=True), path, "pth"
    )


@dataclass
class _Storage:
    """A run of ``numel`` numbers outside the pickle; ``data`` are its bytes once they are
    found.
    """

    dtype: np.dtype
    numel: int
    data: memoryview | None = None

    def attach(self, data: memoryview, place: str) -> None:
        if len(data) != self.numel * self.dtype.itemsize:
            raise WeightsError(
                f"{place}: expected {self.numel * self.dtype.itemsize} bytes, got {len(data)}"
            )
        self.data = data


@dataclass(frozen=True)
class _Tensor:
    """Where a tensor lies in its storage; sizes, strides and ``offset`` count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, place: str) -> np.ndarray:
        """The tensor as a view of its storage; raises ``WeightsError`` where it would leave it."""
        numel, width = self.storage.numel, self.storage.dtype.itemsize
        last = self.offset + sum(
            (n - 1) * stride for n, stride in zip(self.shape, self.strides, strict=True)
        )
        if 0 in self.shape or last >= numel or math.prod(self.shape) > numel:
            raise WeightsError(
                f"{place}: expected a tensor within {numel} stored numbers, got shape "
                f"{self.shape}, "
                f"strides {self.strides}, offset {self.offset}"
            )
        return np.ndarray(
            self.shape,
            self.storage.dtype,
            self.storage.data,
            self.offset * width,
            [stride * width for stride in self.strides],
        )


class _OrderedDict(dict, Buildable):
    """What stands for ``collections.OrderedDict``; its state, a module's version numbers, is of no
    use here.
    """

    def __init__(self, items: object = ()):
        super().__init__()
        if items != ():
            if type(items) is not list or not all(
                type(pair) in (list, tuple) and len(pair) == 2 for pair in items
            ):
                raise ValueError("expected an ordered dictionary's items as a list of pairs")
            fill(self, [value for pair in items for value in pair])
            items.clear()  # moved, not copied: a list named often cannot multiply

    def set_state(self, state: object) -> None:
        if type(state) is not dict:
            raise ValueError(
                f"expected an ordered dictionary's attributes, got {type(state).__name__}"
            )


def _rebuild_tensor(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> _Tensor:
    if type(storage) is not _Storage or type(offset) is not int or offset < 0:
        raise ValueError("expected a tensor's storage and offset")
    if not is_shape(shape) or not is_shape(strides) or len(shape) != len(strides):
        raise ValueError(
            "expected a tensor's shape and strides, at most 8 numbers from 0 to 2**40 each"
        )
    return _Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: object, requires_grad: object, hooks: object) -> _Tensor:
    if type(tensor) is not _Tensor:
        raise ValueError(f"expected a parameter's tensor, got {type(tensor).__name__}")
    return tensor


_ALLOWED = {
    "collections OrderedDict": Global("OrderedDict", _OrderedDict),
    "torch._utils _rebuild_tensor": Global("_rebuild_tensor", _rebuild_tensor),
    "torch._utils _rebuild_tensor_v2": Global("_rebuild_tensor_v2", _rebuild_tensor),
    "torch._utils _rebuild_parameter": Global("_rebuild_parameter", _rebuild_parameter),
} | {f"torch {name}": Global(name) for name in _STORAGE_DTYPES}


class _Storages(dict[str, _Storage]):
    """The storages that a pickle speaks of, by key, gathered from its persistent ids."""

    def __init__(self, byte_order: str = "<"):
        super().__init__()
        self._byte_order = byte_order

    def load(self, identity: object) -> _Storage:
        """For ``("storage", type, key, location, numel)``; the legacy encoding adds a view, which
        nothing writes.
        """
        if (
            type(identity) is not tuple
            or len(identity) not in (5, 6)
            or identity[5:] not in ((), (None,))
        ):
            raise ValueError(
                "expected a storage's persistent id: storage, type, key, location, size"
            )
        kind, storage_type, key, _, numel = identity[:5]
        if (
            kind != "storage"
            or type(storage_type) is not Global
            or storage_type.name not in _STORAGE_DTYPES
        ):
            raise ValueError("expected the persistent id of a storage of floating-point numbers")
        if type(key) is not str or not is_shape((numel,)):
            raise ValueError("expected a storage's key as text and its size from 0 to 2**40")
        dtype = _STORAGE_DTYPES[storage_type.name].newbyteorder(self._byte_order)
        storage = self.setdefault(key, _Storage(dtype, numel))
        if (storage.dtype, storage.numel) != (dtype, numel):
            raise ValueError(f"expected storage {key!r} with one type and size, got two")
        return storage


def _load_zip(data: memoryview, path: Path) -> object:
    """The saved object of the encoding since PyTorch 1.6: ``data.pkl`` and one stored member for
    each storage.
    """
    members = read_archive(data, path)
    pickles = [name for name in members if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise WeightsError(
            f"{path}: zip archive: expected one member data.pkl, got {len(pickles)}"
        )
    root = pickles[0].removesuffix("data.pkl")
    byte_order = bytes(members.get(f"{root}byteorder", b"little")[:8])
    if byte_order not in (b"little", b"big"):
        raise WeightsError(
            f"{path}: member {root}byteorder: expected little or big, got {byte_order!r}"
        )
    storages = _Storages("<" if byte_order == b"little" else ">")
    saved = RestrictedUnpickler(
        members[pickles[0]], path, _ALLOWED, f"member {pickles[0]}", storages.load
    ).load()
    for key, storage in storages.items():
        name = f"{root}data/{key}"
        if name not in members:
            raise WeightsError(f"{path}: zip archive: expected member {name!r}, got none")
        storage.attach(members[name], f"{path}: member {name!r}")
    return saved


def _load_legacy(data: memoryview, path: Path) -> object:
    """The saved object of the encoding before PyTorch 1.6: five pickles, then size and numbers of
    each storage.
    """
    storages, position, values = _Storages(), 0, []
    for place in (
        "magic number",
        "protocol version",
        "system information",
        "object",
        "storage keys",
    ):
        unpickler = RestrictedUnpickler(data, path, _ALLOWED, place, storages.load, position)
        values.append(unpickler.load())
        position = unpickler.position
        if values[:2] != [_LEGACY_MAGIC, _LEGACY_PROTOCOL][: len(values)]:
            raise WeightsError(
                f"{path}: {place}: expected PyTorch's, got a pickle that torch.save did not write"
            )
    keys = values[4]
    if (
        type(keys) is not list
        or not all(type(key) is str for key in keys)
        or sorted(keys) != sorted(storages)
    ):
        raise WeightsError(
            f"{path}: storage keys: expected those of the tensors, each once, got others"
        )
    for key in keys:
        size = int.from_bytes(data[position : position + 8], "little")
        end = position + 8 + storages[key].numel * storages[key].dtype.itemsize
        if size != storages[key].numel:
            raise WeightsError(
                f"{path}: storage {key!r} at byte {position}: expected {storages[key].numel} "
                "numbers, "
                f"got {size}"
            )
        storages[key].attach(
            data[position + 8 : end], f"{path}: storage {key!r} at byte {position}"
        )
        position = end
    if position != len(data):
        raise WeightsError(
            f"{path}: byte {position}: expected the end of the file, got {len(data) - position} "
            "more bytes"
        )
    return values[3]
