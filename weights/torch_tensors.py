"""What a pickle of ``torch.save`` is made of: storages, tensors, state dicts; without PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from weights.arrays import BFLOAT16, is_shape
from weights.checkpoint_pickle import FOREIGN, is_foreign
from weights.errors import WeightsError
from weights.restricted_pickle import Buildable, Global, fill

_FLOAT_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16,
    "DoubleStorage": np.dtype("<f8"),
}
# Of tensors beside the weights, whose storages are stepped over.
_OTHER_DTYPES = {
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "ComplexFloatStorage": np.dtype("<c8"),
    "ComplexDoubleStorage": np.dtype("<c16"),
}
_STORAGE_DTYPES = _FLOAT_DTYPES | _OTHER_DTYPES


@dataclass
class Storage:
    """A run of ``numel`` numbers outside the pickle; ``data`` are its bytes once they are
    found.
    """

    dtype: np.dtype
    numel: int
    data: memoryview | None = None

    @property
    def is_float(self) -> bool:
        """Whether it may hold weights."""
        return self.dtype.kind in "fV"

    def attach(self, data: memoryview, place: str) -> None:
        if len(data) != self.numel * self.dtype.itemsize:
            raise WeightsError(
                f"{place}: expected {self.numel * self.dtype.itemsize} bytes, got {len(data)}"
            )
        self.data = data


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its storage; sizes, strides and ``offset`` count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, place: str) -> np.ndarray:
        """The tensor as a view of its storage; raises ``WeightsError`` where it would leave it."""
        if not self.storage.is_float:
            raise WeightsError(
                f"{place}: expected floating-point numbers, got {self.storage.dtype.name}"
            )
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


class StateDict(dict, Buildable):
    """What stands for ``collections.OrderedDict``. ``metadata`` is what a module's
    ``state_dict()`` notes beside the tensors, None where it does not.
    """

    metadata: object = None

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
        self.metadata = state.get("_metadata")


def _rebuild_tensor(
    storage: object,
    offset: object,
    shape: object,
    strides: object,
    requires_grad: object = False,
    hooks: object = None,
    metadata: object = None,
) -> object:
    if storage is FOREIGN:
        return FOREIGN
    if type(storage) is not Storage or type(offset) is not int or offset < 0:
        raise ValueError("expected a tensor's storage and offset")
    if not is_shape(shape) or not is_shape(strides) or len(shape) != len(strides):
        raise ValueError(
            "expected a tensor's shape and strides, at most 8 numbers from 0 to 2**40 each"
        )
    return Tensor(storage, offset, shape, strides)


def _rebuild_parameter(tensor: object, requires_grad: object, hooks: object) -> object:
    if type(tensor) is not Tensor and tensor is not FOREIGN:
        raise ValueError(f"expected a parameter's tensor, got {type(tensor).__name__}")
    return tensor


ALLOWED = {
    "collections OrderedDict": Global("OrderedDict", StateDict),
    "torch._utils _rebuild_tensor": Global("_rebuild_tensor", _rebuild_tensor),
    "torch._utils _rebuild_tensor_v2": Global("_rebuild_tensor_v2", _rebuild_tensor),
    "torch._utils _rebuild_parameter": Global("_rebuild_parameter", _rebuild_parameter),
} | {f"torch {name}": Global(name) for name in _FLOAT_DTYPES}


class Storages(dict[str, Storage]):
    """The storages that a pickle speaks of, by key, gathered from its persistent ids."""

    def __init__(self, byte_order: str = "<"):
        super().__init__()
        self._byte_order = byte_order

    def load(self, identity: object) -> object:
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
        name = storage_type.name if type(storage_type) is Global else None
        if kind == "storage" and is_foreign(storage_type) and name not in _OTHER_DTYPES:
            return FOREIGN
        if kind != "storage" or name not in _STORAGE_DTYPES:
            raise ValueError("expected the persistent id of a storage of floating-point numbers")
        if type(key) is not str or not is_shape((numel,)):
            raise ValueError("expected a storage's key as text and its size from 0 to 2**40")
        dtype = _STORAGE_DTYPES[name].newbyteorder(self._byte_order)
        storage = self.setdefault(key, Storage(dtype, numel))
        if (storage.dtype, storage.numel) != (dtype, numel):
            raise ValueError(f"expected storage {key!r} with one type and size, got two")
        return storage
