"""Saved features are read back: ours, with their table and description, and those of strangers."""

import csv
import json
import pickle

import h5py
import numpy as np
import pytest
import scipy.io
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import alexnet_keras
from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features.saved import read_features

HEADER = ("row", "split", "id", "path", "label", "class")
X = np.random.default_rng(0).standard_normal((6, 2, 3)).astype(np.float32)


def write_table(path, rows=6):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        writer.writerows(
            (row, "val", row, f"{row}.jpg", row % 2, "ab"[row % 2]) for row in range(rows)
        )


def extracted(folder, suffix, layers=("pool5", "fc7")):
    """Files as ``extract`` writes them; ``fc7`` is twice ``pool5``."""
    arrays = {layer: X * (index + 1) for index, layer in enumerate(layers)}
    if suffix == ".h5":
        with h5py.File(folder / "f.h5", "w") as file:
            for layer, array in arrays.items():
                file[layer] = array
        names = dict.fromkeys(layers, "f.h5")
    else:
        names = {layer: f"f-{layer}.npy" for layer in layers}
        for layer, array in arrays.items():
            np.save(folder / names[layer], array)
    write_table(folder / "f.csv")
    described = {layer: {"file": name} for layer, name in names.items()}
    (folder / "f.json").write_text(json.dumps({"variant": "alexnet", "layers": described}))
    return folder / f"f{suffix}"


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_what_extract_wrote(tmp_path, suffix):
    features = alexnet_keras.read_features(extracted(tmp_path, suffix))
    assert list(features) == ["pool5", "fc7"]
    assert isinstance(features["fc7"], np.memmap)
    assert not features["fc7"].flags.writeable
    np.testing.assert_array_equal(features["fc7"], 2 * X)
    assert features.rows["label"] == [0, 1, 0, 1, 0, 1]
    assert features.rows["path"][5] == "5.jpg"
    assert features.description["variant"] == "alexnet"


def test_the_file_of_one_layer_has_the_table_of_all(tmp_path):
    extracted(tmp_path, ".npy", ("conv3-pre", "fc7"))
    features = read_features(tmp_path / "f-conv3-pre.npy")
    assert list(features) == ["conv3-pre"]
    assert len(features.rows["row"]) == 6
    np.testing.assert_array_equal(features["conv3-pre"], X)


@pytest.mark.parametrize("suffix", [".npy", ".h5"])
def test_one_layer_alone(tmp_path, suffix):
    path = extracted(tmp_path, suffix)
    assert list(read_features(path, layer="fc7")) == ["fc7"]
    with pytest.raises(ConfigurationError, match="^layer: expected one of fc7; got fc6$"):
        read_features(path, layer="fc6")


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", "|u1", "<i8", "|b1"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_of_anybody(tmp_path, dtype, order):
    array = np.asarray(10 * X, dtype, order)
    np.save(tmp_path / "brain.npy", array)
    features = read_features(tmp_path / "brain.npy")
    assert (features.rows, features.description) == ({}, {})
    assert features["brain"].dtype == array.dtype
    np.testing.assert_array_equal(features["brain"], array)


def test_hdf5_of_anybody(tmp_path):
    with h5py.File(tmp_path / "brain.h5", "w") as file:
        file.create_dataset("IT", data=X, compression="gzip", chunks=(2, 2, 3))
        file.create_dataset("none", (0, 3), np.float32)
        file.create_group("about")
    features = read_features(tmp_path / "brain.h5")
    assert list(features) == ["IT", "none"]
    np.testing.assert_array_equal(features["IT"], X)
    assert features["none"].shape == (0, 3)


def written(path, **arrays):
    """Those arrays in a file as NumPy, SciPy, h5py or the csv module writes them."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".mat":
        scipy.io.savemat(path, {name.replace(":", "_"): array for name, array in arrays.items()})
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.update(arrays)
    else:
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            columns = [
                (f"{name}_{index}", values)
                for name, array in arrays.items()
                for index, values in enumerate(array.reshape(len(array), -1).T)
            ]
            writer.writerow(["row", "path", *(name for name, _ in columns)])
            cells = zip(*(map("{:.9g}".format, values) for _, values in columns), strict=True)
            writer.writerows([row, f"{row}.jpg", *values] for row, values in enumerate(cells))
    return path


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".h5", ".csv"])
def test_several_layers_in_one_file(tmp_path, suffix):
    path = written(tmp_path / f"f{suffix}", **{"fc6:pre": X, "fc7": 2 * X})
    about = {"file": path.name, "shape": [6, 2, 3], "dtype": "float32"}
    layers = dict.fromkeys(("fc6:pre", "fc7"), about)
    (tmp_path / "f.json").write_text(json.dumps({"layers": layers}))
    features = read_features(path)
    assert list(features) == ["fc6:pre", "fc7"]
    for layer, expected in (("fc6:pre", X), ("fc7", 2 * X)):
        assert features[layer].dtype == np.float32
        np.testing.assert_array_equal(features[layer], expected)
        assert not features[layer].flags.writeable
    assert features.rows == (
        {"row": list(range(6)), "path": [f"{row}.jpg" for row in range(6)]}
        if suffix == ".csv"
        else {}
    )


@pytest.mark.parametrize("suffix", [".npz", ".mat", ".csv"])
def test_such_files_of_anybody(tmp_path, suffix):
    features = read_features(written(tmp_path / f"f{suffix}", V1=X, IT=2 * X))
    assert list(features) == ["V1", "IT"]
    shape = (6, 6) if suffix == ".csv" else (6, 2, 3)
    np.testing.assert_array_equal(features["IT"], (2 * X).reshape(shape))
    assert isinstance(features["IT"], np.memmap) == (suffix == ".npz")


def test_compressed_files(tmp_path):
    np.savez_compressed(tmp_path / "f.npz", IT=X)
    scipy.io.savemat(tmp_path / "f.mat", {"IT": X, "about": "text"}, do_compression=True)
    for suffix in (".npz", ".mat"):
        features = read_features(tmp_path / f"f{suffix}")
        assert list(features) == ["IT"]
        np.testing.assert_array_equal(features["IT"], X)


def test_matlab_73_has_its_axes_in_reverse(tmp_path):
    with h5py.File(tmp_path / "f.mat", "w", userblock_size=512) as file:
        file["IT"] = X.T
    np.testing.assert_array_equal(read_features(tmp_path / "f.mat")["IT"], X)


def test_a_divided_npy(tmp_path):
    names = [f"f-fc7-{index:05d}-of-00003.npy" for index in range(3)]
    for index, name in enumerate(names):
        np.save(tmp_path / name, X[2 * index : 2 * index + 2])
    write_table(tmp_path / "f.csv")
    (tmp_path / "f.json").write_text(json.dumps({"layers": {"fc7": {"files": names}}}))
    for path in (tmp_path / "f.npy", tmp_path / "f-fc7.npy"):
        features = read_features(path)
        np.testing.assert_array_equal(features["fc7"], X)
        assert len(features.rows["path"]) == 6
    (tmp_path / names[1]).unlink()
    says = "expected its 3 parts, got 2: f-fc7-00001-of-00003.npy is missing$"
    with pytest.raises(DataError, match=says):
        read_features(tmp_path / "f.npy")["fc7"]


def test_the_table_of_several_csv_is_a_name_for_all(tmp_path):
    for layer in ("pool5", "fc7"):
        written(tmp_path / f"f-{layer}.csv", **{layer: X})
    write_table(tmp_path / "f.csv")
    about = {"shape": [6, 2, 3], "dtype": "float32"}
    layers = {layer: {"file": f"f-{layer}.csv", **about} for layer in ("pool5", "fc7")}
    (tmp_path / "f.json").write_text(json.dumps({"layers": layers}))
    features = read_features(tmp_path / "f.csv")
    assert list(features) == ["pool5", "fc7"]
    assert list(features.rows) == list(HEADER)
    np.testing.assert_array_equal(features["fc7"], X)
    layers["fc7"]["shape"] = [6, 7]
    (tmp_path / "f.json").write_text(json.dumps({"layers": layers}))
    says = f"^{tmp_path / 'f.json'}: fc7: expected the shape and dtype of its 6 values in each row"
    with pytest.raises(DataError, match=says):
        read_features(tmp_path / "f.csv")["fc7"]


def test_rows_without_a_label(tmp_path):
    path = extracted(tmp_path, ".h5")
    table = (tmp_path / "f.csv").read_text().replace("2.jpg,0,a", "2.jpg,,")
    (tmp_path / "f.csv").write_text(table)
    assert read_features(path).rows["label"] == [0, 1, -1, 1, 0, 1]


# What cannot be read.


class Armed:
    def __reduce__(self):
        return (open, ("armed", "w"))


def damage(folder, kind):
    """A file of that kind, the features' path and what is said of it."""
    path = folder / "f.npy"
    if kind == "objects":
        np.save(path, np.array([Armed()], object), allow_pickle=True)
        return path, "expected numbers, got dtype '|O'"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Armed()))
        return path, "expected the .npy format, got: the magic string is not correct"
    if kind == "text":
        np.save(path, np.array(["a", "b"]))
        return path, "expected numbers, got dtype '<U1'"
    if kind == "scalar":
        np.save(path, np.float32(1))
        return path, "f: expected rows, got a single number"
    if kind == "empty":
        path.write_bytes(b"")
        return path, "expected the .npy format, got: EOF"
    if kind == "folder":
        path.mkdir()
        return path, "expected a file of arrays, got a folder or device"
    if kind == "none":
        return path, "expected a file of arrays, got none"
    np.save(path, X)
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1])
        return path, r"expected 144 bytes for shape \(6, 2, 3\), got 143"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1024), }"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    return path, "expected 4503599627370496 bytes for shape .*, got 0"


@pytest.mark.parametrize(
    "kind",
    ["objects", "pickle", "text", "scalar", "empty", "folder", "none", "truncated", "endless"],
)
def test_a_damaged_npy_is_one_line(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path, says = damage(tmp_path, kind)
    with pytest.raises(DataError, match=f"^{path}: {says}") as raised:
        read_features(path)["f"]
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "armed").exists()


@pytest.mark.parametrize("kind", ["link", "bomb", "text", "bytes", "null"])
def test_a_hostile_hdf5_is_one_line(tmp_path, kind):
    path = tmp_path / "f.h5"
    with h5py.File(path, "w") as file:
        if kind == "link":
            file["fc7"] = h5py.ExternalLink("other.h5", "fc7")
        elif kind == "null":
            file["fc7"] = h5py.Empty("f4")
        elif kind == "bomb":
            file.create_dataset("fc7", (1 << 20, 1 << 10), np.float32, chunks=(1, 1 << 10))
        else:
            file["fc7"] = ["a", "b"]
    if kind == "bytes":
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=f"^{path}: ") as raised:
        read_features(path, layer=None if kind == "bytes" else "fc7")["fc7"]
    assert "\n" not in str(raised.value)


def test_a_table_that_a_spreadsheet_saved(tmp_path):
    np.save(tmp_path / "f.npy", X)
    text = "label,path\r\n" + "".join(f"{row},{row}.png\r\n" for row in range(len(X)))
    (tmp_path / "f.csv").write_bytes(text.encode("utf-8-sig"))
    assert read_features(tmp_path / "f.npy").rows["label"] == list(range(len(X)))


def test_another_number_of_rows_than_the_table(tmp_path):
    path = extracted(tmp_path, ".h5")
    write_table(tmp_path / "f.csv", rows=5)
    says = rf"^{path}: expected 5 rows, as in {tmp_path / 'f.csv'}, got 6$"
    with pytest.raises(DataError, match=says):
        read_features(path)["fc7"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("f.json", b"{", "expected JSON, got: "),
        ("f.json", b"[" * 100_000, "expected JSON, got: "),
        ("f.json", b"[1]", "expected a JSON object, got a list$"),
        ("f.csv", b"row,path\n0,a.jpg\n1\n", "line 3: expected 2 cells, got 1$"),
        ("f.csv", b"", "line 1: expected the columns' names, each once, got "),
        ("f.csv", b"a,a\n1,2\n", "line 1: expected the columns' names, each once, got "),
        ("f.csv", b"a,b\n1," + b"2" * 200_000 + b"\n", "expected a CSV table, got: field larger"),
    ],
)
def test_a_damaged_table_or_description_is_one_line(tmp_path, name, content, says):
    path = extracted(tmp_path, ".h5")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"^{tmp_path / name}: {says}"):
        read_features(path)["fc7"]


def test_a_description_names_files_of_its_own_folder_only(tmp_path):
    path = tmp_path / "f.npy"
    about = {"layers": {"fc7": {"file": "../../secret.npy"}, "fc6": 3}}
    (tmp_path / "f.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=f"^{path}: expected a file of arrays, got none$"):
        read_features(path)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("objects", "member 'fc7': expected numbers, got dtype '|O'"),
        ("bomb", "member 'fc7': expected at most 100 times the bytes that it takes in the file"),
        ("truncated", "expected an .npz archive, got: File is not a zip file"),
        ("header", "member 'fc7': expected its header at byte 0"),
    ],
)
def test_a_hostile_npz_is_one_line(tmp_path, kind, says):
    path = tmp_path / "f.npz"
    if kind == "objects":
        np.savez_compressed(path, fc7=np.array([Armed()], object))
    elif kind == "bomb":
        np.savez_compressed(path, fc7=np.zeros(1 << 23, np.float32))
    else:
        np.savez(path, fc7=X)
        data = path.read_bytes()
        path.write_bytes(data[:-30] if kind == "truncated" else b"no" + data[2:])
    with pytest.raises(DataError) as raised:
        read_features(path)["fc7"]
    assert str(raised.value).startswith(f"{path}: {says}")
    assert "\n" not in str(raised.value)


def test_a_csv_with_a_word_among_its_numbers(tmp_path):
    path = written(tmp_path / "f.csv", fc7=X)
    lines = path.read_text().splitlines()
    lines[3] = "2,2.jpg,1,2,3,none,5,6"
    path.write_text("\n".join(lines))
    with pytest.raises(DataError, match=f"^{path}: line 4: expected numbers, got: could not conv"):
        read_features(path)["fc7"]


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat", ".h5", ".csv"])
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
def test_damage_is_one_line_or_other_numbers(tmp_path, suffix, place, byte, cut):
    path = tmp_path / f"f{suffix}"
    if suffix == ".npy":
        np.save(path, X)
    else:
        written(path, fc7=X)
    data = bytearray(path.read_bytes())
    place %= len(data)
    data[place] = byte
    path.write_bytes(data[:place] if cut else data)
    message = refusal(path)
    assert message is None or (message.startswith(str(path)) and "\n" not in message)


def refusal(path):
    try:
        features = read_features(path)
        for layer in features:
            assert features[layer].ndim
    except DataError as error:
        return str(error)
    return None
