"""Training recipes as frozen dataclasses, and the published ones. No TensorFlow here."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field, replace

from alexnet_keras.configs.architecture import (
    KRIZHEVSKY,
    OWT,
    PAPER,
    SLIM,
    Architecture,
    Dropout,
    InitialValues,
)
from alexnet_keras.configs.augmentation import AUGMENTATIONS, Augmentation
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    KRIZHEVSKY_PREPROCESSING,
    PAPER_PREPROCESSING,
    SLIM_PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.configs.schedule import DropAt, DropEvery, Plateau, RateRule, Schedule
from alexnet_keras.configs.serialization import ADDED_LATER, asdict_with_kind, from_json
from alexnet_keras.errors import ConfigurationError

UPPER_LIMITS = {"batch_size": 1_000_000, "epochs": 1_000_000, "steps": 1_000_000_000}


@dataclass(frozen=True)
class Recipe:
    """How a network is trained: for ``epochs`` passes or ``steps`` updates, one of which is None.

    The learning rate is multiplied by ``gamma`` at each drop of ``schedule``. ``multipliers`` maps
    layers to factors of the learning rate (default 1); ``head_multiplier`` is that of a new fc8,
    and ``bias_multiplier`` multiplies the rate of every layer's bias. ``weight_decay`` applies to
    kernels, and to biases with ``decay_biases``. Gradients are clipped to the global norm
    ``clip_norm``. ``initial_values``, ``dropout`` (a rate) and ``preprocessing`` replace those of
    the variant; None keeps them. ``mean="image"`` subtracts the train split's mean image, computed
    in one pass unless it is given, and ``"pixel"`` the mean colour of the preprocessing.
    ``rate_rules`` multiply the rates of some layers from an epoch on. Without ``drop_bias_rates``
    the rates of biases do not follow ``schedule``: they are ``bias_multiplier`` times
    ``learning_rate`` throughout.
    """

    name: str
    batch_size: int
    epochs: int | None = None
    steps: int | None = None
    schedule: Schedule = DropAt()
    learning_rate: float = 0.01
    gamma: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    bias_multiplier: float = 2.0
    head_multiplier: float = 1.0
    multipliers: dict[str, float] = field(default_factory=dict)
    clip_norm: float | None = None
    augmentation: Augmentation = AUGMENTATIONS["standard"]
    initial_values: InitialValues | None = None
    dropout: float | None = None
    preprocessing: Preprocessing | None = None
    decay_biases: bool = field(default=False, metadata=ADDED_LATER)
    mean: str = field(default="pixel", metadata=ADDED_LATER)
    rate_rules: tuple[RateRule, ...] = field(default=(), metadata=ADDED_LATER)
    drop_bias_rates: bool = field(default=True, metadata=ADDED_LATER)

    def __post_init__(self):
        if (self.epochs is None) == (self.steps is None):
            raise ConfigurationError(
                f"recipe {self.name}: expected either epochs or steps, got epochs={self.epochs} "
                f"and steps={self.steps}"
            )
        for name, most in UPPER_LIMITS.items():
            value = getattr(self, name)
            if value is not None and not 1 <= value <= most:
                raise ConfigurationError(f"{name}: expected 1 to {most}, got {value}")
        if self.mean not in ("pixel", "image"):
            raise ConfigurationError(f"recipe.mean: expected pixel or image, got {self.mean!r}")
        positive = {"lr": self.learning_rate, "lr_gamma": self.gamma, "clip_norm": self.clip_norm}
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise ConfigurationError(f"{name}: expected a positive number, got {value}")
        factors = {
            "weight_decay": self.weight_decay,
            "bias_lr_mult": self.bias_multiplier,
            "head_lr_mult": self.head_multiplier,
            **{f"lr_mult {name}": v for name, v in self.multipliers.items()},
        }
        for name, value in factors.items():
            if not 0 <= value < math.inf:
                raise ConfigurationError(
                    f"{name}: expected zero or a positive number, got {value}"
                )
        for name, value in (("momentum", self.momentum), ("dropout", self.dropout)):
            if value is not None and not 0 <= value < 1:
                raise ConfigurationError(
                    f"{name}: expected a number from 0 to below 1, got {value}"
                )

    def learning_rate_at(self, step: int, epoch: float, plateaus: int = 0) -> float:
        """The learning rate at step ``step``, which is at the fractional epoch ``epoch``, after
        ``plateaus`` plateaus of val top-1.
        """
        return self.learning_rate * self.gamma ** self.schedule.num_drops(step, epoch, plateaus)

    def total_steps(self, samples: int) -> int:
        """The number of training steps for ``samples`` training samples."""
        return self.steps or -(-self.epochs * samples // self.batch_size)

    def with_length(
        self, samples: int, epochs: int | None = None, steps: int | None = None
    ) -> Recipe:
        """The recipe with another length, and all its times, such as learning-rate drops, moved in
        proportion.
        """
        if epochs is None and steps is None:
            return self
        changed = replace(self, epochs=epochs, steps=steps)
        by_epochs = self.epochs is not None and epochs is not None
        ratio = (
            epochs / self.epochs
            if by_epochs
            else changed.total_steps(samples) / self.total_steps(samples)
        )
        return replace(
            changed,
            schedule=self.schedule.scaled(ratio),
            rate_rules=tuple(rule.scaled(ratio) for rule in self.rate_rules),
            augmentation=self.augmentation.scaled(ratio),
        )

    def apply_to(self, architecture: Architecture) -> Architecture:
        """``architecture`` with the recipe's initial values and dropout, where it has them."""
        if self.dropout is not None:
            architecture = architecture.replace_each(Dropout, rate=self.dropout)
        return replace(
            architecture, initial_values=self.initial_values or architecture.initial_values
        )

    def to_dict(self) -> dict:
        """A JSON-ready dictionary that :meth:`from_dict` turns back into an equal recipe."""
        return {**dataclasses.asdict(self), "schedule": asdict_with_kind(self.schedule)}

    @classmethod
    def from_dict(cls, values: dict) -> Recipe:
        """Inverse of :meth:`to_dict`; raises ``ConfigurationError`` naming an invalid
        field.
        """
        return from_json(cls, values, "recipe")


# Caffe's AlexNet and CaffeNet have the same solver; their initial values, which differ, are in the
# architectures.
CAFFE_RECIPE = Recipe(
    "caffe",
    batch_size=256,
    steps=450_000,
    schedule=DropEvery(steps=100_000),
    dropout=0.5,
    preprocessing=CAFFE_PREPROCESSING,
)
PAPER_RECIPE = Recipe(
    "paper",
    batch_size=128,
    epochs=90,
    schedule=Plateau(),
    bias_multiplier=1.0,
    augmentation=AUGMENTATIONS["paper"],
    initial_values=PAPER.initial_values,
    dropout=0.5,
    preprocessing=PAPER_PREPROCESSING,
)
TORCHVISION_RECIPE = Recipe(
    "torchvision",
    batch_size=256,
    epochs=90,
    schedule=DropEvery(epochs=30),
    weight_decay=1e-4,
    bias_multiplier=1.0,
    augmentation=AUGMENTATIONS["torchvision"],
    initial_values=OWT.initial_values,
    dropout=0.5,
    preprocessing=TORCHVISION_PREPROCESSING,
    decay_biases=True,
)
# What was changed by hand in 2012, as the comments of layer-params-145.cfg record it. Source:
# https://github.com/computerhistory/AlexNet-Source-Code.
KRIZHEVSKY_RECIPE = Recipe(
    "krizhevsky",
    batch_size=128,
    epochs=91,
    schedule=DropAt((25, 51, 79)),
    augmentation=Augmentation(
        "krizhevsky", colour_sigma=0.1, colour_divisor=1.1, colour_until=67.0
    ),
    initial_values=KRIZHEVSKY.initial_values,
    dropout=0.5,
    preprocessing=KRIZHEVSKY_PREPROCESSING,
    mean="image",
    rate_rules=(
        RateRule(("conv1",), 0.1, from_epoch=67.0, of="kernels"),
        RateRule(("conv1",), 0.0, from_epoch=72.0),
    ),
    drop_bias_rates=False,
)
# TF-Slim publishes none for alexnet_v2 but its weight decay: the rest is Caffe's.
SLIM_RECIPE = replace(
    CAFFE_RECIPE,
    name="slim",
    bias_multiplier=1.0,
    initial_values=SLIM.initial_values,
    preprocessing=SLIM_PREPROCESSING,
)
# Caffe's fine-tuning example, at a tenth of the usual learning rate; gradients are clipped so that
# new layers do not diverge.
FINETUNE_RECIPE = Recipe(
    "finetune",
    batch_size=50,
    epochs=30,
    schedule=DropAt((20,)),
    learning_rate=0.001,
    head_multiplier=10.0,
    clip_norm=1.0,
)
# The demonstration has so few images and so little time that gradients are clipped to norm 1.
DEMO_RECIPE = Recipe("demo", batch_size=16, epochs=5, schedule=DropAt((4,)), clip_norm=1.0)
# The network of 2012 learns the demonstration a little more slowly.
KRIZHEVSKY_DEMO_RECIPE = replace(DEMO_RECIPE, epochs=6, schedule=DropAt((5,)))
RECIPES = {
    recipe.name: recipe
    for recipe in (
        PAPER_RECIPE,
        CAFFE_RECIPE,
        TORCHVISION_RECIPE,
        KRIZHEVSKY_RECIPE,
        SLIM_RECIPE,
        FINETUNE_RECIPE,
        DEMO_RECIPE,
    )
}

VARIANT_RECIPES = {
    "alexnet": CAFFE_RECIPE,
    "caffenet": CAFFE_RECIPE,
    "paper": PAPER_RECIPE,
    "owt": TORCHVISION_RECIPE,
    "krizhevsky": KRIZHEVSKY_RECIPE,
    "slim": SLIM_RECIPE,
}
DEMO_FINETUNE_RECIPE = replace(FINETUNE_RECIPE, epochs=6, schedule=DropAt((4,)))
# For a new head alone, on cached features of unit norm, where a linear classifier trains well at a
# learning rate of 1.
HEAD_RECIPE = Recipe("head", batch_size=50, epochs=60, schedule=DropAt((45,)), learning_rate=1.0)
