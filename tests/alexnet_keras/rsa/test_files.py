"""Files of RDMs, against rsatoolbox, SciPy and NumPy; and hostile ones."""

import os
import pickle
import re

import h5py
import numpy as np
import pytest
from scipy.io import loadmat, savemat
from scipy.spatial.distance import pdist, squareform

from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.rsa.files import read_rdms, read_reference, stimulus_names, write_rdms

rdm = pytest.importorskip("rsatoolbox.rdm")

NAMES = ["cat", "dog", "owl", "wolf", "yak"]
VECTORS = np.stack([pdist(np.random.default_rng(seed).random((5, 7))) for seed in (0, 1)])
MATRICES = np.stack([squareform(vector) for vector in VECTORS])


def toolbox_rdms(**patterns):
    return rdm.RDMs(
        VECTORS,
        "correlation",
        {"session": "a", "runs": 3, "mask": None},
        {"subject": ["s1", "s2"]},
        {"name": NAMES, "weight": [1.5, 2, 3, 4, 5], **patterns},
    )


def described(rdms):
    lists = [
        {key: [str(item) for item in items] for key, items in found.items()}
        for found in (rdms.rdm_descriptors, rdms.pattern_descriptors)
    ]
    return (rdms.dissimilarity_measure, {k: str(v) for k, v in rdms.descriptors.items()}, *lists)


def test_files_of_rsatoolbox_are_read_to_the_bit(tmp_path):
    path = tmp_path / "theirs.h5"
    toolbox_rdms(image=np.array(NAMES), code=tuple(NAMES)).save(str(path))
    mine = read_rdms(path)
    theirs = rdm.load_rdm(str(path))
    np.testing.assert_array_equal(mine.dissimilarities, VECTORS)
    assert mine == theirs
    assert described(mine) == described(theirs)
    assert stimulus_names(mine) == tuple(NAMES)


def test_rsatoolbox_reads_our_files_to_the_bit(tmp_path):
    path = tmp_path / "ours.h5"
    write_rdms(path, toolbox_rdms())
    theirs = tmp_path / "theirs.h5"
    toolbox_rdms().save(str(theirs))
    loaded = rdm.load_rdm(str(path))
    np.testing.assert_array_equal(loaded.dissimilarities, VECTORS)
    assert loaded == rdm.load_rdm(str(theirs)) == read_rdms(path)
    assert described(loaded) == described(rdm.load_rdm(str(theirs)))


def test_names_that_are_not_ascii_come_back(tmp_path):
    """rsatoolbox itself cannot save them, and loads them as bytes."""
    names = ["é", "日本", "c", "d", "e"]
    write_rdms(tmp_path / "a.h5", rdm.RDMs(VECTORS, pattern_descriptors={"name": names}))
    assert stimulus_names(read_rdms(tmp_path / "a.h5")) == tuple(names)
    loaded = rdm.load_rdm(str(tmp_path / "a.h5"))
    assert loaded.pattern_descriptors["name"][0] == "é".encode()


@pytest.mark.parametrize("suffix", [".npy", ".mat"])
@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (MATRICES[0], VECTORS[:1]),
        (MATRICES, VECTORS),
        (VECTORS[0], VECTORS[:1]),
        (VECTORS, VECTORS),
        (MATRICES[0].astype("f4"), VECTORS[:1].astype("f4")),
        (np.ones((4, 4), int) - np.eye(4, dtype=int), np.ones((1, 6))),
    ],
    ids=["square", "stack", "vector", "vectors", "float32", "integers"],
)
def test_arrays_are_matrices_stacks_or_vectors(tmp_path, suffix, array, expected):
    path = tmp_path / f"rdm{suffix}"
    if suffix == ".npy":
        np.save(path, array)
    else:
        savemat(path, {"RDMs": array})
    np.testing.assert_array_equal(read_rdms(path).dissimilarities, expected)
    named = read_rdms(path, list("abcdefgh")[: read_rdms(path).n_cond])
    assert stimulus_names(named)[:2] == ("a", "b")


@pytest.mark.parametrize("compressed", [False, True])
def test_what_matlab_writes(tmp_path, compressed):
    """Stacks along the third dimension, the RSA toolbox's struct, names, several variables."""
    path = tmp_path / "a.mat"
    stacked = {"RDMs": np.moveaxis(MATRICES, 0, 2), "other": np.eye(3)}
    savemat(path, stacked | {"names": np.array(NAMES, object)}, do_compression=compressed)
    found = read_rdms(path)
    np.testing.assert_array_equal(found.dissimilarities, VECTORS)
    assert stimulus_names(found) == tuple(NAMES)
    fields = [("RDM", object), ("name", object)]
    for each in (MATRICES, VECTORS):
        structs = np.array([(each[0], "one"), (each[1], "two")], dtype=fields)
        savemat(path, {"brain": structs}, do_compression=compressed)
        np.testing.assert_array_equal(read_rdms(path).dissimilarities, VECTORS)


def test_numpy_and_matlab_read_what_is_written(tmp_path):
    write_rdms(tmp_path / "a.npy", toolbox_rdms())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), MATRICES)
    write_rdms(tmp_path / "one.npy", toolbox_rdms().subset("subject", "s2"))
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy"), MATRICES[1])
    write_rdms(tmp_path / "a.mat", toolbox_rdms())
    found = loadmat(tmp_path / "a.mat")
    np.testing.assert_array_equal(found["RDMs"], np.moveaxis(MATRICES, 0, 2))
    assert [name.item() for name in found["names"].ravel()] == NAMES
    assert stimulus_names(read_rdms(tmp_path / "a.mat")) == tuple(NAMES)
    with pytest.raises(RunError, match="already exists"):
        write_rdms(tmp_path / "a.npy", toolbox_rdms())
    write_rdms(tmp_path / "a.npy", toolbox_rdms().subset("subject", "s1"), overwrite=True)
    assert np.load(tmp_path / "a.npy").ndim == 2
    with pytest.raises(ConfigurationError, match="which can run code"):
        write_rdms(tmp_path / "a.pkl", toolbox_rdms())


# What the features are compared with.


def test_a_reference_is_rdms_or_responses(tmp_path):
    np.save(tmp_path / "rdm.npy", MATRICES)
    (tmp_path / "rdm.csv").write_text("row,path\n" + "".join(f"0,{name}\n" for name in NAMES))
    found = read_reference(tmp_path / "rdm.npy", 5)
    assert found.describe() == "2 RDM(s) of 5 stimuli"
    assert found.names == stimulus_names(found.rdms) == tuple(NAMES)
    responses = np.arange(60, dtype=np.float32).reshape(5, 3, 4)
    np.save(tmp_path / "brain.npy", responses)
    found = read_reference(tmp_path / "brain.npy", 5)
    assert found.describe() == "responses of 12 channels to 5 stimuli"
    np.testing.assert_array_equal(found.responses, responses)
    assert (found.rdms, found.names) == (None, None)
    savemat(tmp_path / "brain.mat", {"responses": responses[:, 0], "x": 1.0})
    np.testing.assert_array_equal(
        read_reference(tmp_path / "brain.mat", 5).responses, responses[:, 0]
    )
    with h5py.File(tmp_path / "brain.h5", "w") as file:
        file["it"] = responses
    assert read_reference(tmp_path / "brain.h5", 5).stimuli == 5
    write_rdms(tmp_path / "rdm.h5", toolbox_rdms())
    assert read_reference(tmp_path / "rdm.h5", 5).names == tuple(NAMES)
    np.save(tmp_path / "square.npy", np.arange(25.0).reshape(5, 5))
    with pytest.raises(DataError, match=r"square\.npy: expected an RDM, whose diagonal is 0"):
        read_reference(tmp_path / "square.npy", 5)


def test_responses_to_other_stimuli(tmp_path):
    np.save(tmp_path / "brain.npy", np.zeros((4, 8)))
    with pytest.raises(DataError, match=r"responses to 5 stimuli, or RDMs of them, got shape"):
        read_reference(tmp_path / "brain.npy", 5)
    np.save(tmp_path / "brain.npy", np.zeros((5, 8)))
    (tmp_path / "brain.csv").write_text("name\n" + "\n".join(NAMES[:4]))
    with pytest.raises(DataError, match="expected the names of 5 stimuli, got 4"):
        read_reference(tmp_path / "brain.npy", 5)


# What is refused, in one line.


def changed(value, *place):
    matrix = MATRICES.copy()
    matrix[place] = value
    return matrix


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (changed(np.nan, 1, 2, 0), r"RDM 1: expected finite .* nan between stimuli 2 and 0$"),
        (np.where(VECTORS[0, 4] == VECTORS, np.inf, VECTORS), "inf between stimuli 1 and 2$"),
        (changed(9, 0, 2, 0), r"RDM 0: expected a symmetric RDM, got \S+ between stimuli 0 and 2"),
        (1 - MATRICES[0], r"diagonal is 0, got 1 at stimulus 0 \(are these similarities\?\)"),
        (np.zeros(9), "expected the n.n-1./2 pairs of n stimuli, such as 6 of 4, got 9"),
        (np.zeros((2, 5, 4)), r"got shape \(2, 5, 4\)"),
        (np.zeros((1, 1)), "at least 3 stimuli, got 1 of 1"),
        (np.zeros((2, 2)), "at least 3 stimuli, got 1 of 2"),
        (np.zeros((0, 5, 5)), "got 0 of 5"),
        (np.zeros((5, 5), complex), "expected numbers"),
        (np.array([{}]), "expected numbers, got dtype '|O'"),
    ],
)
def test_arrays_that_are_no_rdms(tmp_path, array, says):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(DataError, match=says) as raised:
        read_rdms(tmp_path / "a.npy")
    assert str(raised.value).startswith(str(tmp_path))
    assert str(raised.value).isprintable()


def test_rounding_is_no_asymmetry(tmp_path):
    np.save(tmp_path / "a.npy", changed(MATRICES[0, 0, 1] * (1 + 1e-9), 0, 0, 1)[0] + 1e-12)
    assert read_rdms(tmp_path / "a.npy").n_cond == 5


def test_names_that_do_not_fit(tmp_path):
    np.save(tmp_path / "a.npy", MATRICES)
    with pytest.raises(DataError, match="expected the names of 5 stimuli, got 4"):
        read_rdms(tmp_path / "a.npy", NAMES[:4])
    with pytest.raises(DataError, match="expected every stimulus once, got 'cat' 2 times"):
        read_rdms(tmp_path / "a.npy", ["cat", *NAMES[:4]])


class Runs:
    def __reduce__(self):
        return (pytest.fail, ("the pickle ran",))


@pytest.mark.parametrize("name", ["a.pkl", "a.h5", "a.npy", "a.mat", "a.txt", "none.h5", "no.npy"])
def test_other_files_are_one_line_and_nothing_runs(tmp_path, name):
    if "n" not in name[:2]:
        (tmp_path / name).write_bytes(pickle.dumps(Runs()))
    with pytest.raises(DataError) as raised:
        read_rdms(tmp_path / name)
    assert str(raised.value).startswith(str(tmp_path / name))
    assert str(raised.value).isprintable()


@pytest.mark.parametrize("read", [read_rdms, lambda path: read_reference(path, 5)])
def test_a_named_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "a.h5")
    with pytest.raises(DataError, match="a.h5: expected .*, got a folder or device"):
        read(tmp_path / "a.h5")


def test_an_h5_of_features_is_no_rdm_file(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["fc6"] = np.zeros((5, 4))
        file["fc7"] = np.zeros((5, 4))
    with pytest.raises(DataError, match="RDM file of rsatoolbox, got no dissimilarities, but fc6"):
        read_rdms(tmp_path / "a.h5")
    with pytest.raises(DataError, match="the responses of one layer, got fc6, fc7"):
        read_reference(tmp_path / "a.h5", 5)


def test_a_damaged_file_is_one_line_or_the_same(tmp_path):
    """Any byte of it may be wrong."""
    path = tmp_path / "a.h5"
    names = ["é", *NAMES[1:]]
    write_rdms(path, toolbox_rdms(code=tuple(NAMES), stim=names))
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for cut in generator.integers(0, len(whole), 20):
        path.write_bytes(whole[:cut])
        with pytest.raises(DataError):
            read_rdms(path)
    messages = []
    for place in generator.integers(0, len(whole), 100):
        damaged = bytearray(whole)
        damaged[place] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            read_rdms(path)
        except DataError as error:
            messages.append(str(error))
    assert messages
    assert all(map(str.isprintable, messages))


@pytest.mark.parametrize(
    "patterns", [{"code": tuple(NAMES)}, {"stim": ["ö", *NAMES[1:]]}], ids=["attribute", "data"]
)
def test_a_text_that_claims_gigabytes(tmp_path, patterns):
    """The HDF5 library would allocate them."""
    path = tmp_path / "a.h5"
    saved = toolbox_rdms(**patterns)
    write_rdms(path, saved)
    if "code" in patterns:  # as rsatoolbox saves a tuple
        saved.save(str(path), overwrite=True)
    whole = path.read_bytes()
    dog = re.search(rb"(\x03\0\0\0.{8}[\x01-\x09]\0\0\0){2}", whole, re.DOTALL)
    path.write_bytes(whole[: dog.start()] + b"\0\0\0\xf0" + whole[dog.start() + 4 :])
    with pytest.raises(DataError, match="no longer than the file"):
        read_rdms(path)


def test_huge_sizes_are_only_declared(tmp_path):
    path = tmp_path / "a.h5"
    write_rdms(path, toolbox_rdms())
    with h5py.File(path, "a") as file:
        del file["dissimilarities"]
        file.create_dataset("dissimilarities", (10**6, 10**6), "f8")
    with pytest.raises(DataError, match=r"a\.h5: "):
        read_rdms(path)
    write_rdms(path, toolbox_rdms(), overwrite=True)
    with h5py.File(path, "a") as file:
        file["pattern_descriptors"].create_dataset("more", (10**9,), "S9", chunks=True)
    with pytest.raises(DataError, match=r"a\.h5: pattern_descriptors: more: "):
        read_rdms(path)
    write_rdms(path, toolbox_rdms(), overwrite=True)
    with h5py.File(path, "a") as file:
        file["descriptors"]["link"] = h5py.ExternalLink("other.h5", "x")
    with pytest.raises(DataError, match="ExternalLink"):
        read_rdms(path)
