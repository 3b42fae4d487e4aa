"""Dataclasses read from JSON, every field checked against its declared type."""

from __future__ import annotations

import dataclasses
import reprlib
import sys
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

from alexnet_keras.errors import ConfigurationError

ADDED_LATER = {"added_later": True}
"""``metadata`` of a field that files of earlier versions lack; there it has its default."""

TYPE_NAMES = {
    bool: "true or false",
    int: "an integer",
    float: "a finite number",
    str: "a string",
    NoneType: "null",
}


def from_json(kind, value, where: str):
    """``value``, as ``json.loads`` returns it, as an instance of ``kind``.

    ``kind``: a dataclass, ``bool``, ``int``, ``float``, ``str``, or a ``dict[str, ...]``,
    ``tuple[...]`` or union of them. Lists become tuples. A union of several dataclasses is an
    object whose ``"kind"`` is the class's name. ``where`` names the value in errors, as in
    ``recipe.schedule``. Raises ``ConfigurationError`` for a field that is missing, unknown or of
    another type.
    """
    if isinstance(kind, UnionType):
        return _union_from_json(get_args(kind), value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass_from_json(kind, value, where)
    if get_origin(kind) is tuple:
        return _tuple_from_json(get_args(kind), value, where)
    if get_origin(kind) is dict:
        _check(type(value) is dict, "an object", value, where)
        return {
            name: from_json(get_args(kind)[1], each, f"{where}[{name!r}]")
            for name, each in value.items()
        }
    if kind is float:
        fits = type(value) in (int, float) and abs(value) <= sys.float_info.max
    else:
        fits = type(value) is kind
    _check(fits, TYPE_NAMES[kind], value, where)
    return value


def asdict_with_kind(value) -> dict:
    """A member of a union of dataclasses as a dictionary that :func:`from_json` reads back."""
    return {"kind": type(value).__name__, **dataclasses.asdict(value)}


def _dataclass_from_json(kind: type, value, where: str):
    _check(type(value) is dict, "an object", value, where)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    hints = get_type_hints(kind)
    for name in value:
        _check(name in fields, f"fields among {', '.join(fields)}", name, where)
    for name, field in fields.items():
        if name not in value and not field.metadata.get("added_later"):
            raise ConfigurationError(
                f"{where}.{name}: expected {_type_name(hints[name])}, got none"
            )
    return kind(
        **{name: from_json(hints[name], each, f"{where}.{name}") for name, each in value.items()}
    )


def _union_from_json(kinds: tuple, value, where: str):
    if value is None and NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not NoneType]
    if len(kinds) == 1:
        return from_json(kinds[0], value, where)
    by_name = {kind.__name__: kind for kind in kinds}
    _check(type(value) is dict, "an object", value, where)
    name = value.get("kind")
    known = isinstance(name, str) and name in by_name
    _check(known, f"one of {', '.join(by_name)}", name, f"{where}.kind")
    fields = {field: each for field, each in value.items() if field != "kind"}
    return from_json(by_name[name], fields, where)


def _tuple_from_json(kinds: tuple, value, where: str) -> tuple:
    _check(type(value) in (list, tuple), "a list", value, where)
    if kinds[-1] is ...:
        kinds = (kinds[0],) * len(value)
    _check(len(value) == len(kinds), f"a list of {len(kinds)} values", value, where)
    return tuple(
        from_json(kind, each, f"{where}[{index}]")
        for index, (kind, each) in enumerate(zip(kinds, value, strict=True))
    )


def _type_name(kind) -> str:
    if isinstance(kind, UnionType):
        return " or ".join(dict.fromkeys(_type_name(each) for each in get_args(kind)))
    return TYPE_NAMES.get(kind, "a list" if get_origin(kind) is tuple else "an object")


def _check(fits: bool, expected: str, value, where: str) -> None:
    if not fits:
        raise ConfigurationError(f"{where}: expected {expected}, got {reprlib.repr(value)}")
