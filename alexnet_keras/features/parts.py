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
    if not path.name:
        raise DataError(f"parts: expected descriptions or features files, got {str(path)!r}")
    described = path.with_suffix(".json")
    try:
        description = json.loads(described.read_text(encoding="utf-8"))
        shard = description["shard"]
        first, last = shard["rows"]
        part = Part(
            described, description, RowShard(shard["index"], shard["count"]), range(first, last)
        )
        _check_described(part)
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


def _check_described(part: Part) -> None:
    index, count = part.shard.index, part.shard.count
    if not type(index) is type(count) is int or not 1 <= index <= count:
        raise ValueError(f"part {index} of {count}")
    if not part.layers or not part.description["sha256"]:
        raise ValueError("no layers, or no sha256")
    if not all(isinstance(row, int) for row in part.description["bad_rows"]):
        raise ValueError(f"bad_rows {str(part.description['bad_rows'])[:80]}")
    for layer, about in part.layers.items():
        _check_layer(layer, about, len(part.rows))


def _check_layer(layer: str, about: dict, rows: int) -> None:
    shape, names = about["shape"], _names(about)
    if not names or not all(type(name) is str and _is_file_name(name) for name in (layer, *names)):
        raise ValueError(f"layer {layer} in another folder, or without files")
    if set(map(type, shape)) != {int} or min(shape) < 0 or shape[0] != rows:
        raise ValueError(f"layer {layer} of other rows, shape {shape}")
    if about["dtype"] not in ("float32", "float16"):
        raise ValueError(f"layer {layer} of dtype {about['dtype']}")
    if not isinstance(about.get("projection"), Mapping | None):
        raise ValueError(f"layer {layer} with projection {about['projection']}")


def _is_file_name(name: str) -> bool:
    return name == Path(name).name and name not in ("", "..")


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
