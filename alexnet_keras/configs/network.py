"""A network as a frozen dataclass: its layers in forward order. No TensorFlow here.

An ablation of the paper is the same list with a field replaced or a layer left out.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field, replace

from alexnet_keras.configs.layer_specs import (
    Convolution,
    Dense,
    Dropout,
    Flatten,
    InitialValues,
    LayerSpec,
)
from alexnet_keras.configs.serialization import asdict_with_kind, from_json
from alexnet_keras.errors import ConfigurationError

FINAL_LAYER = "fc8"
MAX_WIDTH = 100


@dataclass(frozen=True)
class Architecture:
    """The layers of a network up to the classifier ``fc8``, which is added when a model is built,
    for its number of classes.

    Ablations: ``without("norm1", "norm2")``, ``replace_each(Pooling, size=2)``,
    ``replace_each(Convolution, groups=1)``, ``with_width(0.5)``,
    ``dataclasses.replace(architecture, activation="tanh")``.
    """

    name: str
    layers: tuple[LayerSpec, ...]
    input_size: int = 227
    activation: str = "relu"
    initial_values: InitialValues = field(default_factory=InitialValues)

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The names of all layers but flatten and dropout, in order, then fc8 and prob."""
        named = (layer for layer in self.layers if not isinstance(layer, Flatten | Dropout))
        return (*(layer.name for layer in named), FINAL_LAYER, "prob")

    @property
    def weighted_layer_names(self) -> tuple[str, ...]:
        """The names of the layers with weights, in order."""
        return (
            *(layer.name for layer in self.layers if isinstance(layer, Convolution | Dense)),
            FINAL_LAYER,
        )

    def without(self, *names: str) -> Architecture:
        """The same network without the named layers. Raises ``ConfigurationError`` for an
        unknown name.
        """
        self._check_names(names)
        return replace(
            self, layers=tuple(layer for layer in self.layers if layer.name not in names)
        )

    def replace_each(self, kind: type, **changes) -> Architecture:
        """The same network with fields of every layer of one kind replaced."""
        return replace(
            self,
            layers=tuple(
                replace(layer, **changes) if isinstance(layer, kind) else layer
                for layer in self.layers
            ),
        )

    def replace_layers(self, *names: str, **changes) -> Architecture:
        """The same network with fields of the named layers replaced. Raises
        ``ConfigurationError`` for an unknown name.
        """
        self._check_names(names)
        return replace(
            self,
            layers=tuple(
                replace(layer, **changes) if layer.name in names else layer
                for layer in self.layers
            ),
        )

    def with_width(self, filters: float, units: float | None = None) -> Architecture:
        """The same network with its filter counts multiplied by ``filters`` and its unit counts by
        ``units`` (default: ``filters``), rounded; at least one filter in each group.
        """
        units = filters if units is None else units
        if not 0 < filters <= MAX_WIDTH or not 0 < units <= MAX_WIDTH:
            raise ConfigurationError(
                f"width: expected a positive number up to {MAX_WIDTH}, got {filters} and {units}"
            )
        groups = max(layer.groups for layer in self.layers if isinstance(layer, Convolution))

        def widen(layer):
            if isinstance(layer, Convolution):
                return replace(
                    layer, filters=max(1, round(layer.filters * filters / groups)) * groups
                )
            return (
                replace(layer, units=max(1, round(layer.units * units)))
                if isinstance(layer, Dense)
                else layer
            )

        return replace(self, layers=tuple(map(widen, self.layers)))

    def _check_names(self, names: tuple[str, ...]) -> None:
        known = [layer.name for layer in self.layers]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ConfigurationError(
                f"layers: expected names among {', '.join(known)}, got {', '.join(unknown)}"
            )

    def to_dict(self) -> dict:
        """A JSON-ready dictionary that :meth:`from_dict` turns back into an equal architecture."""
        return {**dataclasses.asdict(self), "layers": [*map(asdict_with_kind, self.layers)]}

    @classmethod
    def from_dict(cls, values: dict) -> Architecture:
        """Inverse of :meth:`to_dict`. Raises ``ConfigurationError`` naming an invalid field."""
        architecture = from_json(cls, values, "architecture")
        return replace(architecture, layers=_with_flatten(architecture.layers))


def _with_flatten(layers: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
    """``layers`` with ``Flatten`` in its place; architectures of early versions were saved
    without.
    """
    if any(isinstance(layer, Flatten) for layer in layers):
        return layers
    classifier = (i for i, layer in enumerate(layers) if isinstance(layer, Dense | Dropout))
    place = next(classifier, len(layers))
    return (*layers[:place], Flatten(), *layers[place:])
