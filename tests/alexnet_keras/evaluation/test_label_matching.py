"""Labels of a table in the numbers of a network's classes: names, ids and numbers."""

import numpy as np
import pytest

from alexnet_keras.data.image_table import read_table
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.errors import DataError
from alexnet_keras.evaluation.label_matching import match_labels
from tests.alexnet_keras.tiny import encoded, picture


def labelled(folder, labels):
    (folder / "a.png").write_bytes(encoded(picture(), "PNG"))
    table = folder / "t.csv"
    table.write_text("path,label\n" + "".join(f"a.png,{label}\n" for label in labels))
    return read_table(table, "all")


def test_names_and_numbers_are_those_of_the_network_and_not_of_the_sorted_table(tmp_path):
    samples = match_labels(labelled(tmp_path, ["cat", "2", "", "ant"]), ("dog", "cat", "ant"), "t")
    assert samples.labels.tolist() == [1, 2, -1, 2]
    assert samples.labels.dtype == np.int32
    assert samples.class_names == ("dog", "cat", "ant")


def test_ids_of_imagenet(tmp_path):
    wnids, names = zip(*imagenet_classes(), strict=True)
    samples = match_labels(labelled(tmp_path, [wnids[7], wnids[3], "11"]), names, "t")
    assert samples.labels.tolist() == [7, 3, 11]


@pytest.mark.parametrize(
    ("label", "says"),
    [
        ("cta", "t: label 'cta': expected one of the 3 classes of the network, such as cat, got"),
        ("3", "t: label '3': expected one of the 3 classes"),
        ("crane", "t: label 'crane': expected a name of one class, got one of several"),
    ],
)
def test_a_label_of_no_class_or_of_two(tmp_path, label, says):
    with pytest.raises(DataError, match=says):
        match_labels(labelled(tmp_path, [label]), ("cat", "crane", "crane"), "t")
