"""How claims are judged, without training anything."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from alexnet_keras.configs.architecture import Convolution, Pooling
from benchmarks import ablations
from benchmarks.ablation_report import BASELINE, CLAIMS, Difference, Trial
from benchmarks.ablations import NETWORKS, steps_to_target


def trial(network, seed, error=0.1, train_error=0.05, steps=300):
    return Trial(network, seed, 1000, error, 0.01, train_error, steps, True, 60.0)


def test_the_margin_is_students_t_over_paired_seeds():
    found = Difference.of([11.0, 22.0, 33.0], [10.0, 20.0, 30.0])
    assert found.mean == pytest.approx(2)
    assert found.margin == pytest.approx(
        4.3027 / 3**0.5, rel=1e-4
    )  # the table's t(0.975, 2), a deviation of 1


@pytest.mark.parametrize(
    ("mean", "larger", "verdict"),
    [
        (2.1, True, "held"),
        (-2.1, True, "opposite"),
        (-2.1, False, "held"),
        (2.1, False, "opposite"),
        (2.0, True, "not seen"),
        (-2.0, True, "not seen"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(mean, larger, verdict):
    assert Difference(mean, margin=2.0).verdict(larger) == verdict


def test_no_difference_at_all_is_not_seen():
    assert Difference.of([0.1, 0.2], [0.1, 0.2]).verdict(larger=True) == "not seen"


def test_steps_are_counted_to_the_end_of_the_first_good_window():
    assert steps_to_target([1.0] * 30 + [0.0] * 50) == 68  # 12 of 50 wrong is 24%, 13 is 26%
    assert steps_to_target([0.0] * 50) == 50
    assert steps_to_target([0.26] * 90) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [("krizhevsky", [15, 7, 3]), ("147", [16, 7, 3]), ("145-half", [15, 7, 3])],
)
def test_maps_end_at_the_same_size_with_and_without_overlap(name, expected):
    """Rounded up, as in 2012."""
    size, sizes = ablations.INPUT_SIZE, []
    for layer in NETWORKS[name].architecture.layers:
        if isinstance(layer, Convolution):
            size = -(-(size + 2 * layer.padding - layer.kernel) // layer.stride) + 1
        elif isinstance(layer, Pooling):
            size = -(-(size - layer.size) // layer.stride) + 1
            sizes.append(size)
    assert sizes == expected


def test_every_network_has_a_claim_and_differs_from_its_baseline():
    baselines = {claim.baseline for claim in CLAIMS}
    assert baselines == {BASELINE, "paper"}
    assert {claim.network for claim in CLAIMS} == set(NETWORKS) - baselines
    for claim in CLAIMS:
        assert NETWORKS[claim.network] != NETWORKS[claim.baseline]


@pytest.mark.parametrize("name", ["145-half", "148"])
def test_the_authors_ablations_are_narrow_alike(name):
    """A quarter of the filters of 2012, with the initial values of every other network."""
    network, baseline = NETWORKS[name].architecture, NETWORKS[BASELINE].architecture
    conv5 = next(layer for layer in network.layers if layer.name == "conv5")
    assert conv5.filters == 64
    assert network.initial_values == baseline.initial_values


def test_the_command_trains_pairs_of_the_same_seeds_and_writes_its_verdicts(monkeypatch, tmp_path):
    errors = {
        "paper": [0.10, 0.11, 0.12],
        "paper-no-lrn": [0.15, 0.161, 0.172],
    }
    monkeypatch.setattr(ablations, "import_tensorflow", lambda: None)
    monkeypatch.setattr(
        ablations, "train_one", lambda name, seed, epochs: trial(name, seed, errors[name][seed])
    )
    path = tmp_path / "out.json"
    result = CliRunner().invoke(
        ablations.main, ["--only", "paper-no-lrn", "--json", str(path)], catch_exceptions=False
    )
    assert result.exit_code == 0
    written = json.loads(path.read_text(encoding="utf-8"))
    assert [(each["network"], each["seed"]) for each in written["trials"]] == [
        (name, seed) for seed in range(3) for name in ("paper", "paper-no-lrn")
    ]
    assert [(claim["section"], claim["verdict"]) for claim in written["claims"]] == [
        ("3.3", "held")
    ]
    assert written["claims"][0]["mean"] == pytest.approx(0.051)
