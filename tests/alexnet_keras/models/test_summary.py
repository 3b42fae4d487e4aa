"""The table against published numbers and hand arithmetic."""

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.models.summary import summarize
from tests.alexnet_keras.trees import invoke

# Of each layer of BVLC's AlexNet at 227: output, parameters, multiply-adds of one image, by hand.
ALEXNET = {
    "conv1": ("55x55x96", 11 * 11 * 3 * 96 + 96, 55 * 55 * 96 * 11 * 11 * 3),
    "norm1": ("55x55x96", 0, 0),
    "pool1": ("27x27x96", 0, 0),
    "conv2": ("27x27x256", 5 * 5 * 48 * 256 + 256, 27 * 27 * 256 * 5 * 5 * 48),
    "norm2": ("27x27x256", 0, 0),
    "pool2": ("13x13x256", 0, 0),
    "conv3": ("13x13x384", 3 * 3 * 256 * 384 + 384, 13 * 13 * 384 * 3 * 3 * 256),
    "conv4": ("13x13x384", 3 * 3 * 192 * 384 + 384, 13 * 13 * 384 * 3 * 3 * 192),
    "conv5": ("13x13x256", 3 * 3 * 192 * 256 + 256, 13 * 13 * 256 * 3 * 3 * 192),
    "pool5": ("6x6x256", 0, 0),
    "flatten": ("9216", 0, 0),
    "fc6": ("4096", 9216 * 4096 + 4096, 9216 * 4096),
    "drop6": ("4096", 0, 0),
    "fc7": ("4096", 4096 * 4096 + 4096, 4096 * 4096),
    "drop7": ("4096", 0, 0),
    "fc8": ("1000", 4096 * 1000 + 1000, 4096 * 1000),
    "prob": ("1000", 0, 0),
}


def test_alexnet_layer_by_layer():
    rows = summarize(VARIANTS["alexnet"])
    assert {row.layer: (row.output, row.parameters, row.multiply_adds) for row in rows} == ALEXNET
    assert [row.layer for row in rows] == list(ALEXNET)
    assert sum(row.neurons for row in rows) == 659_272
    kernels = {row.layer: row.kernel for row in rows}
    assert (
        kernels["conv1"],
        kernels["conv2"],
        kernels["pool1"],
        kernels["fc8"],
        kernels["norm1"],
    ) == ("11x11x3x96 / 4", "5x5x48x256, 2 groups", "3x3 / 2", "4096x1000", "")


def test_the_command():
    result = invoke("summary")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert (
        result.stdout.splitlines()[-1]
        == "60,965,224 parameters, 659,272 neurons, 0.72 GMAC an image"
    )
    assert all(name in result.stdout for name in ALEXNET)
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
