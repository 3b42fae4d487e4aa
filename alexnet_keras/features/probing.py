"""Probes: how well a simple classifier tells classes apart by frozen features.

The third way to use a trained network on other data, and the first that papers report: Razavian
et al. 2014 (CNN features off-the-shelf, section 2.2: a linear SVM on the features of a layer),
Donahue et al. 2014 (DeCAF: SVM and logistic regression), Kornblith et al. 2019 (Do better ImageNet
models transfer better?, section 3: multinomial logistic regression with L-BFGS).
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from alexnet_keras.errors import DataError
from alexnet_keras.features.classifiers import LINEAR, Classifier, standardize

INNER_FOLDS = 3
C_GRID = (0.01, 0.1, 1.0, 10.0, 100.0)
NEIGHBORS_GRID = (1, 3, 5, 10, 20)
_SMALL_FIT = 1 << 22

Split = tuple[np.ndarray, np.ndarray]
"""Indices of the train rows and of the test rows."""
Splitter = Callable[[np.ndarray], list[Split]]
"""From labels to splits."""


@dataclass(frozen=True)
class CrossValidation:
    """What one classifier reached.

    ``predicted``: of each row, -1 for rows that are in no test fold. ``scores`` and
    ``accuracies``: balanced accuracy and accuracy of each fold, fractions 0-1. ``chosen``: the
    classifier of each fold. ``unconverged``: the folds whose fit did not converge.
    """

    predicted: np.ndarray
    scores: tuple[float, ...]
    accuracies: tuple[float, ...]
    chosen: tuple[Classifier, ...]
    unconverged: int

    @property
    def balanced_accuracy(self) -> float:
        """The mean over folds."""
        return float(np.mean(self.scores))

    @property
    def accuracy(self) -> float:
        """The mean over folds."""
        return float(np.mean(self.accuracies))

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95% t-interval of the mean of the folds' balanced accuracies, cut at 0 and 1; None
        of a single split.

        Folds share most of their training rows, so their scores are not independent and the
        interval is somewhat too narrow (Bengio and Grandvalet 2004: no unbiased estimate exists).
        """
        from scipy.stats import t

        folds = len(self.scores)
        if folds < 2:
            return None
        half = t.ppf(0.975, folds - 1) * np.std(self.scores, ddof=1) / np.sqrt(folds)
        mean = self.balanced_accuracy
        return float(max(mean - half, 0)), float(min(mean + half, 1))


def cross_validate(
    x: np.ndarray,
    rows: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    splitter: Splitter,
    classifier: Classifier,
    *,
    tune: bool = False,
    on_fold: Callable[[int], None] = lambda folds: None,
) -> CrossValidation:
    """Train ``classifier`` on the train rows of each split and test it on the others.

    ``rows``: (n,) indices into ``x``, (N, ...) numbers; ``labels`` and ``groups`` of these rows:
    (n,) integers. Features are standardized by the train rows of each split. ``tune``: choose C or
    the number of neighbours for each split, by folds within its train rows.
    """

    def fit(split: Split) -> tuple[Classifier, np.ndarray, bool]:
        train, test = split
        best = classifier
        if tune:
            best = _tuned(x, rows[train], labels[train], groups[train], classifier)
        fold = standardize(x, rows[train], rows[test])
        return best, *best.predict(fold, labels[train])

    predicted = np.full(len(labels), -1)
    scores = []
    accuracies = []
    chosen = []
    unconverged = 0
    with _fits_in_parallel(len(rows), x.size // len(x)) as fit_all:
        splits = splitter(labels)
        for (_, test), (best, answers, converged) in zip(
            splits, fit_all(fit, splits), strict=True
        ):
            predicted[test] = answers
            scores.append(balanced_accuracy(labels[test], answers))
            accuracies.append(float((answers == labels[test]).mean()))
            chosen.append(best)
            unconverged += not converged
            on_fold(1)
    return CrossValidation(predicted, tuple(scores), tuple(accuracies), tuple(chosen), unconverged)


@contextmanager
def _fits_in_parallel(rows: int, features: int) -> Iterator[Callable]:
    """A ``map`` of small fits in as many threads as there are processors, each fit in one of them,
    since threads that share a small fit mostly wait; of large ones, one at a time in all threads.

    Without scikit-learn's warnings: that a fit has not converged is returned, and rare classes are
    refused before, but for permuted labels and inner folds.
    """
    from threadpoolctl import threadpool_limits

    small = rows * min(rows, features) <= _SMALL_FIT
    with (
        warnings.catch_warnings(action="ignore"),
        threadpool_limits(1 if small else None),
        ThreadPoolExecutor(os.cpu_count() if small else 1) as pool,
    ):
        yield pool.map


def group_folds(groups: np.ndarray, folds: int, seed: int) -> Splitter:
    """Folds that divide no group and share out every class as evenly as that allows:
    scikit-learn's ``StratifiedGroupKFold``, or ``StratifiedKFold`` where every row is a group.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(np.unique(groups)) == len(groups):
        numbers = None
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    else:
        # Its own shuffling lost the stratification until scikit-learn's pull request 32540; so the
        # groups are numbered at random, which decides among those of the same composition.
        numbers = np.random.RandomState(seed).permutation(int(groups.max()) + 1)[groups]
        splitter = StratifiedGroupKFold(folds)

    def split(labels: np.ndarray) -> list[Split]:
        splits = splitter.split(np.zeros((len(labels), 1)), labels, numbers)
        # A fold may be empty (scikit-learn's issue 34828).
        return [(train, test) for train, test in splits if len(test)]

    return split


def permuted_scores(
    labels: np.ndarray,
    groups: np.ndarray,
    count: int,
    seed: int,
    measure: Callable[[np.ndarray], CrossValidation],
) -> np.ndarray:
    """The balanced accuracies (0-1) that ``measure`` finds with permuted labels, ``count`` times.

    Where every group has one label, whole groups exchange theirs; otherwise rows do, as in
    scikit-learn's ``permutation_test_score`` with ``random_state=seed`` and no groups.
    """
    generator = np.random.RandomState(seed)
    permuted = _permutations(labels, groups, generator)
    return np.array([measure(next(permuted)).balanced_accuracy for _ in range(count)])


def p_value(score: float, permuted: np.ndarray) -> float:
    """The fraction of scores at least as good as ``score``, counting itself: (C + 1) / (n + 1), as
    ``permutation_test_score`` does (Ojala and Garriga 2010).
    """
    return (int((permuted >= score).sum()) + 1) / (len(permuted) + 1)


def balanced_accuracy(labels: np.ndarray, predicted: np.ndarray) -> float:
    """The mean accuracy (0-1) of the classes that occur in ``labels``."""
    occurring = np.unique(labels)
    return float(np.mean([(predicted[labels == label] == label).mean() for label in occurring]))


def _permutations(
    labels: np.ndarray, groups: np.ndarray, generator: np.random.RandomState
) -> Iterator[np.ndarray]:
    names, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    of_groups = labels[first]
    whole = np.array_equal(of_groups[group_of], labels)
    while True:
        if whole and len(names) < len(labels):
            yield of_groups[generator.permutation(len(names))][group_of]
        else:
            yield labels[generator.permutation(len(labels))]


def _tuned(
    x: np.ndarray, rows: np.ndarray, labels: np.ndarray, groups: np.ndarray, classifier: Classifier
) -> Classifier:
    """``classifier`` with the setting that scores best in inner folds of these train rows; the
    first of equals, which is the strongest penalty.
    """
    if np.unique(labels, return_counts=True)[1].max() < INNER_FOLDS:
        raise DataError(
            f"tune: expected a class with {INNER_FOLDS} training rows in each fold, got none"
        )
    splits = group_folds(groups, INNER_FOLDS, classifier.seed)(labels)
    folds = [(standardize(x, rows[train], rows[test]), train, test) for train, test in splits]

    def score(candidate: Classifier) -> float:
        return np.mean(
            [
                balanced_accuracy(labels[test], candidate.predict(fold, labels[train])[0])
                for fold, train, test in folds
            ]
        )

    return max(_candidates(classifier, min(len(train) for _, train, _ in folds)), key=score)


def _candidates(classifier: Classifier, rows: int) -> list[Classifier]:
    if classifier.name in LINEAR:
        return [replace(classifier, c=c) for c in C_GRID]
    return [replace(classifier, n_neighbors=count) for count in NEIGHBORS_GRID if count <= rows]
