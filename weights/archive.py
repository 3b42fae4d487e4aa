"""Zip archives as NumPy and PyTorch write them: every member stored as it is, so that it can be
read where it lies.

A compressed member is refused, and with it every zip bomb; so are members that share bytes. The
directory is bounded before it is parsed, which the standard library does not do.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

from weights.errors import WeightsError

_END = struct.Struct("<4s4H2LH")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY_LIMIT = 1 << 20
_COMMENT_LIMIT = 0xFFFF


def read_archive(data: memoryview, path: Path) -> dict[str, memoryview]:
    """``{name: bytes}`` of the zip archive ``data``, as views of it, checksums compared.

    Raises ``WeightsError`` that names the member: there twice, compressed, encrypted, outside the
    archive, damaged.
    """
    try:
        start, size = _find_directory(data)
        members, position, free = {}, start, start
        while position < start + size:
            name, crc, offset, length, position = _read_entry(data, position, start + size)
            if name in members:
                raise ValueError(f"member {name[:80]!r}: expected once, got twice")
            free -= length
            if free < 0:
                raise ValueError(
                    f"member {name[:80]!r}: expected members that fit into the file, got more "
                    "bytes"
                )
            members[name] = _member(data, name, offset, length, start)
            if crc and crc != (
                found := zlib.crc32(members[name])
            ):  # PyTorch writes 0 for "no checksum"
                raise ValueError(
                    f"member {name[:80]!r}: expected checksum {crc:08x}, got {found:08x}"
                )
    except ValueError as error:
        raise WeightsError(f"{path}: zip archive: {error}") from None
    return members


def _find_directory(data: memoryview) -> tuple[int, int]:
    tail_start = max(0, len(data) - _END.size - _COMMENT_LIMIT)
    found = bytes(data[tail_start:]).rfind(
        b"PK\x05\x06", 0, max(0, len(data) - tail_start - _END.size + 4)
    )
    if found < 0:
        raise ValueError("expected a directory at its end, got none; the file may be cut short")
    *_, size, start, _ = _END.unpack_from(data, tail_start + found)
    if size > _DIRECTORY_LIMIT:
        raise ValueError(f"directory: expected at most {_DIRECTORY_LIMIT} bytes, got {size}")
    if start + size > tail_start + found:
        raise ValueError(
            f"directory: expected it to end by byte {tail_start + found}, got its end at "
            f"{start + size}"
        )
    return start, size


def _read_entry(data: memoryview, position: int, end: int) -> tuple[str, int, int, int, int]:
    if position + _ENTRY.size > end:
        raise ValueError(f"directory: expected a member at byte {position}, got its end")
    (
        signature,
        _,
        _,
        flags,
        method,
        _,
        _,
        crc,
        compressed,
        length,
        name_length,
        extra_length,
        comment_length,
        _,
        _,
        _,
        offset,
    ) = _ENTRY.unpack_from(data, position)
    following = position + _ENTRY.size + name_length + extra_length + comment_length
    if signature != b"PK\x01\x02" or following > end:
        raise ValueError(
            f"directory: expected a member at byte {position}, got {signature!r} or one beyond "
            "its end"
        )
    name = bytes(data[position + _ENTRY.size : position + _ENTRY.size + name_length]).decode(
        "utf-8", "backslashreplace"
    )
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"member {name[:80]!r}: expected a name inside the archive")
    if method != 0 or compressed != length or flags & 1:
        raise ValueError(
            f"member {name[:80]!r}: expected it stored, neither compressed nor encrypted, got "
            "method "
            f"{method}, {compressed} bytes for {length}"
        )
    return name, crc, offset, length, following


def _member(data: memoryview, name: str, offset: int, length: int, directory: int) -> memoryview:
    if offset + _LOCAL.size > directory:
        raise ValueError(
            f"member {name[:80]!r}: expected it before byte {directory}, got it at {offset}"
        )
    signature, *_, name_length, extra_length = _LOCAL.unpack_from(data, offset)
    name_end = offset + _LOCAL.size + name_length
    start = name_end + extra_length
    if signature != b"PK\x03\x04" or bytes(data[offset + _LOCAL.size : name_end]) != name.encode():
        raise ValueError(
            f"member {name[:80]!r}: expected its header at byte {offset}, got another"
        )
    if start + length > directory:
        raise ValueError(
            f"member {name[:80]!r}: expected {length} bytes from byte {start}, got "
            f"{directory - start}"
        )
    return data[start : start + length]
