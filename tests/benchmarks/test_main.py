"""The command of the benchmarks, with a measure that takes no time."""

from __future__ import annotations

import importlib
import inspect
import json
import types

import pytest
from click.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks.measure import Line, Rate


@pytest.fixture
def measured(monkeypatch):
    """The options that the measure was asked with; its line misses one target and reaches
    another.
    """
    seen = []

    def lines(options):
        seen.append(options)
        rates = {"ours": Rate(9, 8, 10), "fast": Rate(10, 9, 11), "slow": Rate(1, 1, 1)}
        yield Line(
            "inference, batch 3",
            "ours",
            rates,
            {"fast": 1.0, "slow": 2.0},
            notes="of random images",
        )

    monkeypatch.setattr(
        command.importlib, "import_module", lambda name: types.SimpleNamespace(lines=lines)
    )
    monkeypatch.setattr(command, "import_tensorflow", lambda: None)
    monkeypatch.setattr(command, "_limit_threads", lambda threads: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return seen


@pytest.mark.parametrize("name", command.NAMES)
def test_every_name_is_a_module_that_makes_lines(name):
    assert inspect.isgeneratorfunction(importlib.import_module(f"benchmarks.{name}").lines)


def test_it_prints_the_table_the_notes_and_every_target_that_is_missed(measured, tmp_path):
    result = CliRunner().invoke(
        command.main,
        [
            "inference",
            "--batch-sizes",
            "3",
            "--threads",
            "1",
            "--repetitions",
            "4",
            "--json",
            str(tmp_path / "found.json"),
        ],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    assert (measured[0].batch_sizes, measured[0].threads, measured[0].repetitions) == ((3,), 1, 4)
    assert "inference, batch 3: of random images" in result.output
    assert [line for line in result.output.splitlines() if line.startswith("missed")] == [
        "missed: inference, batch 3 against fast: expected 1, got 0.90"
    ]
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["environment"]["threads"] == 1
    assert found["lines"][0]["ratios"]["slow"] == 9


def test_a_module_keeps_its_own_batch_sizes_where_none_are_asked_for(measured):
    CliRunner().invoke(command.main, ["inference", "--threads", "1"], catch_exceptions=False)
    assert measured[0].sizes((1, 8)) == (1, 8)


@pytest.mark.parametrize(
    "arguments",
    [["nothing"], ["--batch-sizes", "0"], ["--batch-sizes", "1,x"], ["--repetitions", "0"]],
)
def test_options_that_mean_nothing_are_refused(measured, arguments):
    result = CliRunner().invoke(command.main, arguments)
    assert result.exit_code == 2
    assert not measured


def test_packages_that_are_not_installed_have_no_version():
    assert command._version("no-such-package") is None
