"""Dropout whose masks belong to the samples: the same however a batch is cut, others for other
samples, seeds and layers.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.models.layers import SampleDropout, sample_masks

SHAPE = (3, 5)  # not a multiple of the generator's blocks of four


def masks(rows, seed=1, position=0, rate=0.5, name="drop6", shape=SHAPE):
    """What becomes of ones: (rows, *shape)."""
    layer = SampleDropout(rate, name=name)
    with sample_masks(seed, tf.constant(position, tf.int64)):
        return layer(tf.ones((rows, *shape)), training=True).numpy()


@pytest.mark.parametrize("first", [0, 7, 2**20, 10**12])
@pytest.mark.parametrize("size", [1, 2, 3, 12])
def test_a_batch_cut_into_parts_drops_the_same_units(first, size):
    whole = masks(12, position=first)
    parts = [masks(size, position=first + start) for start in range(0, 12, size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_other_samples_seeds_and_layers_have_masks_of_their_own():
    base = masks(200)
    assert len({row.tobytes() for row in base}) > 190
    for other in (
        masks(200, position=200),
        masks(200, seed=2),
        masks(200, name="drop7"),
        masks(200, seed=1 << 31),
    ):
        agree = (base == other).mean()
        assert 0.46 < agree < 0.54  # of 3000 coins, half agree; five deviations are 0.046


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_and_what_is_kept(rate):
    found = masks(400, rate=rate, shape=(50,))
    assert set(np.unique(found)) == {np.float32(0), np.float32(1) / np.float32(1 - rate)}
    assert (found == 0).mean() == pytest.approx(
        rate, abs=5 * np.sqrt(rate * (1 - rate) / found.size)
    )
    each = (found == 0).mean(axis=0)
    assert np.abs(each - rate).max() < 5 * np.sqrt(rate * (1 - rate) / 400)
    together = np.corrcoef((found == 0).T.astype(float))
    assert np.abs(together - np.eye(50)).max() < 0.3


def test_a_compiled_function_draws_the_same_and_half_precision_too():
    layer = SampleDropout(0.5, name="drop6")

    @tf.function
    def compiled(x, position):
        with sample_masks(1, position):
            return layer(x, training=True)

    for position in (0, 9):
        found = compiled(tf.ones((4, *SHAPE)), tf.constant(position, tf.int64))
        np.testing.assert_array_equal(found, masks(4, position=position))
    half = SampleDropout(0.5, name="drop6", dtype="mixed_bfloat16")
    with sample_masks(1, tf.constant(0, tf.int64)):
        found = half(tf.ones((4, *SHAPE)), training=True)
    assert found.dtype == tf.bfloat16
    np.testing.assert_array_equal(tf.cast(found, tf.float32), masks(4))


def test_gradients_pass_where_units_are_kept():
    layer, x = SampleDropout(0.5, name="drop6"), tf.Variable(tf.ones((4, *SHAPE)))
    with tf.GradientTape() as tape, sample_masks(1, tf.constant(0, tf.int64)):
        y = tf.reduce_sum(layer(x, training=True))
    np.testing.assert_array_equal(tape.gradient(y, x), masks(4))


def test_elsewhere_it_is_keras_own():
    x = tf.ones((200, 50))
    layer, theirs = SampleDropout(0.5, seed=3), keras.layers.Dropout(0.5, seed=3)
    np.testing.assert_array_equal(layer(x, training=True), theirs(x, training=True))
    np.testing.assert_array_equal(layer(x), x)
    with sample_masks(1, tf.constant(0, tf.int64)):
        np.testing.assert_array_equal(layer(x, training=False), x)
        np.testing.assert_array_equal(SampleDropout(0.0)(x, training=True), x)
