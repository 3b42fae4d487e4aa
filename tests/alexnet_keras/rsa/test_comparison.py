"""Similarities equal rsatoolbox's, on all stimuli and on each bootstrap sample."""

import warnings

import numpy as np
import pytest
import rsatoolbox
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, compare

from alexnet_keras.rsa.comparison import (
    RDM_COMPARISONS,
    compare_rdms,
    draw_stimuli,
    noise_ceiling,
    resampled,
)

STIMULI = 9
PAIRS = [(0, 1), (0, 2), (1, 2), (3, 0)]


@pytest.fixture(scope="module")
def vectors():
    """Two RDMs without ties, one with some, and one of two values, as of categories."""
    generator = np.random.default_rng(0)
    first = generator.random(36)
    second = first + generator.random(36)
    return np.stack([first, second, np.round(5 * first), np.arange(36) % 3 > 0]) + 1.0


@pytest.mark.parametrize("method", RDM_COMPARISONS)
def test_all_stimuli(vectors, method):
    oracle = compare(vectors, vectors, RDM_COMPARISONS[method])
    expected = [oracle[pair] for pair in PAIRS]
    np.testing.assert_allclose(compare_rdms(vectors, method, PAIRS), expected, atol=1e-12)
    once = resampled(vectors, method, PAIRS, np.ones((1, STIMULI)))
    np.testing.assert_allclose(once[0], expected, atol=1e-12)


@pytest.mark.parametrize("method", RDM_COMPARISONS)
def test_samples_equal_those_of_rsatoolbox(vectors, method):
    counts = draw_stimuli(STIMULI, 20, seed=3)
    values = resampled(vectors, method, PAIRS, counts)
    rdms = RDMs(vectors)
    for sample, value in zip(counts, values, strict=True):
        drawn = rdms.subsample_pattern("index", np.repeat(np.arange(STIMULI), sample.astype(int)))
        for pair, similarity in zip(PAIRS, value, strict=True):
            first, second = (drawn.subset("index", index) for index in pair)
            oracle = compare(first, second, RDM_COMPARISONS[method])[0, 0]
            if method != "tau-a" and np.nanstd(first.dissimilarities) == 0:
                oracle = np.nan  # which rsatoolbox calls 0
            assert similarity == pytest.approx(oracle, abs=1e-9, nan_ok=True)


def test_samples_of_two_stimuli_or_of_equal_distances_are_undefined(vectors):
    counts = np.zeros((2, STIMULI))
    counts[0, :2] = 4, 5
    counts[1, [0, 3, 6]] = 3  # all of one distance in the last RDM
    values = resampled(vectors, "spearman", PAIRS, counts)
    assert np.isnan(values[0]).all()
    np.testing.assert_array_equal(np.isnan(values[1]), [False, False, False, True])


@pytest.mark.parametrize("method", RDM_COMPARISONS)
def test_noise_ceiling_is_that_of_rsatoolbox(vectors, method):
    with warnings.catch_warnings(action="ignore"):
        expected = boot_noise_ceiling(RDMs(vectors[:3]), RDM_COMPARISONS[method])
    assert noise_ceiling(vectors[:3], method) == pytest.approx(expected, abs=1e-12)
    assert noise_ceiling(vectors[:1], method) is None


def test_the_distribution_is_that_of_rsatoolbox(vectors):
    """Mean and spread over samples, drawn by other random numbers."""
    values = resampled(vectors[:2], "pearson", [(0, 1)], draw_stimuli(STIMULI, 2000, seed=0))
    model = rsatoolbox.model.ModelFixed("layer", RDMs(vectors[:1]))
    np.random.seed(0)  # noqa: NPY002
    oracle = rsatoolbox.inference.eval_bootstrap_pattern(
        model, RDMs(vectors[1:2]), method="corr", N=300, boot_noise_ceil=False
    ).evaluations
    assert np.nanmean(values) == pytest.approx(np.nanmean(oracle), abs=0.04)
    assert np.nanstd(values) == pytest.approx(np.nanstd(oracle), rel=0.2)
