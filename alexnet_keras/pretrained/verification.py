"""Whether a network holds what a weight file says, bit for bit, and files that are written so that
it does.
"""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained import catalog
from alexnet_keras.pretrained.assign import layers_of
from alexnet_keras.pretrained.loading import (
    WHOLE_MODELS,
    load_pretrained,
    open_source,
    told_variant,
)
from weights import store
from weights.canonical import Layers
from weights.files import read_weights, write_weights, written_suffix
from weights.hdf5 import read_weights_h5
from weights.recognise import recognise
from weights.statistics import differences

MAX_FAULTS_SHOWN = 3


@dataclass(frozen=True)
class Verified:
    """What was found to be equal: ``numbers`` in ``layers``, of the file at ``path``.

    ``digest``: algorithm and digits, as ``published`` where that is True. ``missing``: layers that
    the file lacks.
    """

    path: Path
    layers: tuple[str, ...]
    numbers: int
    digest: str
    published: bool
    missing: tuple[str, ...]


def verify(
    name_or_path: str, against: str | None = None, progress: Callable | None = None
) -> Verified:
    """Load weights into a network as every command does, read the network back, and compare it
    with the file read anew.

    ``against``: another source, whose layers must be the same too. Of a catalogue name the digest
    is computed again. Raises ``WeightsError`` that tells the first differences.
    """
    path, entry = (
        store.locate(name_or_path, progress=progress),
        catalog.catalog().get(name_or_path),
    )
    algorithm = entry.digest_algorithm if entry and entry.digest else "sha256"
    digest = store.verify_digest(path, entry) if entry else None
    loaded = load_pretrained(
        name_or_path, partial=recognise(path) not in WHOLE_MODELS, progress=progress
    )
    in_network = {
        name: arrays
        for name, arrays in layers_of(loaded.model).items()
        if name not in loaded.missing
    }
    _check_equal(
        loaded.path, "the network differs from the file", _read_anew(loaded.path), in_network
    )
    if against is not None:
        other = open_source(against, progress).weights
        _check_equal(loaded.path, f"differs from {other.path}", other.layers, in_network)
    return Verified(
        loaded.path,
        tuple(in_network),
        sum(kernel.size + bias.size for kernel, bias in in_network.values()),
        f"{algorithm} {digest or loaded.digest}",
        bool(entry and entry.digest),
        loaded.missing,
    )


def convert(
    name_or_path: str, out: Path, overwrite: bool = False, progress: Callable | None = None
) -> tuple[str | None, str | None]:
    """Write the weights of any source in the format that the suffix of ``out`` names.

    It is one of ``.caffemodel``, ``.npz``, ``.safetensors``, ``.weights.h5``. The written file is
    read again and compared bit for bit. Returns the variant that the source tells and the one that
    the written file tells, each None where it tells none. Raises ``WeightsError``.
    """
    written_suffix(out)
    if out.exists() and not overwrite:
        raise WeightsError(f"{out}: exists already; give another name, or --overwrite")
    source = open_source(name_or_path, progress)
    order = source.weights.layer_order or (
        source.architecture().public_names if source.variant else ()
    )
    write_weights(out, source.weights.layers, order)
    written = read_weights(out)
    _check_equal(
        out,
        f"what was written differs from {source.weights.path}",
        source.weights.layers,
        written.layers,
    )
    return source.variant, told_variant(written)


def _read_anew(path: Path) -> Layers:
    """The layers of a file, of a ``.keras`` too, without Keras."""
    if recognise(path) not in WHOLE_MODELS:
        return read_weights(path).layers
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
