"""Transfer learning: a network that has seen a million images learns your classes from a few.

What it is: published weights keep what they know of edges, textures and parts; only the classifier fc8 is new. First it is
trained alone on the frozen features of fc7, computed once, so that its random start cannot damage what lies below. Then
everything from ``train_from`` on is fine-tuned at a tenth of the usual rate, what is new ten times faster, as Caffe's
example does. When to use it: with tens to thousands of images a class, which is almost always. What to expect: minutes
instead of days, and far more than scratch can reach on the same images.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras
import numpy as np

from alexnet_keras.data.layouts import Dataset
from alexnet_keras.data.pipeline import EvaluationBatches, FeatureBatches, TrainingBatches
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.evaluation import evaluate
from alexnet_keras.features import extract
from alexnet_keras.model import AlexNetModel
from alexnet_keras.pretrained import Pretrained, new_network
from alexnet_keras.runs import Run
from alexnet_keras.spec import FINAL_LAYER, Recipe
from alexnet_keras.training import Outcome, optimizer_for, train


def transfer(dataset: Dataset, run: Run, *, base: Pretrained, head_recipe: Recipe, recipe: Recipe, train_from: str = "fc6",
             seed: int = 0, loading: dict | None = None,
             callbacks: Iterable[keras.callbacks.Callback] = ()) -> Outcome:
    """Give ``base`` a new fc8 for the classes of ``dataset``, train it, fine-tune, measure on val, fill the run folder.

    ``train_from``: the lowest layer that fine-tuning changes. ``loading``: ``crops`` and ``workers`` of
    :class:`~alexnet_keras.data.pipeline.Batches`. Ctrl-C while the head trains leaves fine-tuning out.
    """
    train_samples, val_samples = dataset.samples("train"), dataset.samples("val")
    keras.utils.set_random_seed(seed)
    model = with_new_head(base, dataset.class_names)
    frozen = layers_below(model, train_from)
    loading = loading or {}
    val_batches = EvaluationBatches(val_samples, model.preprocessing, recipe.batch_size, **loading)

    if train_head(model, train_samples, head_recipe, seed, loading):
        _set_trainable(model, frozen, False)
        batches = TrainingBatches(train_samples, model.preprocessing, recipe.batch_size, seed=seed, **loading)
        new_layers = dict.fromkeys((FINAL_LAYER, *base.initial), recipe.head_multiplier)
        outcome = train(model, batches, recipe, optimizer=optimizer_for(recipe, new_layers),
                        callbacks=[run.metrics(), *callbacks], val_batches=val_batches)
        _set_trainable(model, frozen, True)
    else:
        outcome = Outcome(finished=False, steps=0, evaluation=evaluate(model, val_batches))
    run.finish(model, outcome)
    return outcome


def with_new_head(base: Pretrained, class_names: tuple[str, ...]) -> AlexNetModel:
    """The same network with an fc8 of its own for ``class_names``, all other loaded weights copied."""
    model = new_network(base.model.architecture, base.model.preprocessing, class_names)
    for layer in model.layers:
        if layer.weights and layer.name not in (FINAL_LAYER, *base.initial):
            layer.set_weights(base.model.get_layer(layer.name).get_weights())
    return model


def layers_below(model: AlexNetModel, train_from: str) -> list[str]:
    """Names of the weighted layers below ``train_from``. Raises ``ConfigurationError`` listing what it can be."""
    weighted = [layer.name for layer in model.layers if layer.weights]
    if train_from not in weighted:
        raise ConfigurationError(f"train-from: expected one of {', '.join(weighted)}; found {train_from}")
    return weighted[:weighted.index(train_from)]


def _set_trainable(model: AlexNetModel, layers: list[str], trainable: bool) -> None:
    for name in layers:
        model.get_layer(name).trainable = trainable


def train_head(model: AlexNetModel, samples: Samples, recipe: Recipe, seed: int, loading: dict) -> bool:
    """Train fc8 on what the layers below it give for centre crops, which is computed once. False if Ctrl-C ended it."""
    final = model.get_layer(FINAL_LAYER)
    below = keras.Model(model.input, {"features": final.input})
    features = []
    extract(below, EvaluationBatches(samples, model.preprocessing, recipe.batch_size, **loading),
            {"features": features.append})
    features, center, scale = _conditioned(np.concatenate(features))
    head = _head(features.shape[1], final.units)
    outcome = train(head, FeatureBatches(features, samples, recipe.batch_size, seed), recipe)
    kernel, bias = head.get_layer(FINAL_LAYER).get_weights()
    final.set_weights([kernel / scale, bias - center @ kernel / scale])
    return outcome.finished


def _conditioned(features: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Features centred and brought to a mean square norm of 1, so that one learning rate suits every network's head."""
    center = np.nanmean(features, axis=0)
    centered = features - center
    scale = float(np.sqrt(np.nanmean(np.square(centered).sum(axis=1)))) or 1.0
    return centered / scale, center, scale


def _head(width: int, classes: int) -> keras.Model:
    """fc8 as a network of its own, starting from zero, since the problem is convex."""
    inputs = keras.Input((width,))
    return keras.Model(inputs, keras.layers.Dense(classes, kernel_initializer="zeros", name=FINAL_LAYER)(inputs))
