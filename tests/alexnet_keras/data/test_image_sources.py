"""Images without classes: folders, files, globs, lists, standard input and tables."""

import contextlib
import io
import os
import random
import sys
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.image_files import natural_key, read_images, unique_ids
from alexnet_keras.data.image_list import read_list
from alexnet_keras.data.image_table import read_table, table_splits
from alexnet_keras.data.layouts import detect_layout, open_dataset, open_images
from alexnet_keras.errors import ConfigurationError, DataError
from tests.alexnet_keras.tiny import PREPROCESSING_16, encoded, picture

NAMES = ("10.png", "2.png", "b/1.png", "notes.txt", ".hidden.png")


@pytest.fixture
def folder(tmp_path):
    for number, name in enumerate(NAMES):
        path = tmp_path / "stimuli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(number)))
    return tmp_path / "stimuli"


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def images_of(samples):
    return np.concatenate(
        [batch.images.numpy() for batch in EvaluationBatches(samples, PREPROCESSING_16, 4)]
    )[: len(samples)]


def test_a_flat_folder_in_natural_order(folder, caplog):
    dataset = open_dataset(folder)
    assert (dataset.layout, dataset.split_names) == ("images", ("all",))
    samples = dataset.samples("all")
    assert samples.ids.tolist() == ["2.png", "10.png"]
    assert samples.paths.tolist() == [str(folder / "2.png"), str(folder / "10.png")]
    assert (samples.labels.tolist(), samples.class_names) == ([-1, -1], ())
    assert caplog.messages == [f"{folder}: 1 files were not read as images: .txt 1"]


def test_recursive_reads_the_folders_too_and_follows_a_loop_once(folder):
    (folder / "b" / "loop").symlink_to(folder)
    (folder / "own").symlink_to(folder / "own")
    samples = open_dataset(folder, recursive=True).samples("all")
    assert samples.ids.tolist() == ["2.png", "10.png", "b/1.png"]
    with pytest.raises(ConfigurationError, match="^recursive: expected the images layout, got f"):
        open_dataset(folder, "folder", recursive=True)


def test_class_folders_go_before_a_flat_folder(folder):
    os.makedirs(folder / "a")
    (folder / "a" / "1.png").write_bytes(encoded(picture(1)))  # beside b
    assert detect_layout(folder) == "folder"
    assert detect_layout(folder, recursive=True) == "images"


def test_files_globs_and_folders_in_the_order_given(folder, monkeypatch):
    monkeypatch.chdir(folder)
    samples = read_images(["b", "10.png", "*.png", "10.png"])
    assert samples.ids.tolist() == ["1.png", "10.png", "2.png", "10.png#2", "10.png#3"]
    assert [os.path.relpath(path) for path in samples.paths] == [
        "b/1.png",
        "10.png",
        "2.png",
        "10.png",
        "10.png",
    ]
    assert open_images("*.png").samples("all").ids.tolist() == ["2.png", "10.png"]


def test_a_shuffled_list_gives_permuted_rows(folder):
    names = ["2.png", "b/1.png", "10.png", "2.png"]
    order = random.Random(3).sample(range(4), 4)
    listed = read_list(write(folder / "a.txt", "\n".join(names)))
    shuffled = read_list(write(folder / "b.txt", "\n\n".join(names[i] for i in order) + "\r\n"))
    assert listed.ids.tolist() == ["2.png", "b/1.png", "10.png", "2.png#2"]
    np.testing.assert_array_equal(images_of(shuffled), images_of(listed)[order])


@pytest.mark.parametrize("separator", ["\n", "\0"])
def test_a_list_on_standard_input(folder, monkeypatch, separator):
    monkeypatch.chdir(folder)
    data = io.BytesIO(separator.join(["10.png", "2.png", ""]).encode())
    monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=data))
    dataset = open_dataset("-")
    assert (dataset.layout, dataset.name) == ("list", "list")
    assert dataset.samples("all").ids.tolist() == ["10.png", "2.png"]


TABLE = """path,label,split,subject
2.png,cat,val,s 1
10.png,dog,train,"s,2"
b/1.png,,train,
2.png,dog,val,s3
"""


def test_a_table_with_labels_splits_and_further_columns(folder):
    path = write(folder / "t.csv", TABLE)
    assert table_splits(path) == ("train", "val")
    train = read_table(path, "train")
    val = read_table(path, "val")
    assert train.class_names == val.class_names == ("cat", "dog")
    assert (train.labels.tolist(), val.labels.tolist()) == ([1, -1], [0, 1])
    assert val.ids.tolist() == ["2.png", "2.png#2"]
    assert train.columns["subject"].tolist() == ["s,2", ""]
    val.check_labelled("evaluation")
    with pytest.raises(
        DataError, match=r"b/1\.png: expected a label for evaluation, got none \(1"
    ):
        train.check_labelled("evaluation")


def test_numbers_as_labels_are_sorted_by_value(folder):
    path = write(folder / "t.csv", "path,label\n2.png,10\n10.png,9\n")
    samples = read_table(path, "all")
    assert (samples.class_names, samples.labels.tolist()) == (("9", "10"), [1, 0])


REFUSED = {
    "an empty list": ("a.txt", "\n \n", "expected one path a line, got an empty list"),
    "a path that is not there": (
        "a.txt",
        "2.png\nnowhere.png\n",
        "a.txt: line 2: expected an image file at 'nowhere.png', got nothing",
    ),
    "a folder in a list": ("a.txt", "b\n", "line 1: expected an image file at 'b', got a folder"),
    "no path": (
        "t.csv",
        "file,label\n2.png,a\n",
        "expected a header with a column path, got file",
    ),
    "an empty table": ("t.csv", "", "expected a header with a column path, got nothing"),
    "no rows": ("t.csv", "path\n", "expected rows below the header, got none"),
    "a column twice": ("t.csv", "path,path\na,b\n", "expected each column once, got path, path"),
    "too many columns": ("t.csv", "path" + ",x" * 1000, "expected up to 1000 columns, got 1001"),
    "a short row": ("t.csv", "path,label\n2.png\n", r"line 2: expected 2 fields \(path, label\)"),
    "an open quote": ("t.csv", 'path\n"2.png\n', "expected CSV, got: unexpected end of data"),
    "a row's path": ("t.csv", "path\n2.png\nx.png\n", "line 3: expected an image file at 'x.png'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_lists_and_tables(folder, case):
    name, text, says = REFUSED[case]
    with pytest.raises(DataError, match=says):
        open_dataset(write(folder / name, text)).samples("all")


def test_an_empty_path():
    for opened in (open_dataset, open_images):
        with pytest.raises(
            ConfigurationError, match="^data: expected the path of a data set, got"
        ):
            opened("")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    for name, opened in (("a.jpg", open_images), ("b.jpg", open_dataset), ("c.txt", open_images)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(DataError, match=rf"{name}: expected .* file, got a pipe or device"):
            opened(tmp_path / name).samples("all")


def test_other_bytes_than_utf8(folder):
    for name, kind in (("a.txt", "a text list"), ("t.csv", "a CSV table")):
        (folder / name).write_bytes(b"path\n\xff.png")
        with pytest.raises(DataError, match=f"expected {kind} in UTF-8, got other bytes"):
            open_dataset(folder / name).samples("all")


def test_sources_without_images(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="expected a folder with images .* got none; recursive"):
        read_images(tmp_path / "empty")
    with pytest.raises(
        DataError, match=r"\*\.gif: expected a folder or a file, got nothing, and no"
    ):
        read_images(str(folder / "*.gif"))
    with pytest.raises(DataError, match="images: expected one or more files, got an empty list"):
        read_images([])
    with pytest.raises(DataError, match="got a list among others"):
        open_images([folder / "2.png", write(folder / "a.txt", "2.png")])


@given(st.lists(st.text(st.sampled_from("a#21"), max_size=3)))
def test_ids_are_unique_and_first_ones_unchanged(names):
    ids = unique_ids(names)
    assert len(set(ids)) == len(ids) == len(names)
    assert all(name in ids for name in names)


def test_labels_of_thousands_of_digits_are_sorted_too(folder):
    """int() refuses them."""
    path = write(folder / "t.csv", f"path,label\n2.png,{'1' * 5000}\n10.png,9\n")
    assert read_table(path, "all").labels.tolist() == [1, 0]


def test_natural_order():
    names = ["b10", "b9", "B1", "a", "b009", "b9x", "٣"]
    assert sorted(names, key=natural_key) == ["B1", "a", "b009", "b9", "b9x", "b10", "٣"]


@given(st.text(max_size=60))
def test_any_text_is_a_table_or_a_data_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with contextlib.suppress(DataError):
        read_table(path, "all")
