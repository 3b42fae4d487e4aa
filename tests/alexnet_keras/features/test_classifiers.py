"""The classifiers of a probe against scikit-learn's on all the features."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from alexnet_keras.errors import ConfigurationError
from alexnet_keras.features import classifiers
from alexnet_keras.features.classifiers import Classifier, standardize

LABELS = np.arange(60) % 3
TRAIN = np.arange(60)[np.arange(60) % 4 != 0]
TEST = np.arange(60)[np.arange(60) % 4 == 0]


def noisy(features, signal=0.5):
    """Classes that overlap, so that some answers are wrong, and a constant feature."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((3, features))
    x = signal * centres[LABELS] + generator.standard_normal((60, features))
    x = (x * generator.uniform(0.1, 10, features) + 5).astype(np.float32)
    x[:, 1] = 7
    return x


def oracle(name, features, c=1.0):
    common = {"C": c / features, "class_weight": "balanced"}
    return make_pipeline(
        StandardScaler(),
        {
            "svm": LinearSVC(**common, dual=False, tol=1e-7, max_iter=100_000),
            "logistic": LogisticRegression(**common, tol=1e-7, max_iter=100_000),
            "knn": KNeighborsClassifier(4),
        }[name],
    )


@pytest.mark.parametrize("name", ["svm", "logistic", "knn"])
@pytest.mark.parametrize(("features", "signal"), [(12, 0.5), (300, 0.15), (3000, 0.1)])
def test_predictions_are_scikit_learns(monkeypatch, name, features, signal):
    """Also where the features, more than rows, are rotated, in several blocks."""
    monkeypatch.setattr(classifiers, "_BLOCK_VALUES", 1000)
    x = noisy(features, signal)
    fold = standardize(x.reshape(60, 2, -1), TRAIN, TEST)
    assert fold.features == features
    predicted, converged = Classifier(name, n_neighbors=4).predict(fold, LABELS[TRAIN])
    expected = oracle(name, features).fit(x[TRAIN], LABELS[TRAIN]).predict(x[TEST])
    assert converged
    np.testing.assert_array_equal(predicted, expected)
    assert 0.4 < (predicted == LABELS[TEST]).mean() < 1


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.uint8])
def test_features_of_other_types(dtype):
    x = np.clip(10 * noisy(300, 0.15), 0, 255).astype(dtype)
    predicted, _ = Classifier("svm").predict(standardize(x, TRAIN, TEST), LABELS[TRAIN])
    expected = oracle("svm", 300).fit(x[TRAIN].astype(float), LABELS[TRAIN]).predict(x[TEST])
    np.testing.assert_array_equal(predicted, expected)


def test_distances_and_products_survive_the_rotation():
    x = noisy(3000).astype(np.float64)
    fold = standardize(x, TRAIN, TEST)
    scaled = StandardScaler().fit(x[TRAIN]).transform(x)
    assert fold.train.shape == (45, 45)
    np.testing.assert_allclose(
        fold.train @ fold.train.T, scaled[TRAIN] @ scaled[TRAIN].T, atol=1e-3
    )
    np.testing.assert_allclose(fold.test @ fold.train.T, scaled[TEST] @ scaled[TRAIN].T, atol=1e-3)


@pytest.mark.parametrize("features", [12, 100])
def test_test_rows_do_not_reach_the_standardization(features):
    """No leakage: other test rows leave the train rows as they are."""
    x = noisy(features)
    changed = x.copy()
    changed[TEST] *= 1000
    np.testing.assert_array_equal(
        standardize(x, TRAIN, TEST).train, standardize(changed, TRAIN, TEST).train
    )


def test_a_feature_that_is_constant_in_train_is_not_blown_up():
    x = noisy(12)
    x[TRAIN, 2] = np.float32(0.1)
    fold = standardize(x, TRAIN, TEST)
    np.testing.assert_allclose(fold.test[:, 2], x[TEST, 2] - np.float32(0.1), rtol=1e-6)


def test_a_weaker_penalty_fits_better():
    x = noisy(12, 0.5)
    fold = standardize(x, TRAIN, TRAIN)
    right = [
        (Classifier("logistic", c).predict(fold, LABELS[TRAIN])[0] == LABELS[TRAIN]).mean()
        for c in (1e-9, 100.0)
    ]
    assert right[0] < right[1]


def test_more_neighbours_than_rows():
    fold = standardize(noisy(12), TRAIN, TEST)
    says = "^n_neighbors: expected at most the 45 training rows of a fold, got 46$"
    with pytest.raises(ConfigurationError, match=says):
        Classifier("knn", n_neighbors=46).predict(fold, LABELS[TRAIN])


def test_a_fit_that_does_not_converge_is_told(monkeypatch):
    monkeypatch.setattr(classifiers, "_LOGISTIC_ITERATIONS", 1)
    fold = standardize(noisy(12), TRAIN, TEST)
    with pytest.warns(ConvergenceWarning):
        assert not Classifier("logistic").predict(fold, LABELS[TRAIN])[1]
