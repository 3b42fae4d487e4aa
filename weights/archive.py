"""Zip archives as NumPy and PyTorch write them: every member stored as it is, so that it can be
read in place.

``zipfile`` parses the directory, which is bounded first. A compressed member is refused, and with
it every zip bomb; so are members that share bytes.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path

from weights.errors import WeightsError

# Of a member's own header: signature, lengths of name and extra.
_LOCAL = struct.Struct("<4s22x2H")
# Flags of a member.
_ENCRYPTED = 1
_UTF8 = 1 << 11
_MAX_DIRECTORY_BYTES = 1 << 20


class SmallReads(io.FileIO):
    """A file that returns no more than a small archive's directory at once: a hostile one would be
    read into memory whole.
    """

    def read(self, size: int = -1) -> bytes:
        if size > _MAX_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"a directory of {size:,} bytes")
        return super().read(size)


def read_archive(data: memoryview, path: Path) -> dict[str, memoryview]:
    """``{name: bytes}`` of the zip archive ``data``, as views of it, checksums compared.

    ``data``: the content of the file at ``path``. Raises ``WeightsError`` that names the member:
    there twice, compressed, encrypted, outside the archive, damaged.
    """
    members: dict[str, memoryview] = {}
    free = len(data)
    try:
        with SmallReads(path) as file, zipfile.ZipFile(file) as archive:
            for entry in archive.infolist():
                free -= entry.file_size
                if free < 0:
                    raise ValueError(
                        f"{_place(entry)}: expected members that fit into the file, got more bytes"
                    )
                if entry.filename in members:
                    raise ValueError(f"{_place(entry)}: expected once, got twice")
                members[entry.filename] = _member(data, entry, archive.start_dir)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, OSError) as error:
        raise WeightsError(f"{path}: zip archive: {error}") from None
    return members


def _member(data: memoryview, entry: zipfile.ZipInfo, end: int) -> memoryview:
    name, length = entry.filename, entry.file_size
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{_place(entry)}: expected a name inside the archive")
    if entry.compress_type or entry.compress_size != length or entry.flag_bits & _ENCRYPTED:
        raise ValueError(
            f"{_place(entry)}: expected it stored, neither compressed nor encrypted, got method "
            f"{entry.compress_type}, {entry.compress_size} bytes for {length}"
        )
    start = _start(data, entry, end)
    member = data[start : start + length]
    if start + length > end or len(member) != length:
        raise ValueError(f"{_place(entry)}: expected {length} bytes before byte {end}")
    found = zlib.crc32(member) if entry.CRC else 0  # PyTorch writes 0 for "no checksum"
    if found != entry.CRC:
        raise ValueError(f"{_place(entry)}: expected checksum {entry.CRC:08x}, got {found:08x}")
    return member


def _start(data: memoryview, entry: zipfile.ZipInfo, end: int) -> int:
    """Where the member's bytes begin, behind a header of its own that repeats its name."""
    offset = entry.header_offset
    if not 0 <= offset <= end - _LOCAL.size:
        raise ValueError(f"{_place(entry)}: expected an offset before {end}, got {offset}")
    signature, name_length, extra_length = _LOCAL.unpack_from(data, offset)
    name_end = offset + _LOCAL.size + name_length
    name = bytes(data[offset + _LOCAL.size : name_end])
    encoding = "utf-8" if entry.flag_bits & _UTF8 else "cp437"
    if signature != b"PK\x03\x04" or name != entry.orig_filename.encode(encoding):
        raise ValueError(f"{_place(entry)}: expected its header at byte {offset}, got another")
    return name_end + extra_length


def _place(entry: zipfile.ZipInfo) -> str:
    return f"member {entry.filename[:80]!r}"
