"""RDMs and responses in MATLAB's ``.mat`` files of version 5 (``-v6`` and ``-v7``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from alexnet_keras.errors import DataError, WeightsError
from weights.matlab import Matrix, read_variables

NAMES = ("names", "stimuli", "conditions", "labels")
"""Variables with the names of the stimuli, a cell array of text."""
ARRAYS = ("rdms", "rdm", "dissimilarities", "responses")
"""Variables that are preferred where a file has several."""


def read_mat(path: Path) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The one array of a file, or that of several which is named ``rdms``, ``rdm``,
    ``dissimilarities`` or ``responses``, in any case; and the names of the stimuli, if the file
    has them in ``names``, ``stimuli``, ``conditions`` or ``labels``.

    A struct array with a field ``RDM``, as the RSA toolbox for MATLAB has it, becomes
    (RDMs, stimuli, stimuli); so does MATLAB's (stimuli, stimuli, RDMs). Raises ``DataError``.
    """
    try:
        variables = read_variables(path)
        names = next((variables[name] for name in NAMES if name in variables), None)
        array = _values(_chosen(variables, path))
        return array, None if names is None else tuple(each.text() for each in names.cells())
    except WeightsError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def _chosen(variables: dict[str, Matrix], path: Path) -> Matrix:
    arrays = {name: each for name, each in variables.items() if name not in NAMES}
    preferred = [name for name in arrays if name.lower() in ARRAYS]
    if len(arrays) != 1 and len(preferred) != 1:
        raise DataError(
            f"{path}: expected one array, or one named RDMs, got "
            f"{', '.join(arrays)[:200] or 'none'}"
        )
    return arrays[(preferred or list(arrays))[0]]


def _values(matrix: Matrix) -> np.ndarray:
    if matrix.is_struct:
        elements = matrix.structs()
        if not elements or "RDM" not in elements[0]:
            raise matrix.error("a field RDM", ", ".join(elements[0])[:200] if elements else "none")
        found = [element["RDM"].numbers() for element in elements]
        if len({each.shape for each in found}) > 1:
            raise matrix.error("RDMs of one shape", sorted({each.shape for each in found})[:5])
        stack = np.stack(found)
        return stack[:, 0] if stack.shape[1] == 1 else stack  # rows of pairs
    array = matrix.numbers()
    if array.ndim == 3 and array.shape[0] == array.shape[1]:
        return np.moveaxis(array, 2, 0)
    return array
