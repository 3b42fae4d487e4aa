"""The classifiers of a probe, and the standardized features that they see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from alexnet_keras.errors import ConfigurationError

CLASSIFIERS = ("svm", "logistic", "knn")
LINEAR = ("svm", "logistic")
# scikit-learn's own, 1e-4, leaves errors in the logits that decide some of a few hundred rows.
_LOGISTIC_TOLERANCE = 1e-6
_LOGISTIC_ITERATIONS = 1000
_SVM_ITERATIONS = 10_000
_BLOCK_VALUES = 1 << 22
_BLOCK_FEATURES = 64
_SMALL_ARRAY = 1 << 25
# Of the mean square of a row, so that dependent rows, as centred ones are, have a Cholesky factor.
_JITTER = 1e-9


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
        if self.name == "knn" and self.n_neighbors > len(labels):
            raise ConfigurationError(
                f"n_neighbors: expected at most the {len(labels)} training rows of a fold, got "
                f"{self.n_neighbors}"
            )
        if (labels == labels[0]).all():  # permuted labels of few groups
            return np.full(len(fold.test), labels[0]), True
        estimator = self._estimator(fold).fit(fold.train, labels)
        iterations = np.max(getattr(estimator, "n_iter_", 0))
        return estimator.predict(fold.test), iterations < getattr(estimator, "max_iter", 1)

    def _estimator(self, fold: StandardizedFold):
        from sklearn.linear_model import LogisticRegression  # slow to import, and rarely needed
        from sklearn.neighbors import KNeighborsClassifier
        from sklearn.svm import LinearSVC

        linear = {"C": self.c / fold.features, "class_weight": "balanced"}
        if self.name == "logistic":
            return LogisticRegression(
                **linear, tol=_LOGISTIC_TOLERANCE, max_iter=_LOGISTIC_ITERATIONS
            )
        if self.name == "svm":
            dual = fold.features > len(fold.train)  # the faster of two solvers of one problem
            return LinearSVC(**linear, dual=dual, max_iter=_SVM_ITERATIONS, random_state=self.seed)
        return KNeighborsClassifier(self.n_neighbors, algorithm="brute")


@dataclass(frozen=True)
class StandardizedFold:
    """Train and test rows, floats, standardized by the mean and the standard deviation of the
    train rows alone. ``features``: how many there were, though there may be fewer columns.
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
    from scipy.linalg import cholesky, solve_triangular

    x = x.reshape(len(x), -1)
    if x.shape[1] <= len(train):
        return _side_by_side(x, train, test)
    gram = np.zeros((len(train), len(train)))
    cross = np.zeros((len(test), len(train)))
    for _, fit, held_out in _standardized_blocks(x, train, test):
        gram += fit @ fit.T
        cross += held_out @ fit.T
    # Rows of the factor have the products of the rows of x; its inverse rotates test rows alike.
    gram.flat[:: len(train) + 1] += _JITTER * max(np.trace(gram) / len(train), 1)
    factor = cholesky(gram, lower=True, overwrite_a=True)
    rotated = solve_triangular(factor, cross.T, lower=True, overwrite_b=True).T
    return StandardizedFold(factor, rotated, x.shape[1])


def _side_by_side(x: np.ndarray, train: np.ndarray, test: np.ndarray) -> StandardizedFold:
    """The standardized blocks beside one another."""
    # In float32 L-BFGS stops early, where depends on the scale and order of the features.
    dtype = np.float64 if x.size <= _SMALL_ARRAY else np.float32
    fold = StandardizedFold(
        *(np.empty((len(rows), x.shape[1]), dtype) for rows in (train, test)), x.shape[1]
    )
    for columns, fit, held_out in _standardized_blocks(x, train, test):
        fold.train[:, columns] = fit
        fold.test[:, columns] = held_out
    return fold


def _standardized_blocks(
    x: np.ndarray, train: np.ndarray, test: np.ndarray
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    size = max(_BLOCK_FEATURES, _BLOCK_VALUES // len(x))
    for start in range(0, x.shape[1], size):
        columns = slice(start, start + size)
        fit = x[train, columns].astype(np.float64)
        mean, variance = fit.mean(axis=0), fit.var(axis=0)
        # As StandardScaler does: a feature that only rounding errors vary is constant.
        eps = len(fit) * np.finfo(np.float64).eps
        scale = np.where(variance <= eps * variance + (eps * mean) ** 2, 1.0, np.sqrt(variance))
        held_out = x[test, columns].astype(np.float64)
        yield columns, (fit - mean) / scale, (held_out - mean) / scale
