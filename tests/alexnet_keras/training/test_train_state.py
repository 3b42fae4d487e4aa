"""Where a run stands: sums, the best epoch, and what a plateau does."""

import json
from dataclasses import replace

import pytest

from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt, Plateau
from alexnet_keras.errors import RunError
from alexnet_keras.training.train_state import TrainState, means

RECIPE = Recipe("short", batch_size=4, epochs=9, schedule=DropAt())


def figures(top1):
    return {"top1": top1, "loss": 1.0}


def test_means_are_per_image_that_counts():
    progress = TrainState()
    progress.add((6.0, 1.0, 3.0, 4.0), 0.5)
    progress.add((2.0, 1.0, 1.0, 2.0), 1.5)
    assert progress.means() == {
        "loss": 8 / 6,
        "top1": 2 / 6,
        "top5": 4 / 6,
        "images_per_second": 3.0,
    }
    assert (progress.step, progress.rate()) == (2, {"images_per_second": 3.0})
    assert means((0.0, 0.0, 0.0, 0.0)) == {"loss": 0, "top1": 0, "top5": 0}
    assert TrainState().rate() == {"images_per_second": 0.0}


def test_an_epoch_begins_with_nothing_and_keeps_the_steps():
    progress = TrainState()
    progress.add((6.0, 1.0, 3.0, 4.0), 0.5)
    assert not progress.end_epoch(None, RECIPE)
    assert progress == TrainState(step=1, epoch=1)


def test_the_best_epoch_is_the_first_with_the_highest_top1():
    progress, best = TrainState(), []
    for top1 in (0.2, 0.1, 0.4, 0.4, 0.3):
        progress.add((1.0, 0.0, 0.0, 1.0), 0.1)
        progress.end_epoch(figures(top1), RECIPE)
        best.append((progress.best["step"], progress.is_best))
    assert best == [(1, True), (1, False), (3, True), (3, False), (3, False)]
    assert progress.best == {"step": 3, "top1": 0.4, "loss": 1.0}
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
    recipe, progress, found = replace(RECIPE, schedule=schedule), TrainState(), []
    for number, value in enumerate(top1):
        over = progress.end_epoch(figures(value), recipe)
        assert over == progress.is_over(recipe) == (ends is not None and number >= ends)
        found.append(progress.plateaus)
    assert found == plateaus


def test_an_epoch_that_was_not_measured_is_no_plateau():
    progress, recipe = TrainState(), replace(RECIPE, schedule=Plateau(times=0, patience=1))
    progress.end_epoch(figures(0.5), recipe)
    for _ in range(3):
        assert not progress.end_epoch(None, recipe)
    assert (progress.waited, progress.plateaus, progress.epoch) == (0, 0, 4)


def test_it_survives_json_bit_for_bit():
    progress = TrainState(
        7, 2, [0.1 + 0.2, 1.0, 2.0, 3.0], 1 / 3, {"step": 5, "top1": 2 / 3}, 1, 2, 0.1
    )
    again = TrainState.from_dict(json.loads(json.dumps(progress.to_dict())))
    assert again == progress
    copy = progress.to_dict()
    progress.add((1.0, 0.0, 0.0, 1.0), 0.1)
    assert copy == again.to_dict()


def test_a_foreign_state_is_refused_in_one_line():
    with pytest.raises(RunError, match=r"^progress: [^\n]*'lap'[^\n]*$"):
        TrainState.from_dict({"lap": 3})
