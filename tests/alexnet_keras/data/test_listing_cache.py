"""Indexes: used while the files are as they were, and never when they are not or the index is not
whole.
"""

import logging
import os
import resource
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alexnet_keras.data import listing_cache
from alexnet_keras.data.coco import read_coco
from alexnet_keras.data.folder import read_folder
from alexnet_keras.data.imagenet import read_imagenet
from alexnet_keras.data.listing_cache import cache_path, cached, pack_strings, unpack_strings
from alexnet_keras.errors import DataError
from tests.alexnet_keras.data.coco_files import SMALL, changed, write

COLUMNS = {
    "numbers": np.arange(500),
    "boxes": np.ones((3, 4), np.float32),
    "names": pack_strings(["a", "b/c"]),
}
CLOCK_TICK_SECONDS = 0.02


@pytest.fixture
def eager(monkeypatch):
    """Everything is kept, however fast it was read and however new its files are."""
    monkeypatch.setattr(listing_cache, "MIN_READ_SECONDS", 0)
    monkeypatch.setattr(listing_cache, "MIN_AGE_SECONDS", -1)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "source").write_text("1")
    return tmp_path / "source"


class Reader:
    """A ``read`` that counts how often it was needed."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return dict(COLUMNS)


def assert_columns(columns):
    assert columns.keys() == COLUMNS.keys()
    for name, column in COLUMNS.items():
        np.testing.assert_array_equal(columns[name], column)
        assert columns[name].dtype == column.dtype


def tree(root):
    for name in (
        "train/cat/a.jpg",
        "train/cat/b.jpg",
        "train/dog/a.jpg",
        "train/dog/notes.txt",
        "val/cat/a.jpg",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_read_once_and_logged(source, eager, keras_home, caplog):
    caplog.set_level(logging.INFO)
    read = Reader()
    for _ in range(3):
        assert_columns(cached([source], read))
    assert read.calls == 1
    assert cache_path(source).parent == keras_home / "datasets" / "alexnet_keras"
    assert [record.levelname for record in caplog.records] == ["INFO"] * 3
    assert [record.getMessage() for record in caplog.records] == [
        f"{source}: read in 0 s; listing cached in {cache_path(source)}",
        *[f"{source}: read from the listing cache {cache_path(source)}"] * 2,
    ]


def test_a_name_relative_to_the_current_folder_has_the_same_index(source, eager, monkeypatch):
    monkeypatch.chdir(source.parent)
    assert cache_path("source") == cache_path(source)


@pytest.mark.parametrize("constant", ["MIN_READ_SECONDS", "MIN_AGE_SECONDS"])
def test_what_is_read_fast_or_just_changed_is_not_kept(source, eager, monkeypatch, constant):
    monkeypatch.setattr(listing_cache, constant, 1e6)
    assert_columns(cached([source], Reader()))
    assert not cache_path(source).exists()


def test_files_of_the_same_size_and_time_of_writing_are_told_apart(source, eager):
    read, before = Reader(), source.stat()
    cached([source], read)
    time.sleep(CLOCK_TICK_SECONDS)
    source.write_text("2")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (source.stat().st_size, source.stat().st_mtime_ns) == (
        before.st_size,
        before.st_mtime_ns,
    )
    cached([source], read)
    cached([source], read)
    assert read.calls == 2


def test_a_source_more_or_less_and_another_version(source, eager, monkeypatch):
    read, other = Reader(), source.with_name("other")
    other.touch()
    for number, sources in enumerate(([source], [source, other], [source]), 1):
        cached(sources, read)
        assert read.calls == number
    other.unlink()
    cached([source, other], read)
    assert read.calls == 4
    monkeypatch.setattr(listing_cache, "VERSION", listing_cache.VERSION + 1)
    cached([source], read)
    assert read.calls == 5


def test_a_change_during_reading_is_noticed_the_next_time(source, eager):
    def read_while_it_changes():
        time.sleep(CLOCK_TICK_SECONDS)
        source.write_text("22")
        return COLUMNS

    cached([source], read_while_it_changes)
    read = Reader()
    cached([source], read)
    assert read.calls == 1


def test_an_error_is_handed_on_and_nothing_kept(source, eager):
    def refuse():
        raise DataError("no")

    for sources in ([source], [source.with_name("absent")], [source.with_name("\0")]):
        with pytest.raises(DataError, match="no"):
            cached(sources, refuse)
        assert not cache_path(sources[0]).exists()


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_or_half_written_index_is_never_read(source, eager, data):
    cached([source], Reader())
    whole = cache_path(source).read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                whole[:place],
                whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :],
                whole[:place] + bytes(len(whole) - place) + b"\0",
                whole + b"\0",
                whole[place:] + whole[:place] + b"x",
            ]
        )
    )
    cache_path(source).write_bytes(damaged)
    read = Reader()
    assert_columns(cached([source], read))
    assert_columns(cached([source], read))
    assert read.calls == 1
    assert len(cache_path(source).read_bytes()) == len(whole)


def test_an_index_that_cannot_be_kept_is_no_error(source, eager, monkeypatch, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("KERAS_HOME", str(source))
    assert_columns(cached([source], Reader()))
    assert "listing not cached: " in caplog.text
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    cache_path(source).mkdir(parents=True)
    assert_columns(cached([source], Reader()))
    assert [record.levelname for record in caplog.records] == ["INFO"] * 2


def test_a_disk_that_is_full(source, eager, caplog):
    caplog.set_level(logging.INFO)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        columns = cached([source], Reader())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_columns(columns)
    assert "listing not cached: " in caplog.text
    assert list(cache_path(source).parent.iterdir()) == []


@given(strings=st.lists(st.text() | st.sampled_from(["a\0", "\ud800", ""])))
def test_strings_come_back(strings):
    assert unpack_strings(pack_strings(strings)) == strings


@pytest.mark.parametrize(
    "change",
    [
        lambda train: (train / "cat" / "c.jpg").touch(),
        lambda train: (train / "cat" / "a.jpg").unlink(),
        lambda train: (train / "dog" / "a.jpg").rename(train / "dog" / "z.jpg"),
        lambda train: (train / "dog").rename(train / "ant"),
        lambda train: (
            (train / "dog" / "a.jpg").rename(train / "cat" / "d.jpg")
            and (train / "dog" / "b.jpg").touch()
        ),
    ],
)
def test_a_tree_that_changed_is_read_again(tmp_path, eager, caplog, change):
    caplog.set_level(logging.INFO)
    before = [read_folder(tree(tmp_path), "train") for _ in range(2)]
    assert (
        before[0].ids.tolist() == before[1].ids.tolist() == ["cat/a.jpg", "cat/b.jpg", "dog/a.jpg"]
    )
    assert before[0].paths.tolist() == before[1].paths.tolist()
    assert before[1].labels.tolist() == [0, 0, 1]
    assert before[1].labels.dtype == np.int32
    assert (
        before[0].warnings
        == before[1].warnings
        == (f"{tmp_path / 'train'}: 1 files were not read as images: .txt 1",)
    )
    assert caplog.text.count("read from the listing cache") == 1
    time.sleep(CLOCK_TICK_SECONDS)
    change(tmp_path / "train")
    samples = read_folder(tmp_path, "train")
    assert caplog.text.count("read from the listing cache") == 1
    assert (
        sorted(samples.paths)
        == sorted(map(str, (tmp_path / "train").glob("*/*.jpg")))
        != sorted(before[0].paths)
    )


def test_one_index_serves_labels_of_both_kinds(tmp_path, eager, caplog):
    caplog.set_level(logging.INFO)
    for wnid in ("n01443537", "n15075141"):
        (tmp_path / "train" / wnid).mkdir(parents=True)
        (tmp_path / "train" / wnid / "a.JPEG").touch()
    assert read_folder(tmp_path, "train").labels.tolist() == [0, 1]
    assert read_imagenet(tmp_path, "train").labels.tolist() == [1, 999]
    assert caplog.text.count("read from the listing cache") == 1


@pytest.mark.parametrize(
    "options", [{}, {"classes": ["toothbrush", "person"]}, {"min_size": 45}, {"min_size": 0}]
)
def test_options_choose_from_the_index_what_they_choose_from_the_file(
    tmp_path, eager, caplog, options
):
    caplog.set_level(logging.INFO)
    root = write(tmp_path, changed("annotations", 0, bbox=[-1e300, 0, 2e300, float("nan")]))
    direct = read_coco(root, "val", **options)
    again = read_coco(root, "val", **options)
    assert caplog.text.count("read from the listing cache") == 1
    for name in ("ids", "paths", "labels", "boxes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(direct, name))
        assert getattr(again, name).dtype == getattr(direct, name).dtype
    assert (again.class_names, again.class_ids, again.split, again.skipped) == (
        direct.class_names,
        direct.class_ids,
        direct.split,
        direct.skipped,
    )


def test_a_file_that_changed_is_parsed_again(tmp_path, eager):
    read_coco(write(tmp_path), "val")
    time.sleep(CLOCK_TICK_SECONDS)
    write(tmp_path, changed("annotations", 0, id=6))
    assert read_coco(tmp_path, "val").ids.tolist() == ["3:9", "7:2", "7:6"]
    time.sleep(CLOCK_TICK_SECONDS)
    write(tmp_path, "{")
    with pytest.raises(DataError, match="expected a JSON file"):
        read_coco(tmp_path, "val")


def test_images_are_looked_for_also_with_an_index(tmp_path, eager):
    read_coco(write(tmp_path / "root", SMALL), "val")
    (tmp_path / "root" / "val2017" / "b.jpg").rename(tmp_path / "b.jpg")
    with pytest.raises(DataError, match="'b.jpg': expected a file in"):
        read_coco(tmp_path / "root", "val")
    (tmp_path / "root" / "val2017" / "b.jpg").symlink_to(tmp_path / "b.jpg")
    assert len(read_coco(tmp_path / "root", "val")) == 3
