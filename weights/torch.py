"""PyTorch's ``.pth`` files, zip and legacy, read without PyTorch."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np

from weights.archive import read_archive
from weights.arrays import to_canonical
from weights.canonical import WeightSet, check_variant
from weights.checkpoint_pickle import CheckpointUnpickler, is_foreign
from weights.errors import WeightsError
from weights.memory_map import map_file
from weights.restricted_pickle import RestrictedUnpickler
from weights.state_dict import VARIANT_OWNER, by_layer, is_parameter, unwrap
from weights.torch_tensors import ALLOWED, StateDict, Storages, Tensor

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001


def read_pth(path: Path) -> WeightSet:
    """Weights of a state dict saved by ``torch.save``, in canonical form as float32; float32
    arrays are views of the file.

    Names are torchvision's (``features.0.weight`` ...) or public ones (``conv1.weight``), behind
    any of :data:`weights.state_dict.WRAPPERS`; the state dict is the object itself or stands in
    a checkpoint under one of these keys. What stands beside it (optimizer, epoch, arguments) is
    stepped over. Tensors are float16, bfloat16, float32 or float64 (rounded), of any strides and
    offset. Runs nothing that the file names. Raises ``WeightsError``.
    """
    path = Path(path)
    state_dict, arrays = _read_state_dict(path)
    size = path.stat().st_size
    layers = to_canonical(by_layer(arrays, path), path, size, channels_first=True)
    return WeightSet(layers, path, "pth", variant=_variant(state_dict, path))


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of the state dict of any network, by name, as views of the file; otherwise as
    :func:`read_pth`.
    """
    return _read_state_dict(Path(path))[1]


def _read_state_dict(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    data = memoryview(map_file(path))
    if data[:4] == b"PK\x03\x04":
        saved, refusal = _load_zip(data, path)
    elif data[0] == pickle.PROTO[0]:
        saved, refusal = _load_legacy(data, path)
    else:
        raise WeightsError(
            f"{path}: byte 0: expected PyTorch's zip archive or pickle, got {bytes(data[:8])!r}"
        )
    state_dict = unwrap(saved)
    return state_dict, _arrays(state_dict, path, refusal)


def _arrays(state_dict: object, path: Path, refusal: WeightsError | None) -> dict[str, np.ndarray]:
    """The tensors of a state dict as views of the file. ``refusal``: what the pickle holds that is
    not PyTorch's.
    """
    if not isinstance(state_dict, dict):
        raise refusal or WeightsError(
            f"{path}: expected a state dict of tensors, got {type(state_dict).__name__}"
        )
    arrays = {}
    for name, tensor in state_dict.items():
        if type(name) is str and type(tensor) is Tensor:
            arrays[name] = tensor.array(f"{path}: tensor {name[:80]!r}")
        elif is_parameter(name):
            raise (is_foreign(tensor) and refusal) or WeightsError(
                f"{path}: {name[:80]!r}: expected a tensor, got {type(tensor).__name__}"
            )
    if not arrays and refusal:
        raise refusal
    return arrays


def _variant(state_dict: dict, path: Path) -> str | None:
    """What :mod:`weights.torch_writer` notes in the state dict's metadata."""
    noted = state_dict.metadata if type(state_dict) is StateDict else None
    for key in (VARIANT_OWNER, "variant"):
        noted = noted.get(key) if isinstance(noted, dict) else None
    return None if noted is None else check_variant(noted, f"{path}: _metadata {VARIANT_OWNER}")


def _load_zip(data: memoryview, path: Path) -> tuple[object, WeightsError | None]:
    """The saved object of the encoding since PyTorch 1.6, ``data.pkl`` and one stored member for
    each storage; and the error for the first of its names that is not PyTorch's.
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
    storages = Storages("<" if byte_order == b"little" else ">")
    unpickler = CheckpointUnpickler(
        members[pickles[0]], path, ALLOWED, f"member {pickles[0]}", storages.load
    )
    saved = unpickler.load()
    for key, storage in storages.items():
        if not storage.is_float:
            continue
        name = f"{root}data/{key}"
        if name not in members:
            raise WeightsError(f"{path}: zip archive: expected member {name!r}, got none")
        storage.attach(members[name], f"{path}: member {name!r}")
    return saved, unpickler.refusal


def _load_legacy(data: memoryview, path: Path) -> tuple[object, WeightsError | None]:
    """The saved object of the encoding before PyTorch 1.6, five pickles, then size and numbers of
    each storage; and the error for the first of its names that is not PyTorch's.
    """
    storages, position, values, refusal = Storages(), 0, [], None
    for place in (
        "magic number",
        "protocol version",
        "system information",
        "object",
        "storage keys",
    ):
        machine = CheckpointUnpickler if place == "object" else RestrictedUnpickler
        unpickler = machine(data, path, ALLOWED, place, storages.load, position)
        values.append(unpickler.load())
        refusal = refusal or getattr(unpickler, "refusal", None)
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
    return values[3], refusal
