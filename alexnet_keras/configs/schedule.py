"""Learning-rate schedules as frozen dataclasses: when the rate is multiplied by gamma, and rules
for the rates of some layers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from alexnet_keras.errors import ConfigurationError


@dataclass(frozen=True)
class DropAt:
    """Drop at each of ``epochs``, which may be fractions (PyTorch's ``MultiStepLR``)."""

    epochs: tuple[float, ...] = ()

    def num_drops(self, step: int, epoch: float, plateaus: int) -> int:
        return sum(epoch >= drop for drop in self.epochs)

    def scaled(self, ratio: float) -> DropAt:
        return DropAt(tuple(drop * ratio for drop in self.epochs))


@dataclass(frozen=True)
class DropEvery:
    """Drop every ``epochs`` epochs or, if that is None, every ``steps`` steps (PyTorch's
    ``StepLR``).
    """

    epochs: float | None = None
    steps: float | None = None

    def __post_init__(self):
        every = self.steps if self.epochs is None else self.epochs
        if every is None or not 0 < every < math.inf:
            raise ConfigurationError(
                "schedule: expected a positive number of epochs or steps between drops, got "
                f"{every}"
            )

    def num_drops(self, step: int, epoch: float, plateaus: int) -> int:
        return int(step // self.steps if self.epochs is None else epoch // self.epochs)

    def scaled(self, ratio: float) -> DropEvery:
        return DropEvery(self.epochs and self.epochs * ratio, self.steps and self.steps * ratio)


@dataclass(frozen=True)
class Plateau:
    """Drop when val top-1 has not improved for ``patience`` epochs, at most ``times`` times; the
    next plateau ends the run (PyTorch's ``ReduceLROnPlateau``).
    """

    times: int = 3
    patience: int = 5

    def __post_init__(self):
        for name, low, value in (("times", 0, self.times), ("patience", 1, self.patience)):
            if value < low:
                raise ConfigurationError(f"schedule.{name}: expected at least {low}, got {value}")

    def num_drops(self, step: int, epoch: float, plateaus: int) -> int:
        return min(plateaus, self.times)

    def scaled(self, ratio: float) -> Plateau:
        return self


Schedule = DropAt | DropEvery | Plateau


@dataclass(frozen=True)
class RateRule:
    """Multiplies the learning rate of ``layers`` by ``factor`` from the epoch ``from_epoch`` on.

    ``of``: ``"kernels"``, ``"biases"`` or ``"all"``. The factors of several rules multiply. A
    factor of 0 freezes: the weights and their velocities stay as they are, and the gradients count
    as 0 where their norm is clipped.
    """

    layers: tuple[str, ...]
    factor: float
    from_epoch: float = 0.0
    of: str = "all"

    def __post_init__(self):
        if self.of not in ("all", "kernels", "biases"):
            raise ConfigurationError(
                f"rate_rules.of: expected all, kernels or biases, got {self.of!r}"
            )
        for name in ("factor", "from_epoch"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(
                    f"rate_rules.{name}: expected zero or a positive number, got "
                    f"{getattr(self, name)}"
                )

    def applies_to(self, layer: str, is_bias: bool) -> bool:
        return layer in self.layers and self.of in ("all", "biases" if is_bias else "kernels")

    def scaled(self, ratio: float) -> RateRule:
        return replace(self, from_epoch=self.from_epoch * ratio)
