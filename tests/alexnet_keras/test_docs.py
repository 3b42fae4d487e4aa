"""docs/usage.md against the program: every option, file and exit code is there, and nothing that
is not.
"""

import inspect
import re

import pytest

import alexnet_keras
from alexnet_keras.cli import command as exit_codes
from alexnet_keras.cli.feature_commands import feature_group
from alexnet_keras.cli.main import main
from alexnet_keras.configs.option_fields import options_of as declared_options
from alexnet_keras.configs.options import (
    EvaluateOptions,
    ExtractOptions,
    PredictOptions,
    ScratchOptions,
    TransferOptions,
)
from alexnet_keras.configs.recipe import RECIPES
from alexnet_keras.training.run_folder import FILES, FOLDERS
from tests.alexnet_keras.trees import ROOT

USAGE = (ROOT / "docs" / "usage.md").read_text(encoding="utf-8")
DESCRIBED = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", USAGE))
DECLARED = {
    "scratch": ScratchOptions,
    "transfer": TransferOptions,
    "extract": ExtractOptions,
    "evaluate": EvaluateOptions,
    "predict": PredictOptions,
}
COMMANDS = tuple(DECLARED)
FEATURE_COMMANDS = tuple(feature_group.commands)
"""Each has a section and a table of options of its own."""


def options_of(command):
    return {
        option
        for parameter in main.commands[command].params
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
    } - {"-h", "--help"}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_described(command):
    assert options_of(command) <= DESCRIBED


def test_the_table_of_options_says_which_command_has_which():
    (header,) = re.findall(r"\n\| option \| (scratch \|.*) meaning \|", USAGE)
    names = [name.strip() for name in header.split("|")[:-1]]
    assert names == [*COMMANDS]
    rows = re.findall(r"\n\| `(--[a-z-]+)`[^|]*\|((?:[^|\n]*\|){6})", USAGE)
    assert len(rows) > 20
    for option, cells in rows:
        described = {
            name for name, cell in zip(names, cells.split("|")[:5], strict=True) if cell.strip(" ")
        }
        described -= {"evaluate"} if option == "--weights" else set()
        assert described == {name for name in COMMANDS if option in options_of(name)}, option


@pytest.mark.parametrize("command", FEATURE_COMMANDS)
def test_the_section_of_a_command_lists_its_options(command):
    (section,) = re.findall(rf"(?ms)^## {command.capitalize()}\n(.*?)(?=^## )", USAGE)
    assert set(re.findall(r"(?m)^\| `(--[a-z-]+)`", section)) == options_of(command)


def test_the_python_names_of_options():
    """Those that are not the option's own are listed, and no others."""
    others = {
        f"`{option.flag}`": f"`{option.name}`"
        for command in COMMANDS
        for option in declared_options(DECLARED[command]).values()
        if option.flag.removeprefix("--").replace("-", "_") != option.name
    }
    text = " ".join(USAGE.split())
    (listed,) = re.findall(r"Some have other names in Python: (.*?)\. Repeatable", text)
    assert set(re.findall(r"`[^`]+`", listed)) == {*others, *others.values(), "`extract`"}


def test_every_call_of_the_page_is_one():
    """Its first example, without what it trains on."""
    for name in re.findall(r"alexnet_keras\.(\w+)\(", USAGE):
        assert name in alexnet_keras.__all__
    calls = re.findall(r"alexnet_keras\.(\w+)\(([^()\n]*)\)", USAGE)
    for name, keywords in calls:
        known = inspect.signature(getattr(alexnet_keras, name)).parameters
        for keyword in re.findall(r"(\w+)=", keywords):
            assert keyword in known or "changes" in known, (name, keyword)


def test_no_option_is_described_that_no_command_has():
    assert {"--help"}.union(*map(options_of, (*COMMANDS, *FEATURE_COMMANDS))) >= DESCRIBED


def test_what_may_change_is_the_list_of_the_program():
    text = " ".join(USAGE.split())
    (listed,) = re.findall(r"Only these may change: (.*?)\. A finished", text)
    changeable = {
        option.flag
        for declared in (ScratchOptions, TransferOptions)
        for option in declared_options(declared).values()
        if option.changeable
    }
    assert set(re.findall(r"`(--[a-z-]+)`", listed)) == changeable


def test_every_file_of_a_run_is_described():
    for name in (*FILES, *(f"{folder}/" for folder in FOLDERS)):
        assert name == ".lock" or f"\n| `{name}` | " in USAGE, name


def test_the_exit_codes_are_those_of_the_program():
    codes = (
        0,
        exit_codes.BAD_INPUT,
        exit_codes.WORKER_LOST,
        exit_codes.INTERRUPTED,
        exit_codes.TERMINATED,
    )
    assert (
        tuple(map(int, re.findall(r"\n\| ([0-9]+) \|", USAGE.split("Data and weights")[0])))
        == codes
    )


def test_the_table_of_recipes():
    row = r"\n\| `(\w+)` \| (\d+) \| ([\d,]+) (steps|epochs)[^|]*\| ([\d.]+) \|[^|]*\| ([^ ]+) \|"
    rows = {found[0]: found for found in re.findall(row, USAGE)}
    assert set(rows) == set(RECIPES)
    for name, batch, length, unit, rate, decay in rows.values():
        recipe = RECIPES[name]
        assert (
            recipe.batch_size,
            getattr(recipe, unit),
            recipe.learning_rate,
            recipe.weight_decay,
        ) == (int(batch), int(length.replace(",", "")), float(rate), float(decay))
