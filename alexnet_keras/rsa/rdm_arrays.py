"""Anyone's arrays as representational dissimilarity matrices (RDMs), checked."""

from __future__ import annotations

import math

import numpy as np

from alexnet_keras.errors import DataError

MIN_STIMULI = 3
_TOLERANCE = 1e-6
"""Of a diagonal that is not quite 0 and of halves that are not quite equal, as a fraction of the
largest dissimilarity."""


def to_vectors(array: np.ndarray, place: str) -> np.ndarray:
    """The upper triangles of one or more RDMs, (RDMs, pairs) float64, in the order of
    ``scipy.spatial.distance.squareform``.

    ``array``: a matrix (stimuli, stimuli), a stack of them (RDMs, stimuli, stimuli), or the
    vectors of one or more, (pairs,) or (RDMs, pairs). A square array is a matrix. Raises
    ``DataError``, beginning with ``place``, for any other shape, fewer than three stimuli, NaN,
    and matrices that are not symmetric or whose diagonal is not 0.
    """
    if array.dtype.kind not in "biuf":
        raise DataError(f"{place}: expected real numbers, got {array.dtype}")
    array = np.atleast_2d(np.asarray(array, np.float64))
    if array.ndim == 2 and array.shape[0] == array.shape[1]:
        array = array[None]
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.T
    if array.ndim > 3 or (array.ndim == 3 and array.shape[1] != array.shape[2]):
        raise DataError(
            f"{place}: expected RDMs (stimuli, stimuli), (RDMs, stimuli, stimuli) or (RDMs, "
            f"pairs), got shape {array.shape}"
        )
    stimuli = array.shape[1] if array.ndim == 3 else stimuli_of(array.shape[1], place)
    if stimuli < MIN_STIMULI or not len(array):
        raise DataError(
            f"{place}: expected RDMs of at least {MIN_STIMULI} stimuli, got {len(array)} of "
            f"{stimuli}"
        )
    _check_finite(array, stimuli, place)
    if array.ndim == 2:
        return array
    for number, matrix in enumerate(array):
        _check_matrix(matrix, place if len(array) == 1 else f"{place}: RDM {number}")
    return array[:, *np.triu_indices(stimuli, 1)]


def stimuli_of(pairs: int, place: str) -> int:
    """The number of stimuli n that have n(n-1)/2 ``pairs``. Raises ``DataError`` if there is no
    such number.
    """
    stimuli = (1 + math.isqrt(1 + 8 * pairs)) // 2
    if not is_triangular(pairs):
        raise DataError(
            f"{place}: expected the n(n-1)/2 pairs of n stimuli, such as "
            f"{stimuli * (stimuli - 1) // 2} of {stimuli}, got {pairs}"
        )
    return stimuli


def is_triangular(pairs: int) -> bool:
    """Whether some n stimuli have n(n-1)/2 ``pairs``."""
    root = math.isqrt(1 + 8 * pairs)
    return root * root == 1 + 8 * pairs


def _check_finite(array: np.ndarray, stimuli: int, place: str) -> None:
    bad = np.argwhere(~np.isfinite(array))
    if not len(bad):
        return
    number, *pair = bad[0].tolist()
    value = array[tuple(bad[0])]
    if len(pair) == 1:
        pair = [int(side[pair[0]]) for side in np.triu_indices(stimuli, 1)]
    raise DataError(
        f"{place}: RDM {number}: expected finite dissimilarities, got {value} between stimuli "
        f"{pair[0]} and {pair[1]}"
    )


def _check_matrix(matrix: np.ndarray, place: str) -> None:
    scale = _TOLERANCE * np.abs(matrix).max()
    diagonal = np.abs(matrix.diagonal())
    if diagonal.max() > scale:
        at = int(diagonal.argmax())
        raise DataError(
            f"{place}: expected an RDM, whose diagonal is 0, got {matrix[at, at]:g} at stimulus "
            f"{at} (are these similarities?)"
        )
    differs = np.abs(matrix - matrix.T) > scale
    if differs.any():
        i, j = np.unravel_index(differs.argmax(), differs.shape)
        raise DataError(
            f"{place}: expected a symmetric RDM, got {matrix[i, j]:g} between stimuli {i} and "
            f"{j}, and {matrix[j, i]:g} between {j} and {i}"
        )
