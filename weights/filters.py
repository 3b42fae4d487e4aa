"""What can be told of single filters: which are dead, and which see colour."""

from __future__ import annotations

import numpy as np


def dead_filters(kernel: np.ndarray) -> int:
    """How many outputs have a norm below a thousandth of the median one."""
    matrix = kernel.reshape(-1, kernel.shape[-1]) if kernel.ndim == 4 else kernel
    norms = np.sqrt(np.einsum("io,io->o", matrix, matrix))
    return int((norms <= 1e-3 * np.median(norms)).sum())


def colourfulness(kernels: np.ndarray) -> np.ndarray:
    """The share of each first-layer kernel's energy that is colour, (filters,), from 0 (grey: the
    three channels are equal) to 1.

    ``kernels``: (height, width, 3, filters), channels in any order. Independent random values give
    2/3 on average. In the network of 2012, "the kernels on GPU 1 are largely color-agnostic, while
    the kernels on GPU 2 are largely color-specific" (paper, section 6.1 and figure 3): compare the
    means of the two halves of the filters.
    """
    kernels = kernels.astype(np.float64)
    total = np.square(kernels).sum(axis=(0, 1, 2))
    colour = np.square(kernels - kernels.mean(axis=2, keepdims=True)).sum(axis=(0, 1, 2))
    return np.divide(colour, total, out=np.zeros_like(total), where=total > 0)
