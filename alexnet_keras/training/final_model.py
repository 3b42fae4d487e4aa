"""The final model of a run, in float32, and its evaluation."""

from __future__ import annotations

from dataclasses import replace

from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.distribute.workers import Workers
from alexnet_keras.evaluation.evaluator import evaluate
from alexnet_keras.models.alexnet import AlexNetModel, float32_copy
from alexnet_keras.training.loop import TrainingResult


def in_float32(
    model: AlexNetModel, outcome: TrainingResult, val_batches: EvaluationBatches, workers: Workers
) -> tuple[AlexNetModel, TrainingResult]:
    """``model`` and ``outcome``; after mixed-precision training a float32 copy of the model, and
    the outcome with the copy's evaluation.

    All workers must call it: each evaluates its part of ``val_batches``, and all get the
    evaluation over all samples.
    """
    with workers.strategy.scope():
        saved = float32_copy(model)
    if saved is model:
        return model, outcome
    return saved, replace(outcome, evaluation=evaluate(saved, val_batches, workers=workers))
