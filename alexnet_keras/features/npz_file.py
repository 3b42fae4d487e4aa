"""``.npz`` written row by row: an uncompressed zip archive of ``.npy`` members, whose sizes and
places are known in advance (PKWARE's APPNOTE 6.3.3, sections 4.3.7 to 4.3.16 and 4.5.3).
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

from alexnet_keras.errors import RunError
from alexnet_keras.features.array_files import ArrayFiles, Span, npy_head, write_all

VERSION = 45  # of zip: 64-bit sizes
DATE = (1 << 5) | 1  # 1980-01-01, the earliest: equal rows give equal bytes
UNIX = 3
MODE = 0o100644 << 16
IN_EXTRA = 0xFFFFFFFF  # the 64-bit field has the number
CHUNK = 1 << 24


class Member(NamedTuple):
    """A member of the archive: its name, where its local header begins, and its ``.npy`` head and
    size.
    """

    name: bytes
    start: int
    head: bytes
    size: int

    @property
    def content(self) -> int:
        """Where the ``.npy`` begins."""
        return self.start + 30 + len(self.name) + 20

    def local_header(self, checksum: int) -> bytes:
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.size)
        fields = (VERSION, self._flags, 0, 0, DATE, checksum, IN_EXTRA, IN_EXTRA)
        return (
            b"PK\3\4"
            + struct.pack("<5H3L2H", *fields, len(self.name), len(extra))
            + self.name
            + extra
        )

    def directory_entry(self, checksum: int) -> bytes:
        extra = struct.pack("<HHQQQ", 1, 24, self.size, self.size, self.start)
        fields = (VERSION, UNIX, VERSION, self._flags, 0, 0, DATE, checksum, IN_EXTRA, IN_EXTRA)
        return (
            b"PK\1\2"
            + struct.pack("<2B5H3L", *fields)
            + struct.pack("<5H2L", len(self.name), len(extra), 0, 0, 0, MODE, IN_EXTRA)
            + self.name
            + extra
        )

    @property
    def _flags(self) -> int:
        return 0 if self.name.isascii() else 1 << 11  # the name is UTF-8


class NpzFile(ArrayFiles):
    """One ``.npz`` with a member for each layer."""

    def _create(self) -> None:
        with open(self._path, "wb", buffering=0) as file:
            for member in self._members().values():
                file.seek(member.start)
                write_all(file, member.local_header(0) + member.head)

    def _spans(self) -> dict[str, list[Span]]:
        return {
            layer: [
                Span(
                    self._path,
                    member.content + len(member.head),
                    0,
                    self.arrays[layer].shape[0],
                )
            ]
            for layer, member in self._members().items()
        }

    def finish(self) -> None:
        """Write the checksums and the directory, which both come after the rows."""
        members = list(self._members().values())
        file = self._open(self._path)
        entries = []
        for member in members:
            checksum = _checksum(self._path, member)
            file.seek(member.start)
            write_all(file, member.local_header(checksum))
            entries.append(member.directory_entry(checksum))
        start = _end(members)
        os.truncate(self._path, start)
        file.seek(start)
        write_all(file, b"".join(entries) + _end_of_directory(entries, start))

    @property
    def _path(self) -> Path:
        (path,) = self.paths
        return path

    def _members(self) -> dict[str, Member]:
        members: dict[str, Member] = {}
        for layer, array in self.arrays.items():
            head = npy_head(array.shape, array.stored)
            members[layer] = Member(
                f"{layer}.npy".encode(), _end(members.values()), head, len(head) + array.bytes
            )
        return members


def _end(members) -> int:
    return max((member.content + member.size for member in members), default=0)


def _checksum(path: Path, member: Member) -> int:
    checksum = 0
    left = member.size
    with open(path, "rb") as file:
        file.seek(member.content)
        while left:
            chunk = file.read(min(left, CHUNK))
            if not chunk:
                raise RunError(f"{path}: expected {left} more bytes of {member.name.decode()}")
            checksum = zlib.crc32(chunk, checksum)
            left -= len(chunk)
    return checksum


def _end_of_directory(entries: list[bytes], start: int) -> bytes:
    count = len(entries)
    size = sum(map(len, entries))
    record = struct.pack("<2H2L4Q", VERSION, VERSION, 0, 0, count, count, size, start)
    return (
        b"PK\6\6"
        + struct.pack("<Q", len(record))
        + record
        + b"PK\6\7"
        + struct.pack("<LQL", 0, start + size, 1)
        + b"PK\5\6"
        + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, IN_EXTRA, IN_EXTRA, 0)
    )
