"""The class names that ship with the package."""

import pytest

from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.data.known_classes import places365_classes, published_classes


def test_places365_is_as_published(shared_data):
    lines = (shared_data / "places365/categories_places365.txt").read_text().splitlines()
    assert [f"/{name[0]}/{name} {index}" for index, name in places365_classes()] == lines


def test_places365_without_the_shared_data():
    classes = places365_classes()
    assert len(classes) == 365
    assert (classes[0], classes[-1]) == (("0", "airfield"), ("364", "zen_garden"))


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [("imagenet", 365), ("imagenet", 999), ("places365", 205), ("places365", 1000), (None, 1000)],
)
def test_no_names_for_so_many(kind, outputs):
    assert published_classes(kind, outputs) is None


def test_the_background_comes_first():
    classes = published_classes("imagenet", 1001)
    assert classes[0] == ("", "background")
    assert classes[1:] == imagenet_classes() == published_classes("imagenet", 1000)
