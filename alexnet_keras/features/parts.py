"""The parts of an extraction that was divided: what their descriptions say, and whether they are
those of one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alexnet_keras.errors import ConfigurationError, DataError, error_reason
from alexnet_keras.features.extraction_state import first_difference
from alexnet_keras.features.shards import RowShard

OF_A_PART = ("shard", "bad_rows", "environment", "sha256")
FILE_NAMES = ("file", "files", "rows_per_file", "variable")
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part:
    """A part of an extraction: the path of its description, and what that says."""

    path: Path
    description: dict
    shard: RowShard
    rows: range

    @property
    def layers(self) -> dict[str, dict]:
        return self.description["layers"]

    def files(self, layer: str) -> list[Path]:
        """The files of a layer, in the order of their rows."""
        return [self.path.with_name(name) for name in _names(self.layers[layer])]

    @property
    def comparable(self) -> dict:
        """What the descriptions of all parts have in common."""
        common = {key: of for key, of in self.description.items() if key not in OF_A_PART}
        layers = {layer: without(about, FILE_NAMES) for layer, about in self.layers.items()}
        for about in layers.values():
            about["shape"] = about["shape"][1:]
            about["projection"] = without(about.get("projection") or {}, ("basis",))
        return {**common, "layers": layers}


def read_part(path: Path) -> Part:
    """The part whose description or features file is at ``path``. Raises ``DataError``."""
    described = path.with_suffix(".json")
    try:
        description = json.loads(described.read_text(encoding="utf-8"))
        shard = description["shard"]
        first, last = shard["rows"]
        part = Part(
            described, description, RowShard(shard["index"], shard["count"]), range(first, last)
        )
        for layer, about in part.layers.items():
            if about["shape"][0] != len(part.rows) or any(
                not name or Path(name).name != name for name in _names(about)
            ):
                raise ValueError(f"layer {layer} of other rows or in another folder")
        if not all(isinstance(row, int) for row in description["bad_rows"]):
            raise ValueError(f"bad_rows {str(description['bad_rows'])[:80]}")
        if not 1 <= part.shard.index <= part.shard.count or not description["sha256"]:
            raise ValueError(f"part {shard['index']} of {shard['count']}")
    except FileNotFoundError:
        raise DataError(
            f"{path}: expected a part of a divided extraction, which has a description "
            f"{described.name}; got none"
        ) from None
    except KeyError as error:
        raise DataError(
            f"{described}: expected a part that --shard wrote, got a description without {error}"
        ) from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{described}: expected the description of a part, got: {error_reason(error)}"
        ) from None
    return part


def check_parts(parts: Sequence[Part]) -> list[Part]:
    """All parts of one extraction in their order. Raises ``DataError`` that names what is missing,
    given twice, or of another extraction.
    """
    if not parts:
        raise ConfigurationError("parts: expected the parts of an extraction, got none")
    first = parts[0]
    by_index: dict[int, Part] = {}
    for part in parts:
        _check_same(part, first)
        twin = by_index.setdefault(part.shard.index, part)
        if twin is not part:
            raise DataError(
                f"{part.path}: expected each part once, but {twin.path} is part "
                f"{part.shard.index} too"
            )
    missing = [index for index in range(1, first.shard.count + 1) if index not in by_index]
    if missing:
        names = ", ".join(f"{index}/{first.shard.count}" for index in missing[:5])
        raise DataError(f"parts: expected all {first.shard.count}, got none for {names}")
    ordered = [by_index[index] for index in sorted(by_index)]
    for part in ordered:
        if part.rows != part.shard.rows(ordered[-1].rows.stop):
            raise DataError(f"{part.path}: expected other rows for this part, got {part.rows}")
    return ordered


def _check_same(part: Part, first: Part) -> None:
    difference = first_difference(first.comparable, part.comparable)
    if part.shard.count != first.shard.count:
        difference = f"it is one of {part.shard.count}, not of {first.shard.count}"
    elif not difference and part.description["sha256"] != first.description["sha256"]:
        difference = "its samples or their files are others"
    if difference:
        raise DataError(
            f"{part.path}: expected a part of the same extraction as {first.path}, but "
            f"{difference}"
        )
    if part.description.get("environment") != first.description.get("environment"):
        logger.warning(
            "%s: computed with other versions or threads than %s: rows may differ from one run's "
            "in rounding",
            part.path,
            first.path,
        )


def _names(about: dict) -> list[str]:
    return about["files"] if "files" in about else [about["file"]]


def without(about: Mapping, names: Sequence[str]) -> dict:
    """A copy without the keys ``names``."""
    return {key: value for key, value in about.items() if key not in names}
