"""What a probe learns from the table of a features file: labels, groups and splits of its rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features.probing import Split
from alexnet_keras.features.saved import Features

logger = logging.getLogger(__name__)

IMAGE = "image"
IMAGE_COLUMN = "path"
"""The column that names the image of a row; several objects of COCO share one."""
_LABEL = "label"
_CLASS = "class"
_BLOCK_BYTES = 1 << 26


@dataclass(frozen=True)
class ProbeRows:
    """The rows that a probe uses.

    ``rows``: (n,) indices into the features. ``labels``: (n,) indices into ``class_names``.
    ``groups``: (n,) integers, and ``group_names`` what each stands for.
    """

    rows: np.ndarray
    labels: np.ndarray
    groups: np.ndarray
    class_names: tuple[str, ...]
    group_names: tuple[str, ...]

    def select(self, kept: np.ndarray) -> ProbeRows:
        """The rows where the mask ``kept`` is True, or that it indexes, and their classes."""
        labels, names = _numbered(self.labels[kept])
        return replace(
            self,
            rows=self.rows[kept],
            labels=labels,
            groups=self.groups[kept],
            class_names=tuple(self.class_names[index] for index in names),
        )


def read_probe_rows(
    features: Features, label: str | None, group: str | None, used: np.ndarray | None = None
) -> ProbeRows:
    """The labels and groups of the rows where the mask ``used`` is True, all by default: from the
    columns of the table that ``label`` and ``group`` name, by default ``label`` (or else
    ``class``) and ``image``.

    Raises ``DataError`` for missing labels and ``ConfigurationError`` for unknown columns.
    """
    _check_table(features)
    label = label or default_label(features)
    column = _column(features, label, "label")
    rows = np.arange(len(column)) if used is None else np.flatnonzero(used)
    missing = [row for row in rows if _is_missing(column[row], label)]
    if missing:
        image = features.rows.get(IMAGE_COLUMN, {missing[0]: ""})[missing[0]]
        raise DataError(
            f"{features.table}: {label}: expected a label in every row, got none in "
            f"{len(missing)} of {len(rows)}, first in row {missing[0]} {image}".rstrip()
        )
    labels, values = _numbered([column[row] for row in rows])
    names = features.rows.get(_CLASS) if label == _LABEL else None
    groups, group_names = _groups(features, group, len(column))
    return ProbeRows(
        rows,
        labels,
        groups[rows],
        _class_names(values, labels, names and [names[row] for row in rows]),
        group_names,
    )


def default_label(features: Features) -> str:
    """The column ``label``, or ``class`` of a table without it."""
    return _CLASS if _LABEL not in features.rows and _CLASS in features.rows else _LABEL


def read_split(features: Features, split_by: str) -> tuple[np.ndarray, np.ndarray]:
    """The train and the test rows, as masks, that a column of the table tells apart: values that
    begin with ``train``, and with ``val`` or else ``test``.
    """
    _check_table(features)
    values = np.array(_column(features, split_by, "split_by"), str)
    train = np.char.startswith(values, "train")
    test = next(
        (found for name in ("val", "test") if (found := np.char.startswith(values, name)).any()),
        np.zeros_like(train),
    )
    if not train.any() or not test.any():
        found = ", ".join(np.unique(values)[:10])
        raise DataError(
            f"{features.table}: {split_by}: expected rows of train, and of val or test, got "
            f"{found}"
        )
    return train, test


def split_indices(where: str, rows: ProbeRows, train: np.ndarray, test: np.ndarray) -> Split:
    """The places in ``rows`` of the rows of two masks. Raises ``DataError`` that begins with
    ``where`` if a group has rows of both, or one of them has none.
    """
    train, test = (np.flatnonzero(mask[rows.rows]) for mask in (train, test))
    if not len(train) or not len(test):
        raise DataError(
            f"{where}: expected finite rows to train and to test on, got {len(train)} and "
            f"{len(test)}"
        )
    shared = np.intersect1d(rows.groups[train], rows.groups[test])
    if len(shared):
        raise DataError(
            f"{where}: expected every group in train or in test, got "
            f"{rows.group_names[shared[0]]} in both"
        )
    return train, test


def finite_rows(features: Features, layers: Sequence[str], rows: ProbeRows) -> ProbeRows:
    """The rows whose features are finite in all ``layers``; a warning counts the others. Raises
    ``DataError`` if there are none, or all are alike.
    """
    finite = np.ones(len(rows.rows), bool)
    for layer in layers:
        found, constant = _examine(features[layer])
        if not found.any():
            raise DataError(f"{features.files[layer]}: {layer}: expected numbers, got NaN alone")
        if constant:
            raise DataError(
                f"{features.files[layer]}: {layer}: expected features that vary, got the same in "
                "every row"
            )
        finite &= found[rows.rows]
    if not finite.all():
        first = rows.rows[np.argmin(finite)]
        logger.warning(
            "%s: %d of %d rows are not finite and left out, first row %d",
            features.files[layers[0]],
            (~finite).sum(),
            len(finite),
            first,
        )
        rows = rows.select(finite)
    if not len(rows.rows):
        raise DataError(
            f"{features.table}: expected rows that are finite in every layer, got none"
        )
    return rows


def check_classes(where: str, rows: ProbeRows, folds: int, skip_rare: bool) -> ProbeRows:
    """The rows of the classes that occur in at least ``folds`` groups. Others are left out with
    ``skip_rare``, and a warning names them; without it, raises ``DataError`` that does.
    """
    pairs = np.unique(np.stack([rows.labels, rows.groups]), axis=1)
    groups = np.bincount(pairs[0], minlength=len(rows.class_names))
    rare = np.flatnonzero(groups < folds)
    if len(rare):
        named = [f"{rows.class_names[index]} ({groups[index]})" for index in rare]
        names = ", ".join(named[:5]) + (f" and {len(rare) - 5} others" if len(rare) > 5 else "")
        if not skip_rare:
            raise DataError(
                f"{where}: expected every class in at least {folds} groups, one for each fold, "
                f"got fewer of {names}; use fewer folds, or skip_rare"
            )
        logger.warning(
            "%s: %d classes in fewer than %d groups are left out: %s",
            where,
            len(rare),
            folds,
            names,
        )
        rows = rows.select(groups[rows.labels] >= folds)
    if len(rows.class_names) < 2:
        found = ", ".join(rows.class_names) or "none"
        raise DataError(f"{where}: expected two or more classes, got {found}")
    return rows


def _check_table(features: Features) -> None:
    if not any(features.rows.values()):
        path = next(iter(features.files.values()))
        raise DataError(
            f"{path}: probe: expected a table of its rows with labels in "
            f"{path.with_suffix('.csv')}, got none"
        )


def _column(features: Features, name: str, option: str) -> list:
    table = features.rows
    if name not in table:
        raise ConfigurationError(
            f"{option}: expected a column of {features.table} ({', '.join(table)}), got {name}"
        )
    return table[name]


def _groups(
    features: Features, group: str | None, count: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    table = features.rows
    if group is None and IMAGE_COLUMN not in table:
        return np.arange(count), tuple(map(str, range(count)))
    name = group or IMAGE
    if name == IMAGE and IMAGE not in table and IMAGE_COLUMN in table:
        name = IMAGE_COLUMN
    groups, names = _numbered(_column(features, name, "group"))
    return groups, tuple(map(str, names))


def _is_missing(cell: object, column: str) -> bool:
    return cell == "" or (column == _LABEL and cell in (-1, "-1"))


def _numbered(column: Sequence) -> tuple[np.ndarray, list]:
    """Each value's index among the sorted values, and these."""
    values, indices = np.unique(np.asarray(column), return_inverse=True)
    return indices.reshape(-1), values.tolist()


def _class_names(values: list, labels: np.ndarray, names: list | None) -> tuple[str, ...]:
    """The names of the labels, from the column of names beside them; a name that several labels
    share is followed by the label.
    """
    if names is None:
        return tuple(map(str, values))
    first = np.unique(labels, return_index=True)[1]
    found = [names[row] or str(value) for row, value in zip(first, values, strict=True)]
    return tuple(
        name if found.count(name) == 1 else f"{name} ({value})"
        for name, value in zip(found, values, strict=True)
    )


def _examine(x: np.ndarray) -> tuple[np.ndarray, bool]:
    """Which rows are finite, and whether all that are equal one another."""
    flat = x.reshape(len(x), -1)
    step = max(1, _BLOCK_BYTES // max(1, flat.shape[1] * flat.itemsize))
    finite = np.ones(len(flat), bool)
    first = None
    constant = True
    for start in range(0, len(flat), step):
        block = flat[start : start + step]
        found = finite[start : start + step] = np.isfinite(block).all(axis=1)
        if first is None and found.any():
            first = block[np.argmax(found)]
        if first is not None and constant:
            constant = bool((block[found] == first).all())
    return finite, constant
