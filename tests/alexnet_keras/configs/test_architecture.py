"""The frozen descriptions: variants, ablations, JSON and back, and what they refuse."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest

from alexnet_keras.configs.architecture import (
    ALEXNET,
    CAFFENET,
    OWT,
    PAPER,
    VARIANTS,
    Architecture,
    Convolution,
    Dense,
    InitialValues,
    Normalization,
    Pooling,
)
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.errors import ConfigurationError
from tests.conftest import ROOT


def names(architecture):
    return [layer.name for layer in architecture.layers]


def test_caffenet_pools_before_it_normalizes_and_differs_in_nothing_else():
    assert names(ALEXNET)[:6] == ["conv1", "norm1", "pool1", "conv2", "norm2", "pool2"]
    assert names(CAFFENET)[:6] == ["conv1", "pool1", "norm1", "conv2", "pool2", "norm2"]
    assert sorted(CAFFENET.layers, key=str) == sorted(ALEXNET.layers, key=str)


def test_paper_has_its_own_normalization_and_initial_values():
    assert {
        (n.bias, n.alpha, n.beta, n.depth_radius)
        for n in PAPER.layers
        if isinstance(n, Normalization)
    } == {(2.0, 1e-4, 0.75, 2)}
    assert {(n.bias, n.alpha) for n in ALEXNET.layers if isinstance(n, Normalization)} == {
        (1.0, 2e-5)
    }
    assert (PAPER.initial_values.raised_bias, PAPER.initial_values.stddev_of("fc6")) == (1.0, 0.01)


@pytest.mark.parametrize(
    ("width", "filters", "units"),
    [
        (0.5, [48, 128, 192, 192, 128], [2048, 2048]),
        (2, [192, 512, 768, 768, 512], [8192, 8192]),
        (0.001, [2, 2, 2, 2, 2], [4, 4]),
    ],
)
def test_with_width(width, filters, units):
    wide = ALEXNET.with_width(width)
    assert [layer.filters for layer in wide.layers if isinstance(layer, Convolution)] == filters
    assert [layer.units for layer in wide.layers if isinstance(layer, Dense)] == units


def test_with_width_takes_another_width_for_units_and_keeps_filters_divisible_by_groups():
    wide = ALEXNET.with_width(0.37, 0.1)
    assert [layer.units for layer in wide.layers if isinstance(layer, Dense)] == [410, 410]
    assert all(layer.filters % 2 == 0 for layer in wide.layers if isinstance(layer, Convolution))
    assert [
        layer.filters for layer in OWT.with_width(1 / 64).layers if isinstance(layer, Convolution)
    ] == [1, 3, 6, 4, 4]


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_with_width_refuses(width):
    with pytest.raises(
        ConfigurationError, match="width: expected a positive number up to 100, got"
    ):
        ALEXNET.with_width(width)
    with pytest.raises(
        ConfigurationError, match="width: expected a positive number up to 100, got"
    ):
        ALEXNET.with_width(1, width)


def test_ablations_change_what_they_name_and_leave_the_original_alone():
    assert names(ALEXNET.without("norm1", "conv3")) == [
        n for n in names(ALEXNET) if n not in ("norm1", "conv3")
    ]
    pooled = ALEXNET.replace_each(Pooling, size=2)
    assert [(p.size, p.stride) for p in pooled.layers if isinstance(p, Pooling)] == [(2, 2)] * 3
    assert [layer for layer in pooled.layers if not isinstance(layer, Pooling)] == [
        layer for layer in ALEXNET.layers if not isinstance(layer, Pooling)
    ]
    assert VARIANTS["alexnet"] == ALEXNET
    with pytest.raises(dataclasses.FrozenInstanceError):
        ALEXNET.name = "other"


def test_without_lists_the_layers_there_are():
    with pytest.raises(
        ConfigurationError,
        match="^layers: expected names among conv1, norm1, pool1, .*, got norm3, fc9$",
    ):
        ALEXNET.without("norm3", "conv1", "fc9")


@pytest.mark.parametrize(
    "architecture",
    [
        *VARIANTS.values(),
        dataclasses.replace(
            ALEXNET.with_width(0.3).without("norm2"),
            activation="tanh",
            input_size=99,
            initial_values=InitialValues("he", raised=("conv2",)),
        ),
    ],
)
def test_architectures_survive_json(architecture):
    assert Architecture.from_dict(json.loads(json.dumps(architecture.to_dict()))) == architecture


ABLATED = ALEXNET.without("fc6", "drop6", "fc7", "drop7")


@pytest.mark.parametrize("architecture", [*VARIANTS.values(), ABLATED])
def test_architectures_written_before_flatten_was_a_layer(architecture):
    values = json.loads(json.dumps(architecture.to_dict()))
    values["layers"] = [layer for layer in values["layers"] if layer["kind"] != "Flatten"]
    assert len(values["layers"]) == len(architecture.layers) - 1
    assert Architecture.from_dict(values) == architecture


def _edited(values, edit):
    edit(values)
    return values


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda v: v.pop("layers"), ".layers: expected a list, got none"),
        (
            lambda v: v.update(colour="red"),
            ": expected fields among name, layers, input_size, activation, initial_values, got "
            "'colour'",
        ),
        (
            lambda v: v["layers"][0].pop("kind"),
            ".layers[0].kind: expected one of Convolution, Normalization, Pooling, Flatten, "
            "Dense, Dropout, WithinChannelNormalization, got None",
        ),
        (lambda v: v["layers"][0].update(kind="Transformer"), "got 'Transformer'"),
        (lambda v: v["layers"][0].update(size=3), ".layers[0]: expected fields among name"),
        (
            lambda v: v["layers"][0].pop("filters"),
            ".layers[0].filters: expected an integer, got none",
        ),
        (lambda v: v.update(layers=None), ".layers: expected a list, got None"),
        (lambda v: v.update(layers=[3]), ".layers[0]: expected an object, got 3"),
        (lambda v: v.update(initial_values=None), ".initial_values: expected an object, got None"),
        (
            lambda v: v["initial_values"].pop("raised"),
            ".initial_values.raised: expected a list, got none",
        ),
        (
            lambda v: v["initial_values"].update(raised=3),
            ".initial_values.raised: expected a list, got 3",
        ),
        (lambda v: v["layers"][0].update(kind=["Dense"]), ".layers[0].kind: expected one of"),
        (
            lambda v: v["layers"][0].update(filters=True),
            ".layers[0].filters: expected an integer, got True",
        ),
        (
            lambda v: v["layers"][1].update(alpha=float("nan")),
            ".layers[1].alpha: expected a finite number, got nan",
        ),
        (
            lambda v: v["layers"][1].update(alpha=10**400),
            ".layers[1].alpha: expected a finite number, got 1",
        ),
    ],
)
def test_a_foreign_architecture_is_refused_in_one_line(edit, says):
    with pytest.raises(ConfigurationError, match=rf"^architecture[^\n]*{re.escape(says)}[^\n]*$"):
        Architecture.from_dict(_edited(ALEXNET.to_dict(), edit))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"resize": "squash"},
            "preprocessing.resize: expected one of warp, short_side, square, pad, none, got "
            "'squash'",
        ),
        ({"channel_order": "GBR"}, "preprocessing.channel_order: expected RGB or BGR, got 'GBR'"),
        ({"crop": 0}, r"preprocessing.crop: expected 1 to resize_to \(256\), got 0"),
        ({"crop": 300}, r"preprocessing.crop: expected 1 to resize_to \(256\), got 300"),
    ],
)
def test_preprocessing_refuses(fields, message):
    with pytest.raises(ConfigurationError, match=message):
        Preprocessing(**fields)


@pytest.mark.parametrize("rule", set(PREPROCESSING.values()))
def test_preprocessing_survives_json(rule):
    assert Preprocessing.from_dict(json.loads(json.dumps(dataclasses.asdict(rule)))) == rule


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        {"mean": 3, "std": [1, 1, 1]},
        {"mean": [1], "std": [1], "size": 3},
        {**dataclasses.asdict(CAFFE_PREPROCESSING), "mean": [1]},
        {**dataclasses.asdict(CAFFE_PREPROCESSING), "mean": [1, 2, "3"]},
        {**dataclasses.asdict(CAFFE_PREPROCESSING), "std": [1, 0, 1]},
    ],
)
def test_a_foreign_preprocessing_is_refused_in_one_line(values):
    with pytest.raises(ConfigurationError, match="^preprocessing[^ ]*: expected [^\n]+, got .+$"):
        Preprocessing.from_dict(values)


def test_preprocessing_for_another_input_keeps_the_margin_in_proportion():
    assert CAFFE_PREPROCESSING.with_input_size(227) is CAFFE_PREPROCESSING
    half = TORCHVISION_PREPROCESSING.with_input_size(112)
    assert (half.crop, half.resize_to) == (112, 128)
    assert dataclasses.replace(half, crop=224, resize_to=256) == TORCHVISION_PREPROCESSING


def test_torchvision_constants_are_those_of_its_documentation():
    assert [mean / 255 for mean in TORCHVISION_PREPROCESSING.mean] == pytest.approx(
        [0.485, 0.456, 0.406]
    )
    assert [std / 255 for std in TORCHVISION_PREPROCESSING.std] == pytest.approx(
        [0.229, 0.224, 0.225]
    )


def test_descriptions_need_no_tensorflow():
    program = (
        "import sys, alexnet_keras.configs.recipe; "
        "assert not {'tensorflow', 'keras', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
