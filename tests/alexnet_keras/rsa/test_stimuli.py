"""Rows of the same stimulus, found by name."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import DataError
from alexnet_keras.rsa.stimuli import match_stimuli


@given(st.lists(st.text(max_size=5), unique=True, max_size=8), st.randoms())
@settings(max_examples=15, deadline=None)
def test_a_permutation_is_found(names, random):
    other = random.sample(names, len(names))
    order = match_stimuli(names, other)
    assert [other[place] for place in order] == names
    assert order.dtype == np.int64


def test_folders_and_suffixes_may_differ():
    paths = ["/data/pictures/b.1.png", "/data/pictures/a.png"]
    assert match_stimuli(paths, ["a.png", "b.1.png"]).tolist() == [1, 0]
    assert match_stimuli(paths, ["x/a.jpg", "b.1"]).tolist() == [1, 0]
    assert match_stimuli(["cat/0.png", "dog/0.png"], ["dog/0.png", "cat/0.png"]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ("ab", "aa", "brain.h5: expected every stimulus once, got 'a' 2 times"),
        ("bb", "ab", "feats.npy: expected every stimulus once, got 'b' 2 times"),
        (
            ["p/a.png", "p/b.png"],
            ["a.png", "c.png"],
            "brain.h5: expected the stimuli of feats.npy, got none named 'p/b.png' (2 and 2 "
            "stimuli)",
        ),
        (
            "ab",
            "abc",
            "brain.h5: expected the stimuli of feats.npy, got 'c' besides (2 and 3 stimuli)",
        ),
        (
            "",
            "a",
            "brain.h5: expected the stimuli of feats.npy, got 'a' besides (0 and 1 stimuli)",
        ),
        (
            ["cat/0.png", "dog/0.png"],
            ["0.png", "1.png"],
            "brain.h5: expected the stimuli of feats.npy, got '1.png' besides (2 and 2 stimuli)",
        ),
    ],
)
def test_other_stimuli_are_refused_by_name(a, b, says):
    with pytest.raises(DataError) as raised:
        match_stimuli(list(a), list(b), "feats.npy", "brain.h5")
    assert str(raised.value) == says
