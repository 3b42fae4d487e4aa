"""Centred kernel alignment (Kornblith et al. 2019, "Similarity of Neural Network Representations
Revisited"), debiased as Nguyen et al. 2020 ("Do Wide and Deep Networks Learn the Same Things?")
do it: with the unbiased estimator of HSIC of Song et al. 2012 ("Feature Selection via Dependence
Maximization", equation 5).

The estimator is a mean over all four different stimuli i, j, q, r, in which a kernel occurs only
as K_ij + K_qr - K_iq - K_jr. What depends on one stimulus alone cancels in it; so the kernel -D/2
of squared Euclidean distances D gives the very values of the linear kernel, and CKA with an RDM
is defined where its distances are squared Euclidean ones.
"""

from __future__ import annotations

import numpy as np

from alexnet_keras.errors import DataError
from alexnet_keras.rsa.comparison import Pairs

FEWEST_STIMULI = 4


def linear_kernel(squared: np.ndarray) -> np.ndarray:
    """The centred kernel (n, n) of squared distances, as ``np.triu_indices`` orders them, with
    zeros on the diagonal.
    """
    kernel = -_square(squared) / 2
    kernel -= kernel.mean(axis=0)
    kernel -= kernel.mean(axis=1, keepdims=True)
    np.fill_diagonal(kernel, 0)
    return kernel / (np.abs(kernel).max() or 1)


def rbf_kernel(squared: np.ndarray, bandwidth: float) -> np.ndarray:
    """exp(-D / (2 s^2)), where s is ``bandwidth`` times the median distance of two stimuli
    (Kornblith et al., section 3), with zeros on the diagonal.
    """
    median = float(np.median(np.sqrt(squared)))
    if not median > 0:
        raise DataError("rbf-cka: expected a median distance above 0, got 0: most stimuli agree")
    kernel = _square(np.exp(-squared / (2 * (bandwidth * median) ** 2)))
    np.fill_diagonal(kernel, 0)
    return kernel


def _square(vector: np.ndarray) -> np.ndarray:
    stimuli = round((1 + np.sqrt(1 + 8 * len(vector))) / 2)
    matrix = np.zeros((stimuli, stimuli))
    matrix[np.triu_indices(stimuli, 1)] = vector
    return matrix + matrix.T


def debiased_cka(
    kernels: np.ndarray, pairs: Pairs, counts: np.ndarray | None = None
) -> np.ndarray:
    """Debiased CKA of each pair of ``kernels``, (kernels, n, n) with zeros on the diagonals, on
    each sample of stimuli: (samples, pairs).

    ``counts``: (samples, n), how often each stimulus was drawn; by default one sample, of all.
    Copies of one stimulus are not four different ones: as in the bootstrap of RDMs, they count
    only with others. NaN where a sample has fewer than four different stimuli, or a kernel without
    any structure.
    """
    if counts is None:
        counts = np.ones((1, kernels.shape[1]))
    used = sorted({index for pair in pairs for index in pair})
    own = {index: _hsic(kernels[index], kernels[index], counts) for index in used}
    values = np.empty((len(counts), len(pairs)))
    with np.errstate(invalid="ignore", divide="ignore"):
        for column, (a, b) in enumerate(pairs):
            norm = np.sqrt(np.where(own[a] > 0, own[a], np.nan) * own[b])
            values[:, column] = (
                own[a] if a == b else _hsic(kernels[a], kernels[b], counts)
            ) / norm
    values[np.count_nonzero(counts, axis=1) < FEWEST_STIMULI] = np.nan
    return values


def _hsic(first: np.ndarray, second: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The unbiased estimate on each sample: the mean of K_ij L_ij + K_ij L_qr - 2 K_ij L_iq over
    all four different stimuli that were drawn.
    """
    both = first * second
    w, w2, w3 = counts, counts**2, counts**3
    both1, both2, both3 = w @ both, w2 @ both, w3 @ both
    first1, first2 = w @ first, w2 @ first
    second1, second2 = w @ second, w2 @ second
    p1, p2, p3, p4 = (np.sum(counts**power, axis=1) for power in (1, 2, 3, 4))
    twice = np.sum(w2 * both2, axis=1)
    ij_ij = (
        (p1**2 - p2) * np.sum(w * both1, axis=1)
        - 4 * p1 * np.sum(w2 * both1, axis=1)
        + 4 * np.sum(w3 * both1, axis=1)
        + 2 * twice
    )
    ij_qr = (
        np.sum(w * first1, axis=1) * np.sum(w * second1, axis=1)
        - 4 * np.sum(w2 * first1 * second1, axis=1)
        + 2 * twice
    )
    others = (p1[:, None] - w) * (first1 * second1 - both2)
    ij_iq = np.sum(w * (others - first2 * second1 - first1 * second2 + 2 * both3), axis=1)
    fours = p1**4 - 6 * p1**2 * p2 + 3 * p2**2 + 8 * p1 * p3 - 6 * p4
    with np.errstate(invalid="ignore", divide="ignore"):
        return (ij_ij + ij_qr - 2 * ij_iq) / fours
