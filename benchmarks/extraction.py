"""From image files to features on disk, and to weight updates, each against its parts alone.

Reading and computing share the cores, so at best an image takes the sum of both.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import click
import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import ALEXNET
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.options import PredictOptions
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.batches import Batch, EvaluationBatches, TrainingBatches
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.data.samples import Samples
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.evaluation.prediction_files import csv_text, write_text
from alexnet_keras.features.extractor import feature_extractor
from alexnet_keras.features.projection import load_projection
from alexnet_keras.features.projection_from_options import ProjectionPlan
from alexnet_keras.models.alexnet import AlexNetModel, new_model
from alexnet_keras.pretrained.loading import Pretrained
from alexnet_keras.progress import Progress
from alexnet_keras.training.loop import train
from alexnet_keras.training.train_step import TrainStep
from benchmarks.input_pipeline import read
from benchmarks.measure import Line, Options, Rate
from benchmarks.peers import random_images
from benchmarks.peers.ours import make_batch
from benchmarks.photographs import find_photographs, make_samples
from benchmarks.steady import Clock, sequential_rate, steady_rates
from modes.extract import extract_features
from modes.predict import PredictionStream

BATCH_SIZES = (32,)
WEIGHTS = "random.keras"
STEPS = 12
MAX_REPETITIONS = 5
CLASSES = 1000
BOTH = "model, then input"
TARGET = 0.95
PLAIN = "without a basis"
PROJECTIONS = [(layer, kind) for layer in ("pool5", "conv1") for kind in ("pca", "srp")]
COMPONENTS = {"pca": 50, "srp": 1000}
PROJECTION_TARGET = 0.85
EXTRACTION = "extraction of prob"
PREDICTION_TARGET = 0.9


def lines(options: Options) -> Iterator[Line]:
    """Extraction and training, then extraction with a basis and prediction, for each batch
    size.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, origin = find_photographs(folder)
        click.echo(f"extraction and training on {origin}")
        for batch_size in options.sizes(BATCH_SIZES):
            samples = make_samples(paths, batch_size * STEPS, classes=CLASSES)
            for measure, runs in (("extraction", _extraction), ("training on files", _training)):
                model = new_model(ALEXNET, CAFFE_PREPROCESSING, samples.class_names)
                rates = steady_rates(
                    runs(model, samples, batch_size, options.threads, folder),
                    min(options.repetitions, MAX_REPETITIONS),
                )
                found = {name: Rate.of(values) for name, values in rates.items()}
                found[BOTH] = sequential_rate(rates["model alone"], rates["input alone"])
                yield Line(
                    f"{measure}, batch {batch_size}", "ours", found, {BOTH: TARGET}, notes=origin
                )
            about = (model, samples, batch_size, options.threads, folder)
            for measure, runs, targets in _comparisons(about):
                rates = steady_rates(runs, min(options.repetitions, MAX_REPETITIONS))
                found = {name: Rate.of(values) for name, values in rates.items()}
                measure = f"{measure}, batch {batch_size}"
                yield Line(measure, "ours", found, targets, notes=origin)


def _comparisons(about: tuple) -> Iterator[tuple[str, dict, dict]]:
    """The measure, what is run and the targets of each comparison with plain extraction."""
    for layer, kind in PROJECTIONS:
        measure = f"{layer} by {kind}:{COMPONENTS[kind]}"
        yield measure, _projection(*about, layer, kind), {PLAIN: PROJECTION_TARGET}
    yield "prediction to .csv", _prediction(*about), {EXTRACTION: PREDICTION_TARGET}


def _extraction(
    model: AlexNetModel, samples: Samples, batch_size: int, threads: int, folder: Path
) -> dict:
    extract = _extract(model, samples, batch_size, threads, folder)
    extractor = feature_extractor(model, "fc7")
    step = tf.function(lambda images: extractor(images, training=False)["fc7"])
    batch = _synthetic_batch(batch_size)
    return {
        "ours": extract,
        "model alone": lambda clock: _repeated(
            lambda: step(batch.images).numpy(), batch_size, clock
        ),
        "input alone": lambda clock: read(
            EvaluationBatches(samples, model.preprocessing, batch_size, num_threads=threads),
            STEPS,
            clock,
        ),
    }


def _projection(
    model: AlexNetModel,
    samples: Samples,
    batch_size: int,
    threads: int,
    folder: Path,
    layer: str,
    kind: str,
) -> dict:
    """With a saved basis, whose numbers do not matter, and without."""
    extract = _extract(model, samples, batch_size, threads, folder, layers=(layer,))
    extract(Clock(), projection=ProjectionPlan("srp", COMPONENTS[kind]))
    basis = folder / f"features-{layer}.basis.npz"
    if kind == "pca":
        numbers = np.random.default_rng(0)
        random = load_projection(basis)
        replace(
            random,
            kind="pca",
            matrix=numbers.standard_normal((random.components, random.width), np.float32),
            mean=np.ones(random.width, np.float32),
            explained_variance=np.ones(random.components),
            explained_variance_ratio=np.full(random.components, 1 / random.components),
        ).save(basis)
    return {"ours": partial(extract, projection=ProjectionPlan(bases=(basis,))), PLAIN: extract}


def _prediction(
    model: AlexNetModel, samples: Samples, batch_size: int, threads: int, folder: Path
) -> dict:
    extract = _extract(model, samples, batch_size, threads, folder, layers=("prob",))
    options = PredictOptions(
        weights=str(folder / WEIGHTS), batch_size=batch_size, num_threads=threads
    )

    def predict(clock: Clock) -> None:
        stream = PredictionStream(list(samples.paths), options, Progress(verbose=0))
        text = csv_text({}, stream.top.width, stream.rows(clock))
        write_text(folder / "predictions.csv", text, lambda: True)

    return {"ours": predict, EXTRACTION: extract}


def _extract(
    model: AlexNetModel, samples: Samples, batch_size: int, threads: int, folder: Path, **settings
) -> Callable:
    path = folder / WEIGHTS
    model.save(path)
    source = Pretrained(model, "random", path)
    dataset = Dataset("photographs", "folder", folder, ("train",), {}, lambda split: samples)

    def extract(clock: Clock, **more) -> None:
        extract_features(
            dataset,
            folder / "features.npy",
            source=source,
            batch_size=batch_size,
            overwrite=True,
            loading=Loading(num_threads=threads),
            on_batch=clock,
            **settings,
            **more,
        )

    return extract


def _training(
    model: AlexNetModel, samples: Samples, batch_size: int, threads: int, folder: Path
) -> dict:
    recipe = Recipe("benchmark", batch_size, steps=STEPS, learning_rate=1e-4)
    train_step = TrainStep(model, recipe, batch_size, seed=0, workers=open_workers("one"))
    batch = _synthetic_batch(batch_size)

    def batches() -> TrainingBatches:
        return TrainingBatches(
            samples,
            model.preprocessing,
            batch_size,
            seed=0,
            augmentation=recipe.augmentation,
            num_threads=threads,
        )

    return {
        "ours": lambda clock: train(
            model, batches(), recipe, callbacks=[_StepClock(clock, batch_size)]
        ),
        "model alone": lambda clock: _repeated(
            lambda: train_step(0, batch, 1e-4).fetch(), batch_size, clock
        ),
        "input alone": lambda clock: read(batches(), STEPS, clock),
    }


class _StepClock(keras.callbacks.Callback):
    def __init__(self, clock: Clock, batch_size: int):
        super().__init__()
        self.clock = clock
        self.size = batch_size

    def on_train_batch_end(self, batch, logs=None):
        self.clock(self.size)


def _synthetic_batch(size: int) -> Batch:
    return make_batch(random_images(size, ALEXNET.input_size), np.arange(size, dtype=np.int32))


def _repeated(function, items: int, clock: Clock) -> None:
    for _ in range(STEPS):
        function()
        clock(items)
