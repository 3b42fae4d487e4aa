"""One checkpoint on the disk: a folder of ``variables.npz``, ``state.json`` and their checksums in
``SHA256SUMS``, which ``sha256sum -c SHA256SUMS`` verifies by hand. No TensorFlow here.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from alexnet_keras.errors import RunError

# Small enough to stay in the CPU's cache from the first of the two digests to the write.
CHUNK_BYTES = 1 << 19
VARIABLES = "variables.npz"
STATE = "state.json"
SUMS = "SHA256SUMS"


def read_checkpoint(folder: Path) -> tuple[dict[str, np.ndarray], dict]:
    """Verify every byte, and load the arrays and the state.

    Raises ``RunError``, which names the file and the damage.
    """
    _verify(folder)
    with as_run_error(folder / VARIABLES):
        arrays = _read_arrays(folder / VARIABLES)
    with as_run_error(folder / STATE):
        state = json.loads((folder / STATE).read_bytes())
    return arrays, state


def write_checkpoint(folder: Path, arrays: dict[str, np.ndarray], state: str) -> None:
    """Create the folder and write its files, which are on the disk when this returns."""
    folder.mkdir()
    with _new_file(folder / VARIABLES) as variables:
        _write_arrays(variables, arrays)
    with _new_file(folder / STATE) as text:
        text.write(state.encode())
    with _new_file(folder / SUMS) as sums:
        sums.write(
            _checksum_lines(
                {VARIABLES: variables.sha256.hexdigest(), STATE: text.sha256.hexdigest()}
            )
        )
    sync_folder(folder)


class _HashedFile:
    """A file that is hashed while it is written in sequence, without reading it again."""

    def __init__(self, file):
        self.file = file
        self.sha256 = hashlib.sha256()

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


def sync_folder(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    # Windows cannot open a folder.
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # EINVAL: a network file system that cannot sync folders.
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _write_arrays(file: _HashedFile, arrays: dict[str, np.ndarray]) -> None:
    """Write an ``.npz`` like ``np.savez``, but with any names, without copies, and with no time
    stamps.
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
    """Compare each file with ``SHA256SUMS``, and that file with its expected content, byte for
    byte.
    """
    digests = {}
    for name in (VARIABLES, STATE):
        with as_run_error(folder / name), open(folder / name, "rb") as file:
            digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    with as_run_error(folder / SUMS):
        found = (folder / SUMS).read_bytes()
    for name, digest in digests.items():
        if _checksum_lines({name: digest}) not in found:
            raise RunError(f"{folder / name}: expected the digest in {SUMS}, got sha256 {digest}")
    if found != _checksum_lines(digests):
        raise RunError(
            f"{folder / SUMS}: expected a line each for {VARIABLES} and {STATE}, got other content"
        )


def _checksum_lines(digests: dict[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


@contextmanager
def as_run_error(path: Path) -> Iterator[None]:
    """Turn whatever ``zipfile``, NumPy and ``json`` raise for a damaged file into a one-line
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
