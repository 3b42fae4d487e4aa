"""Check that a network holds a weight file's numbers bit for bit, and convert files likewise."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from alexnet_keras.configs.preprocessing import PREPROCESSING
from alexnet_keras.errors import WeightsError
from alexnet_keras.models.assign import layer_weights
from alexnet_keras.pretrained.catalog import PUBLISHED
from alexnet_keras.pretrained.identification import (
    ResolvedWeights,
    check_shapes_fit,
    variant_of_weights,
)
from alexnet_keras.pretrained.loading import load_pretrained, resolve_weights
from alexnet_keras.pretrained.matconvnet import layer_fields
from weights.canonical import Layers
from weights.hdf5 import read_weights_h5
from weights.matconvnet import CHANNEL_ORDER
from weights.reading import read_weights
from weights.statistics import differences
from weights.store import fetch, verify_digest
from weights.writing import output_suffix, write_weights

MAX_FAULTS_SHOWN = 3
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VerificationResult:
    """A file whose numbers a network holds, bit for bit.

    Args:
        path: the file.
        layers: those compared.
        num_values: how many numbers they have.
        digest: algorithm and digits of the file.
        published: whether ``digest`` is a published one.
        missing: layers of the network that the file lacks.
    """

    path: Path
    layers: tuple[str, ...]
    num_values: int
    digest: str
    published: bool
    missing: tuple[str, ...]


def verify(
    name_or_path: str, against: str | None = None, progress: Callable | None = None
) -> VerificationResult:
    """Load weights into a network as every command does, read the network back, and compare it
    with the file.

    ``against``: other weights that must be the same. The digest of a catalogue name is computed
    again. Raises ``WeightsError`` that shows the first differences.
    """
    digest = _verified_digest(name_or_path, progress)
    found = resolve_weights(name_or_path, progress=progress)
    asked = {} if found.model else {"variant": found.architecture, "partial": True}
    loaded = load_pretrained(name_or_path, progress=progress, **asked)
    in_file = found.weights.layers if found.model is None else _layers_of_archive(found.path)
    in_network = {
        name: arrays
        for name, arrays in layer_weights(loaded.model).items()
        if name not in loaded.missing
    }
    _check_equal(loaded.path, "the network differs from the file", in_file, in_network)
    if against is not None:
        other = resolve_weights(against, progress=progress).weights
        _check_equal(loaded.path, f"differs from {other.path}", other.layers, in_network)
    return VerificationResult(
        loaded.path,
        tuple(in_network),
        sum(kernel.size + bias.size for kernel, bias in in_network.values()),
        digest or f"sha256 {loaded.digest}",
        digest is not None,
        loaded.missing,
    )


def convert(
    name_or_path: str,
    out: Path,
    overwrite: bool = False,
    progress: Callable | None = None,
    kernel_order: str | None = None,
    variant: str | None = None,
) -> tuple[str | None, str | None]:
    """Write weights in the format that the suffix of ``out`` chooses, and compare what was written
    bit for bit.

    The suffix is one of :data:`weights.writing.OUTPUT_SUFFIXES`. The file records the variant that
    the source records, unless the source is a network with other layers. conv1 gets the channel
    order that the format or else the variant has, if the source has another. ``variant``: that of
    a source that records none. Returns both variants, each None where there is none. Raises
    ``WeightsError``.
    """
    output_suffix(out)
    if out.exists() and not overwrite:
        raise WeightsError(f"{out}: already exists; choose another name or pass --overwrite")
    source = resolve_weights(name_or_path, variant, progress, kernel_order)
    if variant is not None:
        check_shapes_fit(source)
        preprocessing = source.preprocessing or PREPROCESSING[variant]
        source = replace(source, variant=variant, preprocessing=preprocessing)
    weights = source.weights
    if source.preprocessing is not None and source.preprocessing.mean_image is not None:
        logger.warning(
            "%s: the mean image of %s is not in it; use them together, with --mean %s",
            out,
            source.name,
            source.name,
        )
    order = weights.layer_order or (source.architecture.layer_names if source.variant else ())
    layers = _in_channel_order(source, out)
    write_weights(
        out, layers, order, _variant_to_record(source), layer_fields(source.architecture)
    )
    written = read_weights(out)
    _check_equal(out, f"what was written differs from {weights.path}", layers, written.layers)
    return source.variant, variant_of_weights(written)


def _in_channel_order(source: ResolvedWeights, out: Path) -> Layers:
    """The layers with conv1's inputs as the format has them: RGB in ``.mat``, else what the
    variant expects.
    """
    layers = source.weights.layers
    found = source.preprocessing and source.preprocessing.channel_order
    standard = PREPROCESSING.get(source.variant)
    wanted = standard and standard.channel_order
    if output_suffix(out) == ".mat":
        wanted = CHANNEL_ORDER
        if found is None:
            raise WeightsError(
                f"{source.path}: expected weights of a known variant, whose channel order "
                f"decides what {out.name} holds; the file records none"
            )
    if None in (found, wanted) or found == wanted or "conv1" not in layers:
        return layers
    kernel, bias = layers["conv1"]
    return layers | {"conv1": (kernel[:, :, ::-1], bias)}


def _variant_to_record(source: ResolvedWeights) -> str | None:
    return source.variant if source.model is None else source.weights.variant


def _verified_digest(name_or_path: str, progress: Callable | None) -> str | None:
    """Algorithm and digits of a published digest, computed and compared; None where there is
    none.
    """
    entry = PUBLISHED.get(name_or_path)
    if entry is None:
        return None
    digest = verify_digest(fetch(entry.file, progress=progress), entry.file)
    return f"{entry.file.digest_algorithm} {digest}" if entry.file.digest else None


def _layers_of_archive(path: Path) -> Layers:
    """The layers of a ``.keras`` file, read without Keras."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path) as archive:
        copy = Path(folder, "model.weights.h5")
        with archive.open(copy.name) as member, open(copy, "wb") as file:
            shutil.copyfileobj(member, file)
        return read_weights_h5(copy).layers


def _check_equal(path: Path, title: str, expected: Layers, found: Layers) -> None:
    faults = differences(expected, found)
    if faults:
        more = (
            f"; and {len(faults) - MAX_FAULTS_SHOWN} more"
            if len(faults) > MAX_FAULTS_SHOWN
            else ""
        )
        raise WeightsError(f"{path}: {title}: {'; '.join(faults[:MAX_FAULTS_SHOWN])}{more}")
