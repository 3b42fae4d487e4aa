"""Representational dissimilarity matrices of features.

Every distance here follows from the sums of products of each two rows, which are added up over
blocks of features. So the features may be larger than the memory, and one pass serves every
distance and kernel. The distances are those of rsatoolbox, whose own functions hold several
copies of the features, and for ``crossnobis`` a (features, features) matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.rsa.toolbox import import_rsatoolbox

MEASURES = {
    "correlation": "correlation",
    "euclidean": "squared euclidean",
    "cosine": "cosine",
    "crossnobis": "crossnobis",
}
"""The methods, with rsatoolbox's names for what they measure."""

_BLOCK_BYTES = 64 << 20
# Sums of products in float64: below this, the variance of a row is the rounding of its square.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Products:
    """Sums over the features of rows: what distances need.

    Attributes:
        products: (rows, rows) float64, of each two rows.
        sums: (rows,) float64, of each row.
        width: the number of features.
    """

    products: np.ndarray
    sums: np.ndarray
    width: int

    def averaged(self, weights: np.ndarray) -> Products:
        """Those of ``weights (n, rows) @ features``."""
        return Products(weights @ self.products @ weights.T, weights @ self.sums, self.width)

    def take(self, rows: np.ndarray) -> Products:
        return Products(self.products[np.ix_(rows, rows)], self.sums[rows], self.width)


def sum_products(features: np.ndarray, block_bytes: int = _BLOCK_BYTES) -> Products:
    """The sums of products of ``features``, (rows, ...), in float64. They are read in blocks of
    at most ``block_bytes`` as float64. Rows that are not finite make theirs NaN.
    """
    rows, width = len(features), math.prod(features.shape[1:])
    flat = features.reshape(rows, width)
    products = np.zeros((rows, rows))
    sums = np.zeros(rows)
    step = max(1, block_bytes // (8 * max(1, rows)))
    with np.errstate(invalid="ignore", over="ignore"):
        for start in range(0, width, step):
            block = flat[:, start : start + step].astype(np.float64)
            products += block @ block.T
            sums += block.sum(axis=1)
        sums[~np.isfinite(products.diagonal())] = np.nan
    return Products(products, sums, width)


def calculate_rdm(
    features: np.ndarray, method: str = "correlation", stimuli: Sequence[str] | None = None
):
    """The RDM of ``features`` as ``rsatoolbox.rdm.RDMs``, equal to ``rsatoolbox.rdm.calc_rdm``.

    ``features``: (rows, ...) of any real dtype, a memory map too. ``method``: ``correlation`` is
    1 - Pearson's correlation, ``euclidean`` the squared distance divided by the number of
    features, ``cosine`` 1 - the cosine (which rsatoolbox lacks), and ``crossnobis`` the squared
    distance crossvalidated over repeats, divided by the number of features (Walther et al. 2016;
    without noise normalization). ``stimuli``: the name of each row. Rows of one name are repeats,
    which are averaged; ``crossnobis`` needs equally many of each name, and its folds are the
    repeats in the order of rows. The RDM is in the order in which names first occur.

    Raises ``DataError`` for stimuli whose distance is undefined, or too few repeats, and
    ``ConfigurationError`` for another method.

    Example::

        calculate_rdm(alexnet_keras.read_features("feats.h5")["fc7"]).get_matrices()[0]
    """
    names = list(map(str, range(len(features)))) if stimuli is None else list(stimuli)
    distinct = list(dict.fromkeys(names))
    vector = distances(sum_products(features), names, method)
    return as_rdms(vector[None], method, distinct)


def as_rdms(vectors: np.ndarray, method: str, stimuli: Sequence[str], layers: Sequence[str] = ()):
    """``rsatoolbox.rdm.RDMs`` of ``vectors``, (RDMs, pairs), with the names of the stimuli as
    their descriptor ``name``, and of the RDMs as ``layer``.
    """
    return import_rsatoolbox().rdm.RDMs(
        vectors,
        dissimilarity_measure=MEASURES[method],
        rdm_descriptors={"layer": list(layers)} if layers else None,
        pattern_descriptors={"name": list(stimuli)},
    )


def distances(products: Products, names: Sequence[str], method: str) -> np.ndarray:
    """The distance of each two distinct ``names`` in the order in which they first occur:
    (pairs,), as ``np.triu_indices`` orders them.
    """
    if method not in MEASURES:
        raise ConfigurationError(f"rdm: expected one of {', '.join(MEASURES)}, got {method!r}")
    if not products.width:
        raise DataError("expected rows of at least one feature, got none in a row")
    positions = {name: number for number, name in enumerate(dict.fromkeys(names))}
    stimulus = np.array([positions[name] for name in names], int)
    if method == "crossnobis":
        matrix = _crossnobis(products, stimulus, list(positions))
    else:
        averaged = products.averaged(_means(stimulus))
        matrix = _DISTANCES[method](averaged, list(positions))
    return matrix[np.triu_indices(len(matrix), 1)]


def _means(stimulus: np.ndarray) -> np.ndarray:
    """(stimuli, rows): the weights that average the rows of each stimulus."""
    weights = np.equal.outer(np.arange(stimulus.max(initial=-1) + 1), stimulus).astype(float)
    return weights / weights.sum(axis=1, keepdims=True)


def _from_kernel(kernel: np.ndarray) -> np.ndarray:
    own = kernel.diagonal()
    return own[:, None] + own - kernel - kernel.T


def _euclidean(products: Products, names: list[str]) -> np.ndarray:
    return np.maximum(_from_kernel(products.products), 0) / products.width


def _cosine(products: Products, names: list[str]) -> np.ndarray:
    norms = products.products.diagonal()
    _check_defined(norms > 0, names, "cosine", "features that are not all 0", "zeros")
    return 1 - products.products / np.sqrt(np.outer(norms, norms))


def _correlation(products: Products, names: list[str]) -> np.ndarray:
    centred = products.products - np.outer(products.sums, products.sums) / products.width
    variances = centred.diagonal()
    defined = variances > _ROUNDING * products.products.diagonal()
    _check_defined(defined, names, "correlation", "features that differ", "constant ones")
    return 1 - centred / np.sqrt(np.outer(variances, variances))


_DISTANCES = {"euclidean": _euclidean, "cosine": _cosine, "correlation": _correlation}


def _check_defined(
    defined: np.ndarray, names: list[str], method: str, expected: str, got: str
) -> None:
    undefined = [name for name, good in zip(names, defined, strict=True) if not good]
    if undefined:
        raise DataError(
            f"{method}: expected {expected}, got {got} for {listed(undefined)}: the distance is "
            "undefined; euclidean is defined"
        )


def listed(names: Sequence[str], most: int = 5) -> str:
    """Some of the names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _crossnobis(products: Products, stimulus: np.ndarray, names: list[str]) -> np.ndarray:
    fold = _check_repeats(stimulus, names)
    matrices = []
    for held_out in range(fold.max() + 1):
        test = _means_of(stimulus, fold == held_out)
        train = _means_of(stimulus, fold != held_out)
        matrices.append(_from_kernel(train @ products.products @ test.T))
    return np.mean(matrices, axis=0) / products.width


def _means_of(stimulus: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    weights = (_means(stimulus) > 0) * chosen
    return weights / weights.sum(axis=1, keepdims=True)


def _check_repeats(stimulus: np.ndarray, names: list[str]) -> np.ndarray:
    """The number of each row among those of its stimulus, 0 for the first."""
    counts = np.bincount(stimulus)
    few = [name for name, count in zip(names, counts, strict=True) if count < 2]
    if few:
        raise DataError(
            f"crossnobis: expected at least 2 repeats of each stimulus, got 1 of {listed(few)}"
        )
    if len(set(counts)) > 1:
        least, most = counts.argmin(), counts.argmax()
        raise DataError(
            f"crossnobis: expected as many repeats of each stimulus, got {counts[least]} of "
            f"{names[least]} and {counts[most]} of {names[most]}"
        )
    return np.array([np.sum(stimulus[:row] == which) for row, which in enumerate(stimulus)])
