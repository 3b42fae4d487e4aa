"""The list of a run's samples: what it holds, what differs, and what a file of it can be
instead.
"""

import csv
import gzip
import io
import os
import random
import string
import subprocess
import zlib
from contextlib import suppress

import numpy as np
import pytest

from alexnet_keras.data.manifest import (
    COLUMNS,
    check_unchanged,
    digest,
    sample_table,
    write_manifest,
)
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import RunError


def samples(paths, split="train", boxes=None, ids=None):
    rows = len(paths)
    return Samples(
        np.array(ids or [f"id{row}" for row in range(rows)], str),
        np.array([str(path) for path in paths], str),
        np.arange(rows, dtype=np.int32) % 3,
        None if boxes is None else np.array(boxes, np.float32),
        ("a", "b", "c"),
        split,
        {},
    )


@pytest.fixture
def tree(tmp_path):
    """Five files of 1 to 5 bytes."""
    (tmp_path / "data" / 'b, "c"').mkdir(parents=True)
    paths = [
        tmp_path / "data" / name
        for name in ("a.jpg", 'b, "c"/a.jpg', "ü 日本.jpg", "two\nlines.jpg", "e.jpg")
    ]
    for size, path in enumerate(paths, 1):
        path.write_bytes(b"x" * size)
    return tmp_path / "data", paths


def rows(table):
    return list(csv.reader(io.StringIO(table, newline="")))


def test_a_row_for_each_sample(tree, tmp_path):
    root, paths = tree
    elsewhere = tmp_path / "elsewhere.jpg"
    table = sample_table(
        root,
        [
            samples(paths),
            samples([elsewhere, paths[0]], "val", [(1, 2.5, 3, 4e6), (0, 0, 1, 1 / 3)]),
        ],
    )
    assert rows(table) == [
        list(COLUMNS),
        ["train", "id0", "a.jpg", "1", "0", ""],
        ["train", "id1", 'b, "c"/a.jpg', "2", "1", ""],
        ["train", "id2", "ü 日本.jpg", "3", "2", ""],
        ["train", "id3", "two\nlines.jpg", "4", "0", ""],
        ["train", "id4", "e.jpg", "5", "1", ""],
        ["val", "id0", str(elsewhere), "", "0", "1 2.5 3 4e+06"],
        ["val", "id1", "a.jpg", "1", "1", "0 0 1 0.333333"],
    ]


def test_a_data_set_that_moved_is_the_same(tree, tmp_path):
    root, paths = tree
    before = sample_table(root, [samples(paths)])
    root.rename(tmp_path / "moved")
    after = sample_table(
        tmp_path / "moved",
        [samples([tmp_path / "moved" / path.relative_to(root) for path in paths])],
    )
    assert after == before
    assert digest(after) == digest(before)


def test_the_same_table_makes_the_same_bytes_and_gzip_reads_them(tree, tmp_path, monkeypatch):
    root, paths = tree
    table = sample_table(root, [samples(paths)])
    write_manifest(tmp_path / "one.csv.gz", table)
    monkeypatch.setattr("os.getpid", lambda: 1)
    write_manifest(tmp_path / "two.csv.gz", table)
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()
    unpacked = subprocess.run(
        ["gzip", "-dc", tmp_path / "one.csv.gz"], check=True, capture_output=True
    ).stdout
    assert unpacked.decode() == table
    check_unchanged(tmp_path / "one.csv.gz", table, root)
    with pytest.raises(
        RunError, match=r"nowhere/a\.gz: cannot be written: No such file or directory$"
    ):
        write_manifest(tmp_path / "nowhere" / "a.gz", table)


def refusal(tmp_path, root, before, after):
    write_manifest(tmp_path / "samples.csv.gz", before)
    with pytest.raises(RunError) as refused:
        check_unchanged(tmp_path / "samples.csv.gz", after, root)
    assert "\n" not in str(refused.value)
    start = f"{root}: the data set has changed since the run started: "
    assert str(refused.value).startswith(start)
    return str(refused.value).removeprefix(start)


PLAIN = ("a.jpg", "b.jpg", "c.jpg", "d.jpg")


@pytest.fixture
def plain(tmp_path):
    root = tmp_path / "plain"
    root.mkdir()
    paths = [root / name for name in PLAIN]
    for path in paths:
        path.write_bytes(b"xy")
    return root, paths


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            lambda p: p[1].write_bytes(b"xyz"),
            "1 samples differ; the first is train id1 (b.jpg): bytes: expected 2, got 3",
        ),
        (
            lambda p: p[1].write_bytes(b""),
            "1 samples differ; the first is train id1 (b.jpg): bytes: expected 2, got 0",
        ),
        (
            lambda p: p[2].unlink(),
            "1 samples differ; the first is train id2 (c.jpg): bytes: expected 2, got none",
        ),
        (lambda p: p.pop(), "1 samples differ; the first is train id3 (d.jpg): removed"),
        (
            lambda p: p.append(p[0].with_name("e.jpg")),
            "1 samples differ; the first is train id4 (e.jpg): added",
        ),
        (
            lambda p: p.append(p.pop(2)),
            "2 samples differ; the first is train id2 (c.jpg): path: expected c.jpg, got d.jpg",
        ),
    ],
)
def test_what_differs_is_counted_and_the_first_is_named(plain, tmp_path, change, says):
    root, paths = plain
    before = sample_table(root, [samples(paths)])
    change(paths)
    assert refusal(tmp_path, root, before, sample_table(root, [samples(paths)])) == says


def test_boxes_labels_and_splits_count_too(plain, tmp_path):
    root, paths = plain
    boxes = [(0, 0, 5, 5)] * 4
    before = sample_table(root, [samples(paths, boxes=boxes)])
    moved = sample_table(root, [samples(paths, boxes=[*boxes[:3], (0, 0, 5, 6)])])
    assert refusal(tmp_path, root, before, moved) == (
        "1 samples differ; the first is train id3 (d.jpg): box: expected 0 0 5 5, got 0 0 5 6"
    )
    labelled = samples(paths, boxes=boxes)
    labelled.labels[0] = 2
    assert refusal(tmp_path, root, before, sample_table(root, [labelled])) == (
        "1 samples differ; the first is train id0 (a.jpg): label: expected 0, got 2"
    )
    assert refusal(tmp_path, root, before, sample_table(root, [samples(paths, "val", boxes)])) == (
        "8 samples differ; the first is train id0 (a.jpg): removed"
    )


def test_another_order_is_another_data_set(plain, tmp_path):
    root, paths = plain
    before = sample_table(root, [samples(paths, ids=list("wxyz"))])
    after = "".join([before.splitlines(True)[row] for row in (0, 2, 1, 3, 4)])
    assert refusal(tmp_path, root, before, after) == "its samples have another order"


def test_samples_that_share_an_id_are_told_apart(plain, tmp_path):
    root, paths = plain
    before = sample_table(root, [samples(paths, ids=["same"] * 4)])
    paths[0].write_bytes(b"changed")
    assert refusal(
        tmp_path, root, before, sample_table(root, [samples(paths, ids=["same"] * 4)])
    ) == ("1 samples differ; the first is train same (a.jpg): bytes: expected 2, got 7")


def test_names_that_are_no_utf_8(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg")
    table = sample_table(tmp_path, [samples([path])])
    write_manifest(tmp_path / "samples.csv.gz", table)
    check_unchanged(tmp_path / "samples.csv.gz", table, tmp_path)
    assert len(digest(table)) == 64


def damaged(content):
    yield from (
        b"",
        b"no gzip",
        content[:-5],
        content[:20],
        content[:-8] + bytes(8),
        gzip.compress(b"\xff\xfe"),
        gzip.compress(b"odd,columns\n1,2\n"),
        gzip.compress(b"split,id\ntrain\n"),
        gzip.compress(b'split,id\n"' + b"x" * 200_000),
        gzip.compress(b"\0\0\r\n\r"),
    )
    generator = random.Random(0)
    for _ in range(60):
        place = generator.randrange(len(content))
        yield (
            content[:place]
            + bytes([content[place] ^ 1 << generator.randrange(8)])
            + content[place + 1 :]
        )


def test_a_list_that_cannot_be_read(plain, tmp_path):
    """One line that names the file; a flipped bit that gzip does not mind is in its header, or it
    is a difference.
    """
    root, paths = plain
    table = sample_table(root, [samples(paths)])
    path = tmp_path / "samples.csv.gz"
    write_manifest(path, table)
    for content in damaged(path.read_bytes()):
        path.write_bytes(content)
        with suppress(OSError, EOFError, zlib.error):
            if gzip.decompress(content).decode("latin-1") == table:
                check_unchanged(path, table, root)
                continue
        with pytest.raises(
            RunError,
            match=rf"^({path}: expected the run's sample manifest, got: "
            rf"|{root}: the data set has changed )[^\n]+$",
        ):
            check_unchanged(path, table, root)
    path.unlink()
    with pytest.raises(
        RunError, match=f"^{path}: expected the run's sample manifest, got: [^\n]+$"
    ):
        check_unchanged(path, table, root)


def test_it_grows_with_the_samples_and_not_with_their_square(tmp_path):
    names = [
        tmp_path / "".join(random.Random(row).choices(string.ascii_letters, k=20))
        for row in range(20_000)
    ]
    part = samples(names)
    table = sample_table(tmp_path, [part])
    assert len(rows(table)) == 20_001
    changed = sample_table(tmp_path, [samples([*names[:-1], "other"])])
    assert refusal(tmp_path, tmp_path, table, changed).startswith(
        "1 samples differ; the first is train id19999"
    )
