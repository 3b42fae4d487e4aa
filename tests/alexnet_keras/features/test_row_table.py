"""The table of rows: every sample, with what its data set says of it, and what identifies it."""

import csv
import os
from dataclasses import replace

import numpy as np

from alexnet_keras.features.row_table import RowTable, digest_of_samples, digest_of_times
from tests.alexnet_keras.tiny import samples_of


def read(path):
    with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_further_columns_and_samples_without_labels(tmp_path):
    named = samples_of(["a.jpg", "b,\n.jpg"])
    first = replace(named, columns={"subject": np.array(["s1", "s2"]), "id": np.array(["7", "8"])})
    second = replace(
        samples_of(["\udcff.jpg"], labels=[-1], split="test"), class_names=(), ids=np.array(["x"])
    )
    table = RowTable([first, second])
    table.write(tmp_path / "t.csv", range(len(table)))
    rows = read(tmp_path / "t.csv")
    assert list(rows[0]) == [
        *("row", "split", "id", "path", "label", "class", "subject", "data.id")
    ]
    assert [row["path"] for row in rows] == ["a.jpg", "b,\n.jpg", "\udcff.jpg"]
    assert [row["subject"] for row in rows] == ["s1", "s2", ""]
    assert [row["data.id"] for row in rows] == ["7", "8", ""]
    assert [(row["label"], row["class"]) for row in rows] == [
        *(("0", "class 0"), ("1", "class 1"), ("", ""))
    ]


def test_rows_of_a_range_keep_their_numbers(tmp_path):
    table = RowTable([samples_of(["a", "b", "c"]), samples_of(["d", "e"], split="test")])
    table.write(tmp_path / "t.csv", range(2, 4))
    assert [(row["row"], row["path"]) for row in read(tmp_path / "t.csv")] == [
        *(("2", "c"), ("3", "d"))
    ]
    assert [(start, indices) for start, _, indices in table.parts_of(range(2, 4))] == [
        *((0, range(2, 3)), (3, range(0, 1)))
    ]


def test_what_changes_the_digest(tmp_path):
    path = tmp_path / "stimuli.npy"
    path.write_bytes(b"before")
    samples = samples_of([f"{path}[0]", f"{path}[1]"])
    digests = {digest_of_samples([samples])}
    for other in (
        replace(samples, ids=samples.ids[::-1]),
        replace(samples, labels=samples.labels[::-1]),
        replace(samples, split="test"),
        replace(samples, boxes=np.zeros((2, 4), np.float32)),
        replace(samples, columns={"subject": np.array(["s1", "s2"])}),
    ):
        digests.add(digest_of_samples([other]))
    assert len(digests) == 6
    times = digest_of_times([samples])
    os.utime(path, (1, 1))
    assert digest_of_samples([samples]) in digests
    assert digest_of_times([samples]) != times
    path.write_bytes(b"longer than before")
    assert digest_of_samples([samples]) not in digests
