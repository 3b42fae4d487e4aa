"""Networks with weights: from a name, a weight file, a ``.keras`` file or a run folder to a model
that knows its origin.
"""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import keras

import alexnet_keras.models.layers  # noqa: F401  registers the layers that saved models name
from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    VARIANTS,
    Architecture,
    Convolution,
    Dense,
)
from alexnet_keras.configs.preprocessing import PREPROCESSING, Preprocessing
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.models.alexnet import AlexNetModel, build
from alexnet_keras.pretrained import catalog
from alexnet_keras.pretrained.assign import assign, layers_of
from weights import store
from weights.canonical import Layers, WeightSet
from weights.files import read_weights
from weights.recognise import recognise

logger = logging.getLogger(__name__)
MODEL_FILE = "model.keras"
WHOLE_MODELS = ("keras", "run")


@dataclass(frozen=True)
class Source:
    """What a name or path of weights turned out to be, before any network is built for it.

    ``variant`` and ``preprocessing`` are None where neither the catalogue nor the file tells them;
    ``model`` is the opened network where the source is a whole one (a ``.keras`` file, a run).
    """

    name: str
    weights: WeightSet
    variant: str | None = None
    preprocessing: Preprocessing | None = None
    model: AlexNetModel | None = None

    def architecture(self, variant: str | Architecture | None = None) -> Architecture:
        """The network to build: what the caller asked for, held against what the source says of
        itself.
        """
        if isinstance(variant, Architecture):
            return variant
        if not _same_graph(variant, self.variant):
            raise WeightsError(
                f"{self.name}: these are weights of {self.variant}, and the network asked for is "
                f"{variant}"
            )
        if variant is None and self.model is not None and self.model.architecture is not None:
            return self.model.architecture
        return named_architecture(variant or self.variant or "alexnet")


@dataclass(frozen=True)
class Pretrained:
    """A network with weights, and where they came from.

    ``missing``: layers that the file lacks, which stay at their initial values.
    """

    model: AlexNetModel
    source: str
    path: Path
    digest: str
    missing: tuple[str, ...] = ()

    def describe(self) -> dict:
        """What a run's config records of the weights."""
        return {
            "source": self.source,
            "file": self.path.name,
            "sha256": self.digest,
            "missing": list(self.missing),
        }


def check_loaded(pretrained: Pretrained, layers: Iterable[str]) -> None:
    """Raise ``WeightsError`` unless the weights of ``layers``, and of every layer below them, were
    loaded.

    From a layer at its random initial values on, activations and probabilities mean nothing.
    """
    order = [layer.name for layer in pretrained.model.layers]
    for name in layers:
        up_to = order[: order.index(name) + 1]
        missing = [layer for layer in up_to if layer in pretrained.missing]
        below = [layer for layer in missing if layer != name]
        if below:
            verb = "is" if len(below) == 1 else "are"
            raise WeightsError(
                f"{pretrained.path}: {name} depends on {' and '.join(below)}, which {verb} "
                "missing from the file"
            )
        if missing:
            raise WeightsError(f"{pretrained.path}: {name} is missing from the file")


def named_architecture(variant: str | Architecture) -> Architecture:
    """The architecture of a variant's name. Raises ``ConfigurationError`` listing the valid
    ones.
    """
    if isinstance(variant, Architecture):
        return variant
    if variant not in VARIANTS:
        raise ConfigurationError(
            f"variant: expected one of {', '.join(VARIANTS)}, got {variant!r}"
        )
    return VARIANTS[variant]


def new_network(
    architecture: Architecture, preprocessing: Preprocessing, class_names: tuple[str, ...]
) -> AlexNetModel:
    """A network at its initial values, for images of ``preprocessing``'s size and an output for
    each class name.
    """
    return build(
        architecture,
        keras.Input((preprocessing.crop, preprocessing.crop, 3)),
        len(class_names),
        preprocessing=preprocessing,
        class_names=class_names,
    )


def float32_copy(model: AlexNetModel) -> AlexNetModel:
    """The same network computing in float32; ``model`` itself if it does."""
    if model.get_layer(FINAL_LAYER).compute_dtype == "float32":
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        copy = new_network(model.architecture, model.preprocessing, model.class_names)
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def load_model(path: str | os.PathLike) -> AlexNetModel:
    """Open a ``.keras`` file of this project, or the ``model.keras`` of a run folder.

    ``model.preprocessing``, ``model.class_names`` and ``model.architecture`` come with it. Raises
    ``WeightsError``.
    """
    path = Path(path)
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise WeightsError(f"{path}: expected a model saved by this project, got nothing")
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged:
            raise WeightsError(f"{path}: damaged: the checksum of {damaged} does not fit")
        model = keras.saving.load_model(path, compile=False)
    except WeightsError:
        raise
    except Exception as error:  # Keras raises anything for a damaged or foreign archive
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(
            f"{path}: expected a .keras file of this project, got: {reason}"
        ) from None
    if not isinstance(model, AlexNetModel):
        raise WeightsError(
            f"{path}: expected a network of this project, got {type(model).__name__}"
        )
    return model


def open_source(name_or_path: str | os.PathLike, progress: Callable | None = None) -> Source:
    """Find, fetch if need be, and read what ``name_or_path`` means. Raises ``WeightsError``."""
    path = store.locate(name_or_path, progress=progress)
    entry = catalog.catalog().get(name_or_path) if isinstance(name_or_path, str) else None
    if recognise(path) in WHOLE_MODELS:
        model = load_model(path)
        file = path / MODEL_FILE if path.is_dir() else path
        order = model.architecture.public_names if model.architecture else ()
        return Source(
            str(name_or_path),
            WeightSet(layers_of(model), file, "keras", order),
            model.architecture and model.architecture.name,
            model.preprocessing,
            model,
        )
    weights = read_weights(path)
    variant = told_variant(weights)
    if entry is not None:
        if not _same_graph(entry.variant, variant):
            raise WeightsError(
                f"{path}: expected the weights of {entry.variant} that {entry.name} are, got the "
                "layers of "
                f"{variant}"
            )
        return Source(str(name_or_path), weights, entry.variant, entry.preprocessing)
    return Source(str(name_or_path), weights, variant, PREPROCESSING.get(variant))


def load_pretrained(
    name_or_path: str,
    variant: str | None = None,
    partial: bool = False,
    progress: Callable | None = None,
) -> Pretrained:
    """The network that ``name_or_path`` describes, with its own number of classes, ready to be
    used or fine-tuned.

    A catalogue name, a weight file, a ``.keras`` file or a run folder. ``partial`` accepts a file
    that lacks layers; those keep their initial values and are listed in ``missing``.
    """
    source = open_source(name_or_path, progress)
    path = source.weights.path
    architecture = source.architecture(variant)
    if source.model is not None:
        useless = "partial" if partial else "variant" if variant is not None else None
        if useless:
            raise ConfigurationError(
                f"{useless}: {source.name} is a whole network, where it would have no effect"
            )
        return Pretrained(source.model, source.name, path, store.digest_of(path))
    layers = source.weights.layers
    classes = layers[FINAL_LAYER][1].size if FINAL_LAYER in layers else 1000
    names = (
        tuple(name for _, name in imagenet_classes())
        if classes == 1000
        else tuple(map(str, range(classes)))
    )
    preprocessing = source.preprocessing or PREPROCESSING[architecture.name]
    try:
        model = new_network(_as_wide_as(layers, architecture), preprocessing, names)
    except ValueError as error:  # Keras on filters that groups do not divide
        raise WeightsError(
            f"{path}: expected layers of the widths of some {architecture.name}, got: {error}"
        ) from None
    missing = assign(model, source.weights, partial=partial)
    if missing:
        logger.warning("%s lacks %s: they stay at their initial values", path, ", ".join(missing))
    return Pretrained(model, source.name, path, store.digest_of(path), missing)


def told_variant(weights: WeightSet) -> str | None:
    """What a file says of its own network: the order of its layers, or the widths that only
    torchvision's has.
    """
    order = weights.layer_order
    if "pool1" in order and "norm1" in order:
        return "caffenet" if order.index("pool1") < order.index("norm1") else "alexnet"
    conv2 = weights.layers.get("conv2")
    return "owt" if conv2 is not None and conv2[0].shape[2:] == (64, 192) else None


def _same_graph(variant: str | None, other: str | None) -> bool:
    """Whether weights of one variant may be those of the other; the paper's graph is alexnet's."""
    return None in (variant, other) or variant == other or {variant, other} == {"alexnet", "paper"}


def _as_wide_as(layers: Layers, architecture: Architecture) -> Architecture:
    """The architecture with the filters and units of the file, which may be a narrower network of
    ours.

    What is more than twice as wide as the variant is left to be refused: no file makes us build a
    network of any size.
    """

    def sized(spec):
        field = {Convolution: "filters", Dense: "units"}.get(type(spec))
        if field is None or spec.name not in layers:
            return spec
        size = layers[spec.name][1].size
        return replace(spec, **{field: size}) if size <= 2 * getattr(spec, field) else spec

    return replace(architecture, layers=tuple(map(sized, architecture.layers)))
