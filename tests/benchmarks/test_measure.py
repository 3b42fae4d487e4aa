"""How rates are taken and told, without timing anything that matters."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from benchmarks import measure
from benchmarks.measure import (
    COPY,
    SGEMM,
    Candidate,
    Line,
    Rate,
    installed,
    interleaved,
    rotating,
    table,
    to_json,
)


@pytest.fixture
def clock(monkeypatch):
    """A clock that only candidates move."""
    now = [0.0]
    monkeypatch.setattr(measure.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(measure.time, "sleep", lambda seconds: None)
    return now


def candidate(clock, name, seconds, items=8, calls=None):
    times = iter(seconds) if isinstance(seconds, list) else None

    def run():
        clock[0] += next(times) if times else seconds
        if calls is not None:
            calls.append(name)

    return Candidate(name, run, items)


def test_candidates_take_turns_and_the_first_changes(clock):
    calls = []
    interleaved(
        [candidate(clock, name, 1.0, calls=calls) for name in "abc"], repetitions=4, warm_up=1
    )
    assert "".join(calls) == "abc" + "abc" + "bca" + "cab" + "abc"


def test_the_median_and_the_spread_are_of_the_repetitions_without_warm_up(clock):
    rates = interleaved(
        [candidate(clock, "a", [9.0, 9.0, 1.0, 2.0, 8.0])], repetitions=3, warm_up=2
    )
    assert rates == {"a": Rate(median=4.0, low=1.0, high=8.0)}


def test_a_fast_candidate_runs_many_times_in_a_repetition(clock):
    calls = []
    rates = interleaved(
        [candidate(clock, "a", 1 / 64, items=1, calls=calls)], repetitions=1, warm_up=2
    )
    assert len(calls) == 2 + 16
    assert rates["a"].median == pytest.approx(64)


def test_inputs_rotate():
    seen = []
    run = rotating(seen.append, "xyz")
    for _ in range(4):
        run()
    assert seen == list("xyzx")


def line(**changes):
    rates = {
        "ours": Rate(100, 90, 110),
        "PyTorch": Rate(50, 40, 60),
        SGEMM: Rate(250, 240, 260),
        COPY: Rate(10, 9, 11),
    }
    return Line(
        **{
            "measure": "inference, batch 32",
            "ours": "ours",
            "rates": rates,
            "flops_per_item": 1.5e9,
            "targets": {"PyTorch": 1.8, SGEMM: 0.65},
            **changes,
        }
    )


def test_ratios_to_peers_and_fractions_of_ceilings():
    assert line().others == ["PyTorch", SGEMM]
    assert line().ratio("PyTorch") == 2
    assert line().ratio(SGEMM) == pytest.approx(100 * 1.5 / 250)
    assert line().missed == [SGEMM]
    assert line(bytes_per_item=0.05e9).ratio(COPY) == pytest.approx(0.5)


def test_of_seconds_and_bytes_less_is_better():
    assert line(less_is_better=True, flops_per_item=None).ratio("PyTorch") == 0.5


def test_the_table_has_each_peer_its_ratio_and_the_spread():
    console = Console(width=200, file=io.StringIO())
    console.print(table([line()]))
    text = console.file.getvalue()
    assert "inference, batch 32, images/s" in text
    assert text.splitlines()[3].split()[-5:] == ["PyTorch", "50.0", "40.0-60.0", "2.00", "1.8"]
    assert text.splitlines()[4].split()[-3:] == ["0.60", "0.65", "missed"]


def test_json_holds_the_environment_and_every_figure():
    found = json.loads(json.dumps(to_json([line()], {"threads": 2})))
    assert found["environment"] == {"threads": 2}
    assert found["lines"][0]["ratios"]["PyTorch"] == 2
    assert found["lines"][0]["rates"]["PyTorch"] == {"median": 50, "low": 40, "high": 60}
    assert found["lines"][0]["missed"] == [SGEMM]


def test_peers_that_are_not_installed_are_named():
    assert installed({"NumPy": "numpy", "Torchless": "no_such_module"}) == (
        ["NumPy"],
        ["Torchless"],
    )
