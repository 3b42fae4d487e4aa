"""An epoch of training the head on features that are kept, against computing the features again
for that epoch.
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
from alexnet_keras.features.cache import features_below
from alexnet_keras.pretrained.loading import new_network
from alexnet_keras.training.loop import train
from benchmarks.measure import Line, Options, Rate
from benchmarks.photographs import photographs, samples_of
from benchmarks.steady import Clock, steady_rates

CLASSES, BATCH_SIZE, STEPS, EPOCHS, KEPT_EPOCHS_OF = 10, 50, 8, 6, 2000
AGAIN = "features again"
TARGET = 50
MAX_REPETITIONS = 5


def lines(options: Options) -> Iterator[Line]:
    """Images a second, for features in memory and for those in a file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, origin = photographs(folder)
        samples = samples_of(paths, BATCH_SIZE * STEPS, classes=CLASSES)
        model = new_network(ALEXNET, CAFFE_PREPROCESSING, samples.class_names)
        batches = EvaluationBatches(
            samples, CAFFE_PREPROCESSING, BATCH_SIZE, num_threads=options.threads
        )
        kept = np.random.default_rng(0).normal(0, 1, (KEPT_EPOCHS_OF, 4096)).astype(np.float32)
        np.save(folder / "kept.npy", kept)
        rows = samples_of(paths, KEPT_EPOCHS_OF, classes=CLASSES)
        rates = steady_rates(
            {
                "ours": lambda clock: _epochs(
                    np.load(folder / "kept.npy", mmap_mode="r"), rows, clock
                ),
                "in memory": lambda clock: _epochs(kept, rows, clock),
                AGAIN: lambda clock: features_below(model, FINAL_LAYER, batches, on_batch=clock),
            },
            min(options.repetitions, MAX_REPETITIONS),
        )
        yield Line(
            "an epoch of the head on features in a file",
            "ours",
            {name: Rate.of(values) for name, values in rates.items()},
            {AGAIN: TARGET},
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
    told = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: clock(len(samples)))
    train(head, FeatureBatches(features, samples, BATCH_SIZE, 0), recipe, callbacks=[told])
