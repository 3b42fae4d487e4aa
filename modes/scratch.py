"""Training from scratch: from random initial values to a trained network.

What it is: every weight is learned from your images alone, as in the paper, by stochastic gradient
descent with momentum and weight decay on random crops and their mirror images. When to use it:
with many images (ImageNet has 1.2 million), to repeat 2012, or to study how an architecture
learns. What to expect: from the paper's small initial values the loss stays flat for a while
before it falls, and on a few thousand photographs a network of 61 million weights learns them by
heart; transfer learning does better there.
"""

from __future__ import annotations

from collections.abc import Iterable

import keras

from alexnet_keras.configs.architecture import Architecture
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.batches import EvaluationBatches, TrainingBatches
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.pretrained.loading import new_network
from alexnet_keras.training.loop import Execution, Outcome, train
from alexnet_keras.training.run_folder import Run


def scratch(
    dataset: Dataset,
    run: Run,
    *,
    architecture: Architecture,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int = 0,
    loading: Loading = Loading(),
    callbacks: Iterable[keras.callbacks.Callback] = (),
    execution: Execution | None = None,
) -> Outcome:
    """Train a new network on the train split of ``dataset``, measure it on val, and fill the run
    folder.

    ``loading``: how images are read; ``execution``: on what, and where to save.
    """
    train_samples, val_samples = dataset.samples("train"), dataset.samples("val")
    execution = execution or Execution()
    keras.utils.set_random_seed(seed)
    with execution.workers.strategy.scope():
        model = new_network(architecture, preprocessing, dataset.class_names)
    batches = TrainingBatches(
        train_samples,
        preprocessing,
        recipe.batch_size,
        seed=seed,
        augmentation=recipe.augmentation,
        **vars(loading),
    )
    val_batches = EvaluationBatches(val_samples, preprocessing, recipe.batch_size, **vars(loading))

    outcome = train(
        model,
        batches,
        recipe,
        callbacks=[run.metrics(), *callbacks],
        val_batches=val_batches,
        execution=execution,
    )
    run.finish(model, outcome, val_batches)
    return outcome
