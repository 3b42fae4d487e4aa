"""The held-out fifth: of every class, the same whatever the order, and no image on both sides."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.data.held_out import hold_out, missing_classes

IMAGES_OF_A_CLASS = {1: 0, 2: 1, 3: 1, 4: 1, 5: 1, 7: 1, 8: 2, 10: 2, 13: 3, 100: 20}


@pytest.mark.parametrize(("images", "expected"), IMAGES_OF_A_CLASS.items())
def test_a_fifth_of_a_class_and_at_least_one_of_two(images, expected):
    names = [f"{number}.jpg" for number in range(images)]
    held = hold_out(names, np.arange(images), np.zeros(images, int))
    assert held.sum() == expected


def test_other_classes_change_nothing():
    names = [f"{name}/{number}" for name in "abc" for number in range(9)]
    labels = np.repeat(np.arange(3), 9)
    together = hold_out(names, np.arange(27), labels)
    for label in range(3):
        rows = np.flatnonzero(labels == label)
        alone = hold_out([names[row] for row in rows], np.arange(9), np.zeros(9, int))
        np.testing.assert_array_equal(together[rows], alone)


def test_the_hash_is_sha256sums():
    """The smallest of ten by ``printf %s NAME | sha256sum``."""
    held = hold_out([f"{number}.jpg" for number in range(10)], np.arange(10), np.zeros(10, int))
    digests = [hashlib.sha256(f"{number}.jpg".encode()).hexdigest() for number in range(10)]
    assert set(np.flatnonzero(held)) == set(np.argsort(digests)[:2])


def test_a_class_whose_images_count_as_those_of_others_gets_one():
    """Class 1 is on the two images of class 0 and those of class 2, which are one each."""
    images = np.array([0, 1, 0, 1, 2, 3, 4, 2, 3, 4])
    labels = np.array([0, 0, 1, 1, 1, 2, 2, 2, 1, 1])
    held = hold_out("abcde", images, labels)
    for label in range(3):
        sides = held[images[labels == label]]
        assert set(sides) == {False, True}


def test_images_without_objects_are_divided_too():
    held = hold_out([str(number) for number in range(50)], np.zeros(0, int), np.zeros(0, int))
    assert held.sum() == 10


def test_missing_classes():
    held = np.array([True, False, False])
    assert missing_classes(held, np.array([0, 1, 1, 2]), np.array([4, 4, 5, 6])) == [5, 6]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 19), st.integers(0, 5)), min_size=1, max_size=80),
    st.randoms(use_true_random=False),
)
def test_neither_order_nor_repetition_matters(pairs, random):
    names = [f"{number}.jpg" for number in range(20)]
    first = hold_out(names, *np.array(pairs).T)
    random.shuffle(pairs)
    np.testing.assert_array_equal(first, hold_out(names, *np.array(pairs + pairs[:3]).T))
    order = list(range(20))
    random.shuffle(order)
    places = np.argsort(order)
    moved = hold_out(
        [names[row] for row in order], places[[image for image, _ in pairs]], np.array(pairs)[:, 1]
    )
    np.testing.assert_array_equal(first[order], moved)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=1), min_size=2, max_size=60))
def test_a_class_of_two_images_is_on_both_sides(shown):
    labels = np.concatenate(shown)
    held = hold_out([str(number) for number in range(len(shown))], np.arange(len(shown)), labels)
    for label, count in enumerate(np.bincount(labels)):
        sides = held[labels == label]
        assert count < 2 or set(sides) == {False, True}
