"""Many images: files of predictions, unreadable images, interruption, closed pipes."""

import csv
import io
import json
import os
import re
import signal
import sys

import click
import numpy as np
import pytest
from rich.console import Console

import alexnet_keras
from alexnet_keras import progress
from alexnet_keras.cli.main import main
from alexnet_keras.errors import ConfigurationError, DataError, RunError, TerminatedError
from alexnet_keras.evaluation import predictions
from modes import predict as mode
from tests.alexnet_keras.tiny import picture_files, tiny_model
from tests.alexnet_keras.trees import class_folders, coco_tree, invoke

CLASSES = ("cat", "dog, wet", "owl", "wolf", "yak")
FIELDS = [f"{name}{rank}" for rank in (1, 2, 3) for name in ("id", "name", "probability")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    model = tiny_model(width=0.02, class_names=CLASSES)
    for layer in model.layers:  # from N(0, 0.01) every class would be as probable as the others
        if hasattr(layer, "kernel"):
            layer.kernel.assign(layer.kernel * 12)
    path = tmp_path_factory.mktemp("weights") / "tiny.keras"
    model.save(path)
    return path


@pytest.fixture
def paths(tmp_path):
    return picture_files(tmp_path, 7, bad={2: b"", 5: b"not an image"})


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_of_the_most_probable_classes_and_the_unreadable_files(tmp_path, paths, weights):
    out = tmp_path / "preds.csv"
    kept = alexnet_keras.predict(paths, weights=weights, top=3, out=out, batch_size=3, verbose=0)
    held = alexnet_keras.predict(paths, weights=weights, top=3, skip_bad=True, verbose=0)
    rows = table(out)
    assert list(rows[0]) == ["path", *FIELDS, "error"]
    assert [row["path"] for row in rows] == paths == [str(path) for path in kept.images]
    assert kept.probabilities is None
    for row, mine, best, probabilities in zip(
        rows, kept.top, held.top, held.probabilities, strict=True
    ):
        if not row["name1"]:
            assert (mine, best) == ((), ())
            assert np.isnan(probabilities).all()
            assert set(row.values()) == {row["path"], "", row["error"]}
            continue
        order = np.argsort(-probabilities)[:3]
        assert [each.id for each in best] == [str(label) for label in order]
        assert [row[f"name{rank}"] for rank in (1, 2, 3)] == [CLASSES[label] for label in order]
        written = [float(row[f"probability{rank}"]) for rank in (1, 2, 3)]
        np.testing.assert_allclose(written, probabilities[order], atol=1e-6)
        # The shortest text that is the same float32.
        assert np.float32(written).tolist() == [each.probability for each in mine]
    assert list(kept.errors) == list(held.errors) == [2, 5]
    assert [rows[row]["error"] for row in (2, 5)] == list(kept.errors.values())
    assert "expected a JPEG, PNG, GIF or BMP" in kept.errors[5]


def test_json_is_what_the_command_prints(tmp_path, paths, weights):
    out = tmp_path / "preds.json"
    common = ("--weights", weights, "--top", 2)
    assert invoke("predict", *paths, *common, "--out", out).exit_code == 0
    printed = invoke("predict", *paths, *common, "--json", "--skip-bad").stdout
    report = json.loads(out.read_text())
    assert out.read_text() == printed == json.dumps(report, indent=2) + "\n"
    assert [image["file"] for image in report["images"]] == paths
    assert [sorted(image) for image in report["images"]][1:3] == [
        ["file", "predictions"],
        ["error", "file"],
    ]


def test_printed_rows_mark_unreadable_files(paths, weights):
    result = invoke("predict", *paths, "--weights", weights, "--top", 1, "--skip-bad")
    lines = result.stdout.splitlines()
    assert lines[::2] == paths
    assert lines[5].startswith("  not a readable image: ")
    assert result.stderr.count("warning: ") == 2


def test_without_a_file_the_first_unreadable_image_is_an_error(paths, weights):
    with pytest.raises(DataError, match=r"002\.jpg: expected a readable image"):
        alexnet_keras.predict(paths, weights=weights, verbose=0)


@pytest.mark.parametrize("count", [1, 2])
def test_no_readable_image_is_an_error_and_no_file(tmp_path, weights, count):
    paths = picture_files(tmp_path, count, bad=dict.fromkeys(range(count), b"no"))
    with pytest.raises(DataError, match=r"000\.jpg: expected a readable image, got: "):
        alexnet_keras.predict(paths, weights=weights, out=tmp_path / "preds.csv", verbose=0)
    assert not list(tmp_path.glob("*preds*"))


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("preds.txt", ConfigurationError, "out: expected a name that ends in .csv or .json"),
        ("old.csv", RunError, "already exists; choose another --out or pass --overwrite"),
        ("folder.csv", RunError, "expected a file to write, got a folder"),
        ("nowhere/preds.csv", RunError, "nowhere: expected an existing folder"),
    ],
)
def test_files_that_cannot_be_written_are_known_before_the_weights(tmp_path, name, error, says):
    (tmp_path / "old.csv").write_text("old")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(error) as raised:
        alexnet_keras.predict(tmp_path, weights="no such weights", out=tmp_path / name)
    assert says in str(raised.value)
    assert (tmp_path / "old.csv").read_text() == "old"


def test_a_list_of_images_is_never_overwritten(tmp_path, paths):
    listed = tmp_path / "list.csv"
    listed.write_text(f"path,label\n{paths[0]},cat\n")
    with pytest.raises(RunError, match=f"^{listed}: expected another name for --out"):
        alexnet_keras.predict(listed, weights="no such weights", out=listed, overwrite=True)
    assert listed.read_text().endswith("cat\n")


def test_a_name_that_is_too_long(tmp_path, paths, weights):
    with pytest.raises(RunError, match="cannot be written: File name too long$"):
        alexnet_keras.predict(paths[0], weights=weights, out=tmp_path / f"{'p' * 300}.csv")


def test_json_cannot_be_printed_and_written(tmp_path):
    result = invoke("predict", "a.jpg", "--json", "--out", tmp_path / "preds.json")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: json: expected predictions to print")


def test_a_file_is_replaced_if_that_was_asked_for(tmp_path, paths, weights):
    out = tmp_path / "preds.csv"
    out.write_text("old")
    result = invoke("predict", paths[0], "--weights", weights, "--out", out, "--overwrite")
    assert (result.stdout, result.stderr) == (f"1 images -> {out}\n", "")
    assert len(table(out)) == 1
    assert [path.name for path in tmp_path.glob("*preds*")] == ["preds.csv"]


def test_a_full_disk_leaves_nothing(tmp_path, paths, weights, monkeypatch):
    def full(*arguments):
        yield "path\n"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mode, "csv_text", full)
    out = tmp_path / "preds.csv"
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        alexnet_keras.predict(paths, weights=weights, out=out, verbose=0)
    assert not list(tmp_path.glob("*preds*"))


@pytest.mark.parametrize(
    ("number", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminatedError)],
)
@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_ctrl_c_keeps_the_rows_that_were_finished(
    tmp_path, paths, weights, monkeypatch, number, error, suffix
):
    fill = predictions.TopClasses.set

    def interrupted(self, first, probabilities):
        fill(self, first, probabilities)
        if first == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(predictions.TopClasses, "set", interrupted)
    out = tmp_path / f"preds{suffix}"
    out.write_text("old")
    with pytest.raises(error):
        alexnet_keras.predict(
            paths, weights=weights, out=out, batch_size=2, overwrite=True, verbose=0
        )
    assert out.read_text() == "old"
    kept = tmp_path / f"preds.partial{suffix}"
    rows = json.loads(kept.read_text())["images"] if suffix == ".json" else table(kept)
    assert [row["file" if suffix == ".json" else "path"] for row in rows] == paths[:2]


def test_rows_are_printed_before_the_next_are_computed(paths, weights, monkeypatch):
    events = []
    fill = predictions.TopClasses.set
    echo = click.echo

    def computing(self, first, probabilities):
        events.append("batch")
        fill(self, first, probabilities)

    def printing(*arguments, **options):
        events.append("row")
        echo(*arguments, **options)

    monkeypatch.setattr(predictions.TopClasses, "set", computing)
    monkeypatch.setattr(click, "echo", printing)
    good = [paths[0], paths[1], paths[3]]
    invoke("predict", *good, "--weights", weights, "--batch-size", 2)
    assert events == ["batch", "row", "row", "batch", "row"]


@pytest.mark.parametrize("json_flag", [(), pytest.param(("--json",), marks=pytest.mark.slow)])
def test_a_reader_that_wants_no_more_is_no_error(paths, weights, monkeypatch, capsys, json_flag):
    """As in ``predict ... | head -1``."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as left:
            main(["predict", paths[0], "--weights", str(weights), *json_flag])
        monkeypatch.undo()
    assert left.value.code == 0
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_no_room_for_what_is_printed(paths, weights, monkeypatch, capsys):
    with open(os.open("/dev/full", os.O_WRONLY), "w") as stdout:
        monkeypatch.setattr(sys, "stdout", stdout)
        with pytest.raises(SystemExit) as left:
            main(["predict", paths[0], "--weights", str(weights)])
        monkeypatch.undo()
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "error: standard output: cannot be written: No space left on device\n"
    )


def test_standard_input_that_is_closed_is_empty(monkeypatch, capsys):
    """As in ``predict - <&-``."""
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SystemExit) as left:
        main(["predict", "-"])
    sys.stdin.close()
    assert left.value.code == 2
    assert capsys.readouterr().err == (
        "error: standard input: expected one path a line, got an empty list\n"
    )


def test_progress_is_on_stderr(paths, weights, monkeypatch):
    monkeypatch.setattr(progress, "PLAIN_LINE_SECONDS", 0)
    console = Console(file=io.StringIO(), **progress.PLAIN)
    monkeypatch.setattr(progress, "_errors", console)
    result = invoke("predict", paths[0], paths[1], "--weights", weights, "--top", 1)
    assert result.stdout.splitlines()[::2] == paths[:2]
    assert re.fullmatch(r"  predict 2/2 images  [\d.]+/s  0 s left\n", console.file.getvalue())


def test_a_bar_on_stderr_leaves_stdout_alone(monkeypatch, capsys):
    console = Console(file=io.StringIO(), force_terminal=True, width=200, **progress.PLAIN)
    monkeypatch.setattr(progress, "_errors", console)
    with progress.Progress().track("predict", 4, on_stderr=True) as advance:
        advance(3)
        print("a row")
        advance(1)
    assert capsys.readouterr().out == "a row\n"
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())
    assert re.search(r"predict .* 4/4 [\d.]+/s 0:00:00 0:00:00\n", shown)
    assert "a row" not in shown


@pytest.mark.slow
def test_many_files_of_any_kind_of_source(tmp_path, weights, monkeypatch):
    """The folder's are in natural order, the list's and the table's in their own."""
    (tmp_path / "pics" / "more" / "old").mkdir(parents=True)
    paths = picture_files(tmp_path / "pics", 3)
    os.rename(paths[1], tmp_path / "pics" / "10.jpg")
    os.rename(paths[2], tmp_path / "pics" / "9.jpg")
    os.rename(paths[0], tmp_path / "pics" / "more" / "old" / "0.jpg")
    named = [f"pics/{name}" for name in ("9.jpg", "10.jpg", "more/old/0.jpg")]
    (tmp_path / "list.txt").write_text("\n".join([named[2], named[0], named[2]]))
    (tmp_path / "table.csv").write_text(
        "path,label,rating\n" + f"{named[1]},owl,3\n{named[0]},,5\n"
    )
    monkeypatch.chdir(tmp_path)
    first = {}
    for images, recursive, expected in (
        ("pics", True, named),
        (tmp_path / "pics", False, named[:2]),
        (["pics", named[2]], False, named),
        ("pics/*.jpg", False, named[:2]),
        ("list.txt", False, [named[2], named[0], named[2]]),
        ("table.csv", False, named[1::-1]),
    ):
        found = alexnet_keras.predict(images, weights=weights, recursive=recursive, verbose=0)
        assert [path.resolve() for path in found.images] == [tmp_path / name for name in expected]
        if images not in ("pics", tmp_path / "pics", ["pics", named[2]]):
            assert [str(path) for path in found.images] == expected
        rows = dict(zip(expected, found.probabilities, strict=True))
        for name, row in rows.items():
            np.testing.assert_allclose(row, first.setdefault(name, row), atol=1e-6)
    assert invoke("predict", "table.csv", "--weights", weights, "--out", "o.csv").exit_code == 0
    written = table(tmp_path / "o.csv")
    assert list(written[0])[:3] == ["path", "class", "rating"]
    assert [(row["rating"], row["class"]) for row in written] == [("3", "owl"), ("5", "")]


def test_a_list_on_standard_input(tmp_path, paths, weights, monkeypatch):
    stdin = io.TextIOWrapper(io.BytesIO("\n".join(paths[:2]).encode()))
    monkeypatch.setattr(sys, "stdin", stdin)
    found = alexnet_keras.predict("-", weights=weights, verbose=0)
    assert [str(path) for path in found.images] == paths[:2]


@pytest.mark.slow
def test_all_splits_of_a_data_set(tmp_path, weights):
    class_folders(tmp_path / "tree", count=1)
    alexnet_keras.predict(tmp_path / "tree", weights=weights, out=tmp_path / "o.csv", verbose=0)
    rows = table(tmp_path / "o.csv")
    assert [(row["split"], row["class"]) for row in rows] == [
        (split, name) for split in ("train", "val") for name in ("cat", "dog", "owl")
    ]
    coco_tree(tmp_path / "coco", {"val2017": 1})
    alexnet_keras.predict(tmp_path / "coco", weights=weights, out=tmp_path / "c.csv", verbose=0)
    rows = table(tmp_path / "c.csv")
    assert rows[0]["path"] == rows[1]["path"]
    assert rows[0]["id"] != rows[1]["id"]
    assert rows[0]["probability1"] != rows[1]["probability1"]


def test_a_column_that_the_table_of_predictions_has_itself(tmp_path, paths, weights):
    (tmp_path / "t.csv").write_text(f"path,name1\n{paths[0]},x\n")
    with pytest.raises(DataError, match="^name1: expected another name for a column"):
        alexnet_keras.predict(tmp_path / "t.csv", weights=weights, out=tmp_path / "o.csv")
