"""Whatever an annotation file holds, the COCO reader gives samples or a ``DataError``."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.data.coco import read_coco
from alexnet_keras.errors import DataError
from tests.alexnet_keras.data.coco_files import SMALL, write


def places(value, path=()):
    """Every place of a JSON value, as the keys that lead there."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


ODD = st.sampled_from([10**400, -1, 1, 90, 7, 2**24, "/a.jpg", "b.jpg", "\ud800/\0"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ODD,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["id", "name", "x"]), inner)
    ),
    max_leaves=5,
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_change_gives_samples_or_a_data_error(tmp_path_factory, data):
    dataset = copy.deepcopy(SMALL)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from(list(places(dataset))[1:]))
        holder = dataset
        for key in way:
            holder = holder[key]
        if data.draw(st.booleans()):
            holder[last] = data.draw(JSON)
        else:
            del holder[last]
    root = write(tmp_path_factory.getbasetemp() / "mutated", dataset)
    try:
        samples = read_coco(root, "val", min_size=0)
    except DataError as error:
        samples, message = None, str(error)
    if samples is None:
        assert str(root) in message
        assert "\n" not in message
    else:
        assert len(samples) == len(samples.paths) == len(samples.labels) == len(samples.boxes) > 0
        assert (samples.boxes[:, 2:] > 0).all()
        assert samples.labels.max() < len(samples.class_names)


@settings(max_examples=100, deadline=None)
@given(text=st.binary(max_size=60))
def test_any_bytes_give_a_data_error(tmp_path_factory, text):
    root = write(tmp_path_factory.getbasetemp() / "bytes")
    (root / "annotations" / "instances_val2017.json").write_bytes(text)
    with pytest.raises(DataError):
        read_coco(root, "val")
