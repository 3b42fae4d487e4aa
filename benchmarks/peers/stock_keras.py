"""The network built from Keras's own layers, as most users would write it."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    Architecture,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Normalization,
    Pooling,
)
from benchmarks.peers import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, Network, Trainer
from weights.canonical import Layers


def model_of(architecture: Architecture, weights: Layers, regularizer=None) -> keras.Model:
    """The network built from Keras's layers, ending in fc8."""
    size = architecture.input_size
    model = keras.Sequential([keras.Input((size, size, 3))])
    for layer in architecture.layers:
        model.add(_layer(layer, regularizer))
    model.add(
        keras.layers.Dense(
            len(weights[FINAL_LAYER][1]), kernel_regularizer=regularizer, name=FINAL_LAYER
        )
    )
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return model


def _layer(layer, regularizer) -> keras.layers.Layer:
    match layer:
        case Convolution(name, filters, kernel, stride, padding, groups):
            return keras.layers.Conv2D(
                filters,
                kernel,
                stride,
                "same" if padding else "valid",
                groups=groups,
                activation="relu",
                kernel_regularizer=regularizer,
                name=name,
            )
        case Normalization(name, radius, bias, alpha, beta):
            return keras.layers.Lambda(
                lambda x: tf.nn.local_response_normalization(x, radius, bias, alpha, beta),
                name=name,
            )
        case Pooling(name, size, stride):
            return keras.layers.MaxPooling2D(size, stride, name=name)
        case Flatten(name):
            return keras.layers.Flatten(name=name)
        case Dense(name, units):
            return keras.layers.Dense(
                units, activation="relu", kernel_regularizer=regularizer, name=name
            )
        case Dropout(name, rate):
            return keras.layers.Dropout(rate, name=name)


def network(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Network:
    """Inference with a ``tf.function``, which is faster than ``predict_on_batch``."""
    model = model_of(architecture, weights)
    infer = tf.function(lambda images: model(images, training=False))
    return Network(tf.constant, lambda images: infer(images).numpy())


def trainer(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Trainer:
    """Training with ``train_on_batch``. Weight decay is Keras's ``L2``, because that of its
    ``SGD`` is decoupled from the momentum.
    """
    model = model_of(architecture, weights, keras.regularizers.L2(WEIGHT_DECAY / 2))
    model.compile(
        keras.optimizers.SGD(LEARNING_RATE, MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )

    def convert(images: np.ndarray, labels: np.ndarray) -> tuple:
        return tf.constant(images), tf.constant(labels)

    return Trainer(
        convert,
        lambda batch: float(model.train_on_batch(*batch)),
        lambda: {name: model.get_layer(name).kernel.numpy() for name in weights},
    )
