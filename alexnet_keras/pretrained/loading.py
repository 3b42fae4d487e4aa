"""From a name, a weight file, a ``.keras`` file or a run folder to a network with its weights."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from alexnet_keras.configs.architecture import Architecture
from alexnet_keras.configs.preprocessing import PREPROCESSING, Preprocessing
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.models.alexnet import AlexNetModel, new_model
from alexnet_keras.models.assign import assign_weights
from alexnet_keras.models.saving import load_model, model_path
from alexnet_keras.pretrained.catalog import PUBLISHED
from alexnet_keras.pretrained.identification import (
    ResolvedWeights,
    check_variant_is_known,
    identify_model,
    identify_weights,
)
from alexnet_keras.pretrained.mean_image import read_mean_image
from weights.checkpoint_files import is_checkpoint_prefix
from weights.formats import SAVED_MODELS, detect_format
from weights.reading import read_weights
from weights.store import digest_of, fetch

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pretrained:
    """A network with weights, and their source.

    ``path``: their file, None for an untrained network. ``missing``: layers that the file lacks,
    which stay at their initial values. ``expected``: the preprocessing that belongs to the
    weights, where the model has another.
    """

    model: AlexNetModel
    source: str
    path: Path | None
    missing: tuple[str, ...] = ()
    expected: Preprocessing | None = None

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file, or of the weights of an untrained network; computed at its
        first use: it takes as long as reading the file.
        """
        if self.path is not None:
            return digest_of(self.path)
        digest = hashlib.sha256()
        for values in self.model.get_weights():
            digest.update(np.ascontiguousarray(values).data)
        return digest.hexdigest()

    def describe(self) -> dict:
        """What a run's config records of the weights."""
        mean_image = self.model.preprocessing and self.model.preprocessing.mean_image
        initial = {
            "classes": len(self.model.class_names),
            "initial_values": asdict(self.model.architecture.initial_values),
        }
        return {
            "source": self.source,
            "file": self.path and self.path.name,
            "sha256": self.digest,
            "missing": list(self.missing),
            **({} if self.path else initial),
            **({"expected_preprocessing": asdict(self.expected)} if self.expected else {}),
            **({"mean_image_sha256": mean_image.sha256} if mean_image else {}),
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


def load_pretrained(
    name_or_path: str | os.PathLike,
    variant: str | Architecture | None = None,
    partial: bool = False,
    progress: Callable | None = None,
    mean: str | os.PathLike | None = None,
    kernel_order: str | None = None,
) -> Pretrained:
    """The network that ``name_or_path`` stands for, with its own number of classes, ready to be
    used or fine-tuned.

    Args:
        name_or_path: a name of the catalogue, a weight file, a ``.keras`` file or a run folder.
        variant: the network to build for a weight file that does not record one; needed where
            its shapes fit several.
        partial: accept a weight file that lacks layers. They keep their initial values and are
            listed in ``missing``.
        progress: of a download, called with (file name, bytes downloaded, total or None).
        mean: the mean image that the network of a weight file expects to be subtracted, as
            :func:`~alexnet_keras.pretrained.mean_image.read_mean_image` takes it; a mean colour by
            default.
        kernel_order: ``"theano"`` or ``"tensorflow"``: of an ``.h5`` file of Keras 1 or 2 that
            does not record its backend.

    Raises:
        WeightsError: nothing there, damaged, or of another network.
        ConfigurationError: an option that has no effect.
    """
    found = resolve_weights(name_or_path, variant, progress, kernel_order)
    if found.model is not None:
        for option, value in (("partial", partial), ("variant", variant), ("mean", mean)):
            if value not in (None, False):
                raise ConfigurationError(
                    f"{option}: has no effect on a saved model ({found.name})"
                )
        return Pretrained(found.model, found.name, found.path)
    check_variant_is_known(found, variant)
    preprocessing = found.preprocessing or PREPROCESSING[found.architecture.name]
    if mean is not None:
        preprocessing = preprocessing.with_mean_image(read_mean_image(mean))
    try:
        model = new_model(found.file_architecture, preprocessing, found.class_names)
    except ValueError as error:  # Keras on filters that groups do not divide
        raise WeightsError(
            f"{found.path}: expected the layers of some {found.architecture.name}, got: {error}"
        ) from None
    missing = assign_weights(model, found.weights, partial=partial)
    if missing:
        logger.warning(
            "%s lacks %s: they stay at their initial values", found.path, ", ".join(missing)
        )
    return Pretrained(model, found.name, found.path, missing)


def resolve_weights(
    name_or_path: str | os.PathLike,
    variant: str | Architecture | None = None,
    progress: Callable | None = None,
    kernel_order: str | None = None,
) -> ResolvedWeights:
    """Find, download if need be, and read what ``name_or_path`` stands for.

    Takes the arguments of :func:`load_pretrained`, and raises its errors.
    """
    entry = PUBLISHED.get(name_or_path) if isinstance(name_or_path, str) else None
    name = str(name_or_path)
    if entry is not None:
        path = fetch(entry.file, progress=progress)
    elif os.path.exists(name_or_path) or is_checkpoint_prefix(Path(name_or_path)):
        path = Path(name_or_path)
    else:
        raise WeightsError(
            f"weights: expected an existing file or one of {', '.join(PUBLISHED)}, got {name!r}"
        )
    file = detect_format(path)
    if kernel_order is not None and file.format != "keras1.h5":
        raise ConfigurationError(f"kernel_order: has no effect on a file of format {file.format}")
    if file.format in SAVED_MODELS:
        model = load_model(file.path)
        return identify_model(model, name, model_path(file.path), variant)
    return identify_weights(read_weights(file, kernel_order), name, entry, variant)
