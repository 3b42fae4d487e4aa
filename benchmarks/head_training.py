"""An epoch of training the head on stored features, against computing the features again for each
epoch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from alexnet_keras.configs.architecture import ALEXNET, FINAL_LAYER
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.configs.recipe import HEAD_RECIPE
from alexnet_keras.configs.schedule import DropAt
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.feature_batches import FeatureBatches
from alexnet_keras.features.cache import layer_inputs
from alexnet_keras.models.alexnet import new_model
from alexnet_keras.training.loop import train
from benchmarks.measure import Line, Options, Rate
from benchmarks.photographs import find_photographs, make_samples
from benchmarks.steady import Clock, steady_rates

CLASSES = 10
BATCH_SIZE = 50
STEPS = 8
EPOCHS = 6
STORED_ROWS = 2000
RECOMPUTED = "features recomputed"
TARGET = 50
MAX_REPETITIONS = 5


def lines(options: Options) -> Iterator[Line]:
    """Images per second with features in memory and in a file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, origin = find_photographs(folder)
        samples = make_samples(paths, BATCH_SIZE * STEPS, classes=CLASSES)
        model = new_model(ALEXNET, CAFFE_PREPROCESSING, samples.class_names)
        batches = EvaluationBatches(
            samples, CAFFE_PREPROCESSING, BATCH_SIZE, num_threads=options.threads
        )
        stored = np.random.default_rng(0).normal(0, 1, (STORED_ROWS, 4096)).astype(np.float32)
        np.save(folder / "features.npy", stored)
        rows = make_samples(paths, STORED_ROWS, classes=CLASSES)
        rates = steady_rates(
            {
                "ours": lambda clock: _epochs(
                    np.load(folder / "features.npy", mmap_mode="r"), rows, clock
                ),
                "in memory": lambda clock: _epochs(stored, rows, clock),
                RECOMPUTED: lambda clock: layer_inputs(
                    model, FINAL_LAYER, batches, on_batch=clock
                ),
            },
            min(options.repetitions, MAX_REPETITIONS),
        )
        yield Line(
            "head training on features in a file",
            "ours",
            {name: Rate.of(values) for name, values in rates.items()},
            {RECOMPUTED: TARGET},
            notes=origin,
        )


def _epochs(features: np.ndarray, samples, clock: Clock) -> None:
    inputs = keras.Input(features.shape[1:])
    head = keras.Model(
        inputs, keras.layers.Dense(CLASSES, kernel_initializer="zeros", name=FINAL_LAYER)(inputs)
    )
    recipe = replace(
        HEAD_RECIPE, batch_size=BATCH_SIZE, epochs=EPOCHS, schedule=DropAt(()), learning_rate=1e-3
    )
    epoch_clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: clock(len(samples))
    )
    train(head, FeatureBatches(features, samples, BATCH_SIZE, 0), recipe, callbacks=[epoch_clock])
