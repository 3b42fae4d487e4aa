"""One update: half precision and its loss scale, losses that are not finite, signals that are
told.
"""

import signal
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.configs.architecture import ALEXNET, InitialValues
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt, RateRule
from alexnet_keras.data.batches import Batch
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.training.loss_scale import LossScale
from alexnet_keras.training.train_step import TrainStep
from tests.alexnet_keras.tiny import tiny_model

RECIPE = Recipe("short", batch_size=4, epochs=1, schedule=DropAt(), learning_rate=1e-3)
POLICIES = ["mixed_float16", "mixed_bfloat16"]


@pytest.fixture
def policy():
    """Sets a dtype policy for the test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def network():
    keras.utils.set_random_seed(1)
    return tiny_model(
        replace(ALEXNET.with_width(0.05), initial_values=InitialValues(kernels="he"))
    )


def batch(scale=1.0):
    images = np.random.default_rng(2).standard_normal((4, 67, 67, 3), np.float32) * np.float32(
        scale
    )
    return Batch(
        tf.constant(images), tf.constant([0, 3, 1, 4]), tf.ones(4), tf.range(4, dtype=tf.int64)
    )


def step_of(model, **changes):
    return TrainStep(model, replace(RECIPE, **changes), 4, seed=0, workers=open_workers("one"))


def state(train_step):
    return [variable.numpy() for pair in train_step.velocities() for variable in pair]


def moved(before, after):
    return any((one != other).any() for one, other in zip(before, after, strict=True))


def test_the_loss_scale_by_hand():
    """Halved at an overflow, never below 1; doubled after so many that were none, counted from the
    last change.
    """
    scale, found = LossScale(4.0, patience=3), []
    for finite in (1, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 0):
        scale.update(tf.constant(bool(finite)))
        found.append((scale.value.numpy(), scale.good_steps.numpy()))
    assert found == [
        (4, 1),
        (4, 2),
        (8, 0),
        (8, 1),
        (8, 2),
        (4, 0),
        (4, 1),
        (4, 2),
        (8, 0),
        (4, 0),
        (2, 0),
        (1, 0),
        (1, 0),
        (1, 0),
    ]
    assert LossScale().patience == 2000


@pytest.mark.parametrize(
    ("name", "value"), [("float32", None), ("mixed_bfloat16", None), ("mixed_float16", 2**15)]
)
def test_only_float16_needs_one(policy, name, value):
    policy(name)
    scale = LossScale.for_model(network())
    assert (scale and scale.value.numpy()) == value


@pytest.mark.parametrize("name", POLICIES)
def test_half_precision_comes_close_and_keeps_its_weights_in_float32(policy, name):
    """A half has 8 or 11 bits, so that loss and gradients are right to a few percent; the scale is
    gone again.
    """
    exact = step_of(network())
    start = state(exact)
    wanted = exact(0, batch(), 1e-3).fetch()
    policy(name)
    train_step = step_of(network())
    assert not moved(start, state(train_step))
    if train_step.loss_scale:
        train_step.loss_scale.value.assign(2.0**8)
    found = train_step(0, batch(), 1e-3).fetch()
    assert found.loss == pytest.approx(wanted.loss, rel=0.03)
    assert found.loss != wanted.loss
    assert {variable.dtype for pair in train_step.velocities() for variable in pair} == {"float32"}
    for (variable, ours), (_, theirs) in zip(
        train_step.velocities(), exact.velocities(), strict=True
    ):
        difference = np.linalg.norm(ours.numpy() - theirs.numpy()) / np.linalg.norm(theirs.numpy())
        assert difference < 0.3, variable.path


@pytest.mark.parametrize("name", POLICIES)
def test_what_needs_float32_has_it(policy, name):
    policy(name)
    model = network()
    assert model.output.dtype == "float32"
    probabilities = model(batch(30).images, training=False).numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert {layer.compute_dtype for layer in model.layers if layer.weights} == {
        name.removeprefix("mixed_")
    }
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    squares_overflow = tf.fill(
        (1, 4, 4, 5), tf.cast(300.0, model.get_layer("norm1").compute_dtype)
    )
    layer = type(model.get_layer("norm1"))(alpha=1.0, beta=0.5)
    np.testing.assert_allclose(
        tf.cast(layer(squares_overflow), tf.float32)[0, 0, 0, 2], 5**-0.5, rtol=0.01
    )


def test_gradients_that_overflow_are_left_out_and_the_scale_is_halved(policy):
    policy("mixed_float16")
    train_step = step_of(network())
    train_step.loss_scale.value.assign(2.0**40)
    start = state(train_step)
    for value in (2.0**39, 2.0**38):
        result = train_step(0, batch(), 1e-3).fetch()
        assert np.isfinite(result.loss)
        assert train_step.loss_scale.to_dict() == {"value": value, "good_steps": 0}
        assert not moved(start, state(train_step))
    train_step.loss_scale.value.assign(2.0**8)
    train_step(0, batch(), 1e-3)
    assert train_step.loss_scale.to_dict() == {"value": 2.0**8, "good_steps": 1}
    assert moved(start, state(train_step))


@pytest.mark.slow
def test_the_norm_is_clipped_of_gradients_without_their_scale(policy):
    policy("mixed_float16")

    def norm(clip_norm):
        train_step = step_of(network(), clip_norm=clip_norm, weight_decay=0.0, bias_multiplier=1.0)
        train_step.loss_scale.value.assign(2.0**8)
        train_step(0, batch(), 1.0)
        return np.sqrt(
            sum((velocity.numpy() ** 2).sum() for _, velocity in train_step.velocities())
        )

    free = norm(None)
    assert [norm(2 * free), norm(free / 2)] == pytest.approx([free, free / 2], rel=1e-3)


@pytest.mark.slow
def test_a_layer_that_a_rule_freezes_counts_in_no_norm():
    """The other gradients are clipped as they are where Keras does not train it."""

    def weights(rules=(), trainable=True):
        model = network()
        model.get_layer("conv1").trainable = trainable
        train_step = step_of(model, clip_norm=0.1, rate_rules=rules)
        train_step(0, batch(), 1.0, epoch=2.0).fetch()
        return model.get_weights()

    frozen = weights((RateRule(("conv1",), 0.0, from_epoch=2.0),))
    for found, expected in zip(frozen, weights(trainable=False), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    free = weights((RateRule(("conv1",), 0.0, from_epoch=3.0),))
    np.testing.assert_allclose(free[-1], weights()[-1], rtol=1e-6)
    assert (np.abs(frozen[-1]) > np.abs(free[-1])).all()


@pytest.mark.parametrize("name", ["float32", *POLICIES])
def test_a_loss_that_is_not_finite_changes_nothing(policy, name):
    policy(name)
    """The bias is infinite and not the image, for a pooling kernel may pass over NaN."""
    model = network()
    model.get_layer("fc8").bias.assign(np.full(model.get_layer("fc8").bias.shape, np.inf))
    train_step = step_of(model)
    start = state(train_step)
    result = train_step(0, batch(), 1e-3).fetch()
    assert not np.isfinite(result.loss)
    assert not moved(start, state(train_step))


def test_sums_are_of_the_images_that_count():
    train_step = step_of(network())
    whole = train_step(0, batch(), 0.0).fetch()
    parts = [
        train_step(0, batch()._replace(weights=tf.constant(weights)), 0.0).fetch()
        for weights in ([1.0, 1, 0, 0], [0.0, 0, 1, 1])
    ]
    assert (whole.images, parts[0].images) == (4, 2)
    assert whole.top1 <= whole.top5 == 4
    assert parts[0].top5 == 2


@pytest.mark.parametrize("number", [None, signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_told_and_the_update_is_made(number):
    train_step = step_of(network())
    start = state(train_step)
    result = train_step(0, batch(), 1e-3, number).fetch()
    assert result.signal == number
    assert result.all_reduce_seconds is None
    assert moved(start, state(train_step))


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(
        ConfigurationError,
        match=r"^batch_size: expected a multiple of 3 \(devices x accumulate\), got 4$",
    ):
        TrainStep(network(), RECIPE, 4, seed=0, workers=open_workers("one"), accumulate=3)
