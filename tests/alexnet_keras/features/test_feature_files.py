"""Every format as other programs read it, and the same bytes after an interruption."""

import csv
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.features import unfinished as unfinished_module
from alexnet_keras.features.array_files import RowArray
from alexnet_keras.features.feature_files import (
    create_files,
    name_files,
    sinks_of,
    write_description,
)
from alexnet_keras.features.row_table import RowTable
from alexnet_keras.features.saved import read_features
from alexnet_keras.features.unfinished import Unfinished
from tests.alexnet_keras.tiny import samples_of

ROWS = 11
VALUES = {
    "conv3:pre": np.random.default_rng(0).standard_normal((ROWS, 2, 3, 4), np.float32),
    "fc7": np.random.default_rng(1).standard_normal((ROWS, 5), np.float32) * 1e-3,
}
VALUES["fc7"][3] = np.nan  # an unreadable file
VALUES["conv3:pre"][3] = np.nan
FORMATS = ["f.npy", "f.npz", "f.h5", "f.mat", "f.csv", "divided f.npy"]
BLOCKS = ((0, 4), (4, 8), (8, 11))


def table(rows=ROWS):
    samples = samples_of([f"/pictures/{row}, a.jpg" for row in range(rows)])
    return RowTable([samples])


class Extraction:
    """What an extraction of ``VALUES`` does, with files of a format and a folder for them."""

    def __init__(self, folder, name, values=VALUES, facts=None, rows=None):
        folder.mkdir(exist_ok=True)
        self.values = values
        self.rows = range(ROWS) if rows is None else rows
        self.arrays = {
            layer: RowArray((len(self.rows), *array.shape[1:]), str(array.dtype))
            for layer, array in values.items()
        }
        per_file = 4 if name.startswith("divided") else None
        self.files = name_files(folder / name.split()[-1], self.arrays, per_file)
        self.table = table()
        finals = dict.fromkeys((*self.files.features, self.files.table, self.files.description))
        self.work = Unfinished(
            self.files.out, tuple(finals), self.rows, facts or {"weights": "a"}, "digest", {}
        )

    def run(self, stop_after=None, resume=False, overwrite=False):
        with self.work.opened(resume=resume, overwrite=overwrite) as work:
            if work.is_complete:
                return
            writer = create_files(self.files.moved(work.place), self.arrays, self.table, self.rows)
            work.begin(writer)
            for first, last in BLOCKS:
                if first < work.done:
                    continue
                for layer, sink in sinks_of(writer).items():
                    sink(self.values[layer][first:last])
                if stop_after == first:
                    raise KeyboardInterrupt
                work.add(last - first, lambda: [3])
            if self.files.has_own_table:
                self.table.write(work.place(self.files.table), self.rows)
            work.place(self.files.description).write_text(f"{work.bad_rows}")
            work.complete()


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def whole(tmp_path, name, **options):
    extraction = Extraction(tmp_path / "whole", name, **options)
    extraction.run()
    return extraction


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layers", [("fc7",), ("conv3:pre", "fc7")])
def test_read_features_gives_them_back(tmp_path, name, dtype, layers):
    if (name, dtype) == ("f.mat", "float16"):
        pytest.skip("MATLAB has no float16")
    values = {layer: VALUES[layer].astype(dtype) for layer in layers}
    extraction = whole(tmp_path, name, values=values)
    about = {
        layer: {**extraction.files.describe(layer), "shape": array.shape, "dtype": dtype}
        for layer, array in values.items()
    }
    write_description(extraction.files.description, {"layers": about})
    features = read_features(tmp_path / "whole" / name.split()[-1])
    assert list(features) == list(layers)
    for layer, array in values.items():
        assert features[layer].dtype == dtype
        np.testing.assert_array_equal(features[layer], array)
    assert features.rows["path"][2] == "/pictures/2, a.jpg"
    assert len(features.rows) == 6


def test_npy(tmp_path):
    whole(tmp_path, "f.npy")
    for layer, values in VALUES.items():
        path = tmp_path / "whole" / f"f-{layer.replace(':', '-')}.npy"
        np.testing.assert_array_equal(np.load(path), values)


def test_divided_npy(tmp_path):
    whole(tmp_path, "divided f.npy")
    for layer, values in VALUES.items():
        paths = [
            tmp_path / "whole" / f"f-{layer.replace(':', '-')}-0000{index}-of-00003.npy"
            for index in range(3)
        ]
        parts = [np.load(path) for path in paths]
        assert list(map(len, parts)) == [4, 4, 3]
        np.testing.assert_array_equal(np.concatenate(parts), values)


def test_npz(tmp_path):
    path = whole(tmp_path, "f.npz").files.out
    with np.load(path) as found:
        assert found.files == list(VALUES)
        for layer, values in VALUES.items():
            np.testing.assert_array_equal(found[layer], values)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}


def test_hdf5_has_the_layers_at_its_root_and_nothing_else(tmp_path):
    with h5py.File(whole(tmp_path, "f.h5").files.out) as file:
        assert (list(file), list(file.attrs)) == (list(VALUES), [])
        for layer, values in VALUES.items():
            assert (file[layer].dtype, list(file[layer].attrs)) == (np.float32, [])
            np.testing.assert_array_equal(file[layer][...], values)


def test_mat(tmp_path):
    found = scipy.io.loadmat(whole(tmp_path, "f.mat").files.out)
    assert [name for name in found if not name.startswith("__")] == ["conv3_pre", "fc7"]
    for layer, values in VALUES.items():
        array = found[layer.replace(":", "_")]
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, values)


def test_csv_has_the_table_before_the_values(tmp_path):
    whole(tmp_path, "f.csv")
    for layer, values in VALUES.items():
        with open(
            tmp_path / "whole" / f"f-{layer.replace(':', '-')}.csv", encoding="utf-8", newline=""
        ) as file:
            header, *lines = csv.reader(file)
        assert header[:7] == ["row", "split", "id", "path", "label", "class", f"{layer}_0"]
        assert header[-1] == f"{layer}_{values[0].size - 1}"
        assert [line[3] for line in lines] == [f"/pictures/{row}, a.jpg" for row in range(ROWS)]
        found = np.array([line[6:] for line in lines], np.float32)
        np.testing.assert_array_equal(found, values.reshape(ROWS, -1))


def test_one_layer_in_csv_is_the_table_too(tmp_path):
    whole(tmp_path, "f.csv", values={"fc7": VALUES["fc7"]})
    assert set(contents(tmp_path / "whole")) == {"f.csv", "f.json"}


@pytest.mark.parametrize("name", ["f.npy", "f.npz", "f.h5", "f.csv"])
def test_half_precision(tmp_path, name):
    values = {"fc7": VALUES["fc7"].astype(np.float16)}
    path = whole(tmp_path, name, values=values).files.out
    if name == "f.csv":
        with open(path, newline="") as file:
            found = np.array([line[6:] for line in list(csv.reader(file))[1:]], np.float16)
    elif name == "f.h5":
        with h5py.File(path) as file:
            found = file["fc7"][...]
    else:
        found = np.load(path)
        found = found["fc7"] if name == "f.npz" else found
    assert found.dtype == np.float16
    np.testing.assert_array_equal(found, values["fc7"])


@pytest.mark.parametrize("name", FORMATS)
def test_no_rows(tmp_path, name):
    values = {"fc7": VALUES["fc7"][:0]}
    extraction = Extraction(tmp_path / "empty", name, values=values, rows=range(0, 0))
    with extraction.work.opened(resume=False, overwrite=False) as work:
        files = extraction.files
        writer = create_files(
            files.moved(work.place), extraction.arrays, extraction.table, range(0)
        )
        work.begin(writer)
        extraction.table.write(work.place(files.table), range(0))
        work.place(files.description).write_text("")
        work.complete()
    if name == "f.mat":
        assert scipy.io.loadmat(files.out)["fc7"].shape == (0, 5)
    elif name.endswith("npz"):
        assert np.load(files.out)["fc7"].shape == (0, 5)


@pytest.mark.parametrize("damage", ["none", "torn", "killed"])
@pytest.mark.parametrize("stopped_at", [4, 8])
@pytest.mark.parametrize("name", FORMATS)
def test_the_same_bytes_after_an_interruption(tmp_path, monkeypatch, name, stopped_at, damage):
    """Also with half a block behind the recorded rows, and where no state of the end is saved."""
    whole(tmp_path, name)
    if damage == "killed":
        monkeypatch.setattr(unfinished_module, "CHECKPOINT_SECONDS", 0)
        monkeypatch.setattr(Unfinished, "_keep", lambda *arguments: None)
    folder = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        Extraction(folder, name).run(stop_after=stopped_at)
    assert [path.name for path in folder.iterdir()] == ["f.unfinished"]
    if damage == "torn":
        for path in (folder / "f.unfinished").iterdir():
            if path.suffix in (".npy", ".csv", ".rows"):
                with open(path, "ab") as file:
                    file.write(b"torn")
    resumed = Extraction(folder, name)
    resumed.run(resume=True)
    assert resumed.work.done == ROWS
    assert contents(folder) == contents(tmp_path / "whole")
    assert (folder / "f.json").read_text() == "[3]"


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_killed_between_the_renames(tmp_path, monkeypatch, renamed):
    whole(tmp_path, "f.npy")
    replaced = []

    def killed(source, target):
        if Path(target).parent == tmp_path / "stopped":
            if len(replaced) == renamed:
                raise KeyboardInterrupt
            replaced.append(target)
        os.rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(unfinished_module.os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            Extraction(tmp_path / "stopped", "f.npy").run()
    Extraction(tmp_path / "stopped", "f.npy").run(resume=True)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")


def test_what_was_lost_is_refused(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Extraction(tmp_path / "a", "f.npz").run(stop_after=8)
    os.truncate(tmp_path / "a" / "f.unfinished" / "f.npz", 300)
    with pytest.raises(RunError, match=r"f\.npz: expected at least the \d+ bytes .*, got 300"):
        Extraction(tmp_path / "a", "f.npz").run(resume=True)


def test_an_unfinished_extraction_is_noticed(tmp_path, caplog):
    with pytest.raises(KeyboardInterrupt):
        Extraction(tmp_path / "a", "f.npy").run(stop_after=8)
    assert caplog.messages == [
        f"{tmp_path}/a/f.unfinished: 8 of 11 rows are kept; --resume continues"
    ]
    with pytest.raises(RunError) as raised:
        Extraction(tmp_path / "a", "f.npy").run()
    assert str(raised.value) == (
        f"{tmp_path}/a/f.unfinished: an unfinished extraction of 8 of 11 rows; continue it with "
        "--resume, or begin anew with --overwrite"
    )
    Extraction(tmp_path / "a", "f.npy").run(overwrite=True)
    assert "f.unfinished" not in contents(tmp_path / "a")


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"weights": "b"}, 'weights was "a" and is "b"'),
        ({"weights": "a", "pool": {"kind": "avg"}}, r'pool was null and is \{"kind": "avg"\}'),
    ],
)
def test_other_rows_are_not_mixed_in(tmp_path, facts, says):
    with pytest.raises(KeyboardInterrupt):
        Extraction(tmp_path / "a", "f.npy").run(stop_after=8)
    with pytest.raises(RunError, match=rf"^[^\n]*f\.unfinished: cannot be continued, .*{says};"):
        Extraction(tmp_path / "a", "f.npy", facts=facts).run(resume=True)
    assert (tmp_path / "a" / "f.unfinished").is_dir()


def test_nothing_to_resume(tmp_path):
    with pytest.raises(RunError, match=r"^resume: expected an unfinished extraction .*, got none"):
        Extraction(tmp_path / "a", "f.npy").run(resume=True)
    assert contents(tmp_path / "a") == {}


def test_two_writers(tmp_path):
    extraction = Extraction(tmp_path / "a", "f.npy")
    with (
        extraction.work.opened(resume=False, overwrite=False),
        pytest.raises(RunError, match=r"f\.unfinished: another extraction is writing these files"),
    ):
        Extraction(tmp_path / "a", "f.npz").run(overwrite=True)


@pytest.mark.parametrize("state", ["", "[]", "{}", '{"rows": 5, "done": 9}', '{"rows": "5"}'])
def test_a_damaged_state(tmp_path, state):
    folder = tmp_path / "a" / "f.unfinished"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(state)
    with pytest.raises(RunError, match=r"^[^\n]*state\.json: expected the state of an extraction"):
        Extraction(tmp_path / "a", "f.npy").run(resume=True)


@pytest.mark.parametrize("bytes_left", [50, 300, 450])
@pytest.mark.parametrize("name", FORMATS)
def test_a_full_disk(tmp_path, name, bytes_left):
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, limits[1]))
    try:
        with pytest.raises(RunError, match=r"^[^\n]*: cannot be written: File too large$"):
            Extraction(tmp_path / "a", name).run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path / "a") == {}


def test_what_a_mat_cannot_hold(tmp_path):
    with pytest.raises(ConfigurationError, match=r"^out: expected at most 2 GB .* conv1 of 11\.6"):
        name_files(tmp_path / "f.mat", {"conv1": RowArray((10000, 55, 55, 96))})
    with pytest.raises(ConfigurationError, match="^dtype: expected float32 for f.mat"):
        name_files(tmp_path / "f.mat", {"fc7": RowArray((1, 5), "float16")})


def test_only_npy_is_divided(tmp_path):
    with pytest.raises(ConfigurationError, match="^rows_per_file: expected an out that ends in"):
        name_files(tmp_path / "f.h5", {"fc7": RowArray((1, 5))}, 3)
