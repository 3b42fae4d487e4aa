"""Projections against scikit-learn and SciPy themselves, and bases that are damaged or of
something else.
"""

import functools
import io
import json
import tempfile
import tracemalloc
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA, IncrementalPCA
from sklearn.random_projection import SparseRandomProjection

from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features.incremental_pca import IncrementalFit, rows_per_batch
from alexnet_keras.features.projection import (
    check_components,
    load_projection,
    parse_projection,
    random_projection,
)

NETWORK = {
    "variant": "alexnet",
    "weights": {"source": "caffe", "sha256": "0a"},
    "preprocessing": {"resize": "warp", "crop": 67},
}
WIDTH = 60


def activations(rows, width=WIDTH, seed=0):
    """Like a layer's: not negative, correlated, some units dead."""
    random = np.random.default_rng(seed)
    mixed = random.normal(size=(rows, 12)) @ random.normal(size=(12, width))
    found = np.maximum(mixed + 0.3 * random.normal(size=mixed.shape), 0).astype(np.float32)
    found[:, 3] = 0
    return found


def blocks_of(rows, size):
    return [rows[start : start + size] for start in range(0, len(rows), size)]


@functools.cache
def saved_bytes(kind):
    """The content of a basis file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "basis.npz")
        fitted(kind, rows=activations(20)).save(path)
        return path.read_bytes()


def fitted(kind="pca", components=5, rows=None, size=32, seed=0, **about):
    rows = activations(300) if rows is None else rows
    if kind == "srp":
        found = random_projection(components, "fc6:pre", rows.shape[1], seed)
    else:
        fit = IncrementalFit(components, rows.shape[1], "fc6:pre")
        for block in blocks_of(rows, size):
            fit.append(block)
        found = fit.finish()
    return replace(found, network=NETWORK, **about)


@pytest.mark.parametrize(
    ("count", "size"),
    [
        (5, 7),
        (261, 64),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in ((517, 7), (600, 64))),
    ],
)
def test_principal_components_are_those_of_scikit_learn(count, size):
    """On all rows, whatever the blocks they came in; 517 and 261 leave too few rows for a batch
    of their own.
    """
    rows = activations(count)
    found = fitted(rows=rows, size=size)
    expected = IncrementalPCA(5, batch_size=rows_per_batch(5, WIDTH)).fit(rows)
    assert found.fitted_on == {"rows": count, "rows_per_batch": 256}
    np.testing.assert_allclose(found.matrix, expected.components_, atol=1e-7)
    np.testing.assert_allclose(found.mean, expected.mean_, rtol=1e-6)
    np.testing.assert_allclose(found.explained_variance, expected.explained_variance_, rtol=1e-6)
    scores = expected.transform(rows)
    np.testing.assert_allclose(found.apply(rows), scores, atol=1e-6 * np.abs(scores).max())


@pytest.mark.slow
def test_the_variance_explained_is_nearly_that_of_full_principal_components():
    rows = activations(1000)
    found, full = fitted(rows=rows, components=20), PCA(20).fit(rows)
    assert rows_per_batch(20, WIDTH) < 500
    assert found.explained_variance.sum() == pytest.approx(full.explained_variance_.sum(), 0.05)
    np.testing.assert_allclose(
        found.apply(rows).var(0, ddof=1), found.explained_variance, rtol=0.05
    )


@pytest.mark.parametrize("seed", [0, 3])
def test_a_random_projection_is_that_of_scikit_learn(seed):
    rows = activations(40)
    found = fitted("srp", 30, rows, seed=seed)
    theirs = SparseRandomProjection(30, random_state=seed).fit(rows)
    assert (found.matrix != theirs.components_).nnz == 0
    np.testing.assert_array_equal(found.apply(rows), theirs.transform(rows))
    assert found.fitted_on == {"seed": seed}


@pytest.mark.parametrize("kind", ["pca", "srp"])
def test_a_rows_bits_do_not_depend_on_the_others(kind):
    rows, projection = activations(70), fitted(kind, 33)
    whole = projection.apply(rows)
    assert whole.dtype == np.float32
    for size in (1, 3, 32, 50):
        grouped = [projection.apply(block) for block in blocks_of(rows[5:], size)]
        np.testing.assert_array_equal(np.concatenate(grouped), whole[5:])


@pytest.mark.parametrize("kind", ["pca", "srp"])
def test_rows_of_unreadable_files(kind):
    """They stay NaN, also where a random component takes nothing from any feature."""
    rows = activations(300, width=4)
    marked = np.insert(rows, [0, 100, 300], np.nan, axis=0)
    projection = fitted(kind, 3, marked)
    np.testing.assert_array_equal(projection.matrix.shape, fitted(kind, 3, rows).matrix.shape)
    np.testing.assert_array_equal(projection.apply(rows), fitted(kind, 3, rows).apply(rows))
    found = projection.apply(marked.reshape(-1, 2, 2))
    assert np.isnan(found).all(1).nonzero()[0].tolist() == [0, 101, 302]
    assert np.isfinite(np.delete(found, [0, 101, 302], axis=0)).all()


def test_batches_stay_small():
    """One sort of batch for any width, and for conv1 no more than its components ask for."""
    assert rows_per_batch(50, 4096) == 256
    assert rows_per_batch(500, 4096) == 1000
    assert rows_per_batch(50, 290400) == 57
    assert rows_per_batch(100, 290400) == 100


@pytest.mark.parametrize("kind", ["pca", "srp"])
def test_a_saved_basis_is_the_same(kind, tmp_path):
    path = tmp_path / "a-fc6.basis.npz"
    projection = fitted(kind, fitted_on={"data": "photographs"})
    projection.save(path)
    found, rows = load_projection(path), activations(9)
    assert found.describe() == {**projection.describe(), "basis": path.name}
    assert found.network == NETWORK
    np.testing.assert_array_equal(found.apply(rows), projection.apply(rows))
    with np.load(path, allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["kind"] == kind
        if kind == "pca":
            np.testing.assert_array_equal(file["components"], projection.matrix)
    if kind == "srp":
        assert (scipy.sparse.load_npz(path) != projection.matrix).nnz == 0


@pytest.mark.parametrize("text", ["pca", "pca:", "pca:0", "pca:-1", "ica:5", "pca:5.5", "srp:٣"])
def test_what_is_no_projection(text):
    with pytest.raises(ConfigurationError, match="^project: expected pca:K or srp:K with K "):
        parse_projection(text)
    assert parse_projection("srp:1000") == ("srp", 1000)


def test_what_cannot_be_fitted():
    with pytest.raises(DataError, match="^fc6:pre: expected at least 5 readable rows .* got 4$"):
        fitted(rows=np.insert(activations(4), 0, np.nan, axis=0))
    with pytest.raises(ConfigurationError, match="at most 60 components, .* of fc6, got 61$"):
        check_components(61, 60, "fc6")
    with pytest.raises(DataError, match="^fc6:pre: expected features that vary, got 300 equal"):
        fitted(rows=np.ones((300, WIDTH), np.float32))


def test_a_basis_of_something_else():
    projection = fitted()
    projection.check_fits("b.npz", "fc6:pre", WIDTH, NETWORK)
    other = {**NETWORK["preprocessing"], "resize": "short_side"}
    for layer, width, network, told in (
        ("fc6", WIDTH, NETWORK, "layer: expected a basis of fc6, got one of fc6:pre"),
        ("fc6:pre", 61, NETWORK, "features a row: expected a basis of 61, got one of 60"),
        (
            "fc6:pre",
            WIDTH,
            {**NETWORK, "weights": {"source": "owt", "sha256": "0b"}},
            r"weights: expected a basis of sha256 0b \(owt\), got one of sha256 0a \(caffe\)",
        ),
        (
            "fc6:pre",
            WIDTH,
            {**NETWORK, "preprocessing": other},
            "preprocessing: expected a basis of resize short_side, got one of resize warp",
        ),
    ):
        with pytest.raises(ConfigurationError, match=f"^b.npz: {told}$"):
            projection.check_fits("b.npz", layer, width, network)
    hostile = replace(projection, layer="fc6\n" * 1000)
    with pytest.raises(ConfigurationError, match=r"^b.npz: layer: .* got one of fc6.nfc6.{,200}$"):
        hostile.check_fits("b.npz", "fc6", WIDTH, NETWORK)


def saved(tmp_path, kind="pca", **changes):
    """A saved basis with some members replaced, or dropped where None."""
    path = tmp_path / "basis.npz"
    with np.load(io.BytesIO(saved_bytes(kind))) as file:
        arrays = {name: file[name] for name in file.files}
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def about_of(tmp_path, **changes):
    with np.load(saved(tmp_path)) as file:
        return np.array(json.dumps({**json.loads(str(file["about"])), **changes}))


HOSTILE = {
    "no member": ("pca", {"mean": None}, "expected a member 'mean', got none"),
    "other shape": ("pca", {"mean": np.zeros(3, "f4")}, r"mean: expected .*\(60,\), got <f4"),
    "integers": ("pca", {"mean": np.zeros(60, "i4")}, "mean: expected floating-point numbers"),
    "NaN": ("pca", {"mean": np.full(60, np.nan)}, "mean: expected finite numbers"),
    "objects": ("pca", {"mean": np.array([{}])}, "expected numbers or text, got dtype '|O'"),
    "no about": ("pca", {"about": None}, "expected a basis that extract wrote"),
    "no JSON": ("pca", {"about": np.array("{")}, "expected JSON, got: "),
    "a list": ("pca", {"about": np.array("[]")}, r"expected a JSON object, got \[\]"),
    "nested": ("pca", {"about": np.array("[" * 50_000)}, "expected JSON, got: "),
    "long": ("pca", {"about": np.array(" " * 70_000)}, "expected JSON, got <U"),
    "outside": ("srp", {"indices": "far"}, "indices: expected columns from 0 to 59"),
    "before": ("srp", {"indices": "negative"}, "indices: expected columns from 0 to 59"),
    "descending": ("srp", {"indptr": "reversed"}, r"indptr: expected 0 to \d+, ascending"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_bases(case, tmp_path):
    kind, changes, told = HOSTILE[case]
    matrix = random_projection(5, "fc6:pre", WIDTH).matrix
    values = {
        "far": np.where(np.arange(matrix.nnz) == 3, 2**31 - 1, matrix.indices),
        "negative": np.where(np.arange(matrix.nnz) == 3, -1, matrix.indices),
        "reversed": matrix.indptr[[0, 2, 1, 3, 4, 5]],
    }
    changes = {
        name: values[value] if isinstance(value, str) else value for name, value in changes.items()
    }
    path = saved(tmp_path, kind, **changes)
    with pytest.raises(DataError, match=f"^{path}: .*{told}") as error:
        load_projection(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "ica"},
        {"layer": 3},
        {"width": 2**60},
        {"width": True},
        {"components": -1},
        {"network": []},
        {"fitted_on": None},
    ],
)
def test_hostile_settings(changes, tmp_path):
    path = saved(tmp_path, about=about_of(tmp_path, **changes))
    with pytest.raises(DataError, match=f"^{path}: "):
        load_projection(path)


def test_a_huge_shape_takes_no_memory(tmp_path):
    path = tmp_path / "basis.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 1 << 20)}
    )
    path.write_bytes(saved_bytes("pca"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("huge.npy", header.getvalue())
    tracemalloc.start()
    with pytest.raises(DataError, match="expected 4398046511104 bytes for shape"):
        load_projection(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY", b"x" * 1000])
def test_what_is_no_basis(content, tmp_path):
    path = tmp_path / "basis.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"^{path}: "):
        load_projection(path)
    with pytest.raises(DataError, match=f"^{tmp_path}: expected a file"):
        load_projection(tmp_path)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_basis_is_read_or_refused(tmp_path_factory, data):
    content = bytearray(saved_bytes(data.draw(st.sampled_from(["pca", "srp"]))))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    with suppress(DataError):
        load_projection(path).apply(np.ones((2, WIDTH), np.float32))
