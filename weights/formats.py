"""The format of a weight file, detected from its content and never from its suffix, by a few
small reads.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from weights.archive import SmallReads
from weights.checkpoint_files import TABLE_END, checkpoint_index
from weights.errors import WeightsError, error_reason

_HEAD_BYTES = 4096
_MAX_FIELDS = 64
_FIELD_HEADER_BYTES = 20  # two varints
# Version and byte order of MATLAB's format 5, little- and big-endian, behind 124 bytes of text.
MATLAB_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
# The number that torch.save begins with, pickled.
_TORCH_LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")

_FOREIGN_PREFIXES = (
    (
        b"version https://git-lfs",
        "a Git-LFS pointer (the file itself is fetched with `git lfs pull`)",
    ),
    (b"\x1f\x8b", "gzip-compressed data (unpack it first)"),
    (b"BZh", "bzip2-compressed data (unpack it first)"),
    (b"\xfd7zXZ", "xz-compressed data (unpack it first)"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF", "a PDF document"),
)
_HTML_OPENINGS = (
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<body",
    b"<script",
    b"<title",
    b"<meta",
    b"<!--",
)
_TEXT_OPENINGS = (
    (b"<?xml", "an XML document"),
    ((b"{", b"["), "JSON text"),
    (
        (b"name:", b"layer", b"input"),
        "a Caffe prototxt (it describes the network; its weights are in the .caffemodel)",
    ),
)

# Protobuf messages by top-level field: the wire types it may have (0 varint, 1 eight bytes, 2
# length, 5 four bytes).
_MESSAGES = {
    "caffemodel": {1: {2}, 2: {2}, 3: {2}, 4: {0, 2}, 5: {0}, 6: {2}, 7: {0}, 8: {2}, 100: {2}},
    "onnx": {
        1: {0},
        2: {2},
        3: {2},
        4: {2},
        5: {0},
        6: {2},
        7: {2},
        8: {2},
        14: {2},
        20: {2},
        25: {2},
        26: {2},
    },
    "binaryproto": {
        1: {0},
        2: {0},
        3: {0},
        4: {0},
        5: {2, 5},
        6: {2, 5},
        7: {2},
        8: {1, 2},
        9: {1, 2},
    },
}
_REQUIRED_FIELDS = {  # layers; ir_version and graph; data or double_data
    "caffemodel": lambda seen: seen & {2, 100},
    "onnx": lambda seen: {1, 7} <= seen,
    "binaryproto": lambda seen: seen & {5, 8},
}


@dataclass(frozen=True)
class WeightFile:
    """A weight file or run folder with its format, one of ``caffemodel``, ``binaryproto``,
    ``npy``, ``pth`` (zip or legacy), ``safetensors``, ``npz``, ``onnx``, ``mat``,
    ``weights.h5``, ``keras1.h5`` (Keras 1 and 2), ``keras``, ``run``; ``slim``, a
    TensorFlow checkpoint, whose ``path`` is its index.
    """

    path: Path
    format: str


def detect_format(path: str | os.PathLike) -> WeightFile:
    """``path`` with the format that its content has; of a TensorFlow checkpoint, whose prefix,
    folder or any file may be given, the index.

    A truncated file still has its format; where it ends is for its reader to say. Raises
    ``WeightsError`` naming what was found instead of weights.
    """
    path = Path(path)
    try:
        if not _is_run(path):
            path = checkpoint_index(path)
        mode = path.stat().st_mode
        found = _format_of_folder(path) if stat.S_ISDIR(mode) else _format_of_file(path, mode)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: cannot be read: {error_reason(error)}") from None
    if found not in _FORMATS:
        raise WeightsError(f"{path}: expected a weight file, got {found}")
    return WeightFile(path, found)


SAVED_MODELS = ("keras", "run")
"""Formats that hold a network; the others hold bare layers."""
_FORMATS = {
    *_MESSAGES,
    *("npy", "pth", "safetensors", "npz", "mat", "weights.h5", "keras1.h5", "slim"),
    *SAVED_MODELS,
}


def describe_non_weights(head: bytes) -> str | None:
    """What these first bytes belong to that holds no weights ("an HTML page"); None where they may
    belong to weights.
    """
    for prefix, description in _FOREIGN_PREFIXES:
        if head.startswith(prefix):
            return description
    if head[257:262] == b"ustar":
        return "a tar archive (unpack it first)"
    if b"\0" in head:
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(_HTML_OPENINGS):
        return "an HTML page (a login, error or notice page, not the file)"
    return next(
        (description for opening, description in _TEXT_OPENINGS if text.startswith(opening)), None
    )


def _is_run(path: Path) -> bool:
    return (path / "model.keras").is_file() or (path / "config.json").is_file()


def _format_of_folder(path: Path) -> str:
    if _is_run(path):
        return "run"
    return "a folder with neither model.keras nor config.json, so not a run"


def _format_of_file(path: Path, mode: int) -> str:
    if not stat.S_ISREG(mode):
        return "neither a file nor a folder"
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEAD_BYTES)
        size = os.fstat(file.fileno()).st_size
        return (
            _by_signature(path, head)
            or _by_end(file, size)
            or _by_directory(path, head)
            or _by_length(head, size)
            or describe_non_weights(head)
            or _by_message(file, size)
            or f"unknown content that begins with {head[:8].hex(' ')}"
        )


def _by_signature(path: Path, head: bytes) -> str | None:
    if not head:
        return "an empty file"
    if head.startswith(b"\x93NUMPY"):
        return "npy"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        from weights.hdf5 import hdf5_format  # h5py, which no other format needs

        return hdf5_format(path) or _damaged_hdf5(head)
    if head.startswith(b"MATLAB") and head[124:128] in MATLAB_ORDERS:
        return "mat"
    if head.startswith(b"MATLAB 7.3"):
        return "a MATLAB file of version 7.3 (save(..., '-v7') writes one that can be read)"
    if _TORCH_LEGACY_MAGIC in head[:32]:
        return "pth"
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle that torch.save did not write"
    return None


def _damaged_hdf5(head: bytes) -> str:
    if b"layer_names" in head or b"model_weights" in head:
        return "keras1.h5"
    return "weights.h5" if b"layers" in head else "an HDF5 file without Keras's group layers"


def _by_end(file: io.FileIO, size: int) -> str | None:
    file.seek(max(0, size - len(TABLE_END)))
    return "slim" if file.read(len(TABLE_END)) == TABLE_END else None


def _by_directory(path: Path, head: bytes) -> str | None:
    """What a zip holds, by the names in its directory."""
    if not head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return None
    try:
        with SmallReads(path) as file, zipfile.ZipFile(file) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, OverflowError) as error:
        return f"a damaged zip archive ({error})"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "pth"
    if {"config.json", "model.weights.h5"} <= names:
        return "keras"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    return "a zip archive of something else than weights"


def _by_length(head: bytes, size: int) -> str | None:
    """Safetensors: the length of a JSON header in eight bytes, little-endian, and then that
    header.
    """
    if head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= size - 8:
        return "safetensors"
    return None


def _by_message(file: io.FileIO, size: int) -> str | None:
    fields = list(_top_level_fields(file, size))
    for name, wire_types in _MESSAGES.items():
        if all(wire in wire_types.get(number, ()) for number, wire in fields) and _REQUIRED_FIELDS[
            name
        ]({number for number, _ in fields}):
            return name
    return None


def _top_level_fields(file: io.FileIO, size: int) -> Iterator[tuple[int, int]]:
    """(number, wire type) of a protobuf message's first fields; (0, 0), which no message has,
    where it is none.

    Once a field has fitted, one that goes beyond the end of the file is that of a truncated
    message.
    """
    position = 0
    for index in range(_MAX_FIELDS):
        if position >= size:
            return
        file.seek(position)
        header = file.read(_FIELD_HEADER_BYTES)
        number, wire, length = _field(header)
        if index and not length and len(header) < _FIELD_HEADER_BYTES:
            return
        position += length
        yield (number, wire) if length and (index or position <= size) else (0, 0)
        if not length:
            return


def _field(buffer: bytes) -> tuple[int, int, int]:
    """(number, wire type, length with its header) of the field that begins here; a length of 0
    where none does.
    """
    tag, start = _varint(buffer, 0)
    number, wire = tag >> 3, tag & 7
    value, end = _varint(buffer, start) if wire in (0, 2) else (0, start)
    if not number or not end or wire not in (0, 1, 2, 5):
        return 0, 0, 0
    return number, wire, end + {0: 0, 1: 8, 2: value, 5: 4}[wire]


def _varint(buffer: bytes, start: int) -> tuple[int, int]:
    """Value and end of the varint at ``start``; an end of 0 where there is none."""
    value = 0
    for index, byte in enumerate(buffer[start : start + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, start + index + 1
    return 0, 0
