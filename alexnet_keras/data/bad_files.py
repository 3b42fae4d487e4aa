"""Unreadable image files: recorded, counted and logged once; too many raise an error."""

from __future__ import annotations

import csv
import logging
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import tensorflow as tf

from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import DataError, RunError, error_reason

COLUMNS = ("split", "id", "path", "reason")
MAX_BAD_FRACTION = 0.01
logger = logging.getLogger(__name__)


class BadFiles:
    """The samples known to be unreadable, of any split; recorded in a CSV file if ``path`` is not
    None.

    A resumed run reads them from there, so it does not have to find them again, and skips the same
    samples even if their files have changed. The columns are ``split,id,path,reason``; a row is
    appended when a sample is found. Raises ``RunError`` for a file with other columns, or one that
    cannot be read or written.
    """

    def __init__(self, path: Path | None = None):
        self.path = path
        self._known = set() if path is None else _read(path)

    def mask(self, samples: Samples) -> np.ndarray:
        """(N,) bool: which of the samples are known to be unreadable."""
        ids = [sample_id for split, sample_id in self._known if split == samples.split]
        return (
            np.isin(samples.ids.astype(object), np.array(ids, object))
            if ids
            else np.zeros(len(samples), bool)
        )

    def add(self, split: str, rows: Iterable[tuple[str, str, str]]) -> None:
        """Record samples: ``(id, path, reason)`` of each."""
        added = [
            (split, *map(str, row)) for row in rows if (split, str(row[0])) not in self._known
        ]
        self._known.update(row[:2] for row in added)
        if self.path is not None and added:
            _append(self.path, added)


class BadRows:
    """The unreadable rows of one set of samples, and the policy for them. ``reasons``: by row, of
    those that were found here.

    ``policy``: ``"skip"`` accepts up to 1% of the files, ``"mark"`` any number, ``"error"`` none.
    """

    def __init__(self, samples: Samples, policy: str, known: BadFiles | None):
        self.samples = samples
        self.policy = policy
        self.known = known or BadFiles()
        self.mask = self.known.mask(samples)
        self.reasons: dict[int, str] = {}
        self._paths = set(samples.paths[self.mask])
        self._files = None

    def add(self, reasons: dict[int, str]) -> None:
        """Mark rows as unreadable and apply the policy; ``reasons`` by row."""
        samples = self.samples
        for row, reason in reasons.items():
            path = samples.paths[row]
            if self.policy == "error":
                raise DataError(f"{path}: expected a readable image, got: {reason}")
            if path not in self._paths:
                logger.warning("%s: skipped, not a readable image: %s", path, reason)
            self._paths.add(path)
            self.mask[row] = True
            self.reasons[row] = reason
        self.known.add(
            samples.split,
            [(samples.ids[row], samples.paths[row], reason) for row, reason in reasons.items()],
        )
        if self.policy == "skip" and reasons:
            self._check_fraction()

    def _check_fraction(self) -> None:
        if self._files is None:
            self._files = len(set(self.samples.paths))
        if len(self._paths) > MAX_BAD_FRACTION * self._files:
            first = self.samples.paths[np.argmax(self.mask)]
            raise DataError(
                f"{self.samples.split}: expected at most {MAX_BAD_FRACTION:.0%} unreadable image "
                f"files, got {len(self._paths)} of {self._files}; the first is {first}"
            )


def reason_of(error: tf.errors.OpError) -> str:
    """TensorFlow's message on one line, without graph nodes and traceback, or the message of a
    failed ``tf.Assert``.
    """
    message = re.sub(r"\{\{.*?\}\}", "", str(error.message)).split("[[")[0].split("[Op:")[0]
    if "(most recent call last):" in message:
        message = message.rpartition('\n  File "')[2].partition("\n\n")[2]
    line = " ".join(message.split())
    asserted = re.fullmatch(r"assertion failed: \[(.*)\]", line)
    return (asserted[1].replace("] [", " ") if asserted else line)[-200:]


def _read(path: Path) -> set[tuple[str, str]]:
    """(split, id) of each row; a truncated last row is ignored."""
    try:
        text = path.read_bytes().decode(errors="surrogateescape")
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error_reason(error)}") from None
    header, *rows = list(csv.reader(text[: text.rfind("\n") + 1].splitlines(keepends=True))) or [
        ()
    ]
    if tuple(header) != COLUMNS or any(len(row) != len(COLUMNS) for row in rows):
        raise RunError(f"{path}: expected the columns {','.join(COLUMNS)}, got another file")
    return {(split, sample_id) for split, sample_id, *_ in rows}


def _append(path: Path, rows: list[tuple]) -> None:
    try:
        with open(path, "a", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if file.tell() == 0:
                writer.writerow(COLUMNS)
            writer.writerows(rows)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error_reason(error)}") from None
