"""Checkpoints of one run: checkpoints that are whole or not there, each verified before it is
trusted. No TensorFlow here.

A checkpoint is a folder ``000012-step-340`` that gets its name only when all of it is on the disk:
``variables.npz``, ``state.json`` and ``SHA256SUMS`` over both, so that ``sha256sum -c SHA256SUMS``
checks it by hand.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.lib import format as npy

from alexnet_keras.atomic_files import PARTIAL_PREFIX
from alexnet_keras.errors import ConfigurationError, RunError

CHUNK_BYTES = 1 << 19  # what the caches hold from the first of the two digests to the write
VARIABLES, STATE, SUMS = "variables.npz", "state.json", "SHA256SUMS"
CHECKPOINT_NAME = re.compile(r"([0-9]{6,})-step-([0-9]+)")
PARTIAL_NAME = re.compile(re.escape(PARTIAL_PREFIX) + "[0-9]+-" + CHECKPOINT_NAME.pattern)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A whole checkpoint as it was saved: ``arrays`` by name, bit for bit, and the JSON ``state``
    with its ``"step"``.
    """

    path: Path
    number: int
    arrays: dict[str, np.ndarray]
    state: dict


class Checkpoints:
    """The checkpoints in ``folder``, the newest ``keep`` of them and the best; one process at a
    time writes them.

    ``folder`` is made by the first save; its parent has to be there. Raises ``ConfigurationError``
    if ``keep`` is below 1.
    """

    def __init__(self, folder: Path, keep: int = 2):
        if keep < 1:
            raise ConfigurationError(f"keep: expected at least 1 checkpoint, got {keep}")
        self.folder, self.keep = Path(folder), keep
        self._executor = futures.ThreadPoolExecutor(1, "checkpoints")
        self._writing: futures.Future | None = None
        self._last_is_whole, self._seconds = True, 0.0
        self._damaged: set[Path] = set()

    def save(self, arrays: dict[str, np.ndarray], state: dict) -> bool:
        """Start to write a checkpoint in the background; False, and nothing done, while an earlier
        one is being written.

        ``arrays``: of any shape and any dtype of NumPy's own but objects, not to be changed before
        the write has ended. ``state``: JSON-ready, with an int ``"step"`` from 0 and, where one is
        known, the ``"step"`` of ``"best"``. What the file system refuses is a warning and the run
        goes on; any other error of the last write is raised here.
        """
        if self._writing is not None and not self._writing.done():
            return False
        self.wait()
        best = state.get("best") or {}
        text = json.dumps(state, indent=2) + "\n"
        self._writing = self._executor.submit(
            self._try_to_save, arrays, text, state["step"], best.get("step")
        )
        return True

    def wait(self) -> bool:
        """Wait for the write under way; whether the last save became whole (True before the
        first).

        Raises, once, what ended the write if it was not the file system.
        """
        if self._writing is not None:
            futures.wait([self._writing])
            ended, self._writing, self._last_is_whole = self._writing, None, False
            self._last_is_whole = ended.result()
        return self._last_is_whole

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole, every byte verified; None if there is none.

        Each damaged one that is passed over is a warning, and is removed when a later save prunes.
        Raises ``RunError`` if the folder cannot be listed, or a whole checkpoint does not fit into
        memory.
        """
        with _damage(self.folder):
            found = _checkpoints_in(self.folder)
        for checkpoint in reversed(found):
            try:
                return checkpoint.read()
            except MemoryError:
                raise RunError(f"{checkpoint.path}: does not fit into memory") from None
            except RunError as damage:
                logger.warning("%s; this checkpoint is passed over", damage)
                self._damaged.add(checkpoint.path)
        return None

    @property
    def seconds_saving(self) -> float:
        """Wall seconds that the writes that have ended took, all together."""
        return self._seconds

    def _try_to_save(
        self, arrays: dict[str, np.ndarray], state: str, step: int, best_step: int | None
    ) -> bool:
        began = perf_counter()
        try:
            self._add(arrays, state, step)
        except OSError as error:
            logger.warning(
                "%s: step %d cannot be saved: %s; training goes on, and the next save will try "
                "again",
                self.folder,
                step,
                error.strerror or error,
            )
            return False
        else:
            self._prune(best_step)
            return True
        finally:
            self._seconds += perf_counter() - began

    def _add(self, arrays: dict[str, np.ndarray], state: str, step: int) -> None:
        """Write a checkpoint under another name and rename it; when this returns, it survives a
        power cut.
        """
        if not self.folder.is_dir():
            self.folder.mkdir()
            _sync_folder(self.folder.parent)
        with suppress(OSError):
            _remove_partial(self.folder)
        number = (
            max((checkpoint.number for checkpoint in _checkpoints_in(self.folder)), default=0) + 1
        )
        path = self.folder / f"{number:06d}-step-{step}"
        partial = _partial_name(path)
        try:
            _write(partial, arrays, state)
            os.rename(partial, path)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        _sync_folder(self.folder)

    def _prune(self, best_step: int | None) -> None:
        try:
            found = _checkpoints_in(self.folder)
            whole = [checkpoint for checkpoint in found if checkpoint.path not in self._damaged]
            best = [checkpoint for checkpoint in whole if checkpoint.step == best_step]
            kept = whole[-self.keep :] + best[-1:]
            for checkpoint in found:
                if checkpoint not in kept:
                    # Under this name, what a kill leaves of it is not taken for a checkpoint.
                    os.rename(checkpoint.path, _partial_name(checkpoint.path))
            _remove_partial(self.folder)
        except OSError as error:
            logger.warning(
                "%s: an old checkpoint cannot be removed: %s", self.folder, error.strerror or error
            )


@dataclass(frozen=True)
class _Found:
    """A checkpoint on the disk, whole or not, as its name describes it."""

    number: int
    step: int
    path: Path

    def read(self) -> Checkpoint:
        """Verify and load; raises ``RunError`` naming the file and what does not fit."""
        _verify(self.path)
        with _damage(self.path / VARIABLES):
            arrays = _read_arrays(self.path / VARIABLES)
        with _damage(self.path / STATE):
            state = json.loads((self.path / STATE).read_bytes())
        step = state.get("step") if isinstance(state, dict) else None
        if type(step) is not int or step != self.step:
            raise RunError(
                f"{self.path / STATE}: step: expected the {self.step} of the folder's name, got "
                f"{step!r}"
            )
        return Checkpoint(self.path, self.number, arrays, state)


def _checkpoints_in(folder: Path) -> list[_Found]:
    """Oldest first."""
    matches = _folders(folder, CHECKPOINT_NAME) if folder.exists() else []
    return sorted(
        (_Found(int(match[1]), int(match[2]), folder / match[0]) for match in matches),
        key=lambda found: (found.number, found.step),
    )


def _folders(parent: Path, name: re.Pattern) -> list[re.Match]:
    """The names of folders that match; what has another name, or is no folder, is somebody
    else's.
    """
    with os.scandir(parent) as entries:
        matches = [
            name.fullmatch(entry.name) for entry in entries if entry.is_dir(follow_symlinks=False)
        ]
    return [match for match in matches if match]


def _partial_name(path: Path) -> Path:
    return path.with_name(f"{PARTIAL_PREFIX}{os.getpid()}-{path.name}")


def _remove_partial(folder: Path) -> None:
    """Remove what killed processes left and what was pruned."""
    for match in _folders(folder, PARTIAL_NAME):
        shutil.rmtree(folder / match[0])


def _write(folder: Path, arrays: dict[str, np.ndarray], state: str) -> None:
    folder.mkdir()
    with _new_file(folder / VARIABLES) as variables:
        _write_arrays(variables, arrays)
    with _new_file(folder / STATE) as text:
        text.write(state.encode())
    with _new_file(folder / SUMS) as sums:
        sums.write(
            _sums({VARIABLES: variables.sha256.hexdigest(), STATE: text.sha256.hexdigest()})
        )
    _sync_folder(folder)


class _HashedFile:
    """A file that is written from its start to its end, and hashed on the way so that it need not
    be read again.
    """

    def __init__(self, file):
        self.file, self.sha256 = file, hashlib.sha256()

    def write(self, data) -> int:
        self.sha256.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


@contextmanager
def _new_file(path: Path) -> Iterator[_HashedFile]:
    with open(path, "wb") as file:
        yield _HashedFile(file)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows cannot
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # a network file system that cannot
            raise
    finally:
        os.close(descriptor)


def _write_arrays(file: _HashedFile, arrays: dict[str, np.ndarray]) -> None:
    """What ``np.savez`` writes, but any name fits, nothing is copied and nothing depends on the
    time.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            array = np.asarray(array, order="C")
            header = npy.header_data_from_array_1_0(array)
            if "\0" in name or npy.descr_to_dtype(header["descr"]) != array.dtype:
                raise ValueError(
                    f"array {name!r} of {array.dtype}: an .npz file cannot hold this name or dtype"
                )
            data = memoryview(array.reshape(-1).view(np.uint8))
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                npy.write_array_header_1_0(member, header)
                for start in range(0, len(data), CHUNK_BYTES):
                    member.write(data[start : start + CHUNK_BYTES])


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = npy.read_array(member, allow_pickle=False)
    return arrays


def _verify(folder: Path) -> None:
    """Compare each file with ``SHA256SUMS``, and that one, byte for byte, with what it has to
    be.
    """
    digests = {}
    for name in (VARIABLES, STATE):
        with _damage(folder / name), open(folder / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    with _damage(folder / SUMS):
        found = (folder / SUMS).read_bytes()
    for name, digest in digests.items():
        if _sums({name: digest}) not in found:
            raise RunError(f"{folder / name}: expected the digest in {SUMS}, got sha256 {digest}")
    if found != _sums(digests):
        raise RunError(
            f"{folder / SUMS}: expected a line each for {VARIABLES} and {STATE} and nothing else"
        )


def _sums(digests: dict[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Whatever a damaged file makes ``zipfile``, NumPy and ``json`` raise, as one line in a
    ``RunError``.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        raise RunError(
            f"{path}: cannot be read: {getattr(error, 'strerror', None) or repr(error)}"
        ) from None
