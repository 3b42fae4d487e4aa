"""This project, as its commands use it."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER, Architecture
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.batches import Batch
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.models.alexnet import build
from alexnet_keras.training.train_step import TrainStep
from benchmarks.peers import LEARNING_RATE, MOMENTUM, WEIGHT_DECAY, Network, Trainer
from weights.canonical import Layers

RECIPE = Recipe(
    "benchmark",
    1,
    steps=1,
    learning_rate=LEARNING_RATE,
    momentum=MOMENTUM,
    weight_decay=WEIGHT_DECAY,
    bias_multiplier=1.0,
)


def model_of(architecture: Architecture, weights: Layers) -> keras.Model:
    """This project's network with these weights, ending in fc8."""
    size = architecture.input_size
    classes = len(weights[FINAL_LAYER][1])
    model = build(architecture, keras.Input((size, size, 3)), classes, classifier_activation=None)
    for name, values in weights.items():
        model.get_layer(name).set_weights(values)
    return model


def make_batch(images: np.ndarray, labels: np.ndarray) -> Batch:
    """A batch of images (batch, height, width, 3) float32 and labels (batch,) int32, all of weight
    1.
    """
    count = len(labels)
    columns = (images, labels, np.ones(count, np.float32), np.arange(count))
    return Batch(*map(tf.constant, columns))


def network(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Network:
    model = model_of(architecture, weights)
    infer = tf.function(lambda images: model(images, training=False))
    return Network(tf.constant, lambda images: infer(images).numpy())


def trainer(architecture: Architecture, weights: Layers, batch_size: int, threads: int) -> Trainer:
    model = model_of(architecture, weights)
    train_step = TrainStep(model, RECIPE, batch_size, seed=0, workers=open_workers("one"))

    return Trainer(
        make_batch,
        lambda batch: train_step(0, batch, LEARNING_RATE).fetch().loss,
        lambda: {name: model.get_layer(name).kernel.numpy() for name in weights},
    )
