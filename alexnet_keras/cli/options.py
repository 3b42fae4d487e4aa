"""Click options of the commands, built from their declarations in
:mod:`alexnet_keras.configs.options`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from alexnet_keras.configs.option_fields import Option, options_of

overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing files.")


def options_from(declared: type) -> Callable:
    """A decorator that adds a click option for each option of the dataclass, in its order."""

    def decorate(function):
        for option in reversed(options_of(declared).values()):
            function = _click_option(option)(function)
        return function

    return decorate


def named_options() -> dict[str, Any]:
    """The options and arguments given on the command line, without those left at their
    defaults.
    """
    context = click.get_current_context()
    named = click.core.ParameterSource.COMMANDLINE
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is named
    }


def _click_option(option: Option) -> Callable:
    settings = {"help": option.help, "default": option.default, "metavar": option.metavar}
    if option.default_text:
        settings["show_default"] = option.default_text
    flags = option.flag
    if option.kind is bool and option.optional:
        flags = f"{option.flag}/--no-{option.flag.removeprefix('--')}"
    elif option.kind is bool:
        settings["is_flag"] = True
    else:
        settings |= _typed(option)
    return click.option(flags, option.name, **settings)


def _typed(option: Option) -> dict[str, Any]:
    if option.choices:
        choices = click.Choice(list(map(str, option.choices)))
        if option.repeatable:
            return {"type": choices, "multiple": True}
        default = None if option.default is None else str(option.default)
        return {"type": choices, "default": default, "callback": _as_kind(option.kind)}
    if option.kind is Path:
        return {"type": click.Path(path_type=Path), "multiple": option.repeatable}
    if option.minimum is not None:
        ranged = {int: click.IntRange, float: click.FloatRange}[option.kind]
        return {"type": ranged(option.minimum, option.maximum)}
    return {"type": option.kind, "multiple": option.repeatable}


def _as_kind(kind: type) -> Callable:
    return lambda context, parameter, value: value if value is None else kind(value)
