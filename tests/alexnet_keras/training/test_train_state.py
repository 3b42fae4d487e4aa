"""Where a run stands: sums, the best epoch, and what a plateau does."""

import json
from dataclasses import replace

import pytest

from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt, Plateau
from alexnet_keras.errors import RunError
from alexnet_keras.training.train_state import TrainState, mean_metrics

RECIPE = Recipe("short", batch_size=4, epochs=9, schedule=DropAt())


def figures(top1):
    return {"top1": top1, "loss": 1.0}


def test_means_are_per_image_that_counts():
    train_state = TrainState()
    train_state.add((6.0, 1.0, 3.0, 4.0), 0.5)
    train_state.add((2.0, 1.0, 1.0, 2.0), 1.5)
    assert train_state.epoch_logs() == {
        "loss": 8 / 6,
        "top1": 2 / 6,
        "top5": 4 / 6,
        "images_per_second": 3.0,
    }
    assert (train_state.step, train_state.throughput()) == (2, {"images_per_second": 3.0})
    assert mean_metrics((0.0, 0.0, 0.0, 0.0)) == {"loss": 0, "top1": 0, "top5": 0}
    assert TrainState().throughput() == {"images_per_second": 0.0}


def test_an_epoch_begins_with_nothing_and_keeps_the_steps():
    train_state = TrainState()
    train_state.add((6.0, 1.0, 3.0, 4.0), 0.5)
    assert not train_state.end_epoch(None, RECIPE)
    assert train_state == TrainState(step=1, epoch=1)


def test_the_best_epoch_is_the_first_with_the_highest_top1():
    train_state, best = TrainState(), []
    for top1 in (0.2, 0.1, 0.4, 0.4, 0.3):
        train_state.add((1.0, 0.0, 0.0, 1.0), 0.1)
        train_state.end_epoch(figures(top1), RECIPE)
        best.append((train_state.best["step"], train_state.is_best))
    assert best == [(1, True), (1, False), (3, True), (3, False), (3, False)]
    assert train_state.best == {"step": 3, "top1": 0.4, "loss": 1.0}
    assert not TrainState().is_best


@pytest.mark.parametrize(
    ("schedule", "top1", "plateaus", "ends"),
    [
        (
            Plateau(times=1, patience=2),
            [0.1, 0.2, 0.2, 0.1, 0.3, 0.1, 0.1],
            [0, 0, 0, 1, 1, 1, 2],
            6,
        ),
        (Plateau(times=1, patience=2), [0.3, 0.1, 0.2, 0.1, 0.1, 0.2], [0, 0, 1, 1, 1, 1], None),
        (Plateau(times=0, patience=1), [0.5, 0.6, 0.6], [0, 0, 1], 2),
        (Plateau(times=3, patience=1), [0.0, 0.0, 0.0, 0.0, 0.0, 0.0], [0, 1, 1, 2, 2, 3], None),
        (DropAt((1,)), [0.5, 0.4, 0.3, 0.2], [0, 0, 0, 0], None),
    ],
)
def test_plateaus(schedule, top1, plateaus, ends):
    """After a drop the accuracy is compared with that of the new rate, whose first epoch is always
    better.
    """
    recipe, train_state, found = replace(RECIPE, schedule=schedule), TrainState(), []
    for number, value in enumerate(top1):
        over = train_state.end_epoch(figures(value), recipe)
        assert (
            over == train_state.stopped_by_plateau(recipe) == (ends is not None and number >= ends)
        )
        found.append(train_state.plateaus)
    assert found == plateaus


def test_an_epoch_that_was_not_measured_is_no_plateau():
    train_state, recipe = TrainState(), replace(RECIPE, schedule=Plateau(times=0, patience=1))
    train_state.end_epoch(figures(0.5), recipe)
    for _ in range(3):
        assert not train_state.end_epoch(None, recipe)
    assert (train_state.waited, train_state.plateaus, train_state.epoch) == (0, 0, 4)


def test_it_survives_json_bit_for_bit():
    train_state = TrainState(
        7, 2, [0.1 + 0.2, 1.0, 2.0, 3.0], 1 / 3, {"step": 5, "top1": 2 / 3}, 1, 2, 0.1
    )
    again = TrainState.from_dict(json.loads(json.dumps(train_state.to_dict())))
    assert again == train_state
    copy = train_state.to_dict()
    train_state.add((1.0, 0.0, 0.0, 1.0), 0.1)
    assert copy == again.to_dict()


def test_a_foreign_state_is_refused_in_one_line():
    with pytest.raises(RunError, match=r"^progress: [^\n]*'lap'[^\n]*$"):
        TrainState.from_dict({"lap": 3})
