"""A part of the rows, for one of several processes or machines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from alexnet_keras.errors import ConfigurationError


@dataclass(frozen=True)
class RowShard:
    """The part ``index`` of ``count``, from 1 on."""

    index: int
    count: int

    def rows(self, total: int) -> range:
        """The rows of this part: contiguous, and as many as in any other part, up to one."""
        first, last = ((part * total) // self.count for part in (self.index - 1, self.index))
        return range(first, last)

    def describe(self, rows: range) -> dict:
        """What the description of this part says of it: ``rows`` is (first, last, exclusive)."""
        return {"index": self.index, "count": self.count, "rows": [rows.start, rows.stop]}

    def name(self, out: Path) -> Path:
        """The file of this part: ``feats-2-of-4.npy``."""
        return out.with_name(f"{out.stem}-{self.index}-of-{self.count}{out.suffix}")


def parse_shard(text: str) -> RowShard:
    """A :class:`RowShard` from ``I/N``, such as ``2/4``. Raises ``ConfigurationError``."""
    found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigurationError(
            f"shard: expected I/N with I from 1 to N, such as 2/4, got {text!r}"
        )
    return RowShard(int(found[1]), int(found[2]))
