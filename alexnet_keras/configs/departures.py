"""How a training run departs from a published recipe, field by field."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import replace

from alexnet_keras.configs.layer_specs import Dropout
from alexnet_keras.configs.network import Architecture
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import RateRule

# What is not a choice of its own: names, and the image that ``mean`` asks for.
IGNORED = ("name", "mean_image")


def departures_from(
    recipe: Recipe, network: Architecture, published: Recipe, published_network: Architecture
) -> list[str]:
    """Lines such as ``batch_size: 16 instead of 128``, one for each field in which training
    ``network`` by ``recipe`` departs from training ``published_network`` by ``published``.

    Initial values and dropout are those of the networks; their widths are not compared.
    """
    found = _resolved(recipe, network)
    wanted = _resolved(published, published.apply_to(published_network))
    return list(_differences(found, wanted, ""))


def _resolved(recipe: Recipe, network: Architecture) -> Recipe:
    """The recipe with the initial values and the dropout that ``network`` has."""
    rates = [layer.rate for layer in network.layers if isinstance(layer, Dropout)]
    return replace(
        recipe, initial_values=network.initial_values, dropout=rates[0] if rates else None
    )


def _differences(found, wanted, prefix: str) -> Iterator[str]:
    for field in dataclasses.fields(found):
        ours, theirs = getattr(found, field.name), getattr(wanted, field.name)
        if field.name in IGNORED or ours == theirs:
            continue
        if dataclasses.is_dataclass(ours) and type(ours) is type(theirs):
            yield from _differences(ours, theirs, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}: {_text(ours)} instead of {_text(theirs)}"


def _text(value) -> str:
    if isinstance(value, RateRule):
        of = "" if value.of == "all" else f" {value.of}"
        return f"{', '.join(value.layers)}{of} x {value.factor:g} from epoch {value.from_epoch:g}"
    if dataclasses.is_dataclass(value):
        fields = dataclasses.asdict(value).items()
        return f"{type(value).__name__}({', '.join(f'{k}={v}' for k, v in fields)})"
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or "none"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
