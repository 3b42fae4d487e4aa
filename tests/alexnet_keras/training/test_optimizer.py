"""The optimizer against the recipe's formula, worked out by hand in float64."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.training.optimizer import MomentumSGD

RATES = [0.1] * 4 + [0.01] * 4  # a drop in the middle, where Caffe's momentum and PyTorch's part


def layers():
    """Two dense layers of known values, and the gradients of each step for their four
    variables.
    """
    generator, model = (
        np.random.default_rng(0),
        keras.Sequential(
            [
                keras.Input((3,)),
                keras.layers.Dense(4, name="fc7"),
                keras.layers.Dense(2, name="fc8"),
            ]
        ),
    )
    model.set_weights([generator.standard_normal(weight.shape) for weight in model.get_weights()])
    gradients = [
        [generator.standard_normal(weight.shape).astype(np.float32) for weight in model.weights]
        for _ in RATES
    ]
    return model, gradients


def by_hand(weights, gradients, momentum, decays, rates):
    """v = m v - rate (g + decay w); w += v, with each variable's own factor of the rate and its
    own decay.
    """
    weights = [weight.astype(np.float64) for weight in weights]
    velocities = [np.zeros_like(weight) for weight in weights]
    for rate, step in zip(RATES, gradients, strict=True):
        for i, gradient in enumerate(step):
            velocities[i] = momentum * velocities[i] - rate * rates[i] * (
                gradient + decays[i] * weights[i]
            )
            weights[i] = weights[i] + velocities[i]
    return weights


def run(optimizer, model, gradients, apply=None):
    apply = apply or (lambda step: optimizer.apply(step, model.trainable_variables))
    for rate, step in zip(RATES, gradients, strict=True):
        optimizer.learning_rate.assign(rate)
        apply([tf.constant(gradient) for gradient in step])
    return model.get_weights()


@pytest.mark.parametrize(
    ("options", "decays", "rates"),
    [
        ({}, [5e-4, 0, 5e-4, 0], [1, 2, 1, 2]),
        ({"decay": 0.3, "bias_multiplier": 1.0}, [0.3, 0, 0.3, 0], [1, 1, 1, 1]),
        ({"decay": 0.3, "multipliers": {"fc8": 10.0}}, [0.3, 0, 0.3, 0], [1, 2, 10, 20]),
        ({"decay": 0.3, "multipliers": {"fc7": 0.0}}, [0.3, 0, 0.3, 0], [0, 0, 1, 2]),
        ({"decay": 0.3, "decay_biases": True}, [0.3] * 4, [1, 2, 1, 2]),
        ({"momentum": 0.5, "decay": 0.0}, [0, 0, 0, 0], [1, 2, 1, 2]),
    ],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_steps_are_those_of_the_formula(options, decays, rates, compiled):
    model, gradients = layers()
    expected = by_hand(model.get_weights(), gradients, options.get("momentum", 0.9), decays, rates)
    optimizer = MomentumSGD(**options)
    optimizer.build(model.trainable_variables)
    apply = (
        tf.function(lambda step: optimizer.apply(step, model.trainable_variables))
        if compiled
        else None
    )
    for found, wanted in zip(run(optimizer, model, gradients, apply), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=1e-6)


def test_what_was_read_before_a_step_does_not_change():
    """Generations are written while training goes on."""
    model, gradients = layers()
    optimizer = MomentumSGD()
    optimizer.build(model.trainable_variables)
    run(optimizer, model, gradients)
    variables = [*model.trainable_variables, *optimizer.velocities]
    read = [np.asarray(variable.value.read_value()) for variable in variables]
    copies = [array.copy() for array in read]
    run(optimizer, model, gradients)
    for array, copy, variable in zip(read, copies, variables, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert (variable.numpy() != copy).any()


def test_at_a_constant_rate_it_is_pytorchs_rule_and_not_after_a_drop():
    """torch: v = m v + g + decay w; w -= rate v."""

    def torch_rule(rates, weight, gradients, velocity=0.0):
        for rate, gradient in zip(rates, gradients, strict=True):
            velocity = 0.9 * velocity + gradient + 0.3 * weight
            weight = weight - rate * velocity
        return weight

    model, gradients = layers()
    start, kernels = model.get_weights()[0].astype(np.float64), [step[0] for step in gradients]
    optimizer = MomentumSGD(decay=0.3)
    before = None
    for index, (rate, step) in enumerate(zip(RATES, gradients, strict=True)):
        optimizer.learning_rate.assign(rate)
        optimizer.apply([tf.constant(gradient) for gradient in step], model.trainable_variables)
        if index == 3:
            before = model.get_weights()[0]
    np.testing.assert_allclose(before, torch_rule(RATES[:4], start, kernels[:4]), rtol=1e-5)
    assert abs(model.get_weights()[0] - torch_rule(RATES, start, kernels)).max() > 0.01


def test_it_differs_from_keras_decoupled_decay():
    model, gradients = layers()
    other, _ = layers()
    ours = run(MomentumSGD(decay=0.3, bias_multiplier=1.0), model, gradients)
    theirs = run(keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.3), other, gradients)
    assert abs(ours[0] - theirs[0]).max() > 0.01


def test_frozen_layers_stay_and_need_no_velocity():
    model, gradients = layers()
    model.get_layer("fc7").trainable = False
    before = model.get_weights()
    optimizer = MomentumSGD()
    optimizer.apply(
        [tf.constant(gradient) for gradient in gradients[0][2:]], model.trainable_variables
    )
    after = model.get_weights()
    np.testing.assert_array_equal(before[0], after[0])
    assert abs(after[2] - before[2]).max() > 0
    assert len(optimizer.velocities) == 2


def test_configuration():
    optimizer = MomentumSGD(0.01, 0.8, 1e-3, 1.5, {"fc8": 10.0}, decay_biases=True)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert (again.momentum, again.decay, again.bias_multiplier, again.multipliers) == (
        0.8,
        1e-3,
        1.5,
        {"fc8": 10.0},
    )
    assert float(again.learning_rate) == pytest.approx(0.01)
