"""The classifiers of a probe, and the standardized features that they see."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alexnet_keras.errors import ConfigurationError

CLASSIFIERS = ("svm", "logistic", "knn")
LINEAR = ("svm", "logistic")
_LOGISTIC_ITERATIONS = 1000
_SVM_ITERATIONS = 10_000
_BLOCK_FEATURES = 8192
_SMALL_FIT = 1 << 22
# Of the largest eigenvalue of a Gram matrix of float32 products: what is below is rounding.
_RANK_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Classifier:
    """A classifier of scikit-learn and its one setting.

    ``svm``: ``LinearSVC`` (squared hinge, one class against the rest); ``logistic``: multinomial
    ``LogisticRegression``; ``knn``: ``KNeighborsClassifier`` by Euclidean distance. In the linear
    ones classes have equal weight, whatever their numbers of rows. ``c`` is their inverse penalty,
    times the number of features: C = ``c`` / features, so that a probe of 9,216 features does not
    overfit 500 crops, and one value suits every layer.
    """

    name: str
    c: float = 1.0
    n_neighbors: int = 5
    seed: int = 0

    def predict(self, fold: StandardizedFold, labels: np.ndarray) -> tuple[np.ndarray, bool]:
        """The labels predicted for the test rows of ``fold`` from ``labels`` of its train rows,
        and whether the fit converged.
        """
        from sklearn.exceptions import ConvergenceWarning
        from threadpoolctl import threadpool_limits

        if self.name == "knn" and self.n_neighbors > len(labels):
            raise ConfigurationError(
                f"n_neighbors: expected at most the {len(labels)} training rows of a fold, got "
                f"{self.n_neighbors}"
            )
        if (labels == labels[0]).all():  # permuted labels of few groups
            return np.full(len(fold.test), labels[0]), True
        # Threads that wait for one another take many times as long as a small fit.
        threads = 1 if fold.train.size < _SMALL_FIT else None
        with threadpool_limits(threads), warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            predicted = self._estimator(fold).fit(fold.train, labels).predict(fold.test)
        failed = any(issubclass(each.category, ConvergenceWarning) for each in caught)
        return predicted, not failed

    def _estimator(self, fold: StandardizedFold):
        from sklearn.linear_model import LogisticRegression  # slow to import, and rarely needed
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.svm import LinearSVC

        linear = {"C": self.c / fold.features, "class_weight": "balanced"}
        if self.name == "logistic":
            return LogisticRegression(**linear, max_iter=_LOGISTIC_ITERATIONS)
        if self.name == "svm":
            dual = fold.features > len(fold.train)  # the faster of two solvers of one problem
            return LinearSVC(**linear, dual=dual, max_iter=_SVM_ITERATIONS, random_state=self.seed)
        return KNeighborsClassifier(self.n_neighbors, algorithm="brute")


@dataclass(frozen=True)
class StandardizedFold:
    """Train and test rows, float32, standardized by the mean and the standard deviation of the
    train rows alone. ``features``: their number, which that of the columns may be less than.
    """

    train: np.ndarray
    test: np.ndarray
    features: int


def standardize(x: np.ndarray, train: np.ndarray, test: np.ndarray) -> StandardizedFold:
    """The rows ``train`` and ``test`` (indices) of ``x``, (rows, ...) numbers, standardized.

    More features than train rows are rotated into the space that the train rows span. Penalized
    linear classifiers and the order of distances do not notice: what is orthogonal to all train
    rows has weight 0 and adds the same to every distance. 9,216 features of 400 rows become 400,
    and no more than a block of them is in memory at once.
    """
    width = int(np.prod(x.shape[1:]))
    x = x.reshape(len(x), width)
    if width <= len(train):
        fit, held_out = next(_standardized_blocks(x, train, test, width))
        return StandardizedFold(fit, held_out, width)
    gram = np.zeros((len(train), len(train)))
    cross = np.zeros((len(test), len(train)))
    for fit, held_out in _standardized_blocks(x, train, test, _BLOCK_FEATURES):
        gram += fit @ fit.T
        cross += held_out @ fit.T
    squares, axes = np.linalg.eigh(gram)
    kept = squares > _RANK_TOLERANCE * squares[-1]
    axes = axes[:, kept] / np.sqrt(squares[kept])
    return StandardizedFold(
        (gram @ axes).astype(np.float32), (cross @ axes).astype(np.float32), width
    )


def _standardized_blocks(
    x: np.ndarray, train: np.ndarray, test: np.ndarray, size: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, x.shape[1], size):
        block = x[:, start : start + size]
        fit = block[train].astype(np.float64)
        mean, variance = fit.mean(axis=0), fit.var(axis=0)
        # As StandardScaler does: a feature that only rounding errors vary is constant.
        eps = len(fit) * np.finfo(np.float64).eps
        scale = np.where(variance <= eps * variance + (eps * mean) ** 2, 1.0, np.sqrt(variance))
        yield tuple(
            ((rows - mean) / scale).astype(np.float32)
            for rows in (fit, block[test].astype(np.float64))
        )
