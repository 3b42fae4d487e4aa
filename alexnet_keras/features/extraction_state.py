"""What an unfinished extraction records: its rows on the disk, and what determines them."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path

from alexnet_keras.errors import RunError

FIELDS = {
    "rows": int,
    "done": int,
    "bad_rows": list,
    "positions": dict,
    "renaming": bool,
    "facts": dict,
    "environment": dict,
}


def read_state(path: Path) -> dict | None:
    """The state at ``path``, None if there is none. Raises ``RunError`` for a damaged one."""
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
        wrong = [name for name, kind in FIELDS.items() if type(state[name]) is not kind]
        if wrong or not 0 <= state["done"] <= state["rows"]:
            raise ValueError(f"another {(wrong or ['done'])[0]}")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(
            f"{path}: expected the state of an extraction, got: {error!r}; remove its folder to "
            "begin anew"
        ) from None
    return state


def write_state(path: Path, state: dict) -> None:
    """Replace the state at ``path`` in one step, on the disk when it returns."""
    partial = path.with_name(f"{path.name}.new")
    partial.write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
    sync_file(partial)
    os.replace(partial, path)
    sync_folder(path.parent)


def digest_of_facts(facts: dict) -> str:
    """SHA-256 of JSON-ready facts."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def first_difference(expected: object, found: object, name: str = "") -> str | None:
    """The first field in which two JSON values differ, in words; None if they are equal."""
    if expected == found:
        return None
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in expected | found:
            inner = f"{name}.{key}" if name else key
            difference = first_difference(expected.get(key), found.get(key), inner)
            if difference:
                return difference
    return f"{name} was {_brief(expected)} and is {_brief(found)}"


def _brief(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def sync_file(path: Path) -> None:
    """Return when the file is on the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in the folder are on the disk, where the system can say."""
    with suppress(OSError):  # Windows has no descriptors of folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
