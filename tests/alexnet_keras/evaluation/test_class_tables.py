"""The tables of an evaluation, read back as a spreadsheet would."""

import csv
from time import perf_counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import confusion_matrix, top_k_accuracy_score

from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.evaluation.class_tables import COLUMNS, FILES, write_tables
from alexnet_keras.evaluation.evaluator import Evaluation

CONFUSION = np.array([[3, 1, 0], [2, 0, 2], [0, 0, 0]])
TOP5 = np.array([4, 1, 0])
AWKWARD = ("", "a,b", '"', 'say "hi"', "two\nlines", "\r", "\r\n", "é中", "\0", " a ", "=1+1")
NAMES = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(AWKWARD)


def evaluation(confusion=CONFUSION, top5=TOP5):
    return Evaluation(0.5, 0.5, 0.5, 1.0, int(confusion.sum()), 1.0, confusion, top5)


def read(path, as_rows=csv.reader):
    with open(path, encoding="utf-8", newline="") as file:
        return list(as_rows(file))


def test_tables_by_hand(tmp_path):
    write_tables(tmp_path / "new", evaluation(), ("cat", "dog", "owl"))
    assert read(tmp_path / "new" / "classes.csv") == [
        list(COLUMNS),
        ["0", "cat", "4", "0.75", "1.0", "3", "4", "dog", "1"],
        [
            "1",
            "dog",
            "4",
            "0.0",
            "0.25",
            "0",
            "1",
            "cat",
            "2",
        ],  # as often as owl, which comes later
        ["2", "owl", "0", "", "", "0", "0", "", "0"],
    ]
    assert read(tmp_path / "new" / "confusion.csv") == [
        ["", "cat", "dog", "owl"],
        ["cat", "3", "1", "0"],
        ["dog", "2", "0", "2"],
        ["owl", "0", "0", "0"],
    ]
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(FILES)


def test_bytes_are_those_of_rfc_4180(tmp_path):
    write_tables(
        tmp_path,
        evaluation(np.eye(2, dtype=np.int64), np.ones(2, np.int64)),
        ("tench, Tinca", 'a "b"\né'),
    )
    assert (tmp_path / "confusion.csv").read_bytes() == (
        ',"tench, Tinca","a ""b""\né"\r\n"tench, Tinca",1,0\r\n"a ""b""\né",0,1\r\n'
    ).encode()


def test_figures_of_scikit_learn(tmp_path):
    generator, classes = np.random.default_rng(0), 12
    labels, scores = generator.integers(0, classes, 90), generator.standard_normal((90, classes))
    hits = (scores > scores[np.arange(90), labels][:, None]).sum(axis=1) < 5
    found = evaluation(
        confusion_matrix(labels, scores.argmax(1), labels=range(classes)),
        np.bincount(labels[hits], minlength=classes),
    )
    write_tables(tmp_path, found, [f"class {index}" for index in range(classes)])
    for row in read(tmp_path / "classes.csv", csv.DictReader):
        own = labels == int(row["class"])
        for k in (1, 5):
            expected = [
                top_k_accuracy_score(
                    labels[own], scores[own], k=k, labels=range(classes), normalize=normalize
                )
                for normalize in (True, False)
            ]
            assert [float(row[f"top{k}"]), int(row[f"top{k}_images"])] == expected
        assert int(row["images"]) == own.sum()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_name_and_count_comes_back(tmp_path, data):
    names = data.draw(st.lists(NAMES, min_size=1, max_size=5))
    classes = len(names)
    confusion = data.draw(arrays(np.int64, (classes, classes), elements=st.integers(0, 2**40)))
    top5 = confusion.diagonal().copy()
    write_tables(tmp_path, evaluation(confusion, top5), names)
    header, *rows = read(tmp_path / "confusion.csv")
    assert header == ["", *names]
    assert [row[0] for row in rows] == names
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.int64), confusion)
    for index, row in enumerate(read(tmp_path / "classes.csv", csv.DictReader)):
        images, others = confusion[index].sum(), np.delete(confusion[index], index)
        assert (int(row["class"]), row["name"], int(row["images"])) == (
            index,
            names[index],
            images,
        )
        assert (
            (row["top1"] == row["top5"] == "")
            if images == 0
            else float(row["top1"]) == confusion[index, index] / images
        )
        assert int(row["confused_images"]) == others.max(initial=0)
        assert (
            row["most_confused_with"] in names if others.any() else row["most_confused_with"] == ""
        )


def test_a_name_that_is_not_text_is_told_with_its_bytes_escaped(tmp_path):
    write_tables(tmp_path, evaluation(), (b"caf\xe9".decode("utf-8", "surrogateescape"), "b", "c"))
    assert read(tmp_path / "classes.csv")[1][1] == "caf\\udce9"


def test_a_thousand_classes_take_well_under_a_second(tmp_path):
    confusion = np.random.default_rng(0).integers(0, 50, (1000, 1000))
    began = perf_counter()
    write_tables(
        tmp_path,
        evaluation(confusion, confusion.diagonal()),
        [f"class {index}" for index in range(1000)],
    )
    assert perf_counter() - began < 2
    np.testing.assert_array_equal(
        np.array([row[1:] for row in read(tmp_path / "confusion.csv")[1:]], np.int64), confusion
    )


def test_an_evaluation_is_not_changed(tmp_path):
    found = evaluation(CONFUSION.copy(), TOP5.copy())
    write_tables(tmp_path, found, "abc")
    np.testing.assert_array_equal(found.confusion, CONFUSION)


def test_other_names_than_the_classes_are_refused(tmp_path):
    with pytest.raises(
        ConfigurationError,
        match=r"^class_names: expected 3 names, one for each class, got 2$",
    ):
        write_tables(tmp_path, evaluation(), ("cat", "dog"))
    assert not any(tmp_path.iterdir())


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^.*classes\.csv: cannot be written: File exists$"):
        write_tables(tmp_path / "file", evaluation(), "abc")


def test_a_failure_leaves_the_tables_of_before(tmp_path, monkeypatch):
    write_tables(tmp_path, evaluation(), "abc")
    before = {name: (tmp_path / name).read_bytes() for name in FILES}

    def full(*paths):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        write_tables(tmp_path, evaluation(CONFUSION * 2, TOP5 * 2), "abc")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
