"""Twenty updates of the recipe of 2012 from image files, against the rule of its code in NumPy
float64.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from alexnet_keras.configs.augmentation import IMAGENET_COLOUR_AXES
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.configs.recipe import RECIPES
from alexnet_keras.configs.schedule import RateRule
from alexnet_keras.data.augment_ops import COLOUR_STREAM
from alexnet_keras.data.batches import TrainingBatches
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.training.checkpoints import Checkpoints
from alexnet_keras.training.loop import ExecutionConfig, train
from alexnet_keras.training.train_step import TrainStep
from tests.alexnet_keras.tiny import samples_of

COUNT, SIZE, CLASSES, EPOCHS, SEED = 8, 4, 5, 10, 3
RATE, GAMMA = 0.2, 0.5
MEAN, STD = (120.0, 115.0, 100.0), 60.0
RULE = Preprocessing(
    resize="square", resize_to=5, crop=3, channel_order="RGB", mean=MEAN, std=(STD,) * 3
)


def of_2012():
    """The published recipe in 10 epochs of 2 steps, with a larger rate and smaller drops, so that
    what happens late shows. In epochs: drops at 2.7, 5.6 and 8.7; conv1 tenfold less from 7.4 on,
    when the colour noise ends, and frozen from 7.9 on.
    """
    recipe = RECIPES["krizhevsky"].with_length(COUNT, epochs=EPOCHS)
    augmentation = replace(recipe.augmentation, crop="center", mirror=False)
    return replace(
        recipe, batch_size=SIZE, learning_rate=RATE, gamma=GAMMA, augmentation=augmentation
    )


def network():
    inputs = keras.Input((3, 3, 3))
    x = keras.layers.Dense(9, activation="relu", name="conv1")(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, name="fc8")(x))
    generator = np.random.default_rng(2)
    model.set_weights(
        [generator.standard_normal(weight.shape) / 4 for weight in model.get_weights()]
    )
    return model


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(0, 256, (COUNT, 5, 5, 3), np.uint8)


@pytest.fixture
def samples(images, tmp_path):
    paths = [tmp_path / f"{index}.png" for index in range(COUNT)]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image).save(path)
    return samples_of(paths)


def batches_of(samples, recipe):
    return TrainingBatches(samples, RULE, SIZE, seed=SEED, augmentation=recipe.augmentation)


def noise(position):
    """0.1 times three normal draws along the axes; the draws alone are TensorFlow's."""
    seed = tf.random.fold_in(tf.constant([SEED, position], tf.int64), COLOUR_STREAM)
    draws = tf.random.stateless_normal((3, 1), seed).numpy().astype(np.float64)
    return 0.1 * (draws * np.array(IMAGENET_COLOUR_AXES)).sum(0)


def inputs(images, rows, step, without):
    """The centre crops minus the mean; before epoch 67 of 91, with the noise, and all divided by
    1.1.
    """
    crops = (images[rows, 1:4, 1:4].astype(np.float64) - MEAN) / STD
    noisy = step * SIZE / COUNT < 67 * EPOCHS / 91 or without == "end of noise"
    shifts = [noise(step * SIZE + place) / STD for place in range(SIZE)]
    divisor = 1.0 if without == "division" else 1.1
    return (crops + np.reshape(shifts, (SIZE, 1, 1, 3))) / divisor if noisy else crops


def gradients(w, x, labels):
    """Of the mean log-likelihood, so upwards, as in the code of 2012."""
    x = x.reshape(SIZE, -1)
    hidden = np.maximum(x @ w["conv1", "kernel"] + w["conv1", "bias"], 0)
    logits = hidden @ w["fc8", "kernel"] + w["fc8", "bias"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    error = (np.eye(CLASSES)[labels] - exponentials / exponentials.sum(1, keepdims=True)) / SIZE
    below = (error @ w["fc8", "kernel"].T) * (hidden > 0)
    return {
        ("conv1", "kernel"): x.T @ below,
        ("conv1", "bias"): below.sum(0),
        ("fc8", "kernel"): hidden.T @ error,
        ("fc8", "bias"): error.sum(0),
    }


def rate_of_2012(layer, kind, epoch, without):
    """The comments of layer-params-145.cfg, with our rate and drops, epochs of 91."""
    if layer == "conv1" and epoch >= 72 and without != "freeze":
        return 0.0
    rate = RATE * GAMMA ** sum(epoch >= drop for drop in (25, 51, 79))
    if kind == "bias":
        return 2 * (rate if without == "bias rates" else RATE)
    return rate / 10 if layer == "conv1" and epoch >= 67 and without != "tenfold" else rate


def updates_of_2012(weights, images, batches, without=None):
    """``inc = mom * inc + eps * gradient - eps * wc * weight; weight += inc``, and nothing at all
    where eps is 0. Returns the weights after every step.
    """
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    increments = {name: np.zeros_like(value) for name, value in weights.items()}
    history = []
    for step, (rows, labels) in enumerate(batches):
        upwards = gradients(weights, inputs(images, rows, step, without), labels)
        for blob in weights:
            eps = rate_of_2012(*blob, step * SIZE / COUNT * 91 / EPOCHS, without)
            if eps == 0:
                continue
            wc = 5e-4 if blob[1] == "kernel" and without != "decay" else 0
            increments[blob] = (
                0.9 * increments[blob] + eps * upwards[blob] - eps * wc * weights[blob]
            )
            weights[blob] = weights[blob] + increments[blob]
        history.append(dict(weights))
    return history


def named(variables):
    return {tuple(variable.path.split("/")[-2:]): variable.numpy() for variable in variables}


class EveryStep(keras.callbacks.Callback):
    """Keeps the weights after every step, and the rates that are recorded."""

    def __init__(self):
        super().__init__()
        self.weights, self.rates = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(named(self.model.trainable_variables))
        self.rates.append(logs["learning_rate"])


def test_twenty_updates_across_the_drops_the_end_of_the_noise_and_the_freeze(images, samples):
    recipe, model, record = of_2012(), network(), EveryStep()
    batches = batches_of(samples, recipe)
    rows = [(batch.rows.numpy(), batch.labels.numpy()) for batch in batches.iterate(0, 20)]
    expected = updates_of_2012(named(model.trainable_variables), images, rows)
    train(model, batches, recipe, callbacks=[record])
    assert len(record.weights) == 20
    for step, (found, wanted) in enumerate(zip(record.weights, expected, strict=True)):
        for blob, value in found.items():
            assert np.abs(value - wanted[blob]).max() <= 1e-5 * np.abs(wanted[blob]).max(), (
                step,
                blob,
            )
    assert record.rates == pytest.approx([0.2] * 6 + [0.1] * 6 + [0.05] * 6 + [0.025] * 2)


def test_the_oracle_tells_each_rule(images):
    """Without one of them, weights differ by far more than what is tolerated."""
    rows = [(np.arange(SIZE) + SIZE * (step % 2), np.arange(SIZE)) for step in range(20)]
    start = named(network().trainable_variables)
    whole = updates_of_2012(start, images, rows)[-1]
    for rule in ("tenfold", "freeze", "bias rates", "end of noise", "division", "decay"):
        without = updates_of_2012(start, images, rows, without=rule)[-1]
        distances = [
            abs(without[blob] - whole[blob]).max() / abs(whole[blob]).max() for blob in whole
        ]
        assert max(distances) > 2e-4, rule


@pytest.fixture
def policies():
    """Sets a dtype policy for the test."""
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def step_of(recipe, accumulate=1, strategy="one"):
    workers = open_workers(strategy)
    with workers.strategy.scope():
        model = network()
    return TrainStep(model, recipe, SIZE, seed=SEED, workers=workers, accumulate=accumulate)


@pytest.mark.parametrize(
    ("accumulate", "strategy", "policy"),
    [
        (1, "one", "float32"),
        (2, "one", "float32"),
        (1, "mirrored", "float32"),
        (1, "one", "mixed_bfloat16"),
        (2, "one", "mixed_float16"),
    ],
)
def test_what_is_frozen_keeps_its_weights_and_velocities_and_nothing_is_traced_again(
    samples, accumulate, strategy, policy, policies
):
    policies(policy)
    recipe = of_2012()
    train_step, states = step_of(recipe, accumulate, strategy), []
    for step, batch in enumerate(batches_of(samples, recipe).iterate(0, 20)):
        epoch = step * SIZE / COUNT
        train_step(step, batch, recipe.learning_rate_at(step, epoch), None, epoch).fetch()
        states.append([variable.numpy() for pair in train_step.velocities() for variable in pair])
    assert train_step._compiled_step.experimental_get_tracing_count() == 1
    for index, (before, after) in enumerate(zip(states[15], states[19], strict=True)):
        assert (before == after).all() == (index < 4), index
    assert all((velocity != 0).any() for velocity in states[19][1:4:2])


@pytest.mark.slow
def test_a_run_resumed_before_a_drop_or_the_freeze_ends_with_the_same_bits(samples, tmp_path):
    recipe = of_2012()
    whole = network()
    train(whole, batches_of(samples, recipe), recipe)
    for stop in (5, 15):
        folder = Checkpoints(tmp_path / str(stop))
        execution = ExecutionConfig(checkpoints=folder, save_seconds=1e9)
        part = replace(recipe, epochs=None, steps=stop)
        train(network(), batches_of(samples, recipe), part, execution=execution)
        resumed = replace(execution, resume=True, checkpoint=folder.newest())
        model = network()
        train(model, batches_of(samples, recipe), recipe, execution=resumed)
        for ours, theirs in zip(model.get_weights(), whole.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_rule_for_a_layer_that_the_network_lacks_is_refused_in_one_line():
    recipe = replace(of_2012(), rate_rules=(RateRule(("conv9",), 0.1),))
    with pytest.raises(
        ConfigurationError,
        match=r"^recipe krizhevsky: rate_rules: expected one of the layers conv1, fc8, got conv9$",
    ):
        step_of(recipe)
