"""What is compared: the layers of features files, and references, on the same stimuli."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features.saved import Features
from alexnet_keras.rsa.files import Reference, read_reference, row_names
from alexnet_keras.rsa.rdms import Products, distances, listed, sum_products
from alexnet_keras.rsa.stimuli import match_stimuli

logger = logging.getLogger(__name__)

_SQUARED = ("squared euclidean", "squared mahalanobis", "crossnobis", "correlation", "cosine")
"""rsatoolbox's names of the distances that are squared Euclidean ones of some features, which is
what CKA needs. (1 - correlation is half that of standardized features.)"""


@dataclass(frozen=True)
class Representation:
    """A layer or a reference.

    Attributes:
        name: of the layer, or the file or column.
        vectors: (subjects, pairs) float64, the RDMs; a layer has one.
        squared: (subjects, pairs) float64, squared Euclidean distances up to a factor, or None
            where it has none.
        about: what it is, in words.
    """

    name: str
    vectors: np.ndarray
    squared: np.ndarray | None
    about: str

    def __post_init__(self):
        for vector in self.vectors:
            if np.ptp(vector) <= 1e-12 * np.abs(vector).max():
                raise DataError(
                    f"{self.name}: expected distances that differ, got {vector[0]:g} between all "
                    "stimuli: nothing can be compared with them"
                )


@dataclass(frozen=True)
class Rows:
    """The rows of features files that are compared.

    ``names``: the stimulus of each row, of which several are repeats. ``stimuli``: each once.
    ``columns``: the table of these rows. ``named``: whether the names are more than row numbers.
    ``kept``: the rows' numbers in the files. ``left_out``: the names of the rows that are not
    finite.
    """

    names: tuple[str, ...]
    columns: Mapping[str, list]
    named: bool
    kept: np.ndarray
    left_out: tuple[str, ...] = ()

    @property
    def stimuli(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.names))

    def of_stimuli(self, column: str) -> list[str]:
        """The value of a column for each stimulus. Raises ``DataError`` for repeats that
        differ.
        """
        values: dict[str, str] = {}
        for name, value in zip(self.names, map(str, self.columns[column]), strict=True):
            if values.setdefault(name, value) != value:
                raise DataError(
                    f"{column}: expected one value for each stimulus, got {values[name]!r} and "
                    f"{value!r} for {name}"
                )
        return list(values.values())


def read_layers(
    files: Sequence[Features],
    layers: Sequence[str],
    repeats: str | None,
    advance: Callable[[int], None],
) -> tuple[Rows, dict[str, Products]]:
    """The sums of products of each layer, over the rows that are finite in all of them.

    ``files``: of the same stimuli, in any order; a layer that several have is named
    ``<stem>:<layer>``. ``advance`` is called after each layer. Raises ``DataError``.
    """
    first, *others = (_rows(features, repeats) for features in files)
    places = [_place(features) for features in files]
    orders = [
        np.arange(len(first.names)),
        *(
            _order(first, other, places[0], place)
            for other, place in zip(others, places[1:], strict=True)
        ),
    ]
    found = {
        name: _ordered(features[layer], order, advance)
        for (name, features, layer), order in zip(
            *_named_layers(files, layers, orders), strict=True
        )
    }
    finite = np.all([np.isfinite(products.sums) for products in found.values()], axis=0)
    left_out = [name for name, good in zip(first.names, finite, strict=True) if not good]
    if left_out:
        logger.warning(
            "%d rows are left out, whose features are not finite: %s",
            len(left_out),
            listed(left_out),
        )
    kept = np.flatnonzero(finite)
    columns = {name: [values[row] for row in kept] for name, values in first.columns.items()}
    names = tuple(first.names[row] for row in kept)
    rows = Rows(names, columns, first.named, kept, tuple(left_out))
    return rows, {name: products.take(kept) for name, products in found.items()}


def _named_layers(files: Sequence[Features], layers: Sequence[str], orders: list):
    """(name, features, layer) of each layer asked for, and the order of its rows."""
    asked = []
    rows = []
    for features, order in zip(files, orders, strict=True):
        chosen = [layer for layer in (layers or features) if layer in features or len(files) == 1]
        features.check_layers(tuple(chosen))
        asked += [(layer, features) for layer in chosen]
        rows += [order] * len(chosen)
    missing = [layer for layer in layers if layer not in {layer for layer, _ in asked}]
    for layer in missing:
        files[0].check_layers((layer,))
    names = [layer for layer, _ in asked]
    for of_file in (lambda path: path.stem, str):
        names = [
            f"{of_file(features.files[layer])}:{layer}" if names.count(name) > 1 else name
            for name, (layer, features) in zip(names, asked, strict=True)
        ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigurationError(f"features: expected each file once, got {twice} twice")
    return [
        (name, features, layer) for name, (layer, features) in zip(names, asked, strict=True)
    ], rows


def _ordered(features: np.ndarray, order: np.ndarray, advance: Callable[[int], None]) -> Products:
    products = sum_products(features).take(order)
    advance(1)
    return products


def _place(features: Features) -> str:
    return str(features.table or next(iter(features.files.values())))


def _rows(features: Features, repeats: str | None) -> Rows:
    place = _place(features)
    names = row_names(features.rows)
    count = len(next(iter(features.values())))
    if repeats is not None:
        if repeats not in features.rows:
            raise ConfigurationError(
                f"repeats: expected a column of {place} ({', '.join(features.rows) or 'none'}), "
                f"got {repeats}"
            )
        names = tuple(map(str, features.rows[repeats]))
    elif names is not None and len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"{place}: expected each stimulus once, got {twice} {names.count(twice)} times; if "
            "these are repeats, name the column with --repeats"
        )
    named = names is not None
    names = names if named else tuple(map(str, range(count)))
    return Rows(names, features.rows, named, np.arange(count))


def _order(first: Rows, other: Rows, place: str, other_place: str) -> np.ndarray:
    """The row of ``other`` for each of ``first``; the files are named in errors."""
    if first.names == other.names:
        return np.arange(len(first.names))
    if len(first.stimuli) < len(first.names):
        raise DataError(
            f"{other_place}: expected the same repeats in the same order as in {place}, got others"
        )
    return match_stimuli(first.names, other.names, place, other_place)


def layer_representation(name: str, products: Products, rows: Rows, method: str) -> Representation:
    """The RDM of a layer by ``method``, and its squared Euclidean distances."""
    return _representation(name, products, rows.names, method, f"{products.width} features")


def _representation(
    name: str, products: Products, names: Sequence[str], method: str, about: str
) -> Representation:
    try:
        vector = distances(products, names, method)
        squared = distances(products, names, "euclidean")
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    return Representation(name, vector[None], squared[None], about)


def read_representation(reference: str, rows: Rows, method: str) -> Representation:
    """The reference that ``--reference`` names, on the stimuli of ``rows``, in their order.

    A file is RDMs or responses, as :func:`~alexnet_keras.rsa.files.read_reference` tells them
    apart; the RDM of responses is made by ``method``. A column of the table of rows is the RDM of
    categories. Raises ``ConfigurationError`` for what is neither, and ``DataError``.
    """
    if not Path(reference).is_file() and reference in rows.columns:
        return _categories(reference, rows)
    if not Path(reference).exists():
        raise ConfigurationError(
            f"reference: expected a file or a column of the table "
            f"({', '.join(rows.columns) or 'which is missing'}), got {reference}"
        )
    found = read_reference(reference, len({*rows.names, *rows.left_out}))
    order = _order_of_reference(found, rows)
    if found.responses is not None:
        products = sum_products(found.responses).take(order)
        if not np.isfinite(products.sums).all():
            raise DataError(f"{reference}: expected finite responses, got others")
        return _representation(reference, products, rows.stimuli, method, found.describe())
    matrices = found.rdms.get_matrices()[:, order][:, :, order]
    vectors = matrices[:, *np.triu_indices(len(order), 1)]
    measure = found.rdms.dissimilarity_measure
    about = f"{found.describe()} ({measure or 'of an unnamed distance'})"
    squared = vectors if str(measure).lower() in _SQUARED else None
    return Representation(reference, vectors, squared, about)


def _order_of_reference(found: Reference, rows: Rows) -> np.ndarray:
    """Where each stimulus of ``rows`` is in the reference: by name, or by position where either
    has no names. Stimuli that are left out of the features may be in it.
    """
    if found.names is not None and rows.named:
        left_out = tuple(dict.fromkeys(rows.left_out))
        without = tuple(name for name in left_out if name not in rows.stimuli)
        names = (*rows.stimuli, *without)
        if len(found.names) < len(names):
            names = rows.stimuli
        order = match_stimuli(names, found.names, "features", str(found.path))
        return order[: len(rows.stimuli)]
    return _order_by_position(found, rows)


def _order_by_position(found: Reference, rows: Rows) -> np.ndarray:
    all_rows = len(rows.names) + len(rows.left_out)
    if found.stimuli not in (all_rows, len(rows.stimuli)):
        raise DataError(
            f"{found.path}: expected the {all_rows} stimuli of the features, or names to match "
            f"them by, got {found.stimuli} without names"
        )
    logger.warning(
        "%s: taken to be in the order of the features' rows, as %s no names",
        found.path,
        "it has" if found.names is None else "the features have",
    )
    repeated = len(rows.stimuli) < len(rows.names)
    if found.stimuli == len(rows.stimuli) or repeated:
        return np.arange(len(rows.stimuli))
    return rows.kept


def _categories(column: str, rows: Rows) -> Representation:
    values = rows.of_stimuli(column)
    empty = [name for name, value in zip(rows.stimuli, values, strict=True) if not value]
    if empty:
        raise DataError(
            f"{column}: expected a value for every stimulus, got none for {listed(empty)}"
        )
    codes = np.unique(values, return_inverse=True)[1]
    first, second = np.triu_indices(len(codes), 1)
    vector = (codes[first] != codes[second]).astype(float)
    about = f"{codes.max() + 1} categories: 0 within, 1 between them"
    return Representation(column, vector[None], vector[None], about)
