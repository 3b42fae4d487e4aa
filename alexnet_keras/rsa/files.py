"""Files of RDMs and of the responses that a network is compared with."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_keras.array_readers.open_arrays import open_array
from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.features.saved import read_features
from alexnet_keras.rsa.rdm_arrays import is_triangular, stimuli_of, to_vectors
from alexnet_keras.rsa.rdm_hdf5 import is_rdm_file, read_rdm_hdf5, to_hdf5
from alexnet_keras.rsa.rdm_mat import read_mat
from alexnet_keras.rsa.stimuli import check_names
from alexnet_keras.rsa.toolbox import import_rsatoolbox

_HDF5 = (".h5", ".hdf5")
SUFFIXES = (*_HDF5, ".npy", ".mat")
_NAMED_BY = ("name", "stimulus", "stimuli", "stim", "conds", "condition", "conditions", "image")
"""Descriptors that hold the names of stimuli, in rsatoolbox's files and others."""


@dataclass(frozen=True)
class Reference:
    """What features are compared with: RDMs, or responses to make one of.

    Attributes:
        path: the file.
        rdms: the ``rsatoolbox.rdm.RDMs`` of one or more subjects, None for responses.
        responses: (stimuli, ...), None for RDMs.
        names: those of the stimuli, None where the file has none.
    """

    path: Path
    rdms: Any = None
    responses: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    @property
    def stimuli(self) -> int:
        return self.rdms.n_cond if self.responses is None else len(self.responses)

    def describe(self) -> str:
        """What the file was taken for."""
        if self.responses is None:
            return f"{self.rdms.n_rdm} RDM(s) of {self.stimuli} stimuli"
        width = self.responses[0].size
        return f"responses of {width} channels to {self.stimuli} stimuli"


def read_rdms(path: str | os.PathLike, names: Sequence[str] | None = None):
    """The RDMs in a file, one for each subject, as ``rsatoolbox.rdm.RDMs``.

    ``path``: an RDM file of rsatoolbox (``.h5``, ``.hdf5``); or a ``.npy`` or ``.mat`` with a
    matrix (stimuli, stimuli), a stack (RDMs, stimuli, stimuli) or ``squareform`` vectors (pairs,)
    or (RDMs, pairs). ``names``: those of the stimuli in a file that does not hold them; they
    become the descriptor ``name``. Nothing is unpickled. Raises ``DataError``.

    Example::

        read_rdms("subjects.h5").get_matrices().shape  # (subjects, stimuli, stimuli)
    """
    path = Path(path)
    _check_suffix(path)
    if path.suffix.lower() in _HDF5:
        return read_rdm_hdf5(path)
    array, found = _read_array(path)
    return _rdms(to_vectors(array, str(path)), names or found, path)


def write_rdms(path: str | os.PathLike, rdms, overwrite: bool = False) -> None:
    """Write ``rsatoolbox.rdm.RDMs``: to ``.h5`` with their descriptors, as ``RDMs.save`` does; to
    ``.npy`` as matrices, (stimuli, stimuli) of one RDM, else (RDMs, stimuli, stimuli); to ``.mat``
    as ``RDMs`` (stimuli, stimuli, RDMs), and ``names``.

    Raises ``ConfigurationError`` for another suffix, ``RunError`` for a file that exists or cannot
    be written.
    """
    path = Path(path)
    _check_suffix(path, ConfigurationError)
    if path.exists() and not overwrite:
        raise RunError(f"{path}: already exists; choose another name or pass overwrite")
    with atomic_write(path) as (temporary,):
        if path.suffix.lower() in _HDF5:
            temporary.write_bytes(to_hdf5(rdms))
        elif path.suffix.lower() == ".npy":
            matrices = rdms.get_matrices()
            np.save(temporary, matrices[0] if len(matrices) == 1 else matrices)
        else:
            _write_mat(temporary, rdms)


def read_reference(path: str | os.PathLike, stimuli: int) -> Reference:
    """What to compare the features of ``stimuli`` images with.

    An array of a ``.npy`` or ``.mat`` that has a row for each of the ``stimuli`` and is not a
    square of them, and a features file with one layer, are responses. Everything else is RDMs, as
    in :func:`read_rdms`. The names of the stimuli may be in a table beside the ``.npy``, a
    ``.csv`` of the same stem with a column ``name``, ``stimulus``, ``id`` or ``path``. Raises
    ``DataError``.
    """
    path = Path(path)
    _check_suffix(path)
    if path.suffix.lower() in _HDF5:
        if not is_rdm_file(path):
            return _responses_of_layer(path)
        rdms = read_rdms(path)
        return Reference(path, rdms, names=stimulus_names(rdms))
    array, names = _read_array(path)
    if array.ndim > 1 and len(array) == stimuli and not _is_square(array, stimuli):
        _check_names(names, stimuli, path)
        return Reference(path, responses=array, names=names)
    if array.ndim == 2 and not _is_square(array, len(array)) and not is_triangular(array.shape[1]):
        raise DataError(
            f"{path}: expected responses to {stimuli} stimuli, or RDMs of them, got shape "
            f"{array.shape}"
        )
    rdms = _rdms(to_vectors(array, str(path)), names, path)
    return Reference(path, rdms, names=names)


def stimulus_names(rdms) -> tuple[str, ...] | None:
    """The names of the stimuli of ``rsatoolbox.rdm.RDMs``: their descriptor ``name``, ``stimulus``
    or the like, else the only one that is text; None without one.
    """
    texts = {
        key: tuple(map(str, items))
        for key, items in rdms.pattern_descriptors.items()
        if all(isinstance(item, str) for item in items)
    }
    known = [key for key in _NAMED_BY if key in texts]
    if known or len(texts) == 1:
        return texts[(known or list(texts))[0]]
    return None


def _check_suffix(path: Path, error: type[Exception] = DataError) -> None:
    suffix = path.suffix.lower()
    if suffix in (".pkl", ".pickle"):
        raise error(
            f"{path}: expected RDMs in {', '.join(SUFFIXES)}, got a pickle, which can run code; "
            'save them with file_type="hdf5"'
        )
    if suffix not in SUFFIXES:
        raise error(f"{path}: expected a name that ends in {', '.join(SUFFIXES)}")


def _read_array(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The array of a ``.npy`` or ``.mat``, and the names in the latter, or in the table beside the
    former.
    """
    if path.suffix.lower() == ".mat":
        return read_mat(path)
    return open_array(path, path.stem), row_names(read_features(path).rows)


def _responses_of_layer(path: Path) -> Reference:
    features = read_features(path)
    if len(features) != 1:
        raise DataError(
            f"{path}: expected RDMs or the responses of one layer, got {', '.join(features)[:200]}"
        )
    (array,) = features.values()
    return Reference(path, responses=array, names=row_names(features.rows))


def row_names(rows: Mapping[str, list]) -> tuple[str, ...] | None:
    """What a table of rows calls its stimuli: the first of its columns ``name``, ``stimulus``,
    ``id`` and ``path``; None without these.
    """
    column = next((name for name in ("name", "stimulus", "id", "path") if name in rows), None)
    return None if column is None else tuple(map(str, rows[column]))


def _is_square(array: np.ndarray, stimuli: int) -> bool:
    return array.shape[-2:] == (stimuli, stimuli) and array.ndim <= 3


def _rdms(vectors: np.ndarray, names: Sequence[str] | None, path: Path):
    _check_names(names, stimuli_of(vectors.shape[1], str(path)), path)
    return import_rsatoolbox().rdm.RDMs(
        vectors, pattern_descriptors=None if names is None else {"name": list(names)}
    )


def _check_names(names: Sequence[str] | None, stimuli: int, path: Path) -> None:
    if names is None:
        return
    check_names(names, str(path))
    if len(names) != stimuli:
        raise DataError(f"{path}: expected the names of {stimuli} stimuli, got {len(names)}")


def _write_mat(path: Path, rdms) -> None:
    from scipy.io import savemat  # slow to import

    arrays = {"RDMs": np.moveaxis(rdms.get_matrices(), 0, 2)}
    names = stimulus_names(rdms)
    if names is not None:
        arrays["names"] = np.array(names, object)
    savemat(path, arrays)
