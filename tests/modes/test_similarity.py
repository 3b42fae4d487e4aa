"""``similarity`` on features files: the report, its files, and what cannot be compared."""

import csv
import json
import sys
import warnings

import numpy as np
import pytest
from rsatoolbox.data import Dataset
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, calc_rdm, compare, load_rdm

import alexnet_keras
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.rsa.figure import draw_figure
from tests.alexnet_keras.trees import assert_refused, invoke

NUMBER = 12
IDS = [f"{number}.png" for number in range(NUMBER)]
CLASSES = [("ape", "bee", "cat")[number % 3] for number in range(NUMBER)]
LATENT = np.random.default_rng(5).standard_normal((NUMBER, 4))


def activations(seed, width=20, noise=1.0):
    generator = np.random.default_rng(seed)
    mixed = LATENT @ generator.standard_normal((4, width))
    return (mixed + noise * generator.standard_normal(mixed.shape)).astype(np.float32)


LAYERS = {"conv3": activations(0, 18).reshape(NUMBER, 3, 3, 2), "fc7": activations(1)}


def features(folder, layers=LAYERS, stem="f", **columns):
    """An ``.npy`` for each layer, with the table of ``extract``."""
    for layer, array in layers.items():
        np.save(folder / f"{stem}-{layer}.npy", array)
    table = {"id": IDS, "path": [f"p/{name}" for name in IDS], "class": CLASSES, **columns}
    with open(folder / f"{stem}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
    about = {layer: {"file": f"{stem}-{layer}.npy"} for layer in layers}
    described = {"variant": "alexnet", "layers": about, "unknown": [float("nan")]}
    (folder / f"{stem}.json").write_text(json.dumps(described))
    return folder / f"{stem}.npy"


def rdm_of(array, method="correlation"):
    return calc_rdm(Dataset(array.reshape(len(array), -1).astype(float)), method)


def subjects():
    return RDMs(
        np.concatenate([rdm_of(activations(seed)).dissimilarities for seed in (7, 8, 9)]),
        dissimilarity_measure="correlation",
        pattern_descriptors={"name": [name.removesuffix(".png") for name in IDS]},
    )


def similarity(*sources, bootstrap=0, **options):
    sources = sources[0] if len(sources) == 1 else sources
    return alexnet_keras.similarity(sources, bootstrap=bootstrap, verbose=0, **options)


@pytest.mark.parametrize(
    ("name", "theirs"), [("spearman", "spearman"), ("tau-a", "tau-a"), ("pearson", "corr")]
)
@pytest.mark.parametrize("method", ["correlation", "euclidean"])
def test_values_are_those_of_rsatoolbox(tmp_path, name, theirs, method):
    reference = subjects()
    reference.subset_pattern("index", range(NUMBER)).save(str(tmp_path / "s.h5"))
    report = similarity(
        features(tmp_path), reference=tmp_path / "s.h5", rdm=method, compare=name, bootstrap=20
    )
    first, second = (rdm_of(array, method) for array in LAYERS.values())
    found = report.between("conv3", "fc7")
    assert found.value == pytest.approx(compare(first, second, theirs)[0, 0], abs=1e-6)
    found = report.between("fc7", str(tmp_path / "s.h5"), name)
    assert found.subjects == pytest.approx(compare(second, reference, theirs)[0], abs=1e-6)
    assert found.value == pytest.approx(np.mean(found.subjects))
    assert found.interval[0] < found.value < found.interval[1]
    with warnings.catch_warnings(action="ignore"):  # that tau-a's is one of averaged ranks
        expected = boot_noise_ceiling(reference, theirs)
    assert found.ceiling == pytest.approx(expected, abs=1e-6)


def test_the_order_of_a_named_reference_does_not_matter(tmp_path):
    order = np.random.default_rng(0).permutation(NUMBER)
    subjects().save(str(tmp_path / "a.h5"))
    shuffled = subjects()
    shuffled.reorder(order)
    shuffled.save(str(tmp_path / "b.h5"))
    report = similarity(features(tmp_path), reference=[tmp_path / "a.h5", tmp_path / "b.h5"])
    first, second = (report.between("fc7", str(tmp_path / f"{name}.h5")) for name in "ab")
    assert first.subjects == pytest.approx(second.subjects, abs=1e-12)


def test_responses_by_the_same_distance(tmp_path, caplog):
    np.save(tmp_path / "brain.npy", activations(3, 9))
    report = similarity(features(tmp_path), reference=tmp_path / "brain.npy", compare="all")
    brain = str(tmp_path / "brain.npy")
    expected = compare(rdm_of(LAYERS["fc7"]), rdm_of(activations(3, 9)), "spearman")[0, 0]
    assert report.between("fc7", brain).value == pytest.approx(expected, abs=1e-6)
    assert report.between("fc7", brain, "linear-cka").value > 0.2
    assert report.between("fc7", brain, "rbf-cka").value < 1
    assert "in the order of the features' rows, as it has no names" in caplog.text


def test_categories(tmp_path):
    report = similarity(features(tmp_path), reference="class", compare=["tau-a", "linear-cka"])
    categories = np.not_equal.outer(CLASSES, CLASSES)[np.triu_indices(NUMBER, 1)]
    oracle = compare(rdm_of(LAYERS["fc7"]), RDMs(categories[None] * 1.0), "tau-a")[0, 0]
    assert report.between("fc7", "class").value == pytest.approx(oracle, abs=1e-6)
    assert report.references[0].about == "3 categories: 0 within, 1 between them"


def test_repeats(tmp_path):
    stimulus = [IDS[row % 4] for row in range(NUMBER)]
    path = features(tmp_path, picture=stimulus)
    report = similarity(path, rdm="crossnobis", repeats="picture", compare="pearson")
    oracles = [
        calc_rdm(
            Dataset(array.reshape(NUMBER, -1).astype(float), obs_descriptors={"s": stimulus}),
            "crossnobis",
            "s",
        )
        for array in LAYERS.values()
    ]
    expected = compare(*oracles, "corr")[0, 0]
    assert report.between("conv3", "fc7").value == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(
        report.rdms.dissimilarities, np.concatenate([each.dissimilarities for each in oracles])
    )
    with pytest.raises(DataError, match="class: expected one value for each stimulus, got 'ape'"):
        similarity(path, repeats="picture", reference="class")
    with pytest.raises(DataError, match="crossnobis: expected at least 2 repeats of each"):
        similarity(path, rdm="crossnobis")


def test_bad_rows_are_left_out_of_everything(tmp_path, caplog):
    bad = {"conv3": LAYERS["conv3"].copy(), "fc7": LAYERS["fc7"]}
    bad["conv3"][[2, 5]] = np.nan
    subjects().save(str(tmp_path / "s.h5"))
    np.save(tmp_path / "brain.npy", activations(3, 9))
    references = [tmp_path / "s.h5", tmp_path / "brain.npy", "class"]
    report = similarity(features(tmp_path, bad), reference=references)
    assert "2 rows are left out, whose features are not finite: 2.png, 5.png" in caplog.text
    assert report.rows.left_out == ("2.png", "5.png")
    kept = np.delete(np.arange(NUMBER), [2, 5])
    layer = rdm_of(LAYERS["fc7"][kept])
    for reference, rdms in (
        (tmp_path / "s.h5", subjects().subset_pattern("index", kept)),
        (tmp_path / "brain.npy", rdm_of(activations(3, 9)[kept])),
    ):
        oracle = compare(layer, rdms, "spearman").mean()
        assert report.between("fc7", str(reference)).value == pytest.approx(oracle, abs=1e-6)


def test_several_files_are_matched_by_name(tmp_path):
    first = features(tmp_path)
    order = np.random.default_rng(0).permutation(NUMBER)
    second = features(
        tmp_path,
        {"fc7": LAYERS["fc7"][order], "fc8": LAYERS["conv3"][order]},
        "g",
        id=[IDS[row] for row in order],
    )
    report = similarity(first, second)
    names = [layer.name for layer in report.layers]
    assert names == ["conv3", "f-fc7:fc7", "g-fc7:fc7", "fc8"]
    assert report.between("f-fc7:fc7", "g-fc7:fc7").value == pytest.approx(1)
    assert report.between("fc8", "conv3").value == pytest.approx(1)
    (tmp_path / "other").mkdir()
    third = features(tmp_path / "other", {"fc7": LAYERS["fc7"]})
    report = similarity(first, third)
    assert [layer.name for layer in report.layers][1:] == [
        f"{tmp_path / 'f-fc7.npy'}:fc7",
        f"{tmp_path / 'other' / 'f-fc7.npy'}:fc7",
    ]
    with pytest.raises(ConfigurationError, match="expected each file once, got .*fc7 twice"):
        similarity(third, third)
    one = similarity([first, second], layers="fc8", reference="class")
    assert [layer.name for layer in one.layers] == ["fc8"]


def test_the_files_it_writes(tmp_path):
    path = features(tmp_path)
    subjects().save(str(tmp_path / "s.h5"))
    options = {"reference": tmp_path / "s.h5", "compare": ["spearman", "linear-cka"]}
    written = {"out": tmp_path / "o", "figure": True, "rdm_file": tmp_path / "r.h5"}
    report = similarity(path, bootstrap=30, **options, **written)
    with open(tmp_path / "o" / "similarity.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["compare"], row["first"]) for row in rows[:3]] == [
        ("spearman", "conv3"),
        ("spearman", "conv3"),
        ("spearman", "fc7"),
    ]
    assert float(rows[2]["value"]) == report.similarities[2].value
    assert rows[2]["ceiling_low"] != "" == rows[0]["ceiling_low"] == rows[5]["ceiling_high"]
    about = json.loads((tmp_path / "o" / "similarity.json").read_text())
    assert about["stimuli"] == IDS
    assert about["similarities"][2]["subjects"] == list(report.similarities[2].subjects)
    assert about["features"][0]["description"]["variant"] == "alexnet"
    assert (tmp_path / "o" / "similarity.png").read_bytes().startswith(b"\x89PNG")
    loaded = load_rdm(str(tmp_path / "r.h5"))
    np.testing.assert_allclose(
        loaded.dissimilarities,
        np.concatenate([rdm_of(array).dissimilarities for array in LAYERS.values()]),
        atol=1e-6,
    )
    assert list(loaded.rdm_descriptors["layer"]) == ["conv3", "fc7"]
    for name in ("similarity.csv", "similarity.png"):
        for other in (tmp_path / "o").iterdir():
            other.unlink()
        (tmp_path / "o" / name).touch()
        with pytest.raises(RunError, match=f"{name}: already exists"):
            similarity(path, **options, out=tmp_path / "o", figure=True)
    with pytest.raises(RunError, match="r.h5: already exists"):
        similarity(path, rdm_file=tmp_path / "r.h5")
    similarity(path, bootstrap=3, overwrite=True, **written)


def test_the_legend_names_the_reference_of_each_noise_ceiling(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda self, *_, **__: drawn.append(self)
    )
    references = [tmp_path / "v1.h5", tmp_path / "it.h5"]
    for reference in references:
        subjects().save(str(reference))
    report = similarity(features(tmp_path), reference=references, bootstrap=0)
    draw_figure(tmp_path / "unused.png", report)
    legend = drawn[0].subfigs[1].axes[0].get_legend()
    ceilings = [text.get_text() for text in legend.get_texts() if "ceiling" in text.get_text()]
    assert ceilings == ["noise ceiling of v1.h5", "noise ceiling of it.h5"]


def test_the_rdm_of_one_layer(tmp_path):
    report = similarity(features(tmp_path), layers="fc7", rdm_file=tmp_path / "r.npy", bootstrap=9)
    assert report.similarities == ()
    np.testing.assert_allclose(
        np.load(tmp_path / "r.npy"), rdm_of(LAYERS["fc7"]).get_matrices()[0], atol=1e-6
    )


def test_the_command(tmp_path):
    path = features(tmp_path)
    result = invoke("similarity", path, "--reference", "class", "--bootstrap", "20", "--seed", "1")
    assert result.exit_code == 0, result.output
    report = similarity(path, reference="class", bootstrap=20, seed=1)
    found = report.between("fc7", "class")
    assert f"{found.value:.3f}" in result.output
    assert "[{:.3f}, {:.3f}]".format(*found.interval) in result.output
    assert "12 stimuli, distance: correlation" in result.output


# What cannot be compared.


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"layers": "fc7"},
            ConfigurationError,
            "expected two layers or a reference",
        ),
        ({"layers": "fc9"}, ConfigurationError, "layer: expected one of fc7"),
        ({"reference": "klass"}, ConfigurationError, r"a file or a column of the table \(id"),
        ({"reference": "id"}, DataError, "id: expected distances that differ, got 1 between all"),
        (
            {"reference": "sparse"},
            DataError,
            "sparse: expected a value for every stimulus",
        ),
        ({"repeats": "mood"}, ConfigurationError, "repeats: expected a column of .*, got mood"),
        ({"repeats": "pair"}, DataError, "expected at least 3 stimuli, got 2"),
        (
            {"bandwidth": 0.3},
            ConfigurationError,
            "expected the comparison rbf-cka",
        ),
        ({"compare": ["pearson"] * 2}, ConfigurationError, "compare: expected each once"),
        ({"rdm_file": "rdms.pkl"}, ConfigurationError, "rdm_file: expected a name that ends in"),
        ({"figure": True}, ConfigurationError, "figure: expected out"),
        (
            {"bandwidth": float("nan"), "compare": "rbf-cka"},
            ConfigurationError,
            "bandwidth: expec",
        ),
        ({"rdm": "manhattan"}, ConfigurationError, "rdm: expected one of correlation"),
    ],
)
def test_options_that_cannot_be(tmp_path, options, error, message):
    columns = {"sparse": ["x", *[""] * (NUMBER - 1)], "pair": ["a", "b"] * (NUMBER // 2)}
    with pytest.raises(error, match=message):
        similarity(features(tmp_path, **columns), **options)


def test_other_stimuli(tmp_path):
    other = subjects()
    other.pattern_descriptors["name"][3] = "zebra"
    other.save(str(tmp_path / "s.h5"))
    with pytest.raises(DataError, match="s.h5: expected the stimuli of features, got none named"):
        similarity(features(tmp_path), reference=tmp_path / "s.h5")
    np.save(tmp_path / "few.npy", np.zeros((5, 5)))
    with pytest.raises(DataError, match="expected the 12 stimuli of the features.* got 5"):
        similarity(features(tmp_path), reference=tmp_path / "few.npy")
    second = features(tmp_path, {"fc8": LAYERS["fc7"]}, "g", id=["x", *IDS[1:]])
    with pytest.raises(DataError, match=r"g\.csv: expected the stimuli of .*f\.csv, got none"):
        similarity(features(tmp_path), second)


def test_duplicates_without_repeats(tmp_path):
    with pytest.raises(DataError, match="got 1.png 2 times; if these are repeats, name the col"):
        similarity(features(tmp_path, id=["1.png", *IDS[1:]]))


@pytest.mark.parametrize("number", [1, 2])
def test_one_or_two_stimuli(tmp_path, number):
    for layer in ("a", "b"):
        np.save(tmp_path / f"{layer}.npy", activations(0)[:number])
    with pytest.raises(DataError, match=f"at least 3 stimuli, got {number}"):
        similarity(tmp_path / "a.npy", tmp_path / "b.npy")


def test_features_without_rows_or_values(tmp_path):
    for shape, says in (
        ((0, 5), "features: expected at least 3 stimuli, got 0"),
        ((NUMBER, 0), "a: expected rows of at least one feature, got none in a row"),
    ):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        np.save(tmp_path / "b.npy", np.zeros(shape))
        assert_refused("similarity", tmp_path / "a.npy", tmp_path / "b.npy", says=says)


def test_no_finite_row_and_no_file(tmp_path):
    path = features(tmp_path, {"fc7": np.full((NUMBER, 3), np.nan)})
    with pytest.raises(DataError, match="3 stimuli, got 0 whose features are finite"):
        similarity(path)
    assert_refused("similarity", "", says="features: expected a file, got '.'")


def test_what_is_read_is_never_replaced(tmp_path):
    path = features(tmp_path, stem="similarity")
    own = tmp_path / "similarity-fc7.npy"
    with pytest.raises(RunError, match=f"{own}: expected another name for --rdm-file: this file"):
        similarity(path, rdm_file=own, overwrite=True)
    with pytest.raises(RunError, match=r"similarity\.csv: expected another name for --out"):
        similarity(path, out=tmp_path, overwrite=True)


def test_three_stimuli_have_rdms_but_no_cka(tmp_path):
    for seed, layer in enumerate("ab"):
        np.save(tmp_path / f"{layer}.npy", activations(seed)[:3])
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    assert -1 <= similarity(paths).between("a", "b").value <= 1
    with pytest.raises(DataError, match="linear-cka: expected at least 4 stimuli, got 3"):
        similarity(paths, compare="linear-cka")


def test_constant_features_name_layer_and_stimuli(tmp_path):
    constant = LAYERS["fc7"].copy()
    constant[4] = 0.5
    path = features(tmp_path, {"fc7": constant, "fc8": np.ones((NUMBER, 3))})
    with pytest.raises(DataError, match="fc7: correlation: .* constant ones for 4.png: the dist"):
        similarity(path)
    with pytest.raises(DataError, match="fc8: expected distances that differ, got 0 between all"):
        similarity(path, rdm="euclidean")


def test_cka_needs_squared_distances(tmp_path):
    rdms = subjects()
    rdms.dissimilarity_measure = "euclidean"
    rdms.save(str(tmp_path / "s.h5"))
    with pytest.raises(ConfigurationError, match=r"s.h5: expected responses or squared Euclidean"):
        similarity(features(tmp_path), reference=tmp_path / "s.h5", compare="linear-cka")


def test_without_rsatoolbox(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "rsatoolbox"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rsatoolbox", None)
    with pytest.raises(ConfigurationError, match=r'"alexnet_keras\[science\]"'):
        similarity(features(tmp_path))


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ConfigurationError, match="figure: expected matplotlib, got none"):
        similarity(features(tmp_path), out=tmp_path / "o", figure=True)


# At real size.


@pytest.mark.slow
def test_the_trunk_is_more_like_categories_than_untrained_networks(shared_data, tmp_path):
    """Three of the ten whose figures docs/usage.md has."""

    def pool5(name, **weights):
        out = tmp_path / f"{name}.npy"
        classes = ["bowl", "elephant", "giraffe", "zebra", "teddy bear", "train", "bus", "car"]
        return (
            alexnet_keras.extract(
                data=shared_data / "coco128",
                classes=classes,
                variant="alexnet",
                layers="pool5",
                out=out,
                verbose=0,
                **weights,
            )
            and out
        )

    trunk = pool5("trunk", weights=shared_data / "bvlc_alexnet_trunk.caffemodel", partial=True)
    untrained = [pool5(f"random{seed}", weights=f"random:{seed}") for seed in range(3)]
    report = similarity(trunk, *untrained, reference="class", compare=["spearman", "linear-cka"])
    for compared in ("spearman", "linear-cka"):
        best, *controls = (
            report.between(layer.name, "class", compared).value for layer in report.layers
        )
        assert best > 2 * max(controls)
