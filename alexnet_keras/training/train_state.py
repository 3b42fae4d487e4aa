"""How far a training run is: with the weights and their velocities, all that a resumed run
depends on.

Batches, crops and dropout masks are functions of the seed and the step, so there is no state of a
random generator.
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
    """After ``step`` steps: ``sums`` (loss, top-1 and top-5 hits, images) and ``seconds`` of those
    of ``epoch``.

    ``best``: the figures on val of the best epoch so far, and its ``step``. ``waited``: epochs
    since ``best_on_plateau``, the best top-1 at the present rate.
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
        """Count one more step, and its sums."""
        self.step += 1
        self.seconds += seconds
        self.sums = [total + value for total, value in zip(self.sums, sums, strict=True)]

    def means(self) -> dict[str, float]:
        """Means over the images of the epoch so far, and their rate."""
        return means(self.sums) | self.rate()

    def rate(self) -> dict[str, float]:
        """Images a second over the epoch so far."""
        return {"images_per_second": self.sums[3] / self.seconds if self.seconds else 0.0}

    @property
    def is_best(self) -> bool:
        """Whether the present weights had the best top-1 on val so far."""
        return self.best is not None and self.best["step"] == self.step

    def end_epoch(self, figures: dict | None, recipe: Recipe) -> bool:
        """Begin the next epoch, given the figures on val; whether a plateau of the accuracy ends
        the run.
        """
        self.epoch += 1
        self.sums = [0.0] * len(SUMS)
        self.seconds = 0.0
        if figures is None:
            return False
        if self.best is None or figures["top1"] > self.best["top1"]:
            self.best = {"step": self.step, **figures}
        if not isinstance(recipe.schedule, Plateau):
            return False
        self._watch(figures["top1"], recipe.schedule.patience)
        return self.is_over(recipe)

    def is_over(self, recipe: Recipe) -> bool:
        """Whether the last plateau of the accuracy has ended the run."""
        return isinstance(recipe.schedule, Plateau) and self.plateaus > recipe.schedule.times

    def _watch(self, top1: float, patience: int) -> None:
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
        """Inverse of ``dataclasses.asdict``; raises ``RunError`` for what no run writes."""
        try:
            return cls(**values)
        except TypeError as error:
            raise RunError(f"progress: {error}") from None

    def to_dict(self) -> dict:
        """A JSON-ready copy."""
        return dataclasses.asdict(self)


def means(sums) -> dict[str, float]:
    """Per-image means of the sums of loss, top-1 hits, top-5 hits and images."""
    images = max(sums[3], 1)
    return {name: total / images for name, total in zip(SUMS[:3], sums[:3], strict=True)}
