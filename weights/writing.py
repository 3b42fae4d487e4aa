"""Write canonical layers as a weight file, in the format that the suffix of its name chooses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path

from weights.canonical import Layers
from weights.errors import WeightsError

_WRITERS = {
    ".caffemodel": ("weights.caffe_writer", "write_caffemodel"),
    ".mat": ("weights.matconvnet", "write_mat"),
    ".pth": ("weights.torch_writer", "write_pth"),
    ".npz": ("weights.npz", "write_npz"),
    ".safetensors": ("weights.safetensors", "write_safetensors"),
    ".weights.h5": ("weights.hdf5", "write_weights_h5"),
}
OUTPUT_SUFFIXES = tuple(_WRITERS)


def write_weights(
    path: str | Path,
    layers: Layers,
    layer_order: Iterable[str] = (),
    variant: str | None = None,
    fields: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """Write canonical ``layers`` as float32 to ``path``, whose suffix chooses the format.

    ``layer_order``: all public layers as the network has them, for ``.caffemodel`` and ``.mat``.
    ``variant``: the network's name, which every format records and
    :attr:`weights.canonical.WeightSet.variant` gives back. ``fields``: what ``.mat`` holds of each
    layer beside its weights. Raises ``WeightsError``.
    """
    suffix = output_suffix(path)
    module, function = _WRITERS[suffix]
    order = {"layer_order": layer_order} if suffix in (".caffemodel", ".mat") else {}
    if suffix == ".mat":
        order["fields"] = fields
    getattr(import_module(module), function)(Path(path), layers, variant=variant, **order)


def output_suffix(path: str | Path) -> str:
    """The suffix of ``path`` that chooses a format. Raises ``WeightsError`` listing the valid
    ones.
    """
    for suffix in OUTPUT_SUFFIXES:
        if Path(path).name.endswith(suffix):
            return suffix
    raise WeightsError(f"{path}: expected a name that ends in one of {', '.join(OUTPUT_SUFFIXES)}")
