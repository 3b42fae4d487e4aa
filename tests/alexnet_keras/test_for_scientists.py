"""docs/for-scientists.md: its commands and examples run, and its layers are the network's."""

import csv
import re
import shlex
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from alexnet_keras.configs.architecture import KRIZHEVSKY, VARIANTS, Convolution, Pooling
from alexnet_keras.pretrained.catalog import PUBLISHED
from tests.alexnet_keras.perceptual.test_lpips import CONVOLUTIONS, write_heads
from tests.alexnet_keras.tiny import picture, tiny_model
from tests.alexnet_keras.trees import ROOT, invoke
from weights.published_file import PublishedFile
from weights.store import cache_folder

PAGE = (ROOT / "docs" / "for-scientists.md").read_text(encoding="utf-8")
LAYERS = re.findall(
    r"(?m)^\| `(\w+)` \| `([\w.]+)` \| `(\w+)` \| (\w+) \| (\d*) \| ([\dx]+) \|$", PAGE
)
TORCHVISION = ["conv", "relu", "pool", "conv", "relu", "pool"] + ["conv", "relu"] * 3 + ["pool"]


def receptive_fields(architecture):
    """(size, stride) of each layer in input pixels, by the usual recursion."""
    size, stride, found = 1, 1, {}
    names = [spec.name for spec in architecture.layers]
    for spec in architecture.layers[: names.index("pool5") + 1]:
        window = {Convolution: "kernel", Pooling: "size"}.get(type(spec))
        if window:
            size += (getattr(spec, window) - 1) * stride
            stride *= spec.stride
        elif spec.name.startswith("cnorm"):
            size += (spec.size - 1) * stride
        found[spec.name] = (size, stride)
    return found


def test_the_receptive_fields():
    told = {name: (int(size), int(stride)) for name, _, _, size, stride, _ in LAYERS if stride}
    assert len(told) == 8
    for variant, architecture in VARIANTS.items():
        if variant != "krizhevsky":
            assert told.items() <= receptive_fields(architecture).items(), variant
    (words,) = re.findall(r"its `cnorm2` sees (.*?) pixels.*? see ([\d, ]+ and \d+)", PAGE, re.S)
    fields = receptive_fields(KRIZHEVSKY)
    names = ("cnorm2", "pool2", "conv3", "conv4", "conv5", "pool5")
    assert [int(each) for each in re.findall(r"\d+", " ".join(words))] == [
        fields[name][0] for name in names
    ]


def test_torchvisions_names_and_the_shapes():
    """A convolution is named by its ReLU, which follows it."""
    kinds = dict(enumerate(TORCHVISION))
    named = [torch.split(".") for _, torch, *_ in LAYERS]
    kind = {"conv": "relu", "pool": "pool"}
    for (name, *_), (part, index) in zip(LAYERS, named, strict=True):
        assert part == ("classifier" if name.startswith("fc") else "features")
        if part == "features":
            assert kinds[int(index)] == kind[name[:4]], name
    model = tiny_model("owt", width=1 / 8, size=224)
    for name, *_, shape in LAYERS:
        found = model.get_layer(name).output.shape[1:]
        told = tuple(map(int, shape.split("x")))
        assert found[:-1] == told[:-1], name
        assert name == "fc8" or found[-1] == told[-1] // 8, name


@pytest.fixture
def laboratory(tmp_path, monkeypatch):
    """A folder with the page's files, and small networks that stand for the published ones."""
    monkeypatch.chdir(tmp_path)
    cache_folder().mkdir(parents=True)
    owt = tiny_model("owt", width=0.07)
    for name, model in {"caffe": tiny_model(), "torchvision": owt}.items():
        model.save(cache_folder() / f"{name}.keras")
        file = PublishedFile(f"{name}.keras")
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], file=file))
    channels = [owt.get_layer(name).filters for name in CONVOLUTIONS]
    write_heads(cache_folder() / "heads.pth", channels)
    heads = replace(PUBLISHED["lpips"], file=PublishedFile("heads.pth"))
    monkeypatch.setitem(PUBLISHED, "lpips", heads)
    _write_stimuli(tmp_path)
    return tmp_path


def _write_stimuli(folder):
    (folder / "stimuli").mkdir()
    rows = []
    for index in range(18):
        label = ("ape", "bee", "car")[index % 3]
        path = f"stimuli/{label}_{index // 3}.png"
        Image.fromarray(picture(index)).save(folder / path)
        rows.append((path, label, ("intact", "scrambled")[index % 2]))
    with open(folder / "stimuli.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "label", "condition"), *rows])
    for seed, name in enumerate(("originals", "reconstructions")):
        (folder / name).mkdir()
        for index in range(3):
            Image.fromarray(picture(100 + 10 * seed + index)).save(folder / name / f"{index}.png")
    np.save(folder / "it.npy", np.random.default_rng(0).standard_normal((len(rows), 30)))


def page_blocks():
    """The page's commands and Python, in order: (language, text)."""
    for language, text in re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", PAGE):
        if language or text.startswith("python -m alexnet_keras "):
            yield language, text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_command_and_example_runs(laboratory):
    pytest.importorskip("rsatoolbox")
    names = {}
    for language, text in page_blocks():
        if language == "python":
            exec(compile(text, "for-scientists.md", "exec"), names)
            continue
        for line in text.splitlines():
            result = invoke(*shlex.split(line)[3:])
            assert result.exit_code == 0, (line, result.output)
    assert keras.backend.backend() == "tensorflow"
    assert names["conv5"].shape[0] == 18
    for file in ("feats.json", "probed/probe.csv", "compared/similarity.png", "again.npy"):
        assert (laboratory / file).is_file(), file
    again, first = (np.load(laboratory / name) for name in ("again.npy", "pca.npy"))
    assert np.array_equal(again, first)
