"""The similarity of each two layers, and of each layer and reference, with intervals and noise
ceilings.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.rsa.cka import FEWEST_STIMULI, debiased_cka, linear_kernel, rbf_kernel
from alexnet_keras.rsa.comparison import (
    RDM_COMPARISONS,
    compare_rdms,
    noise_ceiling,
    resampled,
)
from alexnet_keras.rsa.representations import Representation

logger = logging.getLogger(__name__)

BANDWIDTH = 0.5
CKA = ("linear-cka", "rbf-cka")
COMPARISONS = (*RDM_COMPARISONS, *CKA)
_PERCENTILES = (2.5, 97.5)


@dataclass(frozen=True)
class Similarity:
    """How alike a layer and another, or a reference, are.

    Attributes:
        compare: one of :data:`COMPARISONS`.
        first, second: the names.
        value: the mean over subjects, at most 1.
        interval: the 2.5th and 97.5th percentile over samples of stimuli, None without these.
        ceiling: the lower and upper noise ceiling of a reference with several subjects; None
            for CKA, for which rsatoolbox has none.
        subjects: the value for each subject of the reference.
        undefined: the samples in which it is undefined, which the interval leaves out.
    """

    compare: str
    first: str
    second: str
    value: float
    interval: tuple[float, float] | None
    ceiling: tuple[float, float] | None
    subjects: tuple[float, ...]
    undefined: int = 0


def compare_all(
    layers: Sequence[Representation],
    references: Sequence[Representation],
    methods: Sequence[str],
    counts: np.ndarray,
    bandwidth: float,
    advance: Callable[[int], None],
) -> list[Similarity]:
    """The similarities of layers x layers and layers x references by each of ``methods``.

    ``counts``: (samples, stimuli), of ``draw_stimuli``. ``advance`` is called with the number of
    samples that were finished, once for each method.
    """
    number = len(layers)
    pairs = [(a, b) for a in range(number) for b in range(a + 1, number)]
    pairs += [(a, number + b) for a in range(number) for b in range(len(references))]
    everything = [*layers, *references]
    found = []
    for method in methods if pairs else ():
        calculate = _Cka if method in CKA else _Rdms
        comparison = calculate(everything, pairs, method, bandwidth)
        of_subjects = comparison.values()
        samples = comparison.samples(counts, advance)
        ceilings = [
            None if method in CKA else noise_ceiling(each.vectors, method) for each in everything
        ]
        found += [
            _similarity(method, everything[a], everything[b], ceilings[b], values, drawn)
            for (a, b), values, drawn in zip(pairs, of_subjects, samples, strict=True)
        ]
    return found


def _similarity(
    method: str,
    first: Representation,
    second: Representation,
    ceiling: tuple[float, float] | None,
    values: np.ndarray,
    drawn: np.ndarray,
) -> Similarity:
    defined = drawn[np.isfinite(drawn)]
    interval = tuple(map(float, np.percentile(defined, _PERCENTILES))) if len(defined) else None
    value = float(values.mean())
    if not np.isfinite(value):
        logger.warning(
            "%s of %s and %s is undefined: one has no more structure than chance",
            method,
            first.name,
            second.name,
        )
    of_subjects = tuple(map(float, values))
    undefined = len(drawn) - len(defined)
    return Similarity(
        method, first.name, second.name, value, interval, ceiling, of_subjects, undefined
    )


class _Comparison:
    """All pairs by one method. Subjects of references are columns of their own, whose values are
    averaged.
    """

    def __init__(
        self,
        everything: Sequence[Representation],
        pairs: Sequence[tuple[int, int]],
        method: str,
        bandwidth: float,
    ):
        self.method = method
        ends = np.cumsum([len(each.vectors) for each in everything])
        starts = ends - [len(each.vectors) for each in everything]
        groups = [[(starts[a], c) for c in range(starts[b], ends[b])] for a, b in pairs]
        self.pairs = [pair for group in groups for pair in group]
        self.splits = np.cumsum([len(group) for group in groups])[:-1]
        self.arrays = self.prepared(everything, bandwidth)

    def values(self) -> list[np.ndarray]:
        """(subjects,) of each pair."""
        return np.split(self.on_all(), self.splits)

    def samples(self, counts: np.ndarray, advance: Callable[[int], None]) -> list[np.ndarray]:
        """(samples,) of each pair, the means over subjects."""
        drawn = np.split(self.on_samples(counts, advance), self.splits, axis=1)
        return [values.mean(axis=1) for values in drawn]


class _Rdms(_Comparison):
    def prepared(self, everything, bandwidth):
        return np.concatenate([each.vectors for each in everything])

    def on_all(self):
        return compare_rdms(self.arrays, self.method, self.pairs)

    def on_samples(self, counts, advance):
        return resampled(self.arrays, self.method, self.pairs, counts, advance)


class _Cka(_Comparison):
    def prepared(self, everything, bandwidth):
        kernels = [
            _kernel(each, squared, self.method, bandwidth)
            for each in everything
            for squared in check_squared(each, self.method)
        ]
        if len(kernels[0]) < FEWEST_STIMULI:
            raise DataError(
                f"{self.method}: expected at least {FEWEST_STIMULI} stimuli, got {len(kernels[0])}"
            )
        return np.stack(kernels)

    def on_all(self):
        return debiased_cka(self.arrays, self.pairs)[0]

    def on_samples(self, counts, advance):
        values = debiased_cka(self.arrays, self.pairs, counts)
        advance(len(counts))
        return values


def check_squared(each: Representation, method: str) -> np.ndarray:
    """The squared distances of a representation. Raises ``ConfigurationError`` where it has none:
    CKA is not defined for it.
    """
    negative = each.squared is not None and method == "rbf-cka" and (each.squared < 0).any()
    if each.squared is None or negative:
        raise ConfigurationError(
            f"{each.name}: expected responses or squared Euclidean distances for {method}, got "
            f"{'negative distances' if negative else each.about}"
        )
    return each.squared


def _kernel(
    each: Representation, squared: np.ndarray, method: str, bandwidth: float
) -> np.ndarray:
    try:
        return rbf_kernel(squared, bandwidth) if method == "rbf-cka" else linear_kernel(squared)
    except DataError as error:
        raise DataError(f"{each.name}: {error}") from None
