"""Features reduced to fewer numbers: principal components and sparse random projections.

scikit-learn fits both (``IncrementalPCA``; ``SparseRandomProjection``, Li, Hastie and Church,
2006). A fitted :class:`Projection` is a basis, which is saved and used again on other images.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features.basis_files import read_array, read_basis, write_basis
from alexnet_keras.progress import printable

KINDS = {"pca": "principal components", "srp": "a sparse random projection"}
# Every product has as many rows, so that a row's bits do not depend on how rows are grouped.
_ROWS_PER_PRODUCT = 32
_LONGEST_NAME = 160


@dataclass(frozen=True, eq=False)
class Projection:
    """A linear map from the features of one layer to fewer numbers.

    Attributes:
        layer: the layer as asked for, such as ``fc6:pre``.
        kind: ``pca`` or ``srp``.
        matrix: (components, width) float32; of ``srp`` a ``scipy.sparse.csr_matrix``.
        mean: (width,) float32, subtracted first; None with ``srp``.
        explained_variance: (components,), and the same as a ratio of the total variance,
            descending; None with ``srp``.
        network: what computed the features, of
            :func:`~alexnet_keras.features.projection_from_options.identify_network`.
        fitted_on: the data, rows and settings of the fit, JSON-ready.
        file: the name of its basis file.
    """

    layer: str
    kind: str
    matrix: Any
    mean: np.ndarray | None = None
    explained_variance: np.ndarray | None = None
    explained_variance_ratio: np.ndarray | None = None
    network: Mapping = field(default_factory=dict)
    fitted_on: Mapping = field(default_factory=dict)
    file: str | None = None

    @property
    def components(self) -> int:
        """The length of a projected row."""
        return self.matrix.shape[0]

    @property
    def width(self) -> int:
        """The number of features of a row: the product of the layer's shape."""
        return self.matrix.shape[1]

    def apply(self, block: np.ndarray) -> np.ndarray:
        """Project ``block``, (n, ...) with ``width`` features a row, to (n, components) float32.

        A row's result is the same bit for bit however rows are grouped. A row that begins with NaN
        is one of an unreadable file, and stays NaN.
        """
        rows = np.asarray(block, np.float32).reshape(len(block), -1)
        if rows.shape[1] != self.width:
            raise ConfigurationError(
                f"{self.layer}: expected {self.width} features a row, got {rows.shape[1]}"
            )
        result = np.empty((len(rows), self.components), np.float32)
        with _thread_pools().limit(limits=1, user_api="blas"):
            for start in range(0, len(rows), _ROWS_PER_PRODUCT):
                part = rows[start : start + _ROWS_PER_PRODUCT]
                result[start : start + len(part)] = self._product(_padded(part))[: len(part)]
        result[np.isnan(rows[:, 0])] = np.nan
        return result

    def _product(self, rows: np.ndarray) -> np.ndarray:
        if self.kind == "srp":
            return (self.matrix @ rows.T).T
        return rows @ self.matrix.T - self._offset

    @functools.cached_property
    def _offset(self) -> np.ndarray:
        return (self.matrix.astype(np.float64) @ self.mean).astype(np.float32)

    def save(self, path: Path) -> None:
        """Write the basis as a plain ``.npz``, which :func:`load_projection` reads; ``path``
        changes in one step. That of ``srp`` is also one for ``scipy.sparse.load_npz``.
        """
        about = {**self._settings(), "network": dict(self.network)}
        write_basis(path, about, self._arrays())

    def _arrays(self) -> dict[str, np.ndarray]:
        if self.kind == "pca":
            names = ("mean", "explained_variance", "explained_variance_ratio")
            return {"components": self.matrix, **{name: getattr(self, name) for name in names}}
        arrays = {name: getattr(self.matrix, name) for name in ("data", "indices", "indptr")}
        return arrays | {"shape": np.array(self.matrix.shape), "format": np.array(b"csr")}

    def describe(self) -> dict:
        """What the description of a features file records of it, JSON-ready."""
        return {"basis": self.file, "sha256": self._digest(), **self._settings()}

    def _digest(self) -> str:
        """Of the numbers alone: the same for a copy of the file by another name."""
        digest = hashlib.sha256()
        for array in self._arrays().values():
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _settings(self) -> dict:
        ratio = self.explained_variance_ratio
        return {
            "kind": self.kind,
            "layer": self.layer,
            "width": self.width,
            "components": self.components,
            **({} if ratio is None else {"explained": round(float(ratio.sum()), 6)}),
            "fitted_on": dict(self.fitted_on),
        }

    def check_fits(self, place: str, layer: str, width: int, network: Mapping) -> None:
        """Raise ``ConfigurationError``, naming both, for features of another layer, width or
        network than those that the basis was fitted on. ``place`` begins the error.
        """
        for name, wanted, found in (
            ("layer", layer, self.layer),
            ("features a row", width, self.width),
            *((key, network[key], self.network.get(key)) for key in network),
        ):
            if isinstance(wanted, Mapping):
                wanted, found = _first_difference(wanted, found)
            if wanted != found:
                found = printable(str(found))[:_LONGEST_NAME]  # of a file, whoever wrote it
                raise ConfigurationError(
                    f"{place}: {name}: expected a basis of {wanted}, got one of {found}"
                )


def parse_projection(text: str) -> tuple[str, int]:
    """``"pca:50"`` as ``("pca", 50)``; raises ``ConfigurationError`` for anything else."""
    match = re.fullmatch(r"(pca|srp):([1-9]\d{0,6})", text, re.ASCII)
    if match is None:
        raise ConfigurationError(
            f"project: expected pca:K or srp:K with K components, at least 1, got {text!r}"
        )
    return match[1], int(match[2])


def random_projection(components: int, layer: str, width: int, seed: int = 0) -> Projection:
    """scikit-learn's ``SparseRandomProjection`` of automatic density, which depends on no
    features. ``components``: at most ``width``; ``seed``: 0 or more.
    """
    from sklearn.random_projection import SparseRandomProjection  # slow to import

    projection = SparseRandomProjection(components, random_state=seed)
    matrix = projection.fit(np.zeros((1, width), np.float32)).components_
    return Projection(layer, "srp", matrix, fitted_on={"seed": seed})


def check_components(components: int, width: int, layer: str) -> None:
    """Raise ``ConfigurationError`` for more components than features."""
    if components > width:
        raise ConfigurationError(
            f"project: expected at most {width} components, the features of {layer}, got "
            f"{components}"
        )


def load_projection(path: Path) -> Projection:
    """Read a basis that :meth:`Projection.save` wrote.

    Raises ``DataError``, in one line, for a file that is damaged or none of these; memory stays
    below three times the file's size.
    """
    about, arrays = read_basis(path)
    kind, layer, width, components = (
        about.get(name) for name in ("kind", "layer", "width", "components")
    )
    if kind not in KINDS:
        raise DataError(f"{path}: kind: expected one of {', '.join(KINDS)}, got {str(kind)[:80]}")
    for name, value, of in (
        ("layer", layer, str),
        ("width", width, int),
        ("components", components, int),
        ("network", about.get("network"), dict),
        ("fitted_on", about.get("fitted_on"), dict),
    ):
        if type(value) is not of or (of is int and value < 1):
            raise DataError(f"{path}: {name}: expected {of.__name__}, got {str(value)[:80]}")
    read = _read_pca if kind == "pca" else _read_csr
    return Projection(
        layer=layer,
        kind=kind,
        network=about["network"],
        fitted_on=about["fitted_on"],
        file=Path(path).name,
        **read(arrays, components, width, str(path)),
    )


def _read_pca(arrays: Mapping, components: int, width: int, place: str) -> dict:
    members = {
        "components": (np.float32, (components, width)),
        "mean": (np.float32, (width,)),
        "explained_variance": (np.float64, (components,)),
        "explained_variance_ratio": (np.float64, (components,)),
    }
    found = {name: read_array(arrays, name, *about, place) for name, about in members.items()}
    return {"matrix": found.pop("components"), **found}


def _read_csr(arrays: Mapping, components: int, width: int, place: str) -> dict:
    from scipy.sparse import csr_matrix  # slow to import

    data = read_array(arrays, "data", np.float32, (None,), place)
    indices = read_array(arrays, "indices", np.int32, (len(data),), place)
    starts = read_array(arrays, "indptr", np.int32, (components + 1,), place)
    # SciPy's products read and write wherever these point.
    if starts[0] != 0 or starts[-1] != len(data) or (np.diff(starts) < 0).any():
        raise DataError(f"{place}: indptr: expected 0 to {len(data)}, ascending")
    if len(indices) and not (indices.min() >= 0 and indices.max() < width):
        raise DataError(f"{place}: indices: expected columns from 0 to {width - 1}")
    return {"matrix": csr_matrix((data, indices, starts), shape=(components, width), copy=False)}


@functools.cache
def _thread_pools() -> ThreadpoolController:
    """One thread for a product: others would go on spinning after it, at the cost of the network's
    (OpenBLAS: 180 ms of a core for each product of 1 ms), and bits could depend on their number.
    """
    return ThreadpoolController()


def _padded(rows: np.ndarray) -> np.ndarray:
    if len(rows) == _ROWS_PER_PRODUCT:
        return rows
    padded = np.zeros((_ROWS_PER_PRODUCT, rows.shape[1]), np.float32)
    padded[: len(rows)] = rows
    return padded


def _first_difference(wanted: Mapping, found: Any) -> tuple[str, str]:
    """What differs first between two dictionaries, in words; but for the ``source`` of weights,
    which only names them.
    """
    found = found if isinstance(found, Mapping) else {}
    for key in wanted:
        if key != "source" and wanted[key] != found.get(key):
            return tuple(
                f"{key} {each.get(key)}" + (f" ({each['source']})" if "source" in each else "")
                for each in (wanted, found)
            )
    return "", ""
