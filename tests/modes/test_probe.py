"""``probe`` on features files: the report, its files, and what cannot be probed."""

import csv
import json

import numpy as np
import pytest

import alexnet_keras
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.features.classifiers import Classifier
from alexnet_keras.features.probing import cross_validate, group_folds
from tests.alexnet_keras.trees import invoke

CLASSES = np.array(["ape", "bee", "cat"])
LABELS = np.arange(48) % 3
IMAGES = np.arange(48) // 2
"""Two objects in each image, of classes of their own."""


def features(folder, labels=LABELS, layers=("conv3", "fc7"), **columns):
    """An ``.npy`` for each layer, the last the best, with the table of ``extract``."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((3, 2, 20))
    for index, layer in enumerate(layers):
        noise = generator.standard_normal((48, 2, 20))
        np.save(folder / f"f-{layer}.npy", 0.5 * index * centres[LABELS] + noise)
    table = {
        "row": range(48),
        "split": ["train"] * 32 + ["val"] * 16,
        "path": [f"{image}.jpg" for image in IMAGES],
        "label": labels,
        "class": CLASSES[LABELS],
        **columns,
    }
    with open(folder / "f.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    about = {layer: {"file": f"f-{layer}.npy"} for layer in layers}
    (folder / "f.json").write_text(json.dumps({"variant": "alexnet", "layers": about}))
    return folder / "f.npy"


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def probe(path, **options):
    return alexnet_keras.probe(path, verbose=0, **options)


def test_layer_by_layer(tmp_path):
    report = probe(features(tmp_path), classifiers=["svm", "knn"], folds=3)
    assert [(score.layer, score.classifier) for score in report.scores] == [
        ("conv3", "svm"),
        ("conv3", "knn"),
        ("fc7", "svm"),
        ("fc7", "knn"),
    ]
    assert report.best.layer == "fc7"
    assert report.best.balanced_accuracy > 0.8
    assert report.chance == report.majority == pytest.approx(1 / 3)
    confusion = report.confusion(report.best)
    assert confusion.sum(axis=1).tolist() == [16, 16, 16]
    assert np.trace(confusion) / 48 == pytest.approx(report.best.accuracy)


def test_the_groups_are_the_images_unless_another_column_is_named(tmp_path):
    path = features(tmp_path, subject=np.arange(48) % 4)
    report = probe(path, layers="fc7", classifiers="svm")
    x = np.load(tmp_path / "f-fc7.npy")

    def scores(groups, folds):
        splitter = group_folds(groups, folds, 0)
        svm = Classifier("svm")
        return cross_validate(x, np.arange(48), LABELS, groups, splitter, svm).scores

    found = np.unique([f"{image}.jpg" for image in IMAGES], return_inverse=True)[1]
    assert report.scores[0].result.scores == scores(found, 5)
    for group, groups, folds in (
        ("image", found, 5),
        ("subject", np.arange(48) % 4, 4),
        ("row", np.arange(48), 5),
    ):
        report = probe(path, layers="fc7", classifiers="svm", group=group, folds=folds)
        assert report.scores[0].result.scores == scores(groups, folds)


def test_permutations_and_files(tmp_path):
    path, out = features(tmp_path), tmp_path / "out"
    report = probe(path, permutations=9, folds=2, classifiers="knn", out=out)
    chance, best = report.scores
    assert (best.p_value, len(best.permuted)) == (0.1, 9)
    assert chance.p_value > 0.1
    rows = table(out / "probe.csv")
    assert [row["layer"] for row in rows] == ["conv3", "fc7"]
    assert float(rows[1]["balanced_accuracy"]) == best.balanced_accuracy
    low, high = (float(rows[1][f"interval_{end}"]) for end in ("low", "high"))
    assert (low, high) == best.interval
    assert low < best.balanced_accuracy < high
    counts = table(out / "confusion.csv")
    assert [row["class"] for row in counts] == [*CLASSES, *CLASSES]
    assert [int(counts[3][name]) for name in CLASSES] == report.confusion(best)[0].tolist()
    about = json.loads((out / "probe.json").read_text())
    assert about["description"]["variant"] == "alexnet"
    assert about["classes"] == {"ape": 16, "bee": 16, "cat": 16}
    assert about["scores"][1]["n_neighbors"] == [5, 5]
    assert about["scores"][1]["permuted"] == best.permuted.tolist()


def test_a_split_of_the_table_instead_of_folds(tmp_path):
    report = probe(features(tmp_path), layers="fc7", split_by="split", permutations=2)
    score = report.scores[0]
    assert (score.result.predicted[:32] == -1).all()
    assert report.confusion(score).sum() == report.tested.sum() == 16
    assert report.majority == 6 / 16
    assert score.interval is None
    assert len(score.permuted) == 2


def test_rows_outside_the_split_need_no_labels(tmp_path):
    labels = ["" if row % 4 == 1 else label for row, label in enumerate(LABELS)]
    split = [
        "test" if not str(label) else "train" if row < 32 else "val"
        for row, label in enumerate(labels)
    ]
    report = probe(features(tmp_path, labels, split=split), layers="fc7", split_by="split")
    assert (len(report.rows.rows), report.tested.sum()) == (36, 12)
    with pytest.raises(DataError, match="got none in 12 of 48, first in row 1 0.jpg$"):
        probe(tmp_path / "f.npy")


def test_a_table_with_names_of_classes_alone(tmp_path):
    path = features(tmp_path)
    table = (tmp_path / "f.csv").read_text().replace("label", "number", 1)
    (tmp_path / "f.csv").write_text(table)
    report = probe(path, layers="fc7", classifiers="knn")
    assert report.rows.class_names == tuple(CLASSES)


def test_labels_of_another_column(tmp_path):
    path = features(tmp_path, mood=CLASSES[LABELS])
    report = probe(path, label="mood", layers="fc7", classifiers="knn")
    assert report.rows.class_names == tuple(CLASSES)


def test_rows_that_are_not_finite_are_left_out(tmp_path, caplog):
    path = features(tmp_path)
    for layer, row in (("conv3", 5), ("fc7", 7)):
        x = np.load(tmp_path / f"f-{layer}.npy")
        x[row, 1, 3] = np.nan if row == 5 else np.inf
        np.save(tmp_path / f"f-{layer}.npy", x)
    report = probe(path, folds=2)
    assert set(range(48)) - set(report.rows.rows) == {5, 7}
    assert [record.getMessage() for record in caplog.records] == [
        f"{tmp_path / 'f-conv3.npy'}: 2 of 48 rows are not finite and left out, first row 5"
    ]


def test_rare_classes_are_left_out_on_request(tmp_path, caplog):
    labels = np.where(np.arange(48) < 2, 7, LABELS)
    path = features(tmp_path, labels, **{"class": [f"c{label}" for label in labels]})
    says = (
        rf"^{tmp_path / 'f.csv'}: label: expected every class in at least 5 groups, one for each "
        r"fold, got fewer of c7 \(1\); use fewer folds, or skip_rare$"
    )
    with pytest.raises(DataError, match=says):
        probe(path)
    report = probe(path, skip_rare=True, layers="fc7")
    assert report.rows.class_names == ("c0", "c1", "c2")
    assert len(report.rows.rows) == 46
    assert "1 classes in fewer than 5 groups are left out: c7 (1)" in caplog.text


def test_the_command_prints_a_table(tmp_path):
    path = features(tmp_path)
    result = invoke("probe", path, "--classifier", "all", "--folds", "2", "--layer", "fc7")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split()[3] for line in result.stdout.splitlines() if "fc7" in line] == [
        "svm",
        "logistic",
        "knn",
    ]
    assert result.stdout.count("best") == 1
    assert "48 rows of 3 classes tested; chance: balanced accuracy 33.3%" in result.stdout


# What cannot be probed.


def unlabelled(labels, rows):
    return [label if row not in rows else "" for row, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("columns", "options", "error", "says"),
    [
        (
            {"label": unlabelled(LABELS, (4, 9))},
            {},
            DataError,
            r"label: expected a label in every row, got none in 2 of 48, first in row 4 2.jpg$",
        ),
        ({"label": [-1] * 48}, {}, DataError, "label: expected a label in every row, got none in"),
        ({"label": [3] * 48}, {}, DataError, "label: expected two or more classes, got ape"),
        (
            {},
            {"split_by": "class"},
            DataError,
            "class: expected rows of train, and of val or test, got ape, bee, cat",
        ),
        (
            {"path": ["a.jpg"] * 48},
            {"split_by": "split"},
            DataError,
            "split: expected every group in train or in test, got a.jpg in both",
        ),
    ],
)
def test_a_table_that_does_not_do(tmp_path, columns, options, error, says):
    path = features(tmp_path, **columns)
    with pytest.raises(error, match=f"^{tmp_path / 'f.csv'}: {says}"):
        probe(path, **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"group": "subject"},
            r"group: expected a column of {} \(row, split, path, label, class\), got subject",
        ),
        ({"label": "mood"}, "label: expected a column of {} "),
        ({"split_by": "fold"}, "split_by: expected a column of {} "),
        ({"layers": "conv4"}, "layer: expected one of conv3; got conv4"),
        ({"layers": ["fc7", "fc7"]}, "layer: expected each once, got fc7, fc7"),
        ({"classifiers": "svc"}, "classifiers: expected one of svm, logistic, knn, all, got"),
        ({"n_neighbors": 3}, "n_neighbors: expected the classifier knn, got only logistic"),
        ({"classifiers": "knn", "c": 3}, "c: expected the classifier svm or logistic, got only"),
        ({"c": float("nan")}, "c: expected a number, at least 1e-09, got nan"),
        ({"tune": True, "c": 3}, "c: expected the classifier svm or logistic, got tune"),
        ({"folds": 3, "split_by": "split"}, "folds: expected folds, got split_by split"),
        ({"folds": 1}, "folds: expected an integer, at least 2, got 1"),
        (
            {"classifiers": "knn", "n_neighbors": 40},
            "n_neighbors: expected at most the 3[0-9] training rows of a fold, got 40",
        ),
    ],
)
def test_options_that_do_not_do(tmp_path, options, says):
    path = features(tmp_path)
    with pytest.raises(ConfigurationError, match=f"^{says.format(tmp_path / 'f.csv')}"):
        probe(path, **options)


@pytest.mark.parametrize(
    ("fill", "says"),
    [
        (np.nan, "expected numbers, got NaN alone"),
        (3, "expected features that vary, got the same"),
    ],
)
def test_features_that_say_nothing(tmp_path, fill, says):
    path = features(tmp_path)
    np.save(tmp_path / "f-fc7.npy", np.full((48, 5), fill, np.float32))
    with pytest.raises(DataError, match=f"^{tmp_path / 'f-fc7.npy'}: fc7: {says}"):
        probe(path)


def test_features_without_a_table(tmp_path):
    path = tmp_path / "brain.npy"
    np.save(path, np.empty((0, 5)))
    (tmp_path / "brain.csv").write_text("row,label\n")
    with pytest.raises(DataError, match="expected a table of its rows with labels in "):
        probe(path)
    (tmp_path / "brain.csv").unlink()
    np.save(path, np.eye(5))
    result = invoke("probe", path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: {path}: probe: expected a table of its rows with labels in "
        f"{tmp_path / 'brain.csv'}, got none\n"
    )


def test_output_that_exists(tmp_path):
    path, out = features(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "probe.csv").touch()
    with pytest.raises(RunError, match=f"^{out / 'probe.csv'}: already exists; "):
        probe(path, out=out)
    with pytest.raises(RunError, match=f"^{path.with_suffix('.csv')}: expected a folder"):
        probe(path, out=path.with_suffix(".csv"))
    probe(path, layers="fc7", out=out, overwrite=True)
    assert len(table(out / "probe.csv")) == 1


def test_the_table_of_the_features_is_never_replaced(tmp_path):
    features(tmp_path).with_suffix(".csv").rename(tmp_path / "probe.csv")
    (tmp_path / "f-fc7.npy").rename(tmp_path / "probe.npy")
    with pytest.raises(RunError, match=r"probe\.csv: expected another name for --out: this file"):
        probe(tmp_path / "probe.npy", out=tmp_path, overwrite=True)
