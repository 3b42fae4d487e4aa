"""Every option that says how a network is trained: it reaches the recipe of config.json, or is
refused in one line.
"""

from dataclasses import replace

import keras
import numpy as np
import pytest

from alexnet_keras.cli.main import main
from alexnet_keras.configs.architecture import (
    ALEXNET,
    CAFFENET,
    OWT,
    PAPER,
    VARIANTS,
    Architecture,
    Dropout,
    InitialValues,
)
from alexnet_keras.configs.augmentation import AUGMENTATIONS, IMAGENET_COLOUR_AXES
from alexnet_keras.configs.recipe import CAFFE_RECIPE, FINETUNE_RECIPE, RECIPES, Recipe
from alexnet_keras.configs.schedule import DropAt, DropEvery, Plateau
from alexnet_keras.data.colour_pca import colour_axes
from alexnet_keras.evaluation.evaluator import Evaluation
from alexnet_keras.models.backends import winograd
from alexnet_keras.training.loop import TrainingResult
from tests.alexnet_keras.tiny import tiny_model
from tests.alexnet_keras.trees import assert_refused, class_folders, invoke, read

HE = InitialValues(kernels="he")
STORIES = {"scratch": "train_from_scratch", "transfer": "train_from_pretrained"}
SAMPLES = 6


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    class_folders(folder / "tree", count=2)
    keras.utils.set_random_seed(0)
    tiny_model(replace(ALEXNET.with_width(0.05), initial_values=HE)).save(folder / "tiny.keras")
    return folder


@pytest.fixture
def configured(files, tmp_path, monkeypatch):
    """A function from a command and its options to the ``config.json`` of a run that trains
    nothing.
    """

    def trained(dataset, run, **options):
        return TrainingResult(True, 0, Evaluation(0, 0, 0, 0, 1, 1, np.eye(3), np.ones(3)))

    def configure(mode, *options):
        monkeypatch.setattr(f"modes.{mode}.{STORIES[mode]}", trained)
        own = ("--width", "0.02") if mode == "scratch" else ("--weights", files / "tiny.keras")
        result = invoke(
            mode, "--data", files / "tree", *own, *options, "--output", tmp_path / "run"
        )
        assert (result.exit_code, result.stderr) == (0, "")
        return read(tmp_path / "run" / "config.json")

    return configure


FIELDS = {  # options -> what they change of the recipe
    "--epochs 3": CAFFE_RECIPE.with_length(SAMPLES, epochs=3),
    "--steps 450": CAFFE_RECIPE.with_length(SAMPLES, steps=450),
    "--batch-size 8": {"batch_size": 8},
    "--lr 0.5": {"learning_rate": 0.5},
    "--lr-gamma 0.5": {"gamma": 0.5},
    "--lr-schedule constant": {"schedule": DropAt()},
    "--lr-schedule plateau": {"schedule": Plateau()},
    "--lr-schedule step --lr-step-size 2.5": {"schedule": DropEvery(epochs=2.5)},
    "--lr-schedule plateau --lr-patience 2 --lr-drops 1": {
        "schedule": Plateau(times=1, patience=2)
    },
    "--lr-mult conv1=0 --lr-mult fc8=10": {"multipliers": {"conv1": 0, "fc8": 10}},
    "--bias-lr-mult 1": {"bias_multiplier": 1},
    "--momentum 0.5": {"momentum": 0.5},
    "--weight-decay 0": {"weight_decay": 0},
    "--decay-biases": {"decay_biases": True},
    "--recipe torchvision --variant owt --no-decay-biases": replace(
        RECIPES["torchvision"], decay_biases=False
    ),
    "--clip-norm 2": {"clip_norm": 2},
    "--dropout 0.2": {"dropout": 0.2},
    **{
        f"--augment {name}": {"augmentation": augmentation}
        for name, augmentation in AUGMENTATIONS.items()
    },
    "--augment paper --colour imagenet": {"augmentation": AUGMENTATIONS["paper"]},
    "--init he": {"initial_values": HE},
    "--init alexnet": {"initial_values": ALEXNET.initial_values},
    "--init caffenet": {"initial_values": CAFFENET.initial_values},
    "--init paper": {"initial_values": PAPER.initial_values},
    "--init owt": {"initial_values": OWT.initial_values},
    "--resize short_side --resize-to 300": {
        "preprocessing": replace(CAFFE_RECIPE.preprocessing, resize="short_side", resize_to=300)
    },
    "--mean pixel": CAFFE_RECIPE,
    "--recipe paper": RECIPES["paper"],
    "--recipe demo --variant caffenet": replace(
        RECIPES["demo"], preprocessing=CAFFE_RECIPE.preprocessing
    ),
    "--recipe torchvision --momentum 0.8": replace(
        RECIPES["torchvision"],
        momentum=0.8,
        preprocessing=replace(RECIPES["torchvision"].preprocessing, crop=227),
    ),
    "--variant owt": RECIPES["torchvision"],
    "--variant caffenet": RECIPES["caffe"],
    "--variant caffenet --recipe caffe": RECIPES["caffe"],
}


@pytest.mark.parametrize("options", FIELDS)
def test_every_option_reaches_the_recipe_of_the_run(configured, options):
    config, expected = configured("scratch", *options.split()), FIELDS[options]
    recipe = Recipe.from_dict(config["recipe"])
    assert recipe == (
        expected if isinstance(expected, Recipe) else replace(CAFFE_RECIPE, **expected)
    )
    network = Architecture.from_dict(config["architecture"])
    assert network.initial_values == (
        recipe.initial_values or VARIANTS[network.name].initial_values
    )
    assert {layer.rate for layer in network.layers if isinstance(layer, Dropout)} == {
        recipe.dropout or 0.5
    }
    assert config["preprocessing"] == config["recipe"]["preprocessing"]


def test_every_option_is_tried():
    tried = {word for options in FIELDS for word in options.split() if word.startswith("--")}
    assert recipe_options("scratch") <= tried
    assert recipe_options("transfer") <= tried | {"--head-lr-mult", "--feature-cache"}


def recipe_options(mode):
    """The options of a command from ``--recipe`` to the last one before ``--seed``."""
    parameters = main.commands[mode].params
    names = [parameter.name for parameter in parameters]
    return {
        parameter.opts[0] for parameter in parameters[names.index("recipe") : names.index("seed")]
    }


def test_colours_of_the_data_set(configured, files):
    config = configured("scratch", "--augment", "paper", "--colour", "data")
    axes = colour_axes(sorted(map(str, (files / "tree" / "train").rglob("*.jpg"))))
    found = Recipe.from_dict(config["recipe"]).augmentation
    assert found == replace(AUGMENTATIONS["paper"], colour_axes=found.colour_axes)
    np.testing.assert_allclose(found.colour_axes, axes, rtol=1e-9)
    assert found.colour_axes != IMAGENET_COLOUR_AXES


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), FINETUNE_RECIPE),
        (("--head-lr-mult", "3"), replace(FINETUNE_RECIPE, head_multiplier=3)),
        (("--lr-mult", "fc6=0.5"), replace(FINETUNE_RECIPE, multipliers={"fc6": 0.5})),
        (("--epochs", "3"), replace(FINETUNE_RECIPE, epochs=3, schedule=DropAt((2.0,)))),
        (("--recipe", "caffe"), CAFFE_RECIPE),
    ],
)
def test_transfer_has_a_recipe_too(configured, options, expected):
    assert Recipe.from_dict(configured("transfer", *options)["recipe"]) == expected


def test_how_it_is_carried_out_is_recorded(configured):
    options = configured(
        "scratch",
        "--accumulate",
        "4",
        "--precision",
        "mixed_bfloat16",
        "--deterministic",
        "--direct-convolution",
        "--strategy",
        "one",
        "--worker-timeout",
        "9",
        "--save-every",
        "5",
        "--keep",
        "3",
        "--seed",
        "8",
    )["options"]
    assert {
        name: options[name]
        for name in (
            "accumulate",
            "precision",
            "deterministic",
            "direct_convolution",
            "strategy",
            "worker_timeout",
            "save_every",
            "keep",
            "seed",
            "num_threads",
        )
    } == {
        "accumulate": 4,
        "precision": "mixed_bfloat16",
        "deterministic": True,
        "direct_convolution": True,
        "strategy": "one",
        "worker_timeout": 9.0,
        "save_every": 5.0,
        "keep": 3,
        "seed": 8,
        "num_threads": 2,
    }
    assert not {"output", "overwrite", "resume"} & set(options)
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(("options", "allowed"), [((), True), (("--direct-convolution",), False)])
def test_direct_convolution_is_for_one_run(configured, monkeypatch, options, allowed):
    told = []
    monkeypatch.setattr(winograd, "set_enabled", told.append)
    configured("scratch", *options)
    assert told == [allowed, True]


REFUSED = {
    "--epochs 1 --steps 1": "steps: expected either epochs or steps, got both",
    "--epochs 0": "epochs: expected 1 to 1000000, got 0",
    "--epochs 10000000": "epochs: expected 1 to 1000000, got 10000000",
    "--steps 0": "steps: expected 1 to",
    "--steps -3": "steps: expected 1 to",
    "--steps 99999999999999999999": "steps: expected 1 to",
    "--batch-size 99999999999999999999": "batch_size: expected 1 to",
    "--lr-step-size 2": "lr_schedule: expected step with lr_step_size, got none",
    "--lr-step-size 2 --lr-schedule "
    "plateau": "lr_schedule: expected step with lr_step_size, got plateau",
    "--lr-schedule step": "lr_step_size: expected the epochs between drops with lr_schedule "
    "step, got none",
    **{
        "--lr-schedule step --lr-step-size "
        f"{value}": "schedule: expected a positive number of epochs or steps between drops, got "
        f"{float(value)}"
        for value in ("0", "-1", "nan", "inf")
    },
    "--lr-patience 2": "lr_schedule: expected plateau with lr_patience, got none",
    "--lr-drops 2 --lr-schedule "
    "constant": "lr_schedule: expected plateau with lr_drops, got constant",
    "--lr-schedule plateau --lr-patience 0": "schedule.patience: expected at least 1, got 0",
    "--lr-schedule plateau --lr-patience -1": "schedule.patience: expected at least 1, got -1",
    "--lr-schedule plateau --lr-drops -1": "schedule.times: expected at least 0, got -1",
    "--colour data": "augment: expected paper, which shifts colours, with colour, got standard",
    "--augment none --colour "
    "data": "augment: expected paper, which shifts colours, with colour, got none",
    **{
        f"--lr-mult {text}": f"lr_mult: expected LAYER=FACTOR, got {text!r}"
        for text in ("conv1", "conv1=", "conv1=x", "=")
    },
    "--lr-mult conv1=-1": "lr_mult conv1: expected zero or a positive number, got -1.0",
    "--lr-mult conv1=nan": "lr_mult conv1: expected zero or a positive number, got nan",
    **{
        f"--lr-mult {name}=2": "lr_mult: expected one of the layers conv1, conv2, conv3, conv4, "
        "conv5, fc6, fc7, fc8, got "
        f"{name}"
        for name in ("fc9", "pool1", "drop6", "")
    },
    "--lr-gamma 0": "lr_gamma: expected a positive number, got 0",
    "--momentum 1": "momentum: expected a number from 0 to",
    "--momentum nan": "momentum: expected",
    "--weight-decay -1": "weight_decay: expected zero or a positive number, got -1",
    "--bias-lr-mult inf": "bias_lr_mult: expected",
    "--clip-norm 0": "clip_norm: expected a positive number, got 0",
    "--dropout 1": "dropout: expected a number from 0 to below 1, got 1",
    "--batch-size 8 "
    "--accumulate 3": "batch_size: expected a multiple of 3 (devices x accumulate), got 8",
}
SCRATCH_REFUSED = {
    "--resize-to 200": "preprocessing.crop: expected 1 to resize_to (200), got 227",
    "--resize-to -1": "preprocessing.crop: expected 1 to resize_to (-1), got 227",
    "--resize-to 100000000": "preprocessing.resize_to: expected at most",
    **{
        f"--mean={name}": "mean: expected pixel, image, imagenet_mean, a file or a run, got "
        f"{name!r}"
        for name in ("nowhere.npy", "pixels", "")
    },
}


@pytest.fixture
def refused(monkeypatch, empty_folder):
    """What is not refused fails here, instead of training for days."""
    for mode in ("scratch", "transfer"):
        monkeypatch.setattr(
            f"modes.{mode}.{STORIES[mode]}",
            lambda *arguments, **options: pytest.fail("it was not refused"),
        )


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("options", REFUSED)
@pytest.mark.parametrize("mode", ["scratch", "transfer"])
def test_what_contradicts_or_means_nothing_is_refused_before_anything_is_written(
    files, mode, options
):
    weights = () if mode == "scratch" else ("--weights", files / "tiny.keras")
    assert_refused(
        mode, "--data", files / "tree", *weights, *options.split(), says=REFUSED[options]
    )


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("options", SCRATCH_REFUSED)
def test_sizes_that_no_image_can_have(files, options):
    assert_refused(
        "scratch", "--data", files / "tree", *options.split(), says=SCRATCH_REFUSED[options]
    )


@pytest.mark.usefixtures("refused")
@pytest.mark.parametrize("value", ["nan", "-1", "inf"])
def test_factors_of_a_new_head(files, value):
    assert_refused(
        "transfer",
        "--data",
        files / "tree",
        "--head-lr-mult",
        value,
        says=f"head_lr_mult: expected zero or a positive number, got {float(value)}",
    )


@pytest.mark.parametrize(
    ("recipe", "variant"),
    [
        ("demo", "alexnet"),
        pytest.param("paper", "paper", marks=pytest.mark.slow),
        pytest.param("caffe", "caffenet", marks=pytest.mark.slow),
        pytest.param("torchvision", "owt", marks=pytest.mark.slow),
        pytest.param("finetune", "alexnet", marks=pytest.mark.slow),
    ],
)
def test_every_recipe_trains(files, tmp_path, recipe, variant):
    result = invoke(
        "scratch",
        "--data",
        files / "tree",
        "--recipe",
        recipe,
        "--variant",
        variant,
        "--width",
        "0.02",
        "--batch-size",
        "4",
        "--steps",
        "1",
        "--output",
        tmp_path / "run",
    )
    assert (result.exit_code, result.stderr) == (0, "")
    config, outcome = (
        read(tmp_path / "run" / "config.json"),
        read(tmp_path / "run" / "result.json"),
    )
    found = Recipe.from_dict(config["recipe"])
    assert (found.name, found.steps, found.batch_size, found.augmentation) == (
        recipe,
        1,
        4,
        RECIPES[recipe].augmentation,
    )
    assert (outcome["steps"], outcome["images"], outcome["finished"]) == (1, SAMPLES, True)
