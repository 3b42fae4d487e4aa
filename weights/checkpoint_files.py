"""Which index belongs to a TensorFlow checkpoint, which is several files under one prefix."""

from __future__ import annotations

import os
import re
from pathlib import Path

from weights.errors import WeightsError

TABLE_END = bytes.fromhex("57fb808b247547db")
"""The last bytes of every index, which is a LevelDB table."""
_DATA_FILE = re.compile(r"(.+)\.data-\d{5}-of-\d{5}")
_NEWEST = re.compile(r'model_checkpoint_path: "(?:[^"]*[/\\])?([^"/\\]+)"')
_STATE_FILE = "checkpoint"
_MAX_STATE_BYTES = 1 << 16


def checkpoint_index(path: Path) -> Path:
    """The index of the checkpoint that ``path`` stands for: its prefix (``model.ckpt-0``), a data
    file, or the folder of one checkpoint or of those that its file ``checkpoint`` lists, of which
    the newest is meant. Any other path itself.

    Raises ``WeightsError`` where there is no index, or one of several is to be chosen.
    """
    if os.path.isdir(path):
        return _index_in_folder(path)
    match = _DATA_FILE.fullmatch(path.name)
    if match is None and (os.path.exists(path) or not _has_files(path)):
        return path
    index = path.with_name(f"{match[1] if match else path.name}.index")
    if not index.is_file():
        raise WeightsError(
            f"{path}: expected {index.name} beside it, the index of the checkpoint, got none"
        )
    return index


def is_checkpoint_prefix(path: Path) -> bool:
    """Whether ``path`` is no file itself, but the prefix of a checkpoint's."""
    return not os.path.exists(path) and _has_files(path)


def _has_files(prefix: Path) -> bool:
    found = (path.name.removeprefix(prefix.name) for path in _in_folder(prefix.parent))
    return any(re.fullmatch(r"\.index|\.data-\d{5}-of-\d{5}", suffix) for suffix in found)


def _index_in_folder(folder: Path) -> Path:
    indexes = sorted(path for path in _in_folder(folder) if path.suffix == ".index")
    if len(indexes) < 2:
        return indexes[0] if indexes else folder
    state = folder / _STATE_FILE
    if state.is_file():
        with state.open("rb") as file:
            text = file.read(_MAX_STATE_BYTES).decode("utf-8", "replace")
        newest = _NEWEST.search(text)
        index = folder / f"{newest[1]}.index" if newest else folder
        if index in indexes:
            return index
    names = ", ".join(path.stem for path in indexes[:5])
    raise WeightsError(f"{folder}: expected one checkpoint, got several: {names}; name one")


def _in_folder(folder: Path) -> list[Path]:
    # os.path has no errors for names that are too long.
    try:
        return list(folder.iterdir()) if os.path.isdir(folder) else []
    except OSError:  # whoever opens the file says why it cannot be read
        return []
