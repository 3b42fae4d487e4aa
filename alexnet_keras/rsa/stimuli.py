"""Stimuli by name: which rows of two data sets belong to the same one."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from alexnet_keras.data.listing import IMAGE_SUFFIXES
from alexnet_keras.errors import DataError


def _stem(name: str) -> str:
    stem, suffix = os.path.splitext(os.path.basename(name))
    return stem if suffix.lower() in IMAGE_SUFFIXES else stem + suffix


_FORMS: tuple[Callable[[str], str], ...] = (str, os.path.basename, _stem)


def match_stimuli(
    names_a: Sequence[str], names_b: Sequence[str], a: str = "features", b: str = "reference"
) -> np.ndarray:
    """Where each stimulus of ``names_a`` is in ``names_b``: (stimuli,) int64, so that
    ``names_b[order]`` are ``names_a``.

    The names are compared as they are; if they differ, without folders (``pictures/cat.png`` is
    ``cat.png``); if they still do, without an image's suffix (``cat``). ``a`` and ``b`` name the
    two in errors. Raises ``DataError`` naming a duplicate or the first stimulus that only one of
    them has.

    Example::

        reference.subset_pattern("index", match_stimuli(features.rows["id"], names))
    """
    for names, owner in ((names_a, a), (names_b, b)):
        check_names(names, owner)
    for form in _FORMS:
        forms_a = [form(name) for name in names_a]
        places = {form(name): index for index, name in enumerate(names_b)}
        if len(set(forms_a)) == len(places) == len(names_b) and set(forms_a) == set(places):
            return np.array([places[name] for name in forms_a], np.int64)
    raise DataError(_difference(names_a, names_b, a, b))


def check_names(names: Sequence[str], owner: str) -> None:
    """Raise ``DataError`` for a name that occurs twice."""
    name, count = Counter(names).most_common(1)[0] if len(names) else ("", 0)
    if count > 1:
        raise DataError(f"{owner}: expected every stimulus once, got {name!r} {count} times")


def _difference(names_a: Sequence[str], names_b: Sequence[str], a: str, b: str) -> str:
    """The first stimulus that only one of the two has, by the form in which they agree most."""
    form = max(_FORMS, key=lambda form: len({*map(form, names_a)} & {*map(form, names_b)}))
    forms_a = {form(name) for name in names_a}
    forms_b = {form(name) for name in names_b}
    only_a = [name for name in names_a if form(name) not in forms_b]
    only_b = [name for name in names_b if form(name) not in forms_a]
    counts = f"{len(names_a)} and {len(names_b)} stimuli"
    if only_a:
        return f"{b}: expected the stimuli of {a}, got none named {only_a[0]!r} ({counts})"
    if only_b:
        return f"{b}: expected the stimuli of {a}, got {only_b[0]!r} besides ({counts})"
    return f"{b}: expected names as different as those of {a}, got some that agree without folders"
