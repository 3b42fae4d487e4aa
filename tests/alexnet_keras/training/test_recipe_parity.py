"""Twenty updates against Caffe's rule in NumPy float64, with gradients of somebody else; and the
masks of dropout.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.configs.architecture import (
    Architecture,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    InitialValues,
    Normalization,
    Pooling,
)
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt, DropEvery
from alexnet_keras.data.batches import Batch
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.models.alexnet import build
from alexnet_keras.models.layers import SampleDropout, sample_masks
from alexnet_keras.training.train_step import TrainStep

STEPS, SIZE, CLASSES = 20, 8, 5
CAFFE = Recipe(
    "caffe",
    batch_size=SIZE,
    steps=STEPS,
    schedule=DropEvery(steps=10),
    learning_rate=0.05,
    weight_decay=0.02,
)
CONSTANT = {"schedule": DropAt()}
RECIPES = {
    "bias rate 2, decay of kernels": {},
    "momentum 0.5": {"momentum": 0.5},
    "no decay": {"weight_decay": 0.0},
    "decay of biases too": {"decay_biases": True},
    "bias rate 1": {"bias_multiplier": 1.0},
    "head 10 and 20": {"multipliers": {"fc8": 10.0}, "learning_rate": 0.005},
    "frozen": {"multipliers": {"fc6": 0.0}},
    "clipped": {"clip_norm": 0.3},
    "constant rate": CONSTANT,
}


def caffe(weights, gradients_of, recipe):
    """SGDSolver: clip the whole gradient, add the decay, ``v = m v + lr g; w -= v``, with a blob's
    lr_mult, decay_mult.

    Every weight is (layer, kind) -> float64; returns them and the velocities as ours are signed.
    """
    weights = {name: value.astype(np.float64) for name, value in weights.items()}
    history = {name: np.zeros_like(value) for name, value in weights.items()}
    for step in range(STEPS):
        rate = recipe.learning_rate * (0.1 if step >= 10 and recipe.schedule != DropAt() else 1)
        gradients = gradients_of(weights, step)
        norm = np.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))
        clip = min(1, recipe.clip_norm / norm) if recipe.clip_norm else 1
        for layer, kind in weights:
            blob = layer, kind
            mult, decay = recipe.multipliers.get(layer, 1), recipe.weight_decay
            if kind == "bias":
                mult, decay = mult * recipe.bias_multiplier, decay * recipe.decay_biases
            history[blob] = recipe.momentum * history[blob] + rate * mult * (
                clip * gradients[blob] + decay * weights[blob]
            )
            weights[blob] = weights[blob] - history[blob]
    return weights, {blob: -value for blob, value in history.items()}


def named(variables):
    return {tuple(variable.path.split("/")[-2:]): variable.numpy() for variable in variables}


def updated(model, recipe, images, labels, accumulate=1):
    """The weights and velocities after all steps, by the project."""
    train_step = TrainStep(
        model, recipe, SIZE, seed=0, workers=open_workers("one"), accumulate=accumulate
    )
    for step in range(STEPS):
        batch = Batch(
            tf.constant(images[step]),
            tf.constant(labels[step]),
            tf.ones(SIZE),
            tf.range(SIZE, dtype=tf.int64),
        )
        train_step(step, batch, recipe.learning_rate_at(step, 0))
    variables, velocities = zip(*train_step.velocities(), strict=True)
    return named(variables), dict(
        zip(named(variables), (each.numpy() for each in velocities), strict=True)
    )


def close(found, expected, tolerance=1e-5):
    for each, wanted in zip(found, expected, strict=True):
        assert set(each) == set(wanted)
        for blob, value in each.items():
            assert np.abs(value - wanted[blob]).max() <= tolerance * np.abs(wanted[blob]).max(), (
                blob
            )


def far(found, expected):
    """How far the farthest weight is, relative to the largest of its kind."""
    return max(
        np.abs(value - expected[blob]).max() / np.abs(expected[blob]).max()
        for blob, value in found.items()
    )


def data(*shape):
    generator = np.random.default_rng(1)
    return (
        generator.standard_normal((STEPS, SIZE, *shape), np.float32),
        generator.integers(0, CLASSES, (STEPS, SIZE)).astype(np.int32),
    )


def dense_network():
    inputs = keras.Input((7,))
    x = keras.layers.Dense(9, activation="relu", name="fc6")(inputs)
    model = keras.Model(inputs, keras.layers.Dense(CLASSES, name="fc8")(x))
    generator = np.random.default_rng(2)
    model.set_weights(
        [generator.standard_normal(weight.shape) / 2 for weight in model.get_weights()]
    )
    return model


def dense_gradients(images, labels):
    def of(w, step):
        x, target = images[step].astype(np.float64), np.eye(CLASSES)[labels[step]]
        hidden = np.maximum(x @ w["fc6", "kernel"] + w["fc6", "bias"], 0)
        logits = hidden @ w["fc8", "kernel"] + w["fc8", "bias"]
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        error = (exponentials / exponentials.sum(axis=1, keepdims=True) - target) / SIZE
        below = (error @ w["fc8", "kernel"].T) * (hidden > 0)
        return {
            ("fc8", "kernel"): hidden.T @ error,
            ("fc8", "bias"): error.sum(0),
            ("fc6", "kernel"): x.T @ below,
            ("fc6", "bias"): below.sum(0),
        }

    return of


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("accumulate", [1, 4])
def test_twenty_updates_of_a_dense_network(changes, accumulate):
    recipe, model, (images, labels) = replace(CAFFE, **changes), dense_network(), data(7)
    expected = caffe(named(model.variables), dense_gradients(images, labels), recipe)
    close(updated(model, recipe, images, labels, accumulate), expected)


def test_the_oracle_tells_recipes_apart():
    """Each field changes the weights by far more than what is tolerated."""
    images, labels = data(7)
    start = named(dense_network().variables)
    results = [
        caffe(start, dense_gradients(images, labels), replace(CAFFE, **changes))[0]
        for changes in RECIPES.values()
    ]
    assert all(far(one, results[0]) > 0.01 for one in results[1:])


NETWORK = Architecture(
    "small",
    (
        Convolution("conv1", 6, kernel=5, stride=2),
        Normalization("norm1", alpha=0.02),
        Pooling("pool1"),
        Convolution("conv2", 8, kernel=3, padding=1, groups=2),
        Pooling("pool2"),
        Flatten(),
        Dense("fc6", 10),
        Dropout("drop6", rate=0.0),
    ),
    input_size=19,
    initial_values=InitialValues(kernels="he"),
)


def network():
    keras.utils.set_random_seed(5)
    return build(NETWORK, keras.Input((19, 19, 3)), CLASSES)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="the `oracle` extra, PyTorch, is not installed")


def torch_layout(torch, blobs):
    """As PyTorch has them: kernels (out, in, height, width) and (in, out), float64, wanting
    gradients.
    """
    return {
        blob: torch.tensor(
            np.transpose(value, (3, 2, 0, 1)) if value.ndim == 4 else value,
            dtype=torch.float64,
            requires_grad=True,
        )
        for blob, value in blobs.items()
    }


def keras_layout(blobs):
    return {
        blob: np.transpose(value, (2, 3, 1, 0)) if value.ndim == 4 else value
        for blob, value in blobs.items()
    }


def torch_loss(torch, w, images, labels):
    nn = torch.nn.functional
    x = torch.relu(
        nn.conv2d(
            torch.tensor(images.transpose(0, 3, 1, 2), dtype=torch.float64),
            w["conv1", "kernel"],
            w["conv1", "bias"],
            stride=2,
        )
    )
    x = nn.max_pool2d(nn.local_response_norm(x, 5, alpha=0.02 * 5, beta=0.75, k=1.0), 3, 2)
    x = torch.relu(nn.conv2d(x, w["conv2", "kernel"], w["conv2", "bias"], padding=1, groups=2))
    x = nn.max_pool2d(x, 3, 2).permute(0, 2, 3, 1).flatten(1)
    x = torch.relu(x @ w["fc6", "kernel"] + w["fc6", "bias"])
    return nn.cross_entropy(
        x @ w["fc8", "kernel"] + w["fc8", "bias"], torch.tensor(labels, dtype=torch.int64)
    )


def torch_gradients(torch, images, labels):
    def of(weights, step):
        w = torch_layout(torch, weights)
        torch_loss(torch, w, images[step], labels[step]).backward()
        return keras_layout({blob: tensor.grad.numpy() for blob, tensor in w.items()})

    return of


@pytest.mark.parametrize("changes", RECIPES.values(), ids=RECIPES)
def test_twenty_updates_of_a_convolutional_network(torch, changes):
    recipe, model, (images, labels) = replace(CAFFE, **changes), network(), data(19, 19, 3)
    expected = caffe(
        named(model.trainable_variables), torch_gradients(torch, images, labels), recipe
    )
    close(updated(model, recipe, images, labels), expected)


def torch_sgd(torch, start, recipe, images, labels):
    """torch.optim.SGD with a group for each blob, its rate set before each step."""
    w = torch_layout(torch, start)
    factors = [
        recipe.multipliers.get(layer, 1) * (recipe.bias_multiplier if kind == "bias" else 1)
        for layer, kind in w
    ]
    optimizer = torch.optim.SGD(
        [
            {
                "params": [tensor],
                "weight_decay": recipe.weight_decay * (kind != "bias" or recipe.decay_biases),
            }
            for (_, kind), tensor in w.items()
        ],
        lr=1.0,
        momentum=recipe.momentum,
    )
    for step in range(STEPS):
        for group, factor in zip(optimizer.param_groups, factors, strict=True):
            group["lr"] = factor * recipe.learning_rate_at(step, 0)
        optimizer.zero_grad()
        torch_loss(torch, w, images[step], labels[step]).backward()
        optimizer.step()
    return keras_layout({blob: tensor.detach().numpy() for blob, tensor in w.items()})


def test_pytorchs_sgd_agrees_until_the_rate_drops(torch):
    """It keeps the rate out of its velocity."""
    images, labels = data(19, 19, 3)
    for changes, agrees in (
        (CONSTANT, True),
        ({**CONSTANT, "decay_biases": True}, True),
        ({}, False),
    ):
        recipe, model = replace(CAFFE, multipliers={"fc8": 2.0}, **changes), network()
        theirs = torch_sgd(torch, named(model.trainable_variables), recipe, images, labels)
        ours, _ = updated(model, recipe, images, labels)
        distance = far(ours, theirs)
        assert distance < 1e-5 if agrees else distance > 0.01


def masks(name="drop6", seed=3, position=96, rows=32, shape=(13,), rate=0.5):
    """What a layer of that name lets through of ones: (rows, *shape) of zeros and 1 / (1 -
    rate).
    """
    with sample_masks(seed, tf.constant(position, tf.int64)):
        return SampleDropout(rate, name=name)(tf.ones((rows, *shape)), training=True).numpy()


@pytest.mark.parametrize("parts", [2, 8])
@pytest.mark.parametrize("shape", [(13,), (16,), (1,), (3, 5, 2)])
def test_masks_of_a_batch_are_those_of_its_parts(parts, shape):
    size = 32 // parts
    pieces = [masks(position=96 + start, rows=size, shape=shape) for start in range(0, 32, size)]
    np.testing.assert_array_equal(masks(shape=shape), np.concatenate(pieces))


@pytest.mark.parametrize("rate", [0.2, 0.5, 0.9])
def test_masks_keep_what_the_rate_says(rate):
    found = masks(rows=64, shape=(4096,), rate=rate)
    assert np.unique(found) == pytest.approx([0, 1 / (1 - rate)], rel=1e-6)
    deviation = (rate * (1 - rate) / found.size) ** 0.5
    assert (found > 0).mean() == pytest.approx(1 - rate, abs=4 * deviation)
    assert found.mean() == pytest.approx(1, abs=4 * deviation / (1 - rate))


def test_masks_of_layers_steps_seeds_samples_and_units_are_independent():
    """Correlations of 131,072 fair draws have a deviation of 1 / 362."""
    kept = {
        "first": masks(shape=(4096,)),
        "layer": masks("drop7", shape=(4096,)),
        "seed": masks(seed=4, shape=(4096,)),
        "step": masks(position=128, shape=(4096,)),
    }
    kept |= {
        "sample": np.roll(kept["first"], 1, axis=0),
        "unit": np.roll(kept["first"], 1, axis=1),
        "four units": np.roll(kept["first"], 4, axis=1),
    }
    signs = np.stack([(mask.ravel() > 0) * 2.0 - 1 for mask in kept.values()])
    correlations = signs @ signs.T / signs.shape[1]
    assert np.abs(correlations - np.eye(len(kept))).max() < 4.5 / 362


@pytest.mark.slow
def test_an_update_in_parts_drops_the_same_units():
    """With other masks the weights would part at the first step."""

    def learned(accumulate, rate):
        keras.utils.set_random_seed(5)
        model = build(NETWORK.replace_each(Dropout, rate=rate), keras.Input((19, 19, 3)), CLASSES)
        return updated(model, CAFFE, *data(19, 19, 3), accumulate)

    whole = learned(1, 0.5)
    close(learned(4, 0.5), whole)
    assert far(learned(1, 0.0)[0], whole[0]) > 0.01
