"""Which network weights belong to: what the catalogue, the file and the caller say of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    VARIANTS,
    Architecture,
    Convolution,
    Dense,
    Dropout,
    Pooling,
    get_architecture,
)
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.ports import PORTS
from alexnet_keras.configs.preprocessing import PREPROCESSING, Preprocessing
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.data.known_classes import published_classes
from alexnet_keras.errors import WeightsError
from alexnet_keras.models.alexnet import AlexNetModel
from alexnet_keras.models.assign import layer_weights
from alexnet_keras.pretrained.catalog import CatalogEntry
from weights.canonical import Layers, WeightSet


@dataclass(frozen=True)
class ResolvedWeights:
    """What a name or path of weights stands for, before a network is built for it.

    Args:
        name: as the caller gave it.
        path: the file itself, ``model.keras`` of a run folder.
        variant: of the network, as the catalogue or the file records it; None where neither does.
        preprocessing: likewise.
        architecture: the network that the caller asked for, or else the one recorded; ``alexnet``
            where there is neither.
        file_weights: of a weight file, as read; None where ``model`` is given.
        model: the network of a ``.keras`` file or a run folder; None for a weight file.
        class_kind: of the catalogue's class names (:mod:`alexnet_keras.data.known_classes`).
    """

    name: str
    path: Path
    variant: str | None
    preprocessing: Preprocessing | None
    architecture: Architecture
    file_weights: WeightSet | None = None
    model: AlexNetModel | None = None
    class_kind: str | None = "imagenet"

    @cached_property
    def weights(self) -> WeightSet:
        """The layers in canonical form; of a model, float32 copies."""
        if self.model is None:
            return self.file_weights
        architecture = self.model.architecture
        order = architecture.layer_names if architecture else ()
        variant = variant_of_architecture(architecture) if architecture else None
        return WeightSet(layer_weights(self.model), self.path, "keras", order, variant)

    @property
    def file_architecture(self) -> Architecture:
        """``architecture`` with the filters and units of the file, whose network may be narrower.

        Sizes above twice the published ones are ignored and fail later: no file makes us build a
        network of any size.
        """

        def sized(spec):
            field = {Convolution: "filters", Dense: "units"}.get(type(spec))
            if field is None or spec.name not in self.weights.layers:
                return spec
            size = self.weights.layers[spec.name][1].size
            return replace(spec, **{field: size}) if size <= 2 * getattr(spec, field) else spec

        return replace(self.architecture, layers=tuple(map(sized, self.architecture.layers)))

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each output of the file's fc8: the catalogue's, else ImageNet's for 1000 or
        without fc8, else those in the file, else numbers.
        """
        fc8 = self.weights.layers.get(FINAL_LAYER)
        outputs = len(imagenet_classes()) if fc8 is None else fc8[1].size
        classes = published_classes(self.class_kind, outputs)
        if classes is not None:
            return tuple(name for _, name in classes)
        if len(self.weights.class_names) == outputs:
            return self.weights.class_names
        return tuple(map(str, range(outputs)))


def identify_weights(
    weights: WeightSet,
    name: str,
    entry: CatalogEntry | None = None,
    variant: str | Architecture | None = None,
) -> ResolvedWeights:
    """The layers of a weight file with what is known of their network.

    ``entry``: of the catalogue, None for a path. ``variant``: what the caller asks for. Raises
    ``WeightsError`` where file, catalogue and caller contradict each other.
    """
    recorded = variant_of_weights(weights)
    if recorded in PORTS and variant is None:
        port = PORTS[recorded]
        return ResolvedWeights(
            name, weights.path, recorded, port.preprocessing, port.architecture, weights
        )
    if recorded is not None and recorded not in VARIANTS:
        if variant is None:
            raise WeightsError(
                f"{name}: expected weights of one of {', '.join(VARIANTS)}, got those of "
                f"{recorded}; --variant chooses the network"
            )
        recorded = None
    preprocessing = PREPROCESSING.get(recorded)
    if entry is not None:
        if not _same_graph(entry.variant, recorded):
            raise WeightsError(
                f"{weights.path}: expected the layers of {entry.variant}, got those of {recorded}"
            )
        recorded, preprocessing = entry.variant, entry.preprocessing
    architecture = _choose(variant, recorded, get_architecture(recorded or "alexnet"), name)
    if weights.channel_order is not None:
        preprocessing = _as_in_file(preprocessing or PREPROCESSING[architecture.name], weights)
    return ResolvedWeights(
        name,
        weights.path,
        recorded,
        preprocessing,
        architecture,
        weights,
        class_kind=entry.class_names if entry else "imagenet",
    )


def identify_model(
    model: AlexNetModel, name: str, path: Path, variant: str | Architecture | None = None
) -> ResolvedWeights:
    """A saved model with what it records of itself. Raises ``WeightsError`` where it is another
    ``variant``.
    """
    default = model.architecture or get_architecture("alexnet")
    recorded = model.architecture and model.architecture.name
    architecture = _choose(variant, recorded, default, name)
    return ResolvedWeights(name, path, recorded, model.preprocessing, architecture, model=model)


def variant_of_architecture(architecture: Architecture) -> str | None:
    """The variant whose layers these are, of any width, and of any dropout that does not matter
    at test; None where one is replaced or left out.
    """
    variant = VARIANTS.get(architecture.name)
    if variant is None or len(variant.layers) != len(architecture.layers):
        return None

    def same(spec, expected):
        field = {Convolution: "filters", Dense: "units", Dropout: "rate"}.get(type(expected))
        halved = getattr(expected, "scaled_at", None) == "inference"
        if type(spec) is type(expected) and field and not halved:
            spec = replace(spec, **{field: getattr(expected, field)})
        return spec == expected

    pairs = zip(architecture.layers, variant.layers, strict=True)
    alike = all(same(*pair) for pair in pairs) and architecture.activation == variant.activation
    return variant.name if alike else None


def variant_of_weights(weights: WeightSet) -> str | None:
    """The variant that a file records; else the one that it shows by the order of its layers, or
    by the widths that only torchvision's and TF-Slim's networks have; None where it shows none.
    """
    if weights.variant is not None:
        return weights.variant
    order = weights.layer_order
    if "cnorm2" in order:
        return "krizhevsky"
    if "pool1" in order and "norm1" in order:
        return "caffenet" if order.index("pool1") < order.index("norm1") else "alexnet"
    filters = {name: arrays[1].size for name, arrays in weights.layers.items()}
    conv2 = weights.layers.get("conv2")
    if conv2 is None or conv2[0].shape[2:] != (64, 192):
        return None
    return "slim" if filters.get("conv4") == 384 else "owt"


def check_variant_is_known(found: ResolvedWeights, variant: str | Architecture | None) -> None:
    """Raise ``WeightsError`` where neither the file nor the caller, who asks for ``variant``, says
    which of several networks of the same shapes a weight file belongs to.
    """
    if variant is not None or found.variant is not None or found.model is not None:
        return
    fitting = _fitting_variants(found.weights.layers)
    if len(fitting) > 1:
        raise WeightsError(
            f"{found.path}: expected a variant ({_either(fitting)}: all fit its shapes, and the "
            "file records none); choose it with --variant"
        )


def check_shapes_fit(found: ResolvedWeights) -> None:
    """Raise ``WeightsError`` where a weight file's layers have the shapes of other networks than
    the one that they are said to belong to; for another input size, they have those of none.
    """
    fitting = [] if found.model else _fitting_variants(found.weights.layers)
    if fitting and found.architecture.name not in fitting:
        raise WeightsError(
            f"{found.path}: expected layers of the shapes of {found.architecture.name}, got those "
            f"of {_either(fitting)}"
        )


def _fitting_variants(layers: Layers) -> list[str]:
    return [name for name in VARIANTS if _fits(VARIANTS[name], layers)]


def _either(names: list[str]) -> str:
    """``a, b or c``."""
    return " or ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _fits(architecture: Architecture, layers: Layers) -> bool:
    """Whether the convolutions of a file, of any width, and its fc6 have this network's shapes."""
    channels, size = 3, architecture.input_size
    for spec in architecture.layers:
        shape = layers[spec.name][0].shape if spec.name in layers else ()
        if isinstance(spec, Convolution):
            inputs = channels and channels // spec.groups
            if shape and not _is_kernel(shape, spec.kernel, inputs):
                return False
            channels = shape[3] if shape else None
            size = _output_size(size + 2 * spec.padding, spec.kernel, spec)
        elif isinstance(spec, Pooling):
            size = _output_size(size, spec.size, spec)
        elif isinstance(spec, Dense) and shape and channels:
            return shape[0] == size * size * channels
    return True


def _is_kernel(shape: tuple[int, ...], size: int, inputs: int | None) -> bool:
    """Whether this is a kernel of ``size`` x ``size`` pixels, of ``inputs`` channels if known."""
    return len(shape) == 4 and shape[:2] == (size, size) and inputs in (None, shape[2])


def _output_size(size: int, window: int, spec: Convolution | Pooling) -> int:
    return (size - window + (spec.stride - 1 if spec.ceil_mode else 0)) // spec.stride + 1


def _as_in_file(preprocessing: Preprocessing, weights: WeightSet) -> Preprocessing:
    """``preprocessing`` with the channel order and the mean that the file states."""
    preprocessing = replace(preprocessing, channel_order=weights.channel_order)
    mean = weights.mean
    if mean is None:
        return preprocessing
    colour = tuple(map(float, mean.reshape(-1, 3).mean(axis=0, dtype=np.float64)))
    preprocessing = replace(preprocessing, mean=colour)
    if mean.shape != (preprocessing.crop, preprocessing.crop, 3):
        return preprocessing
    return replace(preprocessing, mean_image=MeanImage.from_array(mean))


def _choose(
    variant: str | Architecture | None, recorded: str | None, default: Architecture, name: str
) -> Architecture:
    """What the caller asks for, checked against what is recorded."""
    if isinstance(variant, Architecture):
        return variant
    if not _same_graph(variant, recorded):
        raise WeightsError(f"{name}: these are weights of {recorded}, not of {variant}")
    return default if variant is None else get_architecture(variant)


def _same_graph(variant: str | None, other: str | None) -> bool:
    """Whether weights of one variant may be those of the other; the paper's graph is alexnet's."""
    return None in (variant, other) or variant == other or {variant, other} == {"alexnet", "paper"}
