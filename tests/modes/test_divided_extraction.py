"""An extraction that is interrupted, killed or divided gives the bytes of one that is not."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import keras
import numpy as np
import pytest

import alexnet_keras
from alexnet_keras.configs.architecture import ALEXNET, InitialValues
from alexnet_keras.configs.loading import Loading
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.errors import ConfigurationError, DataError, RunError
from alexnet_keras.features.projection_from_options import ProjectionPlan
from alexnet_keras.features.shards import RowShard
from alexnet_keras.pretrained.loading import Pretrained
from modes.extract import extract_features
from tests.alexnet_keras.tiny import tiny_model
from tests.alexnet_keras.trees import assert_refused, class_folders, invoke
from tests.conftest import ROOT

LAYERS = ("norm1", "conv1")
KILLS = int(os.environ.get("EXTRACTION_KILLS", "3"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``tree``, class folders of 18 images, one of which is damaged, and ``tiny.keras``."""
    folder = tmp_path_factory.mktemp("divided")
    class_folders(folder / "tree", count=3)
    (folder / "tree" / "train" / "dog" / "1.jpg").write_bytes(b"none")
    keras.utils.set_random_seed(0)
    initial = InitialValues(kernels="he")
    tiny_model(replace(ALEXNET.with_width(0.05), initial_values=initial)).save(
        folder / "tiny.keras"
    )
    return folder


@pytest.fixture(scope="module")
def source(folder):
    return Pretrained(
        keras.models.load_model(folder / "tiny.keras"), "tiny", folder / "tiny.keras"
    )


@pytest.fixture(scope="module")
def dataset(folder):
    return open_dataset(folder / "tree")


@pytest.fixture(scope="module")
def extract(dataset, source):
    """``extract_features`` of the tree, four rows a batch."""

    def call(out, **options):
        options = {"layers": LAYERS, "batch_size": 4, **options}
        out.parent.mkdir(exist_ok=True)
        return extract_features(
            dataset, out, source=source, loading=Loading(bad="mark"), **options
        )

    return call


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def interrupt_after(rows):
    """An ``on_batch`` that raises after the batch that has row ``rows``."""
    seen = []

    def on_batch(count):
        seen.append(count)
        if sum(seen) > rows:
            raise KeyboardInterrupt

    return on_batch


@pytest.fixture(scope="module")
def whole(extract, tmp_path_factory):
    """The folder of an uninterrupted extraction."""
    folder = tmp_path_factory.mktemp("whole")
    extract(folder / "f.npz")
    return folder


def test_interrupted_and_resumed(extract, whole, tmp_path, caplog):
    """In the second split, behind an unreadable file of the first."""
    out = tmp_path / "f.npz"
    with pytest.raises(KeyboardInterrupt):
        extract(out, on_batch=interrupt_after(9))
    assert caplog.messages[-1].endswith("f.unfinished: 9 of 18 rows are kept; --resume continues")
    told = []
    extract(out, resume=True, on_batch=told.append)
    assert sum(told) == 9
    assert contents(tmp_path) == contents(whole)
    assert json.loads((tmp_path / "f.json").read_text())["bad_rows"] == [4]
    before = out.stat()
    extract(out, resume=True)  # as a requeued job does
    assert out.stat() == before


def test_options_that_change_the_rows(extract, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        extract(tmp_path / "f.h5", on_batch=interrupt_after(4))
    for options, says in (
        ({"layers": ("conv1",)}, "layers.norm1"),
        ({"batch_size": 3}, "batch_size was 4 and is 3"),
        ({"dtype": "float16"}, "layers.norm1"),
        ({"splits": ("train",)}, "splits.val was 9 and is null"),
    ):
        with pytest.raises(RunError, match=f"f.unfinished: cannot be continued, since .*{says}"):
            extract(tmp_path / "f.h5", resume=True, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "projection"),
    [("f.npz", None), ("f.csv", None), ("f.npy", ("pca", 3)), ("f.h5", None), ("f.mat", None)],
)
def test_parts_become_one(extract, dataset, whole, tmp_path, name, projection):
    """Three parts of 18 rows in batches of 4: every batch is another, and the bytes are equal."""
    options = {}
    if projection:
        kind, components = projection
        parts = (dataset.samples("train"),)
        options["projection"] = ProjectionPlan(
            kind, components, 0, "tree", parts, Loading(bad="mark")
        )
    if name == "f.npz":
        expected = whole
    else:
        expected = tmp_path / "one"
        extract(expected / name, **options)
    for index in (1, 2, 3):
        extract(tmp_path / "parts" / name, shard=RowShard(index, 3), **options)
    parts = sorted((tmp_path / "parts").glob("*.json"), reverse=True)
    (tmp_path / "merged").mkdir()
    merged = alexnet_keras.merge_features(tmp_path / "merged" / name, parts, verbose=0)
    assert contents(tmp_path / "merged") == contents(expected)
    assert list(merged) == list(LAYERS)


@pytest.fixture(scope="module")
def parts(extract, tmp_path_factory):
    """Two parts, in ``.npy``."""
    folder = tmp_path_factory.mktemp("parts")
    for index in (1, 2):
        extract(folder / "f.npy", shard=RowShard(index, 2), layers=("pool1",))
    return folder


@pytest.mark.slow
def test_parts_that_do_not_fit(parts, extract, tmp_path):
    one, two = parts / "f-1-of-2.json", parts / "f-2-of-2.json"
    other = tmp_path / "g.npy"
    extract(other, shard=RowShard(2, 2), layers=("pool1",), batch_size=3)
    foreign = tmp_path / "g-2-of-2.npy"
    extract(tmp_path / "one" / "f.npy", layers=("pool1",))
    for given, says in (
        ([one], "parts: expected all 2, got none for 2/2"),
        ([one, two, one], f"{one}: expected each part once, but {one} is part 1 too"),
        ([one, foreign], "g-2-of-2.json: expected a part of the same extraction as .*batch_size"),
        ([one, tmp_path / "none.npy"], "none.npy: expected a part of a divided extraction"),
        ([one, tmp_path / "one" / "f.npy"], "f.json: expected a part that --shard wrote"),
    ):
        with pytest.raises(DataError, match=says):
            alexnet_keras.merge_features(tmp_path / "f.npy", given, verbose=0)
    with pytest.raises(ConfigurationError, match=r"^out: expected a name that ends in \.npy"):
        alexnet_keras.merge_features(tmp_path / "f.h5", [one, two], verbose=0)
    (tmp_path / "f.npy").write_bytes(b"mine")
    assert_refused("merge", tmp_path / "f.npy", one, two, says="already exists")
    assert invoke("merge", tmp_path / "f.npy", two, one, "--overwrite").exit_code == 0
    for name, content in contents(tmp_path / "one").items():
        assert (tmp_path / name).read_bytes() == content
    replaced = ("merge", one.with_suffix(".npy"), one, two, "--overwrite")
    assert_refused(*replaced, says="f-1-of-2.json: expected another name for --out")


def test_a_damaged_part(parts, tmp_path):
    for path in parts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    given = sorted(tmp_path.glob("*.json"))
    features = tmp_path / "f-2-of-2.npy"
    features.write_bytes(features.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"^[^\n]*f-2-of-2\.npy: "):
        alexnet_keras.merge_features(tmp_path / "f.npy", given, verbose=0)
    description = json.loads(given[1].read_text())
    layer = description["layers"]["pool1"]
    for changed in (
        description | {"bad_rows": None},
        {key: value for key, value in description.items() if key != "bad_rows"},
        description | {"layers": {"pool1": layer | {"file": None}}},
    ):
        given[1].write_text(json.dumps(changed))
        with pytest.raises(DataError, match=r"^[^\n]*f-2-of-2\.json: expected "):
            alexnet_keras.merge_features(tmp_path / "f.npy", given, verbose=0)
    for content in ("", "{}", "[1]", '{"shard": {"rows": [1, 2], "index": 9, "count": 2}}'):
        given[1].write_text(content)
        with pytest.raises(DataError, match=r"^[^\n]*f-2-of-2\.json: expected "):
            alexnet_keras.merge_features(tmp_path / "f.npy", given, verbose=0)
    assert not list(tmp_path.glob("f.*"))


@pytest.mark.parametrize(
    "change",
    [
        {"file": None},
        {"file": ".."},
        {"dtype": "object"},
        {"shape": [4, -5]},
        {"shape": [4, 5.0]},
        {"shape": [4, 10**18]},
        {"projection": "pca"},
    ],
)
def test_a_description_that_somebody_changed(parts, tmp_path, change):
    for path in parts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    given = sorted(tmp_path.glob("*.json"))
    for path in given:
        description = json.loads(path.read_text())
        layer = description["layers"]["pool1"]
        change = {**change, "shape": [layer["shape"][0], *change.get("shape", layer["shape"])[1:]]}
        description["layers"]["pool1"] = {**layer, **change}
        path.write_text(json.dumps(description))
    says = "f-1-of-2.json: expected the description of a part, got: layer pool1"
    if change["shape"][1:] == [10**18]:
        says = "pool1: expected rows of float32 (1000000000000000000,), got float32 ("
    assert_refused("merge", tmp_path / "f.npy", *given, says=says)
    assert not list(tmp_path.glob("f.*"))


def test_a_part_without_layers_or_a_whole_number_or_a_name(parts, tmp_path):
    for path in parts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    given = sorted(tmp_path.glob("*.json"))
    description = json.loads(given[1].read_text())
    for change in (
        {"layers": {}},
        {"bad_rows": None},
        {"shard": {**description["shard"], "index": 2.0}},
    ):
        given[1].write_text(json.dumps({**description, **change}))
        says = "f-2-of-2.json: expected the description of a part, got: "
        assert_refused("merge", tmp_path / "f.npy", *given, says=says)
    assert_refused("merge", tmp_path / "f.npy", "", says="parts: expected descriptions")


def test_a_table_of_rows_that_was_cut(parts, tmp_path):
    for path in parts.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    table = tmp_path / "f-2-of-2.csv"
    lines = table.read_bytes().splitlines(keepends=True)
    for content, says in (
        (lines[:-1], "expected 9 rows, got 8$"),
        ([*lines[:-1], lines[-1][:-2]], "expected 9 rows, got 9, and no end of the last line$"),
    ):
        table.write_bytes(b"".join(content))
        with pytest.raises(DataError, match=rf"^[^\n]*f-2-of-2\.csv: {says}"):
            alexnet_keras.merge_features(
                tmp_path / "f.npy", sorted(tmp_path.glob("*.json")), verbose=0
            )
    assert not list(tmp_path.glob("f.*"))


@pytest.mark.parametrize("shard", ["0/4", "5/4", "a/b", "1", "1/0", "-1/4", "1/4/2", ""])
def test_a_part_that_there_is_not(folder, tmp_path, shard):
    data = ("--data", folder / "tree", "--weights", folder / "tiny.keras")
    assert_refused(
        "extract",
        *data,
        "--out",
        tmp_path / "f.npy",
        "--shard",
        shard,
        says=f"shard: expected I/N with I from 1 to N, such as 2/4, got {shard!r}",
    )


def test_rows_are_the_same_bits_however_they_are_grouped(extract, whole, tmp_path):
    """The splits in another order: their rows stand elsewhere in their batches."""
    extract(tmp_path / "f.npz", splits=("val", "train"))
    swapped = np.load(tmp_path / "f.npz")
    for layer, rows in np.load(whole / "f.npz").items():
        np.testing.assert_array_equal(swapped[layer], np.roll(rows, 9, axis=0))


CHAINS = (
    ("f.npz", {"project": "pca:3"}),
    ("f.npy", {}),
    ("f.h5", {}),
    ("f.csv", {}),
    ("f.mat", {}),
    ("f.npy", {"rows_per_file": 5, "project": "srp:3"}),
)
SLOWLY = """
import json, sys, time
import alexnet_keras
from alexnet_keras.features import unfinished

class Slowly(unfinished.Unfinished):
    def add(self, *arguments):
        super().add(*arguments)
        time.sleep(0.2)

unfinished.CHECKPOINT_SECONDS = 0
import modes.extract
modes.extract.Unfinished = Slowly
print("begins", flush=True)
alexnet_keras.extract(verbose=0, **json.loads(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("chain", range(len(CHAINS)))
def test_killed_at_any_moment_and_resumed(folder, tmp_path, chain):
    """``EXTRACTION_KILLS`` in all, three in a row for each format before the first again."""
    kills = sum(kill // 3 % len(CHAINS) == chain for kill in range(KILLS))
    if not kills:
        pytest.skip("EXTRACTION_KILLS is too small for this format")
    name, projection = CHAINS[chain]
    options = {"data": str(folder / "tree"), "weights": str(folder / "tiny.keras")}
    options |= {"layers": LAYERS, "batch_size": 1, "skip_bad": True, **projection}
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    alexnet_keras.extract(out=tmp_path / "whole" / name, verbose=0, **options)
    unfinished = tmp_path / "killed" / "f.unfinished"
    options["out"] = str(tmp_path / "killed" / name)
    while kills:
        with start(options | {"resume": unfinished.exists()}) as process:
            assert process.stdout.readline() == "begins\n"
            time.sleep(random.uniform(0.3, 3))
            process.send_signal(signal.SIGKILL)
        if process.returncode == 0:  # it was faster
            assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
            shutil.rmtree(tmp_path / "killed")
            (tmp_path / "killed").mkdir()
            continue
        kills -= 1
        assert [path.name for path in (tmp_path / "killed").iterdir()] in ([], ["f.unfinished"])
    options["resume"] = unfinished.exists()
    with start(options) as process:
        process.stdout.read()
    assert process.returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def start(options):
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, json.dumps(options)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
