"""docs/the-2012-code.md against the notes of 2012 and the code: its examples run and its figures
are those they compute.
"""

import re

import numpy as np
import pytest

from tests.alexnet_keras.trees import ROOT

PAGE = (ROOT / "docs" / "the-2012-code.md").read_text(encoding="utf-8")
LOGGED = {
    "145-2010": ["37.47 / 17.00", "39.02 / 18.30"],
    "145": ["40.66 / 18.21", "40.25 / 17.99"],
    "145-half": ["39.17 / 18.23"],
    "146-2012-2011": ["38.99 / 16.62"],
    "147": ["41.06 / 18.51"],
    "148": ["42.03 / 19.36"],
}


@pytest.fixture(scope="module")
def page():
    """What the page's examples define, run one after the other; ``values`` of bare expressions."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/the-2012-code.md, example {number + 1}", "exec"), scope)
    return scope


def test_the_examples_compute_what_their_comments_say(page):
    assert page["sizes"] == [224, 55, 27, 27, 13, 13, 13, 13, 6]
    assert page["without_sharing"] == 105_705_600
    assert page["with_sharing"] == page["model"].get_layer("conv1").count_params() == 34_944
    assert page["model"].count_params() == 60_965_224
    np.testing.assert_allclose(page["before"], [54.4, 0, 27.2], atol=0.05)
    np.testing.assert_allclose(page["after"], [35.0, 0, 17.5], atol=0.05)


def test_random_kernels_are_two_thirds_colour(page):
    for half in np.split(page["shares"], 2):
        assert half.mean() == pytest.approx(2 / 3, abs=0.02)


def test_which_half_of_the_published_kernels_is_grey(page, shared_data):
    from weights.reading import read_weights

    file = shared_data / "bvlc_alexnet_trunk.caffemodel"
    kernels = read_weights(file).layers["conv1"][0]
    halves = np.split(page["colourfulness"](kernels), 2)
    np.testing.assert_allclose([half.mean() for half in halves], [0.80, 0.21], atol=0.005)


@pytest.mark.parametrize("name", LOGGED)
def test_the_errors_of_the_table_are_those_of_the_notes(name, shared_data):
    notes = (shared_data / f"krizhevsky_2012/layer-params-{name}.cfg").read_text("utf-8")
    errors = {
        f"{100 * float(top1):.2f} / {100 * float(top5):.2f}"
        for top1, top5 in re.findall(r"logprob:\s+[\d.]+, ([\d.]+), ([\d.]+)", notes)
    }
    for error in LOGGED[name]:
        assert error in errors
        assert f"| {error}" in PAGE


def test_the_notes_quoted_are_in_the_file(shared_data):
    notes = (shared_data / "krizhevsky_2012/layer-params-145.cfg").read_text("utf-8")
    table = PAGE.split("### The learning rates")[1].split("An update is")[0]
    quoted = re.findall(r"`((?:set|killed)[^`]*)`", table)
    assert len(quoted) == 7
    for note in quoted:
        assert note in notes
