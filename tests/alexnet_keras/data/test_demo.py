"""The demonstration set: what is in it, and that it is the same wherever and however it is
made.
"""

import hashlib
import multiprocessing
import os
import time

import numpy as np
import pytest
from PIL import Image

from alexnet_keras.data import demo
from alexnet_keras.data.coco import read_coco
from alexnet_keras.data.demo import demo_root
from alexnet_keras.errors import ConfigurationError, DataError


def digest(root):
    total = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        total.update(
            f"{path.relative_to(root)}".encode() + (path.read_bytes() if path.is_file() else b"/")
        )
    return total.hexdigest()


@pytest.fixture
def few(monkeypatch):
    """Drawing a tenth of it takes a tenth of the time."""
    monkeypatch.setattr(
        demo, "OBJECTS_PER_CLASS", {group: {"train": 9, "val": 5} for group in demo.SHAPES}
    )


def test_both_groups_are_drawn_in_under_ten_seconds(keras_home):
    start = time.process_time()
    roots = [demo_root(group) for group in demo.DEMONSTRATIONS]
    assert time.process_time() - start < 10
    assert {root.parent for root in roots} == {keras_home / "datasets" / "alexnet_keras"}
    known, new = (
        [read_coco(root, split, min_size=0) for split in ("train", "val")] for root in roots
    )
    assert len(known[0].class_names) >= 8
    assert len(new[0].class_names) >= 5
    assert len({*known[0].class_names, *new[0].class_names}) >= 13
    for samples in (*known, *new):
        counts = np.bincount(samples.labels)
        assert counts.min() == counts.max()
        assert samples.boxes[:, 2:].min() >= 32
        assert 2 <= len(samples) / len(set(samples.paths)) <= 6
        assert samples.skipped == {}
    assert len(known[0]) >= 1200
    assert np.bincount(new[0].labels).max() <= 15


def test_boxes_are_tight_and_shapes_lighter_than_what_is_around_them(few):
    samples = read_coco(demo_root("demo"), "val")
    for path, (x, y, width, height) in zip(samples.paths, samples.boxes.astype(int), strict=True):
        with Image.open(path) as image:
            grey = np.asarray(image.convert("L"), int)
        inside, around = (
            grey[y : y + height, x : x + width],
            grey[y - 2 : y + height + 2, x - 2 : x + width + 2],
        )
        assert inside.max() > 110
        for side in (inside[:3], inside[-3:], inside[:, :3], inside[:, -3:]):
            assert side.max() - np.median(around[[0, -1]]) > 25


def test_same_seed_same_bytes_and_another_seed_other_bytes(few, tmp_path, monkeypatch):
    first = digest(demo_root("demo-new"))
    with monkeypatch.context() as patch:
        patch.setattr(demo, "SEED", 1)
        other = demo_root("demo-new")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    again = demo_root("demo-new")
    assert again.parent == tmp_path / "datasets" / "alexnet_keras"
    assert digest(again) == first != digest(other)


def test_what_is_there_is_not_drawn_again(few, monkeypatch):
    root = demo_root("demo-new")
    monkeypatch.setattr(demo, "_write", None)
    assert demo_root("demo-new") == root


def test_an_interrupted_drawing_leaves_nothing(few, keras_home, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo, "_draw_background", interrupt)
        with pytest.raises(KeyboardInterrupt):
            demo_root("demo")
    assert list((keras_home / "datasets" / "alexnet_keras").iterdir()) == []
    assert demo_root("demo").is_dir()


def test_another_process_may_be_faster(few, monkeypatch):
    def write(folder, group):
        folder.mkdir()
        (folder / "mine").touch()
        root = folder.parents[1] / f"{group}-v{demo.VERSION}-seed{demo.SEED}"
        root.mkdir()
        (root / "theirs").touch()

    monkeypatch.setattr(demo, "_write", write)
    root = demo_root("demo")
    assert [path.name for path in root.iterdir()] == ["theirs"]
    assert list(root.parent.iterdir()) == [root]


@pytest.mark.slow
def test_two_processes_at_once(keras_home):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=demo_root, args=("demo-new",)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    root = demo_root("demo-new")
    assert list(root.parent.iterdir()) == [root]
    assert len(read_coco(root, "train")) == 60


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("KERAS_HOME", os.fspath(tmp_path / "file"))
    with pytest.raises(
        DataError, match="expected a writable folder .*; set KERAS_HOME to use another"
    ):
        demo_root("demo")


def test_unknown_group():
    with pytest.raises(ConfigurationError, match="expected one of demo, demo-new, got 'demo-old'"):
        demo_root("demo-old")
