"""Extraction with a projection, from a network of 67 pixels: the basis is fitted in one pass,
saved beside the features and used again.
"""

import json

import numpy as np
import pytest
from scipy.spatial.distance import pdist
from sklearn.decomposition import IncrementalPCA
from sklearn.random_projection import SparseRandomProjection

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features import extraction_job as job
from alexnet_keras.features.incremental_pca import IncrementalFit
from alexnet_keras.features.projection import load_projection, random_projection
from alexnet_keras.features.unfinished import Unfinished
from alexnet_keras.pretrained.loading import Pretrained
from modes import extract as mode
from modes.extract import run_extraction
from tests.alexnet_keras.tiny import tiny_source
from tests.alexnet_keras.trees import assert_refused, class_folders


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny_source(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """10 pictures for train, 6 for val."""
    return class_folders(
        tmp_path_factory.mktemp("data") / "tree", ("a", "b"), count=5, splits=("train",)
    )


@pytest.fixture
def extract(source, photographs, tmp_path, monkeypatch):
    """``extract`` of the pictures into ``tmp_path``, by the tiny network."""
    monkeypatch.setattr(mode, "open_weights", lambda *arguments: source)

    def call(out, **options):
        options = {"data": photographs, "layers": "fc6", "batch_size": 4, **options}
        return run_extraction(out=tmp_path / out, verbose=0, **options)

    return call


@pytest.fixture
def full(extract):
    return extract("full.npy", layers=["fc6", "pool5"])


def description(tmp_path, stem):
    return json.loads((tmp_path / f"{stem}.json").read_text())


@pytest.mark.slow
def test_principal_components_of_the_data_itself(extract, full, tmp_path):
    found = extract("a.npy", layers=["fc6", "pool5"], project="pca:3")
    for layer in ("fc6", "pool5"):
        rows = full[layer].reshape(10, -1)
        scores = IncrementalPCA(3).fit_transform(rows)
        assert found[layer].shape == (10, 3)
        np.testing.assert_allclose(found[layer], scores, atol=1e-6 * np.abs(scores).max())
    made = description(tmp_path, "a")["layers"]["pool5"]
    assert made["shape"] == [10, 3]
    basis = load_projection(tmp_path / "a-pool5.basis.npz")
    assert made["projection"] == basis.describe()
    assert basis.fitted_on["splits"] == {"train": 10}
    assert basis.fitted_on["rows"] == 10
    assert made["projection"]["width"] == full["pool5"][0].size


def test_a_random_projection_takes_no_pass_over_the_data(extract, full, tmp_path):
    found = extract("a.h5", project="srp:7", seed=3)["fc6"]
    theirs = SparseRandomProjection(7, random_state=3).fit(full["fc6"])
    np.testing.assert_allclose(found, theirs.transform(full["fc6"]), rtol=1e-5, atol=1e-6)
    assert description(tmp_path, "a")["layers"]["fc6"]["projection"]["fitted_on"] == {"seed": 3}


@pytest.mark.slow
def test_a_saved_basis_gives_the_same_bytes(extract, tmp_path):
    first = extract("a.npy", project="pca:3")
    extract("b.npy", basis=tmp_path / "a-fc6.basis.npz")
    assert (tmp_path / "b.npy").read_bytes() == (tmp_path / "a.npy").read_bytes()
    assert not (tmp_path / "b-fc6.basis.npz").exists()
    assert description(tmp_path, "b")["layers"] == {
        "fc6": {**description(tmp_path, "a")["layers"]["fc6"], "file": "b.npy"}
    }
    other = extract("c.npy", basis=tmp_path / "a-fc6.basis.npz", batch_size=7, num_threads=1)
    scale = np.abs(first["fc6"]).max()
    np.testing.assert_allclose(other["fc6"], first["fc6"], atol=1e-6 * scale)


@pytest.mark.slow
def test_a_basis_of_other_data(extract, tmp_path):
    """Its splits are its own; COCO's options are those of COCO data only."""
    other = class_folders(tmp_path / "other", ("x", "y"), count=4)
    extract("a.npy", project="pca:2", fit_on=other, fit_splits="val")
    extract("b.npy", data=other, splits="val", project="pca:2")
    bases = [load_projection(tmp_path / f"{stem}-fc6.basis.npz") for stem in "ab"]
    np.testing.assert_array_equal(bases[0].matrix, bases[1].matrix)
    assert bases[0].fitted_on == bases[1].fitted_on
    assert len(np.load(tmp_path / "a.npy")) == 10


@pytest.mark.slow
def test_unreadable_files_are_left_out_of_the_basis(extract, tmp_path):
    root = class_folders(tmp_path / "tree", ("a", "b"), count=3)
    (root / "train" / "a" / "2.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match="2.jpg: expected a readable image"):
        extract("a.npy", data=root, splits="train", project="pca:2")
    assert not list(tmp_path.glob("a*"))
    found = extract("a.npy", data=root, splits="train", project="pca:2", skip_bad=True)["fc6"]
    assert np.isnan(found).all(1).nonzero()[0].tolist() == [2]
    assert np.isfinite(np.delete(found, 2, axis=0)).all()
    assert load_projection(tmp_path / "a-fc6.basis.npz").fitted_on["rows"] == 5
    with pytest.raises(DataError, match="^fc6: expected at least 6 readable rows .* got 5$"):
        extract("b.npy", data=root, splits="train", project="pca:6", skip_bad=True)


def test_the_command_takes_several_bases(extract, photographs, tmp_path):
    """None of which is there."""
    assert_refused(
        *("extract", "--data", photographs, "--out", tmp_path / "a.npy"),
        *("--basis", tmp_path / "one.npz", "--basis", tmp_path / "two.npz"),
        says=f"{tmp_path / 'one.npz'}: expected a file, got none",
    )


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"project": "ica:3"}, "project: expected pca:K or srp:K"),
        ({"project": "pca:11"}, "project: expected at least 11 readable rows .* got 10$"),
        ({"project": "srp:6000"}, "project: expected at most 205 components, .* fc6, got 6000$"),
        ({"project": "pca:2", "basis": "a.npz"}, "basis: has no effect with project"),
        ({"fit_on": "demo"}, "fit_on: has no effect without project$"),
        ({"fit_splits": "train"}, "fit_splits: has no effect without project$"),
        ({"project": "srp:2", "fit_on": "demo"}, "fit_on: has no effect on srp"),
        ({"project": "pca:2", "fit_splits": "test"}, ".*split 'test'"),
    ],
)
def test_what_cannot_be_fitted_is_refused_before_the_network_runs(
    extract, options, told, tmp_path, monkeypatch
):
    monkeypatch.setattr(job, "extract_rows", lambda *arguments, **options: pytest.fail("it ran"))
    with pytest.raises((ConfigurationError, DataError), match=f"^{told}"):
        extract("a.npy", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_basis_of_something_else(extract, source, tmp_path, monkeypatch):
    extract("a.npy", project="pca:3")
    basis = tmp_path / "a-fc6.basis.npz"
    for options, told in (
        ({"layers": "fc7"}, f"{basis}: layer: expected a basis of fc7, got one of fc6"),
        ({"layers": ["fc6", "fc7"]}, "basis: expected one for each layer, got none for fc7"),
        ({"basis": [basis, basis]}, "basis: expected one for fc6, got two"),
    ):
        with pytest.raises(ConfigurationError, match=f"^{told}$"):
            extract("b.npy", **{"basis": basis, **options})
    extract("c.npy", layers="pool5", pool="max", project="srp:3")
    basis = tmp_path / "c-pool5.basis.npz"
    with pytest.raises(ConfigurationError, match="pool: expected a basis of avg, got one of max$"):
        extract("b.npy", layers="pool5", pool="avg", basis=basis)
    retrained = source.path.with_name("retrained.keras")
    retrained.write_bytes(b"retrained")
    monkeypatch.setattr(
        mode, "open_weights", lambda *arguments: Pretrained(source.model, "mine", retrained)
    )
    with pytest.raises(
        ConfigurationError,
        match=rf"^{basis}: weights: expected a basis of sha256 \w+ \(mine\), got one of sha256 "
        r"\w+ \(tiny\)$",
    ):
        extract("b.npy", layers="pool5", pool="max", basis=basis)


def test_an_interrupted_extraction_goes_on_with_its_basis(extract, tmp_path, monkeypatch):
    """It is not fitted again, and the bytes are the same."""
    extract("a.npy", project="pca:3")
    names = ("npy", "csv", "json")
    expected = [(tmp_path / f"a.{name}").read_bytes() for name in names]
    for path in tmp_path.glob("a*"):
        path.unlink()
    add = Unfinished.add

    def interrupt(work, *arguments):
        add(work, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(Unfinished, "add", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract("a.npy", project="pca:3")
    monkeypatch.setattr(Unfinished, "add", add)
    monkeypatch.setattr(job, "open_projections", lambda *a, **b: pytest.fail("fitted again"))
    extract("a.npy", project="pca:3", resume=True)
    assert [(tmp_path / f"a.{name}").read_bytes() for name in names] == expected


@pytest.mark.slow
def test_the_basis_is_replaced_with_its_features(extract, tmp_path, monkeypatch):
    extract("a.npy", project="pca:3")
    before = (tmp_path / "a-fc6.basis.npz").read_bytes()

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(job, "extract_rows", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract("a.npy", project="pca:2", overwrite=True)
    assert (tmp_path / "a-fc6.basis.npz").read_bytes() == before


@pytest.mark.slow
def test_on_pool5_of_the_real_trunk(shared_data, tmp_path):
    """357 objects of COCO in two batches; the variance is compared with that of all at once."""
    features = run_extraction(
        out=tmp_path / "full.npy",
        data=shared_data / "coco128",
        splits="train",
        layers="pool5",
        flatten=True,
        weights=shared_data / "bvlc_alexnet_trunk.caffemodel",
        variant="alexnet",
        partial=True,
        verbose=0,
    )
    rows = np.asarray(features["pool5"])
    fit = IncrementalFit(20, rows.shape[1], "pool5")
    for start in range(0, len(rows), 32):
        fit.append(rows[start : start + 32])
    basis = fit.finish()
    theirs = IncrementalPCA(20, batch_size=fit.rows_per_batch).fit(rows)
    scores = theirs.transform(rows)
    assert fit.rows_per_batch < len(rows)
    np.testing.assert_allclose(basis.apply(rows), scores, atol=1e-6 * np.abs(scores).max())
    centred = rows - rows.mean(0, dtype=np.float64)
    full = np.linalg.eigvalsh(centred @ centred.T)[-20:].sum() / (len(rows) - 1)
    assert basis.explained_variance.sum() == pytest.approx(full, rel=0.05)
    projected = random_projection(1000, "pool5", rows.shape[1]).apply(rows)
    assert np.median(np.abs(pdist(projected) / pdist(rows) - 1)) <= 0.05
