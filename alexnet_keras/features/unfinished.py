"""An extraction under way: its files lie in a folder beside the output until all are complete.

``state.json`` there says how many rows are safely on the disk and what determines them, so that an
interrupted or killed extraction goes on after these rows and writes the same bytes.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Protocol

import filelock

from alexnet_keras.errors import RunError, error_reason
from alexnet_keras.features.extraction_state import (
    first_difference,
    read_state,
    sync_file,
    sync_folder,
    write_state,
)

CHECKPOINT_SECONDS = 10.0
STATE = "state.json"
LOCK = "lock"
logger = logging.getLogger(__name__)


class RowFiles(Protocol):
    """What :class:`Unfinished` needs of the files that rows are appended to."""

    rows: dict[str, int]

    def start(self) -> None: ...
    def go_on(self, rows: int, positions: Mapping[str, int]) -> None: ...
    def positions(self) -> dict[str, int]: ...
    def sync(self) -> None: ...
    def finish(self) -> None: ...
    def close(self) -> None: ...


class Unfinished:
    """The folder ``<stem>.unfinished`` beside ``out``, where its files lie until all are complete.

    Attributes:
        done: rows written so far.
        is_complete: whether the complete files are in place.
    """

    def __init__(
        self,
        out: Path,
        finals: tuple[Path, ...],
        rows: range,
        facts: dict,
        digest: str,
        environment: dict,
    ):
        """``finals``: the complete files, the description last. ``rows``: the numbers of those
        that are written. ``facts``: what determines the files, JSON-ready; ``digest``: what the
        description of the same rows has as ``sha256``; ``environment``: what their last bits may
        depend on.
        """
        self.folder = out.with_name(f"{out.stem}.unfinished")
        self.done = 0
        self.is_complete = False
        self._out = out
        self._finals = finals
        self._rows = rows
        self._facts = json.loads(json.dumps(facts))
        self._digest = digest
        self._environment = environment
        self._files: RowFiles | None = None
        self._has_begun = False
        self._positions: dict[str, int] = {}
        self._earlier_bad_rows: list[int] = []
        self._find_bad_rows: Callable[[], list[int]] = list
        self._saved_at = monotonic()

    @property
    def bad_rows(self) -> list[int]:
        """The numbers of the rows so far whose file was unreadable, ascending."""
        end = self._rows.start + self.done
        found = (row for row in self._find_bad_rows() if row < end)
        return sorted({*self._earlier_bad_rows, *found})

    def place(self, final: Path) -> Path:
        """Where a file lies until all are complete."""
        return self.folder / final.name

    @contextmanager
    def opened(self, *, resume: bool, overwrite: bool) -> Iterator[Unfinished]:
        """Hold the folder while the files are written.

        After Ctrl-C, and after any failure later than the first checkpoint, the rows written so
        far are kept, and a warning says so. Raises ``RunError``.
        """
        try:
            check_writable(self._out, self._finals)
            if resume and not self.folder.is_dir() and not self._finals[0].exists():
                raise RunError(
                    f"resume: expected an unfinished extraction {self.folder}, got none"
                )
            self.folder.mkdir(exist_ok=True)
            with self._locked():
                try:
                    self._open(resume, overwrite)
                    yield self
                except BaseException as error:
                    self._keep(error)
                    raise
                finally:
                    self._close()
        except OSError as error:
            raise RunError(f"{self._out}: cannot be written: {error_reason(error)}") from None

    def begin(self, files: RowFiles) -> None:
        """Start the files, or open them to write what comes after the rows that are there."""
        self._files = files
        if self.done:
            files.go_on(self.done, self._positions)
        else:
            files.start()
        for final in self._finals:  # such as a basis
            if self.place(final).exists():
                sync_file(self.place(final))
        self._positions = files.positions()
        self._has_begun = True

    def add(self, rows: int, find_bad_rows: Callable[[], list[int]]) -> None:
        """Note that every layer has ``rows`` more; from time to time, save the state.

        ``find_bad_rows``: returns the numbers of unreadable rows that this call knows of.
        """
        self.done += rows
        self._positions = self._files.positions()
        self._find_bad_rows = find_bad_rows
        if monotonic() - self._saved_at > CHECKPOINT_SECONDS:
            self._save()

    def complete(self) -> None:
        """Give the files their names, once all rows are written."""
        if self._files:
            for layer, rows in self._files.rows.items():
                if rows != len(self._rows):
                    raise RunError(
                        f"{self._out}: expected {len(self._rows)} rows of {layer}, got {rows}"
                    )
            self._files.finish()
        for final in self._finals:
            sync_file(self.place(final))
        self._save(renaming=True)
        self._has_begun = False  # nothing is to be kept any more: the state says what is left
        self._rename()

    def _open(self, resume: bool, overwrite: bool) -> None:
        state = self._read_state()
        if state and not (resume or overwrite):
            raise RunError(
                f"{self.folder}: an unfinished extraction of {state['done']} of {state['rows']} "
                "rows; continue it with --resume, or begin anew with --overwrite"
            )
        if state and resume:
            self._check_same(state)
            self.done = state["done"]
            self._earlier_bad_rows = state["bad_rows"]
            self._positions = state["positions"]
            if state["renaming"]:
                self._rename()
                return
        existing = [path for path in self._finals if path.exists()]
        if resume and not state and self._are_complete():
            logger.info("%s: already complete", self._out)
            self.is_complete = True
            return
        if existing and not overwrite:
            raise RunError(
                f"{existing[0]}: already exists; choose another --out or pass --overwrite"
            )
        if not self.done:
            self._clear()

    def _check_same(self, state: dict) -> None:
        difference = first_difference(state["facts"], self._facts)
        if difference:
            raise RunError(
                f"{self.folder}: cannot be continued, since {difference}; use the options it was "
                "begun with, or begin anew with --overwrite"
            )
        difference = first_difference(state["environment"], self._environment)
        if difference:
            logger.warning(
                "%s: %s: later rows may differ from one run's in rounding",
                self.folder,
                difference,
            )

    def _are_complete(self) -> bool:
        try:
            description = json.loads(self._finals[-1].read_text(encoding="utf-8"))
            same = description["sha256"] == self._digest
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return False
        return same and all(path.exists() for path in self._finals)

    def _keep(self, error: BaseException) -> None:
        """After a failure: save what is complete, where it is much or the user interrupted."""
        interrupted = not isinstance(error, Exception)
        if not self._has_begun:
            return
        if self.done and (interrupted or self._has_state()):
            with suppress(OSError):
                self._save()
        state = self._read_state()
        if state:
            logger.warning(
                "%s: %d of %d rows are kept; --resume continues",
                self.folder,
                state["done"],
                len(self._rows),
            )

    def _save(self, renaming: bool = False) -> None:
        if self._files:
            self._files.sync()
        state = {
            "rows": len(self._rows),
            "done": self.done,
            "bad_rows": self.bad_rows,
            "positions": self._positions,
            "renaming": renaming,
            "facts": self._facts,
            "environment": self._environment,
        }
        write_state(self.folder / STATE, state)
        self._saved_at = monotonic()

    def _rename(self) -> None:
        for final in self._finals:
            if self.place(final).exists():  # else a killed process has renamed it
                os.replace(self.place(final), final)
        sync_folder(self._out.parent)
        (self.folder / STATE).unlink()
        self.is_complete = True

    def _has_state(self) -> bool:
        return (self.folder / STATE).exists()

    def _read_state(self) -> dict | None:
        return read_state(self.folder / STATE)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = filelock.FileLock(self.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise RunError(f"{self.folder}: another extraction is writing these files") from None
        try:
            yield
        finally:
            lock.release()
            if not self._has_state():
                shutil.rmtree(self.folder, ignore_errors=True)

    def _clear(self) -> None:
        for path in self.folder.iterdir():
            if path.name != LOCK:
                path.unlink()

    def _close(self) -> None:
        if self._files:
            with suppress(OSError):
                self._files.close()


def check_writable(out: Path, finals: tuple[Path, ...]) -> None:
    """Raise ``RunError`` unless the files can be written where they are to be."""
    folders = [path for path in finals if path.is_dir()]
    if folders:
        raise RunError(f"{folders[0]}: expected a file to write, got a folder")
    if not out.parent.is_dir():
        raise RunError(f"{out.parent}: expected an existing folder to write the features to")
