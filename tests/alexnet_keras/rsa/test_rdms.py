"""RDMs equal those of rsatoolbox, whatever the blocks, and bad features are named."""

import numpy as np
import pytest
import rsatoolbox
from rsatoolbox.data import Dataset

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.rsa.rdms import calculate_rdm, distances, sum_products

NAMES = [f"{number}.png" for number in range(7)]


def relu_features(rows=7, shape=(4, 3, 5), seed=0):
    features = np.random.default_rng(seed).normal(0.3, 1, (rows, *shape))
    return np.maximum(features, 0).astype(np.float32)


@pytest.mark.parametrize("method", ["correlation", "euclidean"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_rdms_equal_rsatoolbox(method, offset):
    features = relu_features() + np.float32(offset)
    own = calculate_rdm(features, method, NAMES)
    dataset = Dataset(features.reshape(7, -1).astype(float))
    oracle = rsatoolbox.rdm.calc_rdm(dataset, method)
    np.testing.assert_allclose(own.dissimilarities, oracle.dissimilarities, rtol=1e-6, atol=1e-9)
    assert own.dissimilarity_measure == oracle.dissimilarity_measure
    assert own.pattern_descriptors["name"] == NAMES


def test_cosine_by_its_definition():
    features = relu_features()
    flat = features.reshape(7, -1).astype(float)
    matrix = calculate_rdm(features, "cosine").get_matrices()[0]
    for a in range(7):
        for b in range(7):
            cosine = flat[a] @ flat[b] / np.linalg.norm(flat[a]) / np.linalg.norm(flat[b])
            assert matrix[a, b] == pytest.approx(1 - cosine, abs=1e-12)


@pytest.mark.parametrize("method", ["crossnobis", "correlation", "euclidean"])
def test_repeats_equal_rsatoolbox(method):
    features = relu_features(12, (6,))
    names = ["c", "a", "b", "a", "b", "c", "b", "c", "a", "c", "b", "a"]
    own = calculate_rdm(features, method, names)
    dataset = Dataset(features.astype(float), obs_descriptors={"stimulus": names})
    oracle = rsatoolbox.rdm.calc_rdm(dataset, method, descriptor="stimulus")
    oracle.reorder(np.array([2, 0, 1]))  # rsatoolbox sorts the names
    np.testing.assert_allclose(own.get_matrices(), oracle.get_matrices(), atol=1e-9)
    assert own.pattern_descriptors["name"] == ["c", "a", "b"]


def test_blocks_and_memory_maps_change_nothing(tmp_path):
    features = relu_features()
    np.save(tmp_path / "f.npy", features)
    mapped = np.load(tmp_path / "f.npy", mmap_mode="r")
    one_column = sum_products(mapped, block_bytes=1)
    np.testing.assert_allclose(one_column.products, sum_products(features).products, rtol=1e-12)
    np.testing.assert_allclose(one_column.sums, sum_products(features).sums, rtol=1e-12)


def test_float16_is_summed_in_float64():
    features = np.full((3, 1000), 200, np.float16)
    features[0, 0] = 100
    assert sum_products(features).products[1, 1] == 1000 * 200**2
    assert calculate_rdm(features, "euclidean").dissimilarities[0, 0] == 10.0


def test_undefined_distances_name_the_stimuli():
    features = relu_features()
    features[2] = 0.1
    features[5] = 0
    with pytest.raises(DataError, match="constant ones for 2.png, 5.png"):
        calculate_rdm(features, "correlation", NAMES)
    with pytest.raises(DataError, match="zeros for 5.png: the distance is undefined"):
        calculate_rdm(features, "cosine", NAMES)
    assert np.isfinite(calculate_rdm(features, "euclidean", NAMES).dissimilarities).all()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("abcabd", "at least 2 repeats of each stimulus, got 1 of c, d"),
        ("aabbccc", "got 2 of a and 3 of c"),
    ],
)
def test_too_few_repeats(names, message):
    with pytest.raises(DataError, match=message):
        calculate_rdm(relu_features(len(names)), "crossnobis", list(names))


def test_another_method_is_refused():
    with pytest.raises(ConfigurationError, match="expected one of correlation.*got 'manhattan'"):
        distances(sum_products(relu_features()), NAMES, "manhattan")
