"""Transfer learning: fine-tune a network pretrained on a million images on a few of your own.

What it is: the pretrained layers, which detect edges, textures and parts, are kept, and the
classifier fc8 is replaced. The new fc8 is first trained alone on the features of fc7, computed
once, so that its large initial gradients do not disturb the pretrained layers. Then all layers
from ``train_from`` on are fine-tuned at a tenth of the usual learning rate, new layers ten times
faster, as in Caffe's example.

When to use it: with tens to thousands of images per class, which is almost always.

What to expect: minutes instead of days, and far higher accuracy than training from scratch on the
same images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np

from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.loading import Loading, Shard
from alexnet_keras.configs.option_fields import accept_options
from alexnet_keras.configs.options import TransferOptions
from alexnet_keras.configs.recipe import (
    DEMO_FINETUNE_RECIPE,
    FINETUNE_RECIPE,
    HEAD_RECIPE,
    Recipe,
)
from alexnet_keras.data.batches import EvaluationBatches, TrainingBatches
from alexnet_keras.data.demo import is_demonstration
from alexnet_keras.data.feature_batches import FeatureBatches
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.data.samples import Samples
from alexnet_keras.distribute.workers import Workers
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.evaluation.evaluator import evaluate
from alexnet_keras.features.cache import layer_inputs
from alexnet_keras.models.alexnet import AlexNetModel, new_model
from alexnet_keras.pretrained.from_options import open_weights
from alexnet_keras.pretrained.loading import Pretrained
from alexnet_keras.training.final_model import in_float32
from alexnet_keras.training.loop import ExecutionConfig, TrainingResult, train
from alexnet_keras.training.run import Run
from alexnet_keras.training.run_folder import NullRunFolder, RunFolder
from alexnet_keras.training.session_start import open_session


@accept_options(TransferOptions, name="transfer")
def run_transfer(*, verbose: str | int = "auto", **options) -> Run:
    """Fine-tune a pretrained network on your classes.

    Does the same as the command ``transfer`` and writes the same run folder; every option is a
    keyword. ``verbose`` is Keras's: ``"auto"`` or 1 shows progress, 2 prints a line per epoch, 0
    is silent. Ctrl-C saves what was learned: the run returned has ``result["finished"]`` False,
    and :func:`alexnet_keras.resume` finishes it. Raises ``ConfigurationError``, ``DataError``,
    ``WeightsError`` and ``RunError``.

    Example::

        run = alexnet_keras.transfer(data="photographs", weights="caffe", epochs=6)
        run.result["top1"], run.model
    """
    with open_session("transfer", TransferOptions, options, verbose) as session:
        options = session.options
        default = DEMO_FINETUNE_RECIPE if is_demonstration(options.data) else FINETUNE_RECIPE
        recipe = session.choose_recipe(default)
        finished = session.finished_run(recipe)
        if finished:
            return finished
        base = open_weights(options, options.data, session.progress)
        layers_before(base.model, options.train_from)
        session.check_same_weights(base.describe())
        with session.run_folder(
            recipe,
            train_from=options.train_from,
            weights=base.describe(),
            head_recipe=HEAD_RECIPE.to_dict(),
            architecture=base.model.architecture.to_dict(),
            preprocessing=asdict(base.model.preprocessing),
        ) as folder:
            outcome = train_from_pretrained(
                session.dataset,
                folder,
                base=base,
                head_recipe=HEAD_RECIPE,
                recipe=recipe,
                train_from=options.train_from,
                seed=options.seed,
                loading=session.loading,
                callbacks=session.callbacks,
                execution=session.execution,
                feature_cache=options.feature_cache and Path(options.feature_cache),
            )
        return session.result(outcome)


def train_from_pretrained(
    dataset: Dataset,
    folder: RunFolder | NullRunFolder,
    *,
    base: Pretrained,
    head_recipe: Recipe,
    recipe: Recipe,
    train_from: str = "fc6",
    seed: int = 0,
    loading: Loading = Loading(),
    callbacks: Iterable[keras.callbacks.Callback] = (),
    execution: ExecutionConfig | None = None,
    feature_cache: Path | None = None,
) -> TrainingResult:
    """Replace the fc8 of ``base``, train it, fine-tune, evaluate on val, and write the run folder.

    ``train_from``: the first layer to fine-tune. ``loading``: how images are read. ``execution``:
    devices, precision and checkpoints. ``feature_cache``: a folder that keeps the features which
    the head is trained on. Ctrl-C while the head is trained skips fine-tuning.
    """
    train_samples = dataset.samples("train")
    execution = execution or ExecutionConfig()
    keras.utils.set_random_seed(seed)
    with execution.workers.strategy.scope():
        model = replace_head(base, recipe, dataset.class_names)
    frozen = layers_before(model, train_from)
    val_batches = EvaluationBatches(
        dataset.samples("val"), model.preprocessing, recipe.batch_size, **vars(loading)
    )
    if execution.resume or train_head(
        model, train_samples, head_recipe, seed, loading, execution.workers, feature_cache
    ):
        _set_trainable(model, frozen, False)
        batches = TrainingBatches(
            train_samples,
            model.preprocessing,
            recipe.batch_size,
            seed=seed,
            augmentation=recipe.augmentation,
            **vars(loading),
        )
        new_layers = dict.fromkeys((FINAL_LAYER, *base.missing), recipe.head_multiplier)
        outcome = train(
            model,
            batches,
            replace(recipe, multipliers=new_layers | recipe.multipliers),
            callbacks=[folder.metrics(), *callbacks],
            val_batches=val_batches,
            execution=execution,
        )
        _set_trainable(model, frozen, True)
    else:
        outcome = TrainingResult(
            finished=False,
            steps=0,
            evaluation=evaluate(model, val_batches, workers=execution.workers),
        )
    model, outcome = in_float32(model, outcome, val_batches, execution.workers)
    folder.finish(model, outcome)
    return outcome


def replace_head(base: Pretrained, recipe: Recipe, class_names: tuple[str, ...]) -> AlexNetModel:
    """A copy of the network with the recipe's dropout and a new fc8 for ``class_names``.

    Weights are copied from ``base``, except those of fc8 and of layers missing from its file.
    """
    model = new_model(
        recipe.apply_to(base.model.architecture), base.model.preprocessing, class_names
    )
    for layer in model.layers:
        if layer.weights and layer.name not in (FINAL_LAYER, *base.missing):
            layer.set_weights(base.model.get_layer(layer.name).get_weights())
    return model


def layers_before(model: AlexNetModel, train_from: str) -> list[str]:
    """Names of the layers with weights before ``train_from``. Raises ``ConfigurationError`` for
    any other name.
    """
    weighted = [layer.name for layer in model.layers if layer.weights]
    if train_from not in weighted:
        raise ConfigurationError(
            f"train_from: expected one of {', '.join(weighted)}, got {train_from}"
        )
    return weighted[: weighted.index(train_from)]


def _set_trainable(model: AlexNetModel, layers: list[str], trainable: bool) -> None:
    for name in layers:
        model.get_layer(name).trainable = trainable


def train_head(
    model: AlexNetModel,
    samples: Samples,
    recipe: Recipe,
    seed: int,
    loading: Loading,
    workers: Workers,
    feature_cache: Path | None = None,
) -> bool:
    """Train fc8 on the activations of the layer before it for centre crops, computed once. Returns
    False if interrupted by Ctrl-C.

    This takes seconds, so every worker trains on all samples; then all use the chief's weights,
    because results may differ in the last bits between machines.
    """
    final = model.get_layer(FINAL_LAYER)
    unsharded = vars(replace(loading, shard=Shard()))
    features = layer_inputs(
        model,
        FINAL_LAYER,
        EvaluationBatches(samples, model.preprocessing, recipe.batch_size, **unsharded),
        feature_cache,
    )
    center, scale = _center_and_scale(features)
    head = _head(features.shape[1], final.units)
    outcome = train(
        head, FeatureBatches(features, samples, recipe.batch_size, seed, center, scale), recipe
    )
    kernel, bias = head.get_layer(FINAL_LAYER).get_weights()
    agreed, _ = workers.broadcast(
        {"kernel": kernel / scale, "bias": bias - center @ kernel / scale}, {}
    )
    final.set_weights([agreed["kernel"], agreed["bias"]])
    return all(worker["finished"] for worker in workers.all_gather({"finished": outcome.finished}))


def _center_and_scale(features: np.ndarray) -> tuple[np.ndarray, np.float32]:
    """The mean of the features, and the scale that makes their mean squared norm 1, so that one
    learning rate suits every network.

    Computed in chunks, because ``features`` may be a memory map.
    """
    pieces = [features[start : start + 4096] for start in range(0, len(features), 4096)]
    readable = sum((~np.isnan(piece[:, 0])).sum() for piece in pieces)
    center = (
        sum(np.nansum(piece, axis=0, dtype=np.float64) for piece in pieces) / max(readable, 1)
    ).astype(np.float32)
    square = sum(np.nansum(np.square(piece - center), dtype=np.float64) for piece in pieces) / max(
        readable, 1
    )
    return center, np.float32(np.sqrt(square) or 1)


def _head(width: int, classes: int) -> keras.Model:
    """fc8 as a model of its own, initialized to zeros, because the problem is convex."""
    inputs = keras.Input((width,))
    final = keras.layers.Dense(
        classes, kernel_initializer="zeros", dtype="float32", name=FINAL_LAYER
    )
    return keras.Model(inputs, final(inputs))
