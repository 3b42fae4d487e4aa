"""The state of a training run besides its weights and velocities; a resumed run depends on nothing
else.

Batches, crops and dropout masks are functions of the seed and the step, so that no state of a
random generator has to be saved.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import Plateau
from alexnet_keras.errors import RunError

SUMS = ("loss", "top1", "top5", "images")


@dataclass
class TrainState:
    """The state after ``step`` steps.

    ``sums`` (loss, top-1 and top-5 hits, images) and ``seconds`` are those of the steps of
    ``epoch`` so far. ``best``: the metrics on val of the best epoch so far, and its ``step``.
    ``plateaus``: how often top-1 on val has stopped improving. ``best_on_plateau``: the best top-1
    since the last drop of the learning rate; ``waited``: epochs since then without a better one.
    """

    step: int = 0
    epoch: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(SUMS))
    seconds: float = 0.0
    best: dict | None = None
    plateaus: int = 0
    waited: int = 0
    best_on_plateau: float = -1.0

    def add(self, sums: tuple[float, ...], seconds: float) -> None:
        """Count a step, and add its sums."""
        self.step += 1
        self.seconds += seconds
        self.sums = [total + value for total, value in zip(self.sums, sums, strict=True)]

    def epoch_logs(self) -> dict[str, float]:
        """Means over the images of the epoch so far, and the throughput."""
        return mean_metrics(self.sums) | self.throughput()

    def throughput(self) -> dict[str, float]:
        """Images per second over the epoch so far."""
        return {"images_per_second": self.sums[3] / self.seconds if self.seconds else 0.0}

    @property
    def is_best(self) -> bool:
        """Whether the current weights have the best top-1 on val so far."""
        return self.best is not None and self.best["step"] == self.step

    def end_epoch(self, metrics: dict | None, recipe: Recipe) -> bool:
        """Record the ``metrics`` on val and start the next epoch; returns whether a plateau of
        top-1 ends the run.
        """
        self.epoch += 1
        self.sums = [0.0] * len(SUMS)
        self.seconds = 0.0
        if metrics is None:
            return False
        if self.best is None or metrics["top1"] > self.best["top1"]:
            self.best = {"step": self.step, **metrics}
        if not isinstance(recipe.schedule, Plateau):
            return False
        self._update_plateau(metrics["top1"], recipe.schedule.patience)
        return self.stopped_by_plateau(recipe)

    def stopped_by_plateau(self, recipe: Recipe) -> bool:
        """Whether top-1 stopped improving once more after the last drop of the learning rate."""
        return isinstance(recipe.schedule, Plateau) and self.plateaus > recipe.schedule.times

    def _update_plateau(self, top1: float, patience: int) -> None:
        if top1 > self.best_on_plateau:
            self.best_on_plateau = top1
            self.waited = 0
            return
        self.waited += 1
        if self.waited == patience:
            self.plateaus += 1
            self.waited = 0
            self.best_on_plateau = -1.0

    @classmethod
    def from_dict(cls, values: dict) -> TrainState:
        """Inverse of ``dataclasses.asdict``; raises ``RunError`` for other fields."""
        try:
            return cls(**values)
        except TypeError as error:
            raise RunError(f"progress: {error}") from None

    def to_dict(self) -> dict:
        """A JSON-ready copy."""
        return dataclasses.asdict(self)


def mean_metrics(sums) -> dict[str, float]:
    """Mean loss, top-1 and top-5 per image, of their sums and the number of images."""
    images = max(sums[3], 1)
    return {name: total / images for name, total in zip(SUMS[:3], sums[:3], strict=True)}
