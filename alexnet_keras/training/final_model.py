"""The network that a run leaves: its final weights in float32, measured as they are saved."""

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
    """``model`` and ``outcome`` themselves, or after mixed precision a float32 copy and an
    outcome with the evaluation of that.

    Every worker must call it: each evaluates its part of ``val_batches``, and all get the
    evaluation of every sample.
    """
    with workers.strategy.scope():
        saved = float32_copy(model)
    if saved is model:
        return model, outcome
    return saved, replace(outcome, evaluation=evaluate(saved, val_batches, workers=workers))
