"""Accuracy figures against NumPy by hand."""

import json

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, top_k_accuracy_score

from alexnet_keras.data import decoding, image_ops
from alexnet_keras.data.batches import Batch, EvaluationBatches
from alexnet_keras.evaluation.evaluator import (
    Counts,
    evaluate,
    evaluation_step,
    in_top_k,
    zero_counts,
)
from tests.alexnet_keras.tiny import picture_files, samples_of, tiny_model

CLASSES = 7


def passing_on():
    """A network whose logits are its input."""
    inputs = keras.Input((CLASSES,))
    logits = keras.layers.Dense(CLASSES, name="fc8", kernel_initializer="identity")(inputs)
    return keras.Model(inputs, keras.layers.Softmax(name="prob")(logits))


def batches(logits, labels, weights, size=4):
    rows = np.arange(len(labels))
    for start in range(0, len(labels), size):
        part = slice(start, start + size)
        yield Batch(
            tf.constant(logits[part]),
            tf.constant(labels[part], tf.int32),
            tf.constant(weights[part], tf.float32),
            tf.constant(rows[part]),
        )


def test_figures_by_hand():
    generator = np.random.default_rng(0)
    logits = generator.standard_normal((90, CLASSES), np.float32)
    labels, weights = (
        generator.integers(0, CLASSES - 1, 90),
        generator.integers(0, 2, 90),
    )  # the last class never occurs
    told = []
    found = evaluate(passing_on(), batches(logits, labels, weights), told.append)

    kept, own = weights == 1, np.arange(90)
    rank = (logits > logits[own, labels][:, None]).sum(1)[kept]
    confusion = np.zeros((CLASSES, CLASSES), int)
    np.add.at(confusion, (labels[kept], logits.argmax(1)[kept]), 1)
    per_class = [(logits[kept & (labels == c)].argmax(1) == c).mean() for c in range(CLASSES - 1)]
    log_sums = np.log(np.exp(logits.astype(np.float64)).sum(1))
    assert found.images == kept.sum() == sum(told)
    assert found.top1 == pytest.approx((rank == 0).mean())
    assert found.top5 == pytest.approx((rank < 5).mean())
    assert found.mean_per_class == pytest.approx(np.mean(per_class))
    assert found.loss == pytest.approx((log_sums - logits[own, labels])[kept].mean(), rel=1e-5)
    np.testing.assert_array_equal(found.confusion, confusion)
    np.testing.assert_array_equal(
        found.top5_per_class, np.bincount(labels[kept][rank < 5], minlength=CLASSES)
    )


def test_figures_of_scikit_learn():
    generator = np.random.default_rng(1)
    logits, labels = (
        generator.standard_normal((60, CLASSES), np.float32),
        generator.integers(0, CLASSES, 60),
    )
    found, classes = (
        evaluate(passing_on(), batches(logits, labels, np.ones(60), size=7)),
        range(CLASSES),
    )
    np.testing.assert_array_equal(
        found.confusion, confusion_matrix(labels, logits.argmax(1), labels=classes)
    )
    assert found.mean_per_class == pytest.approx(balanced_accuracy_score(labels, logits.argmax(1)))
    assert found.top5 == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=classes))
    for label in classes:
        own = labels == label
        assert found.top5_per_class[label] == top_k_accuracy_score(
            labels[own], logits[own], k=5, labels=classes, normalize=False
        )


def test_counts_of_batches_add_up_to_those_of_the_whole():
    generator, model = np.random.default_rng(2), passing_on()
    data = (
        generator.standard_normal((12, CLASSES), np.float32),
        generator.integers(0, CLASSES, 12),
        np.ones(12),
    )
    step, counts = evaluation_step(model), zero_counts(model)
    for batch in batches(*data, size=4):
        counts = Counts(*map(tf.add, counts, step(batch)))
    whole = step(next(batches(*data, size=12)))
    np.testing.assert_allclose(counts.sums, whole.sums, rtol=1e-6)
    for name, dtype in (("confusion", tf.int64), ("top5_per_class", tf.int64)):
        assert getattr(counts, name).dtype == getattr(whole, name).dtype == dtype
        np.testing.assert_array_equal(getattr(counts, name), getattr(whole, name))


def test_unbalanced_classes_count_alike_in_the_mean_per_class():
    logits = np.eye(CLASSES, dtype=np.float32)[[0] * 9 + [2]]
    found = evaluate(passing_on(), batches(logits, np.array([0] * 9 + [1]), np.ones(10)))
    assert (found.top1, found.mean_per_class) == (pytest.approx(0.9), 0.5)


@pytest.mark.parametrize(
    ("logits", "label", "hits"),
    [
        ([3, 2, 1, 0, -1, -2, -3], 0, (1, 1)),
        ([3, 2, 1, 0, -1, -2, -3], 4, (0, 1)),
        ([3, 2, 1, 0, -1, -2, -3], 5, (0, 0)),
        ([3, 3, 1, 0, -1, -2, -3], 0, (0, 1)),
        ([3, 3, 1, 0, -1, -2, -3], 1, (0, 1)),  # a tie for the first place
        ([5, 4, 3, 2, 1, 1, 0], 4, (0, 0)),  # a tie for the fifth
        ([0] * CLASSES, 0, (0, 0)),
        ([np.nan] * CLASSES, 0, (0, 0)),
        ([1, np.nan, 0, 0, 0, 0, 0], 0, (0, 1)),
        ([np.inf, 0, 0, 0, 0, 0, 0], 0, (1, 1)),
        ([np.inf] * 6 + [0], 0, (0, 0)),
    ],
)
def test_ties_and_nan_count_against_the_label(logits, label, hits):
    logits = tf.constant([logits], tf.float32)
    assert tuple(float(in_top_k(k, logits, tf.constant([label]))[0]) for k in (1, 5)) == hits


def test_a_network_of_nan_is_not_right():
    logits = np.full((4, CLASSES), np.nan, np.float32)
    found = evaluate(passing_on(), batches(logits, np.arange(4), np.ones(4)))
    assert (found.top1, found.top5) == (0, 0)
    assert not found.top5_per_class.any()


def test_no_readable_image_at_all():
    found = evaluate(
        passing_on(), batches(np.zeros((4, CLASSES), np.float32), np.arange(4), np.zeros(4))
    )
    assert (found.images, found.top1, found.mean_per_class, found.loss) == (0, 0, 0, 0)


def test_figures_are_json_and_hold_no_array():
    logits = np.eye(CLASSES, dtype=np.float32)
    figures = evaluate(
        passing_on(), batches(logits, np.arange(CLASSES), np.ones(CLASSES))
    ).metrics()
    assert set(json.loads(json.dumps(figures))) == {
        "top1",
        "top5",
        "mean_per_class",
        "loss",
        "images",
        "seconds",
        "images_per_second",
    }
    assert (figures["top1"], figures["images"]) == (1, CLASSES)


@pytest.mark.parametrize("batch_size", [3, 20])
def test_every_image_counts_once_whatever_the_batch_size(tmp_path, batch_size):
    samples, model = samples_of(picture_files(tmp_path, 7)), tiny_model(size=67)
    rule = model.preprocessing
    found = evaluate(model, EvaluationBatches(samples, rule, batch_size))
    assert found.images == found.confusion.sum() == 7
    assert found.top5_per_class.sum() == round(found.top5 * 7)
    np.testing.assert_array_equal(found.confusion.sum(1), np.bincount(samples.labels, minlength=5))
    whole = evaluate(model, EvaluationBatches(samples, rule, 7))
    np.testing.assert_array_equal(found.confusion, whole.confusion)
    assert found.loss == pytest.approx(whole.loss, rel=1e-5)


def test_dropout_does_not_act():
    model = tiny_model()
    data = [
        Batch(
            tf.ones((4, 67, 67, 3)) * 50,
            tf.constant([0, 1, 2, 3]),
            tf.ones(4),
            tf.range(4, dtype=tf.int64),
        )
    ]
    assert evaluate(model, data).loss == evaluate(model, data).loss


def test_ten_crops_count_as_the_mean_of_their_softmaxes():
    images = np.random.default_rng(0).normal(size=(3, 10, 4, 4, 3)).astype(np.float32)
    inputs = keras.Input((4, 4, 3))
    model = keras.Model(
        inputs, keras.layers.Dense(CLASSES, name="fc8")(keras.layers.Flatten()(inputs))
    )
    labels = np.array([0, 1, 2], np.int32)
    batch = Batch(*map(tf.constant, (images, labels, np.ones(3, np.float32), np.arange(3))))

    each = np.stack([keras.ops.softmax(model(image)).numpy() for image in images]).astype(
        np.float64
    )
    expected = each.mean(axis=1)
    found = evaluate(model, [batch])

    assert found.top1 == pytest.approx((expected.argmax(axis=1) == labels).mean())
    assert found.loss == pytest.approx(-np.log(expected[np.arange(3), labels]).mean(), rel=1e-5)


@pytest.mark.parametrize("scale", [1, 1e3, 1e4])
def test_loss_of_ten_crops_is_finite_for_a_confident_network(scale):
    images = (np.random.default_rng(1).normal(size=(6, 10, CLASSES)) * scale).astype(np.float32)
    inputs = keras.Input((1, 1, CLASSES))
    logits = keras.layers.Dense(CLASSES, name="fc8", kernel_initializer="identity")
    model = keras.Model(inputs, logits(keras.layers.Flatten()(inputs)))
    labels = np.arange(6, dtype=np.int32)
    data = (images[:, :, None, None], labels, np.ones(6, np.float32), np.arange(6))

    each = images.astype(np.float64)
    each -= scipy.special.logsumexp(each, axis=2, keepdims=True)
    mean = scipy.special.logsumexp(each, axis=1) - np.log(10)
    found = evaluate(model, [Batch(*map(tf.constant, data))])

    assert found.loss == pytest.approx(-mean[labels, labels].mean(), rel=1e-5)
    assert found.top1 == (mean.argmax(axis=1) == labels).mean()


def test_ten_crops_of_a_data_set_are_those_of_its_images(tmp_path):
    samples, model = samples_of(picture_files(tmp_path, 3)), tiny_model(size=67)
    rule = model.preprocessing
    batches = list(EvaluationBatches(samples, rule, 2, crops=10))

    image = image_ops.resize(decoding.decode_image(tf.io.read_file(samples.paths[1])), rule)
    np.testing.assert_array_equal(
        batches[0].images[1], image_ops.to_network_input(image_ops.ten_crops(image, rule), rule)
    )
    assert evaluate(model, batches).images == 3
