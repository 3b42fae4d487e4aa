"""Untrained networks by name, ``random:SEED``: the control that a trained one is compared with."""

from __future__ import annotations

import os
import re

from alexnet_keras.configs.architecture import get_architecture
from alexnet_keras.configs.option_groups import PartialOptions
from alexnet_keras.configs.preprocessing import PREPROCESSING
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.alexnet import new_model
from alexnet_keras.pretrained.loading import Pretrained
from alexnet_keras.pretrained.mean_image import read_mean_image

PREFIX = "random:"
MAX_SEED = 2**31 - 1


def is_untrained(name: str) -> bool:
    """Whether ``name`` asks for an untrained network, rightly or not."""
    return name.startswith(PREFIX) or (f"{name}:" == PREFIX and not os.path.exists(name))


def untrained_network(name: str, options: PartialOptions) -> Pretrained:
    """The network of ``options.variant``, alexnet by default, with ImageNet's 1000 outputs, at the
    variant's own initial values: a function of the seed in ``name``, ``random:SEED``.

    The weights are the same in every process. Raises ``ConfigurationError`` for another seed than
    0 to 2**31 - 1, and for options that describe a weight file.
    """
    seed = _seed_of(name)
    for option in ("partial", "kernel_order"):
        if getattr(options, option) not in (None, False):
            raise ConfigurationError(f"{option}: has no effect on untrained weights ({name})")
    architecture = get_architecture(options.variant or "alexnet")
    preprocessing = PREPROCESSING[architecture.name]
    if options.mean is not None:
        preprocessing = preprocessing.with_mean_image(read_mean_image(options.mean))
    class_names = tuple(each for _, each in imagenet_classes())
    model = new_model(architecture, preprocessing, class_names, seed)
    return Pretrained(model, f"{PREFIX}{seed}", None)


def _seed_of(name: str) -> int:
    text = name.removeprefix(PREFIX)
    if not re.fullmatch("[0-9]{1,10}", text) or int(text) > MAX_SEED:
        raise ConfigurationError(
            f"weights: expected {PREFIX}SEED with an integer from 0 to {MAX_SEED}, got {name!r}"
        )
    return int(text)
