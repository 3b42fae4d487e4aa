"""Declaring options once, as fields of frozen dataclasses.

The command line, the Python calls and the config of a resumed run all read the same declaration.
Neither click nor TensorFlow is imported here.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from alexnet_keras.errors import ConfigurationError

TYPE_NAMES = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
}


def option(default: Any, help: str, **about: Any) -> Any:  # noqa: A002  click's name
    """A field of an options dataclass.

    ``about``: ``choices``; ``minimum`` and ``maximum``, both inclusive; ``flag``, the name on the
    command line if it is not the field's; ``metavar`` and ``default_text`` (the default in words)
    for ``--help``; ``changeable``, whether a resumed run may change it; ``or_number``, whether a
    text may be given as an integer; ``or_images``, whether a Python call may give images
    themselves instead of text.
    """
    return dataclasses.field(default=default, metadata={"help": help, **about})


@dataclass(frozen=True)
class Option:
    """A declared option: its ``name`` as a keyword, its ``flag`` on the command line, and the
    values that it accepts.
    """

    name: str
    kind: type
    default: Any
    optional: bool
    repeatable: bool
    help: str
    flag: str
    choices: tuple = ()
    minimum: float | None = None
    maximum: float | None = None
    metavar: str | None = None
    default_text: str | None = None
    changeable: bool = False
    or_number: bool = False
    or_images: bool = False

    def convert(self, value: Any) -> Any:
        """``value`` converted to the option's type. Raises ``ConfigurationError`` for a value that
        it does not accept.

        Paths may be ``str`` or ``os.PathLike``; a repeatable option accepts one value or several,
        and a dictionary for pairs such as ``{"fc8": 10}``.
        """
        if value is None and self.optional:
            return None
        if self.or_images and not isinstance(value, str | os.PathLike):
            return value
        if not self.repeatable:
            return self._convert_one(value)
        if isinstance(value, Mapping):
            value = [f"{name}={item}" for name, item in value.items()]
        if isinstance(value, str | os.PathLike):
            value = [value]
        if not isinstance(value, list | tuple):
            raise ConfigurationError(f"{self.name}: expected a list, got {value!r}")
        return tuple(map(self._convert_one, value))

    def _convert_one(self, value: Any) -> Any:
        original = value
        if self.kind in (str, Path) and isinstance(value, os.PathLike | str):
            value = self.kind(os.fspath(value))
        elif type(value) is int and (self.kind is float or self.or_number):
            value = self.kind(value)
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            raise ConfigurationError(f"{self.name}: expected {self._expected()}, got {original!r}")
        if (
            (self.choices and value not in self.choices)
            or (self.minimum is not None and not value >= self.minimum)  # NaN too
            or (self.maximum is not None and value > self.maximum)
        ):
            raise ConfigurationError(f"{self.name}: expected {self._expected()}, got {original!r}")
        return value

    def _expected(self) -> str:
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.maximum is not None:
            return f"{TYPE_NAMES[self.kind]} from {self.minimum} to {self.maximum}"
        return TYPE_NAMES[self.kind] + (
            "" if self.minimum is None else f", at least {self.minimum}"
        )


@functools.cache
def options_of(declared: type) -> dict[str, Option]:
    """The options that a dataclass declares, by name, in the order of ``--help``."""
    hints = get_type_hints(declared)
    options = {}
    for field in dataclasses.fields(declared):
        kinds = list(get_args(hints[field.name]) or [hints[field.name]])
        repeatable = get_origin(hints[field.name]) is tuple
        options[field.name] = Option(
            field.name,
            kinds[0],
            field.default,
            NoneType in kinds,
            repeatable,
            **{"flag": f"--{field.name.replace('_', '-')}", **field.metadata},
        )
    return options


def read_options(declared: type, values: Mapping[str, Any]) -> Any:
    """An instance of the dataclass with these ``values``, each converted to its declared type."""
    options = options_of(declared)
    return declared(**{name: options[name].convert(value) for name, value in values.items()})


def accept_options(declared: type, name: str) -> Callable:
    """A decorator that gives a function of ``**options`` the name ``name`` and a keyword argument
    for each option.

    Its signature and docstring list the options with their defaults, so that ``help()``,
    completion and the error for a misspelt keyword work as if they were written out.
    """

    def decorate(function: Callable) -> Callable:
        own = inspect.signature(function)
        options = options_of(declared)
        keywords = [
            inspect.Parameter(option.name, inspect.Parameter.KEYWORD_ONLY, default=option.default)
            for option in options.values()
        ]
        plain = [each for each in own.parameters.values() if each.kind is not each.VAR_KEYWORD]
        signature = own.replace(parameters=sorted([*plain, *keywords], key=lambda each: each.kind))

        @functools.wraps(function)
        def call(*arguments, **values):
            signature.bind(*arguments, **values)
            return function(*arguments, **values)

        call.__signature__ = signature
        call.__name__ = call.__qualname__ = name
        call.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\nOptions:\n" + "\n".join(
            f"    {option.name}: {option.help}" for option in options.values()
        )
        return call

    return decorate
