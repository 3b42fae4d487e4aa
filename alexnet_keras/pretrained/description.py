"""What weights are, as plain data: the catalogue, and one file layer by layer."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict

from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.catalog import PUBLISHED, CatalogEntry
from weights.store import digest_of, fetch


def list_published() -> list[dict]:
    """A row for each entry of the catalogue: its fields, those of its file, and ``path``, None
    where the file is not here.
    """
    return [_row(entry) for entry in PUBLISHED.values()]


def local_path(entry: CatalogEntry) -> str | None:
    """The path of a published file on this machine, None where it is not here or is damaged."""
    try:
        return str(fetch(entry.file, offline=True))
    except WeightsError:
        return None


def describe_weights(name_or_path: str | os.PathLike, progress: Callable | None = None) -> dict:
    """Format, variant, digest and order of the weights that ``name_or_path`` stands for, and the
    statistics of each array. Raises ``WeightsError``.
    """
    from alexnet_keras.pretrained.loading import resolve_weights  # Keras; the list needs none
    from weights.statistics import AXES_IN_FILE, CANONICAL_AXES, array_statistics

    found = resolve_weights(name_or_path, progress=progress)
    weights = found.weights
    return {
        "source": found.name,
        "path": str(weights.path),
        "format": weights.file_format,
        "variant": found.variant,
        "layer_order": list(weights.layer_order),
        "sha256": digest_of(weights.path),
        "order_in_file": AXES_IN_FILE[weights.file_format],
        "order_shown": CANONICAL_AXES,
        "preprocessing": found.preprocessing and asdict(found.preprocessing),
        "arrays": [asdict(row) for row in array_statistics(weights.layers)],
    }


def _row(entry: CatalogEntry) -> dict:
    fields = asdict(entry)
    file = fields.pop("file")
    return {
        "name": fields.pop("name"),
        "file": file.pop("name"),
        **file,
        **fields,
        "path": local_path(entry),
    }
