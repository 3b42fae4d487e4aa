"""The training loop, on networks of one layer whose updates can be done by hand."""

import logging
import math
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.configs.preprocessing import PREPROCESSING
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt
from alexnet_keras.data.batches import Batch, EvaluationBatches, TrainingBatches
from alexnet_keras.data.feature_batches import FeatureBatches
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.training.loop import train
from alexnet_keras.training.train_step import TrainStep
from tests.alexnet_keras.tiny import picture_files, samples_of, tiny_model

PLAIN = Recipe(
    "plain",
    batch_size=4,
    epochs=1,
    schedule=DropAt(()),
    learning_rate=0.1,
    momentum=0,
    weight_decay=0,
    bias_multiplier=1,
)
CLASSES = 3


def linear(width=2):
    inputs = keras.Input((width,))
    return keras.Model(
        inputs, keras.layers.Dense(CLASSES, name="fc8", kernel_initializer="zeros")(inputs)
    )


def feature_batches(features, batch_size=4, seed=0):
    count = len(features)
    samples = samples_of([f"{row}.jpg" for row in range(count)], classes=CLASSES)
    return FeatureBatches(np.asarray(features, np.float32), samples, batch_size, seed)


class Fixed:
    """Batches given as (images, labels, weights), each a step; every epoch is one of them."""

    seed = 0

    def __init__(self, *steps, size=4):
        self.steps, self.batch_size, self.samples = steps, size, range(size)

    def first_step_of(self, epoch):
        return epoch

    def iterate(self, first, last):
        for images, labels, weights in self.steps[first:last]:
            yield Batch(
                tf.constant(images, tf.float32),
                tf.constant(labels, tf.int32),
                tf.constant(weights, tf.float32),
                tf.range(self.batch_size, dtype=tf.int64),
            )


class Record(keras.callbacks.Callback):
    """Every call with its logs; ``act`` may do something at one of them."""

    def __init__(self, act=lambda name, number, callback: None):
        super().__init__()
        self.calls, self.act = [], act

    def note(self, name, number, logs):
        self.calls.append((name, number, dict(logs or {})))
        self.act(name, number, self)

    def on_train_begin(self, logs=None):
        self.note("train begins", None, logs)

    def on_epoch_begin(self, epoch, logs=None):
        self.note("epoch begins", epoch, logs)

    def on_train_batch_begin(self, step, logs=None):
        self.note("step begins", step, logs)

    def on_train_batch_end(self, step, logs=None):
        self.note("step ends", step, logs)

    def on_epoch_end(self, epoch, logs=None):
        self.note("epoch ends", epoch, logs)

    def on_train_end(self, logs=None):
        self.note("train ends", None, logs)

    def named(self, name):
        return [(number, logs) for kind, number, logs in self.calls if kind == name]


IMAGES = np.array([[1, 2], [3, -1], [0, 1], [2, 2]], np.float32)
LABELS = np.array([0, 1, 2, 1])


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 1]])
def test_a_step_by_hand_and_what_a_skipped_image_takes_with_it(weights):
    """From zero weights the softmax is uniform: the gradient is known, and divided by 4 whatever
    was skipped.
    """
    model, record = linear(), Record()
    train(model, Fixed((IMAGES, LABELS, weights)), PLAIN, callbacks=[record])
    error = (np.full((4, CLASSES), 1 / CLASSES) - np.eye(CLASSES)[LABELS]) * np.array(weights)[
        :, None
    ]
    kernel, bias = model.get_layer("fc8").get_weights()
    np.testing.assert_allclose(kernel, -0.1 * IMAGES.T @ error / 4, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(bias, -0.1 * error.sum(0) / 4, rtol=1e-5, atol=1e-7)
    ((_, logs),) = record.named("step ends")
    assert logs["loss"] == pytest.approx(math.log(CLASSES))
    assert logs["learning_rate"] == 0.1
    assert logs["images_per_second"] > 0


def test_figures_are_means_over_the_images_that_count():
    bias, images = [3, 2, 1], np.zeros((4, 2))
    record, model = Record(), linear()
    model.get_layer("fc8").set_weights([np.zeros((2, 3)), np.array(bias)])
    steps = [(images, [0, 1, 0, 2], [1, 1, 1, 0]), (images, [2, 2, 2, 0], [1, 0, 0, 0])]
    train(model, Fixed(*steps), replace(PLAIN, epochs=2, learning_rate=1e-30), callbacks=[record])
    loss_of = [math.log(sum(map(math.exp, bias))) - logit for logit in bias]
    (_, first), (_, second) = record.named("step ends")
    assert first["top1"] == pytest.approx(2 / 3)
    assert first["loss"] == pytest.approx((2 * loss_of[0] + loss_of[1]) / 3, rel=1e-5)
    assert (second["top1"], second["top5"]) == (0, 1)
    assert second["loss"] == pytest.approx(loss_of[2], rel=1e-5)
    for (_, step), (_, epoch) in zip(
        record.named("step ends"), record.named("epoch ends"), strict=True
    ):
        assert (step["loss"], step["top1"], step["top5"]) == (
            epoch["loss"],
            epoch["top1"],
            epoch["top5"],
        )


def test_callbacks_are_called_in_keras_order():
    record = Record()
    outcome = train(
        linear(), feature_batches(np.ones((8, 2))), replace(PLAIN, epochs=2), callbacks=[record]
    )
    epoch = ["epoch begins", *["step begins", "step ends"] * 2, "epoch ends"]
    assert [name for name, _, _ in record.calls] == ["train begins", *epoch * 2, "train ends"]
    assert [number for number, _ in record.named("step ends")] == [0, 1, 2, 3]
    assert [number for number, _ in record.named("epoch ends")] == [0, 1]
    assert record.named("train begins") == [
        (None, {"epochs": 2, "steps": 4, "step": 0, "epoch": 0})
    ]
    assert (outcome.finished, outcome.steps, outcome.evaluation) == (True, 4, None)


def test_keras_own_callbacks_work():
    history, log = keras.callbacks.History(), []
    train(
        linear(),
        feature_batches(np.ones((8, 2))),
        replace(PLAIN, epochs=3),
        callbacks=[
            history,
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: log.append(logs["loss"])
            ),
        ],
    )
    assert history.history["loss"] == log
    assert len(log) == 3


@pytest.mark.parametrize(
    ("moment", "number", "steps"),
    [("step ends", 1, 2), ("epoch ends", 0, 3), ("epoch begins", 1, 4)],
)
def test_a_callback_ends_the_run(moment, number, steps):
    def stop(name, at, callback):
        if (name, at) == (moment, number):
            callback.model.stop_training = True

    record = Record(stop)
    outcome = train(
        linear(), feature_batches(np.ones((12, 2))), replace(PLAIN, epochs=5), callbacks=[record]
    )
    assert (outcome.finished, outcome.steps) == (True, steps)
    assert record.calls[-1][0] == "train ends"
    assert train(linear(), feature_batches(np.ones((12, 2))), PLAIN).steps == 3


@pytest.mark.parametrize("moment", ["step begins", "step ends", "epoch begins", "epoch ends"])
def test_ctrl_c_ends_the_run_and_keeps_what_was_learned(moment, caplog):
    def interrupt(name, at, callback):
        if name == moment and len(callback.named(moment)) == 2:
            raise KeyboardInterrupt

    record, model = Record(interrupt), linear()
    outcome = train(
        model, feature_batches(np.ones((6, 2))), replace(PLAIN, epochs=9), callbacks=[record]
    )
    assert (outcome.finished, outcome.steps) == (
        False,
        len(record.named("step begins")) - (moment == "step begins"),
    )
    assert record.calls[-1][0] == "train ends"
    assert np.abs(model.get_layer("fc8").kernel.numpy()).max() > 0
    assert f"interrupted after {outcome.steps} steps; the weights so far are kept" in caplog.text


class Tiny:
    """A network of 67 pixels on six pictures."""

    def __init__(self, folder, seed=0, **options):
        keras.utils.set_random_seed(seed)
        self.model = tiny_model(classes=2)
        self.samples = samples_of(picture_files(folder, 6), classes=2, split="train")
        self.rule = PREPROCESSING["alexnet"].with_input_size(67)
        self.train = TrainingBatches(self.samples, self.rule, 4, seed=seed, **options)
        self.val = EvaluationBatches(self.samples, self.rule, 4)

    def weights(self):
        return [array.copy() for array in self.model.get_weights()]


def test_val_figures_belong_to_the_final_weights(tmp_path):
    from alexnet_keras.evaluation.evaluator import evaluate

    tiny, record = Tiny(tmp_path), Record()
    outcome = train(
        tiny.model,
        tiny.train,
        replace(PLAIN, epochs=2, learning_rate=0.01),
        callbacks=[record],
        val_batches=tiny.val,
    )
    logs = [logs for _, logs in record.named("epoch ends")]
    assert all(
        {"val_top1", "val_top5", "val_mean_per_class", "val_loss", "val_images"} <= set(line)
        for line in logs
    )
    assert logs[-1]["val_loss"] == outcome.evaluation.loss == evaluate(tiny.model, tiny.val).loss
    assert outcome.evaluation.images == 6


def test_an_interrupted_epoch_is_measured_anew(tmp_path):
    from alexnet_keras.evaluation.evaluator import evaluate

    def interrupt(name, at, callback):
        if (name, at) == ("step ends", 2):
            raise KeyboardInterrupt

    tiny, record = Tiny(tmp_path), Record(interrupt)
    outcome = train(
        tiny.model, tiny.train, replace(PLAIN, epochs=3), callbacks=[record], val_batches=tiny.val
    )
    assert (outcome.finished, outcome.steps) == (False, 3)
    assert (
        outcome.evaluation.loss
        == evaluate(tiny.model, tiny.val).loss
        != record.named("epoch ends")[0][1]["val_loss"]
    )


def test_same_seed_same_weights_bit_for_bit_whatever_the_loader_threads(tmp_path):
    found = {}
    for name, seed, workers in (("one", 3, 1), ("again", 3, 4), ("other", 4, 1)):
        tiny = Tiny(tmp_path, seed, num_threads=workers)
        train(tiny.model, tiny.train, replace(PLAIN, epochs=2, learning_rate=0.01))
        found[name] = tiny.weights()
    for one, again in zip(found["one"], found["again"], strict=True):
        np.testing.assert_array_equal(one, again)
    assert any(
        (one != other).any() for one, other in zip(found["one"], found["other"], strict=True)
    )


def test_a_loss_that_is_not_finite_stops_the_run_with_one_line():
    record, far = Record(), np.array([[1e20, 1], [-1e20, 1]] * 4)
    with pytest.raises(
        RunError,
        match=r"^step 1: loss: expected a finite number, got (nan|inf); try a lower learning "
        r"rate than 1e\+30$",
    ):
        train(
            linear(),
            feature_batches(far),
            replace(PLAIN, epochs=9, learning_rate=1e30),
            callbacks=[record],
        )
    assert [name for name, _, _ in record.calls].count("train ends") == 1


def test_weights_that_the_last_step_broke_are_no_result(tmp_path):
    tiny = Tiny(tmp_path)
    one_step = TrainingBatches(tiny.samples, tiny.rule, 6, seed=0)
    bias = tiny.model.get_layer("fc8").bias
    broken = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda step, logs: bias.assign(np.full(bias.shape, np.nan))
    )
    with pytest.raises(
        RunError,
        match=r"^after step 1: val loss: expected a finite number, got nan; try a lower",
    ):
        train(tiny.model, one_step, PLAIN, val_batches=tiny.val, callbacks=[broken])


def test_the_rate_follows_the_recipe_step_by_step():
    record = Record()
    train(
        linear(),
        feature_batches(np.ones((8, 2)), batch_size=2),
        replace(PLAIN, batch_size=2, epochs=3, schedule=DropAt((0.5, 2))),
        callbacks=[record],
    )
    rates = [logs["learning_rate"] for _, logs in record.named("step ends")]
    assert rates == pytest.approx([0.1] * 2 + [0.01] * 6 + [0.001] * 4)


def test_the_rate_acts():
    """Twice the rate, twice the first step; a rate that drops at once, a tenth of it."""
    kernels = []
    for changes in ({}, {"learning_rate": 0.2}, {"schedule": DropAt((0,))}):
        model = linear()
        train(model, Fixed((IMAGES, LABELS, [1] * 4)), replace(PLAIN, **changes))
        kernels.append(model.get_layer("fc8").kernel.numpy())
    np.testing.assert_allclose(kernels[1], 2 * kernels[0], rtol=1e-6)
    np.testing.assert_allclose(kernels[2], 0.1 * kernels[0], rtol=1e-6)


def test_the_update_is_the_recipes():
    recipe = replace(
        PLAIN, momentum=0.5, weight_decay=0.25, bias_multiplier=3, multipliers={"fc8": 10}
    )
    optimizer = TrainStep(linear(), recipe, 4, seed=0, workers=open_workers("one")).optimizer
    assert (
        optimizer.momentum,
        optimizer.decay,
        optimizer.bias_multiplier,
        optimizer.multipliers,
    ) == (0.5, 0.25, 3, {"fc8": 10})


def test_a_multiplier_of_no_layer_is_refused():
    with pytest.raises(
        ConfigurationError, match="^lr_mult: expected one of the layers fc8, got fc9$"
    ):
        train(linear(), feature_batches(np.ones((4, 2))), replace(PLAIN, multipliers={"fc9": 2}))


@pytest.mark.parametrize(
    ("count", "batch_size", "epochs", "steps", "epochs_with_steps"),
    [
        (5, 4, 3, 4, [0, 1, 2]),
        (3, 10, 4, 2, [0, 3]),
        (3, 10, 1, 1, [0]),
        (1, 4, 9, 3, [0, 4, 8]),
        (4, 4, 2, 2, [0, 1]),
    ],
)
def test_epochs_where_a_batch_is_larger_than_the_data_set(
    count, batch_size, epochs, steps, epochs_with_steps
):
    """Every pass is made; an epoch without a step of its own is no epoch of zero loss."""
    record = Record()
    outcome = train(
        linear(),
        feature_batches(np.ones((count, 2)), batch_size),
        replace(PLAIN, epochs=epochs),
        callbacks=[record],
    )
    assert (
        outcome.steps
        == len(record.named("step ends"))
        == steps
        == -(-epochs * count // batch_size)
    )
    assert [number for number, _ in record.named("epoch ends")] == epochs_with_steps
    assert all(logs["loss"] > 0 for _, logs in record.named("epoch ends"))


def test_each_epoch_is_in_the_log(caplog):
    caplog.set_level(logging.INFO, "alexnet_keras")
    train(linear(), feature_batches(np.ones((4, 2))), replace(PLAIN, epochs=2))
    assert "epoch 2 of 2: loss " in caplog.text


def test_frozen_layers_stay_and_dropout_acts(tmp_path):
    tiny = Tiny(tmp_path)
    for name in ("conv1", "conv2", "fc6"):
        tiny.model.get_layer(name).trainable = False
    before = {layer.name: layer.get_weights() for layer in tiny.model.layers if layer.weights}
    train(tiny.model, tiny.train, replace(PLAIN, learning_rate=0.01, weight_decay=0.1))
    moved = {
        name
        for name, arrays in before.items()
        if any(
            (old != new).any()
            for old, new in zip(arrays, tiny.model.get_layer(name).get_weights(), strict=True)
        )
    }
    assert moved == set(before) - {"conv1", "conv2", "fc6"}
