"""CKA equals its definition, written out in loops, and keeps its invariances."""

from itertools import permutations

import numpy as np
import pytest

from alexnet_keras.errors import DataError
from alexnet_keras.rsa.cka import debiased_cka, linear_kernel, rbf_kernel
from alexnet_keras.rsa.rdms import calculate_rdm


def song(first, second):
    """Song et al. 2012, equation 5."""
    first, second = first.copy(), second.copy()
    np.fill_diagonal(first, 0)
    np.fill_diagonal(second, 0)
    n = len(first)
    ones = np.ones(n)
    trace = np.trace(first @ second)
    sums = (ones @ first @ ones) * (ones @ second @ ones) / ((n - 1) * (n - 2))
    middle = 2 / (n - 2) * (ones @ first @ second @ ones)
    return (trace + sums - middle) / (n * (n - 3))


def by_definition(first, second, hsic=song):
    return hsic(first, second) / np.sqrt(hsic(first, first) * hsic(second, second))


def dot_products(features):
    return np.array([[sum(a * b) for b in features] for a in features])


def radial(features, fraction):
    distance = np.array([[np.sqrt(sum((a - b) ** 2)) for b in features] for a in features])
    sigma = fraction * np.median(distance[np.triu_indices(len(features), 1)])
    return np.exp(-(distance**2) / (2 * sigma**2))


def squared(features):
    return calculate_rdm(features, "euclidean").dissimilarities[0]


def linear(*features):
    return np.stack([linear_kernel(squared(each)) for each in features])


@pytest.fixture(scope="module")
def features():
    generator = np.random.default_rng(1)
    first = generator.normal(5, 1, (8, 30))
    second = np.maximum(first @ generator.normal(size=(30, 12)) + 3 * generator.random((8, 12)), 0)
    return first, second


def test_linear_cka_is_that_of_dot_products(features):
    expected = by_definition(*map(dot_products, features))
    assert debiased_cka(linear(*features), [(0, 1), (1, 1)])[0] == pytest.approx(
        [expected, 1], abs=1e-9
    )


@pytest.mark.parametrize("fraction", [0.2, 0.5, 1.0])
def test_rbf_cka(features, fraction):
    expected = by_definition(*(radial(each, fraction) for each in features))
    kernels = np.stack([rbf_kernel(squared(each), fraction) for each in features])
    assert debiased_cka(kernels, [(0, 1)])[0, 0] == pytest.approx(expected, abs=1e-9)


def test_samples_count_only_different_stimuli(features):
    drawn = [0, 0, 0, 2, 3, 3, 5, 7]

    def mean_over_fours(first, second):
        total = count = 0
        for i, j, q, r in permutations(range(len(drawn)), 4):
            if len({drawn[i], drawn[j], drawn[q], drawn[r]}) == 4:
                i, j, q, r = drawn[i], drawn[j], drawn[q], drawn[r]
                total += first[i, j] * (second[i, j] + second[q, r] - 2 * second[i, q])
                count += 1
        return total / count

    expected = by_definition(*map(dot_products, features), hsic=mean_over_fours)
    counts = np.bincount(drawn, minlength=8)[None].astype(float)
    assert debiased_cka(linear(*features), [(0, 1)], counts)[0, 0] == pytest.approx(
        expected, abs=1e-9
    )


def test_orthogonal_and_isotropic_changes_alter_nothing(features):
    first, second = features
    rotation = np.linalg.qr(np.random.default_rng(2).normal(size=(30, 30)))[0]
    changed = linear(first, second, 7 * first @ rotation + 3)
    of_rbf = np.stack([rbf_kernel(squared(each), 0.5) for each in (first, 7 * first @ rotation)])
    assert debiased_cka(changed, [(0, 1)]) == pytest.approx(
        debiased_cka(changed, [(2, 1)]), abs=1e-9
    )
    assert debiased_cka(of_rbf, [(0, 1)])[0, 0] == pytest.approx(1, abs=1e-9)


def test_independent_features_have_no_similarity():
    """What debiasing is for: the biased estimate is near 1 with many features and few stimuli."""
    generator = np.random.default_rng(3)
    values = [
        debiased_cka(linear(*generator.normal(size=(2, 12, 500))), [(0, 1)])[0, 0]
        for _ in range(50)
    ]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(50)


def test_a_kernel_of_categories_is_that_of_their_indicators(features):
    classes = np.array([0, 0, 1, 1, 2, 2, 0, 1])
    rows, columns = np.triu_indices(8, 1)
    categories = (classes[rows] != classes[columns]).astype(float)
    kernels = np.stack([linear(features[0])[0], linear_kernel(categories)])
    expected = by_definition(dot_products(features[0]), dot_products(np.eye(3)[classes]))
    assert debiased_cka(kernels, [(0, 1)])[0, 0] == pytest.approx(expected, abs=1e-9)


def test_undefined_values():
    three = np.zeros((1, 8))
    three[0, :3] = 2, 3, 3
    first = np.random.default_rng(0).normal(size=(8, 4))
    assert np.isnan(debiased_cka(linear(first, first), [(0, 1)], three)).all()
    assert np.isnan(debiased_cka(linear(first, np.ones((8, 4))), [(0, 1)])).all()
    with pytest.raises(DataError, match="median distance above 0"):
        rbf_kernel(np.zeros(28), 0.5)
