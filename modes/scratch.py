"""Training from scratch: from random initial values to a trained network.

What it is: all weights are learned from your images alone, as in the paper, by stochastic gradient
descent with momentum and weight decay on random crops and their mirror images.

When to use it: if you have many images (ImageNet has 1.2 million), to reproduce the results of
2012, or to study how an architecture learns.

What to expect: with the paper's small initial values the loss stays flat for a while before it
falls. On a few thousand photographs a 61M-parameter network overfits; use transfer learning there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import keras

from alexnet_keras.configs.architecture import VARIANTS, Architecture, demo_architecture
from alexnet_keras.configs.departures import departures_from
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.option_fields import accept_options
from alexnet_keras.configs.options import ScratchOptions
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.configs.recipe import (
    DEMO_RECIPE,
    KRIZHEVSKY_DEMO_RECIPE,
    VARIANT_RECIPES,
    Recipe,
)
from alexnet_keras.data.batches import EvaluationBatches, TrainingBatches
from alexnet_keras.data.demo import is_demonstration
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.models.alexnet import new_model
from alexnet_keras.training.final_model import in_float32
from alexnet_keras.training.loop import ExecutionConfig, TrainingResult, train
from alexnet_keras.training.recipe_from_options import with_init_and_resizing
from alexnet_keras.training.run import Run
from alexnet_keras.training.run_folder import NullRunFolder, RunFolder
from alexnet_keras.training.session_start import open_session


@accept_options(ScratchOptions, name="scratch")
def run_scratch(*, verbose: str | int = "auto", **options) -> Run:
    """Train a network from scratch.

    Does the same as the command ``scratch`` and writes the same run folder; every option is a
    keyword. ``verbose`` is Keras's: ``"auto"`` or 1 shows progress, 2 prints a line per epoch, 0
    is silent. Ctrl-C saves what was learned: the run returned has ``result["finished"]`` False,
    and :func:`alexnet_keras.resume` finishes it. Raises ``ConfigurationError``, ``DataError`` and
    ``RunError``.

    Example::

        run = alexnet_keras.scratch(data="photographs", variant="owt", epochs=30)
        run.result["top1"], run.history["val_top1"]
    """
    with open_session("scratch", ScratchOptions, options, verbose) as session:
        network = _architecture(session.options)
        recipe = session.choose_recipe(_default_recipe(session.options))
        if session.config is None:
            recipe = with_init_and_resizing(recipe, network, session.options)
            recipe = session.with_mean(recipe, recipe.apply_to(network))
        finished = session.finished_run(recipe)
        if finished:
            return finished
        architecture = recipe.apply_to(network)
        with session.run_folder(
            recipe, architecture=architecture.to_dict(), preprocessing=asdict(recipe.preprocessing)
        ) as folder:
            _explain_demonstration(session, architecture, recipe)
            outcome = train_from_scratch(
                session.dataset,
                folder,
                architecture=architecture,
                preprocessing=recipe.preprocessing,
                recipe=recipe,
                seed=session.options.seed,
                loading=session.loading,
                callbacks=session.callbacks,
                execution=session.execution,
            )
        return session.result(outcome)


def train_from_scratch(
    dataset: Dataset,
    folder: RunFolder | NullRunFolder,
    *,
    architecture: Architecture,
    preprocessing: Preprocessing,
    recipe: Recipe,
    seed: int = 0,
    loading: Loading = Loading(),
    callbacks: Iterable[keras.callbacks.Callback] = (),
    execution: ExecutionConfig | None = None,
) -> TrainingResult:
    """Train a new network on the train split of ``dataset``, evaluate it on val, and write the run
    folder.

    ``loading``: how images are read; ``execution``: devices, precision and checkpoints.
    """
    train_samples = dataset.samples("train")
    val_samples = dataset.samples("val")
    execution = execution or ExecutionConfig()
    keras.utils.set_random_seed(seed)
    with execution.workers.strategy.scope():
        model = new_model(architecture, preprocessing, dataset.class_names)
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
        callbacks=[folder.metrics(), *callbacks],
        val_batches=val_batches,
        execution=execution,
    )
    model, outcome = in_float32(model, outcome, val_batches, execution.workers)
    folder.finish(model, outcome)
    return outcome


def _default_recipe(options: ScratchOptions) -> Recipe:
    if is_demonstration(options.data):
        return KRIZHEVSKY_DEMO_RECIPE if options.variant == "krizhevsky" else DEMO_RECIPE
    return VARIANT_RECIPES[options.variant or "alexnet"]


def _architecture(options: ScratchOptions) -> Architecture:
    """The variant at the requested width; on demonstration data narrow by default."""
    variant = options.variant or "alexnet"
    if not is_demonstration(options.data):
        return VARIANTS[variant].with_width(1.0 if options.width is None else options.width)
    if options.width is None:
        return demo_architecture(variant)
    return demo_architecture(variant, options.width, options.width)


def _explain_demonstration(session, architecture: Architecture, recipe: Recipe) -> None:
    """Print what the demonstration does otherwise: the width of its network, and for a variant
    that the call names every departure from that variant's recipe.
    """
    options = session.options
    if not is_demonstration(options.data) or not session.workers.is_chief:
        return
    if options.width is None:
        session.progress.print(
            "The demonstration has about a thousandth of ImageNet's images, so the "
            f"{architecture.input_size}x{architecture.input_size} network is trained with a "
            "quarter of its filters and an eighth of its hidden units."
        )
    if options.variant is not None:
        published = VARIANT_RECIPES[options.variant]
        lines = departures_from(recipe, architecture, published, VARIANTS[options.variant])
        if lines:
            session.progress.print(f"The run departs from recipe {published.name}:")
        for line in lines:
            session.progress.print(f"  {line}")
