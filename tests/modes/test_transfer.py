"""Transfer learning, from networks of 67 pixels to a COCO data set of eight pictures."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET, OWT, InitialValues
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.configs.schedule import DropAt
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.evaluation.evaluator import evaluate
from alexnet_keras.models.saving import load_model
from alexnet_keras.pretrained.loading import Pretrained
from alexnet_keras.training.run_folder import new_run_folder
from modes import transfer as mode
from modes.transfer import layers_before, replace_head, train_from_pretrained, train_head
from tests.alexnet_keras.tiny import encoded, tiny_model
from tests.alexnet_keras.trees import CATEGORIES, class_folders, coco_tree

HE = InitialValues(kernels="he")
HEAD = Recipe("head", batch_size=8, epochs=10, schedule=DropAt(()))
FINETUNE = Recipe(
    "finetune", batch_size=8, epochs=1, schedule=DropAt(()), learning_rate=1e-3, head_multiplier=10
)
WEIGHTED = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]


@pytest.fixture
def base(tmp_path):
    keras.utils.set_random_seed(0)
    model = tiny_model(replace(ALEXNET.with_width(0.05), initial_values=HE))
    return Pretrained(model, "base", tmp_path / "base.keras")


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(coco_tree(tmp_path / "coco"))


def learn(dataset, base, folder, recipe=FINETUNE, head=HEAD, **options):
    outcome = train_from_pretrained(
        dataset,
        new_run_folder(folder, "transfer"),
        base=base,
        head_recipe=head,
        recipe=recipe,
        **options,
    )
    return load_model(folder), outcome


def moved(before, after):
    return [
        name
        for name in WEIGHTED
        if before.get_layer(name).kernel.shape != after.get_layer(name).kernel.shape
        or any(
            (one != other).any()
            for one, other in zip(
                before.get_layer(name).get_weights(),
                after.get_layer(name).get_weights(),
                strict=True,
            )
        )
    ]


def test_a_new_head_and_everything_else_copied(base):
    model = replace_head(base, FINETUNE, ("a", "b"))
    assert moved(base.model, model) == ["fc8"]
    assert model.output.shape == (None, 2)
    assert (model.class_names, model.preprocessing, model.architecture) == (
        ("a", "b"),
        base.model.preprocessing,
        base.model.architecture,
    )


def test_layers_that_were_not_loaded_start_anew_from_the_seed(base):
    models = []
    for _ in range(2):
        base.model.get_layer("fc6").set_weights(
            [array + 1 for array in base.model.get_layer("fc6").get_weights()]
        )
        keras.utils.set_random_seed(5)
        models.append(replace_head(replace(base, missing=("fc6", "fc8")), FINETUNE, ("a", "b")))
    assert moved(*models) == []
    assert moved(base.model, models[0]) == ["fc6", "fc8"]


@pytest.mark.parametrize(
    ("train_from", "changed"),
    [
        ("fc8", ["fc8"]),
        pytest.param("conv4", ["conv4", "conv5", "fc6", "fc7", "fc8"], marks=pytest.mark.slow),
    ],
)
def test_fine_tuning_changes_nothing_below_where_it_starts(
    base, dataset, tmp_path, train_from, changed
):
    before = [array.copy() for array in base.model.get_weights()]
    model, outcome = learn(dataset, base, tmp_path / "run", train_from=train_from)
    assert moved(base.model, model) == changed
    for one, other in zip(before, base.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert model.class_names == tuple(CATEGORIES.values())
    assert all(layer.trainable for layer in model.layers)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result == {**outcome.evaluation.metrics(), "steps": 2, "finished": True}
    (line,) = map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())
    assert (line["event"], line["step"], line["val_loss"]) == ("epoch", 2, result["loss"])


def test_the_head_reads_centre_crops_off_the_frozen_features(dataset, tmp_path):
    """fc8 alone learns the training crops by heart: the features that it is trained on are those
    that the network has.
    """
    keras.utils.set_random_seed(0)
    base = tiny_model(replace(OWT.with_width(0.1), initial_values=HE))
    model = replace_head(Pretrained(base, "base", tmp_path), FINETUNE, tuple(CATEGORIES.values()))
    before = [array.copy() for array in model.get_weights()]
    samples = dataset.samples("train")
    batches = EvaluationBatches(samples, model.preprocessing, 8)
    chance = evaluate(model, batches)
    assert train_head(
        model,
        samples,
        replace(HEAD, epochs=60, learning_rate=1.0),
        0,
        Loading(),
        open_workers("one"),
    )
    learned = evaluate(model, batches)
    assert learned.top1 == 1 > chance.top1
    assert learned.loss < 0.3 * chance.loss
    for one, other in zip(before[:-2], model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_head_learns_alike_at_any_scale_of_features(dataset, tmp_path):
    losses = []
    for factor in (1e-3, 1, 1e3):
        keras.utils.set_random_seed(0)
        base = tiny_model(replace(ALEXNET.with_width(0.05), initial_values=HE))
        base.get_layer("fc7").set_weights(
            [factor * array for array in base.get_layer("fc7").get_weights()]
        )
        model = replace_head(
            Pretrained(base, "base", tmp_path), FINETUNE, tuple(CATEGORIES.values())
        )
        train_head(model, dataset.samples("train"), HEAD, 0, Loading(), open_workers("one"))
        losses.append(
            evaluate(
                model, EvaluationBatches(dataset.samples("train"), model.preprocessing, 8)
            ).loss
        )
    assert losses == pytest.approx(losses[:1] * 3, rel=1e-3)


@pytest.mark.slow
def test_one_seed_is_one_run(base, dataset, tmp_path):
    models = [
        learn(dataset, base, tmp_path / name, seed=seed, loading=Loading(num_threads=workers))[0]
        for name, seed, workers in (("one", 1, 1), ("again", 1, 3), ("other", 2, 1))
    ]
    assert moved(models[0], models[1]) == []
    assert moved(models[0], models[2]) == ["fc6", "fc7", "fc8"]


def test_ctrl_c_while_the_head_trains_leaves_fine_tuning_out(base, dataset, tmp_path, monkeypatch):
    original = mode.train

    def interrupted(model, batches, recipe, **options):
        def interrupt(step, logs):
            raise KeyboardInterrupt

        assert recipe is HEAD, "fine-tuned after Ctrl-C"
        return original(
            model,
            batches,
            recipe,
            callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=interrupt)],
        )

    monkeypatch.setattr(mode, "train", interrupted)
    model, outcome = learn(dataset, base, tmp_path / "run")
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (outcome.finished, result["finished"], result["steps"], result["images"]) == (
        False,
        False,
        0,
        8,
    )
    assert moved(base.model, model) == ["fc8"]


@pytest.mark.slow
def test_an_unreadable_file_is_left_out_of_both_steps(base, tmp_path, caplog):
    root = class_folders(
        class_folders(tmp_path / "tree", ("a", "b"), 51, ("train",)), ("a", "b"), 2, ("val",)
    )
    (root / "train" / "b" / "7.jpg").write_bytes(encoded(np.zeros((9, 9, 3), np.uint8))[:50])
    _, outcome = learn(
        open_dataset(root),
        base,
        tmp_path / "run",
        replace(FINETUNE, batch_size=51),
        replace(HEAD, epochs=1, batch_size=51),
    )
    assert np.isfinite(outcome.evaluation.loss)
    assert caplog.text.count("train/b/7.jpg: skipped, not a readable image") == 2


@pytest.mark.parametrize("name", ["pool5", "drop6", "fc9", ""])
def test_where_fine_tuning_can_start(base, name):
    with pytest.raises(
        ConfigurationError,
        match=rf"^train_from: expected one of {', '.join(WEIGHTED)}, got {name}$",
    ):
        layers_before(base.model, name)
    assert layers_before(base.model, "conv3") == ["conv1", "conv2"]
