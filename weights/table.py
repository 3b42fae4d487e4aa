"""A LevelDB table, in which TensorFlow keeps the index of a checkpoint, read in place.

https://github.com/google/leveldb/blob/main/doc/table_format.md. Only uncompressed blocks, which
TensorFlow writes.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from weights.checkpoint_files import TABLE_END
from weights.errors import WeightsError
from weights.protobuf import Message

_FOOTER_BYTES = 48
_BLOCK_TRAILER_BYTES = 5
_MAX_ENTRIES = 10_000
_MAX_KEY_BYTES = 1000


def read_table(data: mmap.mmap, path: Path) -> dict[str, Message]:
    """``{key: value}``, each value the bytes of the file that hold it.

    Raises ``WeightsError`` naming the byte where the table is damaged, compressed or larger than
    any index of a checkpoint.
    """
    footer = len(data) - _FOOTER_BYTES
    if footer < 0 or data[-len(TABLE_END) :] != TABLE_END:
        raise WeightsError(
            f"{path}: expected the index of a TensorFlow checkpoint, got a file without the end "
            "of one (truncated?)"
        )
    whole = Message(path, data, 0, len(data), "index")
    _, position = _numbers(whole, footer, 2)
    entries: dict[str, Message] = {}
    for _, handle in _entries(_block(whole, position)):
        for key, value in _entries(_block(whole, handle.start)):
            if key in entries or len(entries) == _MAX_ENTRIES:
                raise whole.error(
                    value.start, f"at most {_MAX_ENTRIES} different names", "more, or one twice"
                )
            entries[key] = value
    return entries


def _numbers(message: Message, position: int, count: int) -> tuple[list[int], int]:
    """``count`` varints and the byte after them."""
    values = []
    for _ in range(count):
        value, position = message.varint(position)
        values.append(value)
    return values, position


def _block(whole: Message, position: int) -> Message:
    """The entries of the block that the handle at ``position`` refers to."""
    (start, size), _ = _numbers(whole, position, 2)
    end = start + size
    if end + _BLOCK_TRAILER_BYTES > whole.end or size < 4:
        raise whole.error(position, "a block within the file", f"bytes {start} to {end}")
    if whole.data[end]:
        raise whole.error(end, "an uncompressed block", f"compression {whole.data[end]}")
    restarts = int.from_bytes(whole.data[end - 4 : end], "little")
    if 4 * (restarts + 1) > size:
        raise whole.error(end - 4, "restart points within the block", restarts)
    return Message(whole.path, whole.data, start, end - 4 * (restarts + 1), whole.place)


def _entries(block: Message) -> Iterator[tuple[str, Message]]:
    """Keys and values; each key says how many of its first bytes are those of the key before."""
    position, key = block.start, b""
    while position < block.end:
        (shared, own, size), start = _numbers(block, position, 3)
        end = start + own + size
        if shared > len(key) or shared + own > _MAX_KEY_BYTES or end > block.end:
            raise block.error(position, "an entry within its block", f"{own} and {size} bytes")
        key = key[:shared] + block.data[start : start + own]
        yield key.decode("utf-8", "replace"), Message(block.path, block.data, start + own, end)
        position = end
