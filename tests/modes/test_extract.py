"""Feature extraction, from a network of 67 pixels: row i is sample i, and nothing half-written is
left.
"""

import csv
import hashlib
import json
from dataclasses import asdict, replace

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from alexnet_keras.configs.loading import BoxRegion, Loading
from alexnet_keras.data import decoding, image_ops
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.errors import ConfigurationError, DataError, RunError, WeightsError
from alexnet_keras.features import array_files as features_module
from alexnet_keras.features.feature_files import output_files
from alexnet_keras.features.projection_from_options import ProjectionPlan
from modes import extract as mode
from modes.extract import extract_features
from tests.alexnet_keras.tiny import encoded, picture, tiny_source
from tests.alexnet_keras.trees import CATEGORIES, class_folders, coco_tree

PUBLIC = (
    "conv1, norm1, pool1, conv2, norm2, pool2, conv3, conv4, conv5, pool5, flatten, fc6, drop6, "
    "fc7, drop7, fc8, "
    "prob"
)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny_source(tmp_path_factory.mktemp("source"))


@pytest.fixture
def dataset(tmp_path):
    return open_dataset(coco_tree(tmp_path / "coco"))


def by_hand(source, samples, row, layer="fc7"):
    """One sample through the network, without the pipeline."""
    rule = source.model.preprocessing
    image, _ = decoding.decode_region(
        tf.io.read_file(str(samples.paths[row])),
        tf.constant(samples.boxes[row]),
        rule,
        BoxRegion(0.1, True),
    )
    crop = image_ops.to_network_input(
        image_ops.center_crop(image_ops.resize(image, rule), rule), rule
    )
    return keras.Model(source.model.input, source.model.get_layer(layer).output)(
        crop[None], training=False
    ).numpy()[0]


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_row_i_is_sample_i_of_every_split_in_turn(source, dataset, tmp_path):
    told, out = [], tmp_path / "feats.npy"
    assert extract_features(dataset, out, source=source, batch_size=3, on_batch=told.append) == {
        "fc7": out
    }
    features, rows = np.load(out), table(tmp_path / "feats.csv")
    train, val = dataset.samples("train"), dataset.samples("val")
    assert (
        features.shape
        == (len(train) + len(val), source.model.get_layer("fc7").units)
        == (24, len(features[0]))
    )
    assert features.dtype == np.float32
    assert sum(told) == 24
    for row, samples, index in ((0, train, 0), (15, train, 15), (16, val, 0), (23, val, 7)):
        np.testing.assert_allclose(
            features[row], by_hand(source, samples, index), rtol=1e-4, atol=1e-4
        )
    assert len({row.tobytes() for row in features}) == 16  # the pictures of val are four of train

    assert [int(row["row"]) for row in rows] == list(range(24))
    assert [row["split"] for row in rows] == ["train2017"] * 16 + ["val2017"] * 8
    assert [row["id"] for row in rows] == [*train.ids, *val.ids]
    assert [row["path"] for row in rows] == [*train.paths, *val.paths]
    assert [int(row["label"]) for row in rows] == [*train.labels, *val.labels]
    assert {(row["label"], row["class"]) for row in rows} == {
        (str(i), name) for i, name in enumerate(CATEGORIES.values())
    }


def test_what_made_the_features(source, dataset, tmp_path):
    region = BoxRegion(0.25, square=False)
    extract_features(
        dataset,
        tmp_path / "a.h5",
        source=source,
        layers=("conv5", "fc8"),
        splits=("val",),
        batch_size=8,
        loading=Loading(region, num_threads=1),
    )
    made = json.loads((tmp_path / "a.json").read_text())
    units = source.model.get_layer("conv5").filters
    assert made["layers"] == {
        "conv5": {"file": "a.h5", "shape": [8, 3, 3, units], "dtype": "float32"},
        "fc8": {"file": "a.h5", "shape": [8, 5], "dtype": "float32"},
    }
    assert made["variant"] == "alexnet"
    assert made["weights"] == {
        "source": "tiny",
        "file": "tiny.keras",
        "sha256": hashlib.sha256(b"tiny").hexdigest(),
        "missing": [],
    }
    assert made["preprocessing"] == json.loads(json.dumps(asdict(source.model.preprocessing)))
    assert made["region"] == {"context": 0.25, "square": False}
    assert made["data"] == {"name": "coco", "layout": "coco", "splits": {"val2017": 8}}
    assert made["bad_rows"] == []
    assert made["environment"]["tensorflow"] == tf.__version__
    with h5py.File(tmp_path / "a.h5") as file:
        assert {name: data.shape for name, data in file.items()} == {
            "conv5": (8, 3, 3, units),
            "fc8": (8, 5),
        }


def test_every_layer_by_its_public_name_alike_in_npy_and_h5(source, dataset, tmp_path):
    layers = ("conv1", "pool5", "fc6", "fc8", "prob")
    paths = extract_features(
        dataset, tmp_path / "f.npy", source=source, layers=layers, splits=("val",), batch_size=8
    )
    assert paths == {name: tmp_path / f"f-{name}.npy" for name in layers}
    extract_features(
        dataset,
        tmp_path / "f.h5",
        source=source,
        layers=layers,
        splits=("val2017",),
        batch_size=5,
        overwrite=True,
    )
    with h5py.File(tmp_path / "f.h5") as file:
        for name in layers:
            np.testing.assert_allclose(np.load(paths[name]), file[name][...], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.load(paths["prob"]).sum(1), 1, rtol=1e-5)
    assert np.load(paths["fc6"]).min() == 0
    assert np.load(paths["fc8"]).min() < 0
    assert not (tmp_path / "f.npy").exists()


@pytest.mark.slow
def test_splits_in_the_order_asked_for(source, dataset, tmp_path):
    extract_features(
        dataset, tmp_path / "f.npy", source=source, splits=("val", "train"), batch_size=8
    )
    assert [row["split"] for row in table(tmp_path / "f.csv")] == ["val2017"] * 8 + [
        "train2017"
    ] * 16


@pytest.mark.parametrize("kind", ["missing", "truncated"])
def test_an_unreadable_file_is_an_error_or_a_marked_row(source, tmp_path, kind):
    root = class_folders(tmp_path / "tree", ("a", "b"), count=2)
    dataset, bad = open_dataset(root), root / "val" / "a" / "1.jpg"
    dataset.samples("val")
    content = bad.read_bytes()
    bad.unlink()
    if kind == "truncated":
        bad.write_bytes(content[: int(0.7 * len(content))])
    out = tmp_path / "out" / "f.npy"
    out.parent.mkdir()
    with pytest.raises(DataError, match=f"^{bad}: expected a readable image, got: "):
        extract_features(dataset, out, source=source, batch_size=3, loading=Loading(bad="error"))
    assert list(out.parent.iterdir()) == []
    extract_features(dataset, out, source=source, batch_size=3, loading=Loading(bad="mark"))
    features = np.load(out)
    assert np.isnan(features).all(1).nonzero()[0].tolist() == [5]
    assert np.isfinite(np.delete(features, 5, axis=0)).all()
    assert json.loads(out.with_suffix(".json").read_text())["bad_rows"] == [5]
    assert table(out.with_suffix(".csv"))[5]["path"] == str(bad)


def test_nothing_is_overwritten_unasked(source, dataset, tmp_path):
    out = tmp_path / "f.npy"
    for existing in (out, tmp_path / "f.csv", tmp_path / "f.json"):
        existing.write_bytes(b"mine")
        with pytest.raises(
            RunError,
            match=f"^{existing}: already exists; choose another --out or pass --overwrite$",
        ):
            extract_features(dataset, out, source=source)
        assert existing.read_bytes() == b"mine"
        existing.unlink()
    out.write_bytes(b"mine")
    extract_features(dataset, out, source=source, splits=("val",), batch_size=8, overwrite=True)
    assert np.load(out).shape[0] == 8
    out.unlink()
    out.mkdir()
    with pytest.raises(RunError, match=f"^{out}: expected a file to write, got a folder$"):
        extract_features(dataset, out, source=source, overwrite=True)


def test_what_is_read_is_never_overwritten(source, tmp_path):
    """``--data f.csv --out f.npy`` would replace the labels by the table of rows."""
    (tmp_path / "a.jpg").write_bytes(encoded(picture()))
    table = tmp_path / "f.csv"
    table.write_text("path,label\na.jpg,cat\n")
    array = tmp_path / "g.npy"
    np.save(array, picture()[None])
    for data in (table, array):
        content = data.read_bytes()
        out = data.with_suffix(".npy")
        with pytest.raises(RunError, match=f"^{data}: expected another name for --out"):
            extract_features(open_dataset(data), out, source=source, overwrite=True)
        assert data.read_bytes() == content
    with pytest.raises(RunError, match=f"^{table}: expected another name for --out"):
        extract_features(
            open_dataset(array),
            table.with_suffix(".npy"),
            source=source,
            overwrite=True,
            projection=ProjectionPlan(file=table),
        )


def test_a_name_that_is_too_long(source, dataset, tmp_path):
    with pytest.raises(RunError, match="cannot be written: File name too long$"):
        extract_features(dataset, tmp_path / f"{'f' * 300}.npy", source=source)


def test_after_a_failure_what_was_there_is_there(source, dataset, tmp_path):
    """Also the tables: they are of the features that lie beside them."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("f.npy", "f.csv", "f.json"):
        (folder / name).write_bytes(b"before")

    def interrupt(rows):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract_features(
            dataset, folder / "f.npy", source=source, overwrite=True, on_batch=interrupt
        )
    assert sorted(path.name for path in folder.iterdir()) == ["f.csv", "f.json", "f.npy"]
    assert {path.read_bytes() for path in folder.iterdir()} == {b"before"}


def test_tables_that_cannot_be_written(source, dataset, tmp_path, monkeypatch):
    """No table without its features, and no features without their tables."""

    def full(*arguments):
        raise OSError(28, "No space left on device")

    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(mode, "_description", full)
    with pytest.raises(RunError, match="cannot be written: No space left on device$"):
        extract_features(dataset, folder / "f.npy", source=source, splits=("val",), batch_size=8)
    assert list(folder.iterdir()) == []


def test_a_write_to_hdf5_that_is_cut_short(tmp_path):
    """Also where it is the last one, that no other follows."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    target = features_module._Hdf5Target(tmp_path / "f.h5", "w+")
    resource.setrlimit(resource.RLIMIT_FSIZE, (60, limits[1]))
    try:
        assert target.write(bytes(100)) == 100
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with pytest.raises(OSError, match="File too large"):
        target.close()


@pytest.mark.parametrize("bytes_left", [100, 3000, 7000])
@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_no_room_to_write(source, dataset, tmp_path, suffix, bytes_left):
    """The limit of a file's size fails as a full disk does: a write that is cut short, and then an
    error.
    """
    resource = pytest.importorskip("resource")
    folder = tmp_path / "out"
    folder.mkdir()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, limits[1]))
    try:
        with pytest.raises(
            RunError, match=rf"^{folder}/f[^:]*{suffix}: cannot be written: File too large$"
        ):
            extract_features(
                dataset,
                folder / f"f{suffix}",
                source=source,
                layers=("fc7", "pool2"),
                batch_size=8,
            )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("name", ["f.txt", "f", "f.npk", "f.NPY", ".npy"])
def test_a_suffix_that_no_format_has(source, dataset, tmp_path, name):
    out = tmp_path / name
    with pytest.raises(
        ConfigurationError,
        match=rf"^out: expected a name that ends in \.npy, \.npz, .*\.csv, got {out}$",
    ):
        extract_features(dataset, out, source=source)


def test_a_file_for_each_layer(tmp_path):
    assert output_files(tmp_path / "a.b.npy", ("fc6",)) == {"fc6": tmp_path / "a.b.npy"}
    assert output_files(tmp_path / "a.b.npy", ("fc6", "fc7")) == {
        "fc6": tmp_path / "a.b-fc6.npy",
        "fc7": tmp_path / "a.b-fc7.npy",
    }


@pytest.mark.parametrize(
    ("layers", "found"), [(("fc9",), "fc9"), (("fc7", "FC6"), "FC6"), ((), "none")]
)
def test_an_unknown_layer_lists_the_valid_ones(source, dataset, tmp_path, layers, found):
    with pytest.raises(
        ConfigurationError, match=rf"^layer: expected one of {PUBLIC}; got {found}$"
    ):
        extract_features(dataset, tmp_path / "f.npy", source=source, layers=layers)
    assert not (tmp_path / "f.npy").exists()


def test_the_same_layer_twice(source, dataset, tmp_path):
    with pytest.raises(ConfigurationError, match=r"^layer: expected each once, got fc7, fc7$"):
        extract_features(dataset, tmp_path / "f.npy", source=source, layers=("fc7", "fc7"))


def test_the_same_split_twice(source, dataset, tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"^split: expected each once, got val2017, val2017$"
    ):
        extract_features(dataset, tmp_path / "f.npy", source=source, splits=("val", "val2017"))


def test_a_layer_on_weights_that_were_not_loaded(source, dataset, tmp_path):
    partial = replace(source, missing=("conv4", "fc8"))
    with pytest.raises(
        WeightsError,
        match=rf"^{source.path}: fc7 depends on conv4, which is missing from the file$",
    ):
        extract_features(dataset, tmp_path / "f.npy", source=partial)
    extract_features(
        dataset,
        tmp_path / "f.npy",
        source=partial,
        layers=("conv3",),
        splits=("val",),
        batch_size=8,
    )


def test_no_folder_to_write_into(source, dataset, tmp_path):
    with pytest.raises(
        RunError,
        match=f"^{tmp_path / 'none'}: expected an existing folder to write the features to$",
    ):
        extract_features(dataset, tmp_path / "none" / "f.npy", source=source)


def test_a_probe_of_images_without_labels_is_refused_at_once(dataset):
    parts = [dataset.samples(split) for split in ("train", "val")]
    parts[1].labels[2] = -1
    says = (
        "^probe: expected a label of every image, got none of 1 in val2017, first "
        f"{parts[1].paths[2]}$"
    )
    with pytest.raises(ConfigurationError, match=says):
        mode._check_probe(dataset, parts)
