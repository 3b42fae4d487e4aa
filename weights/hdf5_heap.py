"""HDF5's global heaps, in which strings of variable length lie: damaged ones, which the HDF5
library reads for ever, are refused.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from weights.errors import WeightsError
from weights.memory_map import map_file

_COLLECTION = re.compile(rb"GCOL\x01")  # in float32 numbers, one of these bytes would be 30,000
_HEADER_BYTES = 16
_ALIGNMENT = 8


def check_heaps(path: Path) -> None:
    """Raise ``WeightsError`` where the objects of a global heap do not follow one another to its
    end (HDF5 File Format Specification, section III.E).
    """
    data = map_file(path)
    for match in _COLLECTION.finditer(data):
        _check_heap(data, match.start(), path)


def _check_heap(data: mmap.mmap, start: int, path: Path) -> None:
    end = start + _number(data, start + 8)
    position = start + _HEADER_BYTES
    while position + _HEADER_BYTES <= end <= len(data):
        size = _number(data, position + 8)
        if not data[position : position + 2].strip(b"\0"):  # the free space comes last
            length = size
        else:
            length = _HEADER_BYTES + -(-size // _ALIGNMENT) * _ALIGNMENT
        if not length or position + length > end:
            break
        position += length
    if position + _HEADER_BYTES <= end or not position <= end <= len(data):
        raise WeightsError(
            f"{path}: byte {position}: expected an object within its heap, got none (damaged?)"
        )


def _number(data: mmap.mmap, position: int) -> int:
    return int.from_bytes(data[position : position + 8], "little")
