"""The table against published numbers and hand arithmetic."""

import pytest

import alexnet_keras
from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.summary import summarize
from tests.alexnet_keras.trees import invoke

# Of each layer of BVLC's AlexNet at 227: output, parameters, multiply-adds of one image, by hand.
ALEXNET = {
    "conv1": ((55, 55, 96), 11 * 11 * 3 * 96 + 96, 55 * 55 * 96 * 11 * 11 * 3),
    "norm1": ((55, 55, 96), 0, 0),
    "pool1": ((27, 27, 96), 0, 0),
    "conv2": ((27, 27, 256), 5 * 5 * 48 * 256 + 256, 27 * 27 * 256 * 5 * 5 * 48),
    "norm2": ((27, 27, 256), 0, 0),
    "pool2": ((13, 13, 256), 0, 0),
    "conv3": ((13, 13, 384), 3 * 3 * 256 * 384 + 384, 13 * 13 * 384 * 3 * 3 * 256),
    "conv4": ((13, 13, 384), 3 * 3 * 192 * 384 + 384, 13 * 13 * 384 * 3 * 3 * 192),
    "conv5": ((13, 13, 256), 3 * 3 * 192 * 256 + 256, 13 * 13 * 256 * 3 * 3 * 192),
    "pool5": ((6, 6, 256), 0, 0),
    "flatten": ((9216,), 0, 0),
    "fc6": ((4096,), 9216 * 4096 + 4096, 9216 * 4096),
    "drop6": ((4096,), 0, 0),
    "fc7": ((4096,), 4096 * 4096 + 4096, 4096 * 4096),
    "drop7": ((4096,), 0, 0),
    "fc8": ((1000,), 4096 * 1000 + 1000, 4096 * 1000),
    "prob": ((1000,), 0, 0),
}


def test_alexnet_layer_by_layer():
    rows = summarize(VARIANTS["alexnet"])
    figures = {row.layer: (row.output_shape, row.parameters, row.multiply_adds) for row in rows}
    assert figures == ALEXNET
    assert [row.layer for row in rows] == list(ALEXNET)
    assert sum(row.neurons for row in rows) == 659_272
    kernels = {row.layer: (row.kernel, row.stride, row.groups) for row in rows}
    assert kernels["conv1"] == ((11, 11, 3, 96), 4, 1)
    assert kernels["conv2"] == ((5, 5, 48, 256), 1, 2)
    assert kernels["pool1"] == ((3, 3), 2, 1)
    assert kernels["fc8"] == ((4096, 1000), 1, 1)
    assert kernels["norm1"] == ((), 1, 1)


def test_a_variant_by_its_name():
    assert sum(row.parameters for row in alexnet_keras.summarize("owt")) == 61_100_840
    with pytest.raises(ConfigurationError, match="^variant: expected one of alexnet, "):
        summarize("vgg")


def test_the_command():
    result = invoke("summary")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert (
        result.stdout.splitlines()[-1]
        == "60,965,224 parameters, 659,272 neurons, 0.72 GMAC per image"
    )
    assert all(name in result.stdout for name in ALEXNET)
    texts = ("11x11x3x96 / 4", "5x5x48x256, 2", "3x3 / 2", "4096x1000", "55x55x96")
    assert all(text in result.stdout for text in texts)
    small = invoke(
        "summary", "--variant", "owt", "--width", "0.1", "--num-classes", "7"
    ).stdout.splitlines()
    assert small[0].strip() == "owt, input 224x224x3"
    # conv1 6, conv2 19, conv3 38, conv4 26, conv5 26 filters, fc6 and fc7 410 units, fc8 7
    parameters = (
        363 * 6
        + 6
        + 150 * 19
        + 19
        + 171 * 38
        + 38
        + 342 * 26
        + 26
        + 234 * 26
        + 26
        + 936 * 410
        + 410
        + 410 * 410
        + 410
        + 410 * 7
        + 7
    )
    assert small[-1].startswith(f"{parameters:,} parameters, ")


def test_the_network_of_2012_says_where_it_differs_from_the_paper():
    """Multiply-adds and neurons are those of AlexNet at 227: all maps have the same sizes."""
    lines = invoke("summary", "--variant", "krizhevsky").stdout.splitlines()
    start = lines.index("Where it differs from the paper's text:")
    assert lines[start - 1] == "60,965,224 parameters, 659,272 neurons, 0.72 GMAC per image"
    points = [line for line in lines[start + 1 :] if line.startswith("- ")]
    assert [point.split(":")[0] for point in points] == [
        "- conv1",
        "- conv1, conv5",
        "- norm1, norm2",
        "- cnorm2",
        "- conv3, conv4, conv5",
    ]
    rows = {line.split("│")[1].strip(): line for line in lines if line.count("│") > 3}
    assert "2 groups" in rows["norm1"]
    assert "5x5" in rows["cnorm2"]
    assert "paper's text" not in invoke("summary").stdout
