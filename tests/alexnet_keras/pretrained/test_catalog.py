"""The catalogue and its override file."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.configs.preprocessing import (
    PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.catalog import DIGEST_LENGTHS, PUBLISHED, catalog, source
from tests.weights.mirror import catalogue_of


@pytest.fixture
def override(tmp_path, monkeypatch):
    """Entries, or the raw text of a file -> the catalogue with them."""

    def apply(text=None, **entries):
        path = catalogue_of(tmp_path, **entries)
        if text is not None:
            path.write_bytes(text)
        monkeypatch.setenv("ALEXNET_KERAS_CATALOG", str(path))
        return catalog()

    return apply


# Digests and accuracies as BVLC's model zoo, torchvision and the ONNX model zoo print them.
@pytest.mark.parametrize(
    ("name", "file", "variant", "algorithm", "digest", "top1", "top5"),
    [
        (
            "caffe",
            "bvlc_alexnet.caffemodel",
            "alexnet",
            "sha1",
            "9116a64c0fbe4459d18f4bb6b56d647b63920377",
            57.1,
            80.2,
        ),
        (
            "caffenet",
            "bvlc_reference_caffenet.caffemodel",
            "caffenet",
            "sha1",
            "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
            57.4,
            80.4,
        ),
        ("tensorflow", "bvlc_alexnet.npy", "alexnet", None, None, 57.1, 80.2),
        ("torchvision", "alexnet-owt-7be5be79.pth", "owt", "sha256", "7be5be79", 56.522, 79.066),
        (
            "onnx",
            "bvlcalexnet-12.onnx",
            "alexnet",
            "sha256",
            "6b0da9510f27f234ee96a85dc3809dd210150fdefad87f6850f9788513216945",
            54.80,
            78.23,
        ),
    ],
)
def test_published_facts(name, file, variant, algorithm, digest, top1, top5):
    entry = source(name)
    assert (entry.file, entry.variant, entry.digest_algorithm, entry.top1, entry.top5) == (
        file,
        variant,
        algorithm,
        top1,
        top5,
    )
    assert (entry.digest or "").startswith(digest or "")
    assert entry.preprocessing == PREPROCESSING[variant]
    assert entry.classes == 1000


def test_every_entry_is_sound():
    assert set(catalog()) == {
        "caffe",
        "caffenet",
        "tensorflow",
        "torchvision",
        "onnx",
        "demo",
        "imagenet_mean",
    }
    for entry in PUBLISHED:
        assert entry.variant is None or entry.variant in VARIANTS
        assert all(url.startswith(("http://", "https://")) for url in entry.mirrors)
        assert entry.digest is None or len(entry.digest) == DIGEST_LENGTHS[entry.digest_algorithm]


def test_the_onnx_entry_says_which_accuracy_belongs_to_which_network():
    entry = source("onnx")
    assert "224" in entry.protocol
    assert "asymmetric" in entry.protocol
    assert "227" in entry.notes
    assert "57.1 / 80.2" in entry.notes


def test_demo_has_nine_classes_and_no_mirror():
    entry = source("demo")
    assert (entry.variant, entry.classes, entry.mirrors) == ("alexnet", 9, ())


def test_an_unknown_name_lists_the_valid_ones():
    with pytest.raises(
        WeightsError,
        match="'cafe' is not a known source.* caffe, caffenet, tensorflow, torchvision",
    ):
        source("cafe")


def test_override_replaces_fields_and_leaves_the_others(override):
    entry = override(caffe={"mirrors": ["http://mirror.local/a.caffemodel"]})["caffe"]
    assert entry.mirrors == ("http://mirror.local/a.caffemodel",)
    assert entry.digest == "9116a64c0fbe4459d18f4bb6b56d647b63920377"
    assert entry.size == 243_862_414


def test_another_digest_is_another_file_of_another_size(override):
    assert override(caffe={"content": b"small"})["caffe"].size is None
    assert override(caffe={"content": b"small", "size": 5})["caffe"].size == 5


def test_override_adds_an_entry(override):
    entry = override(
        mine={"file": "mine.caffemodel", "variant": "owt", "preprocessing": {"resize_to": 300}}
    )["mine"]
    assert entry.preprocessing == Preprocessing(
        resize="short_side",
        resize_to=300,
        antialias=True,
        crop=224,
        channel_order="RGB",
        mean=TORCHVISION_PREPROCESSING.mean,
        std=TORCHVISION_PREPROCESSING.std,
    )


def test_another_variant_brings_its_own_preprocessing(override):
    assert override(caffe={"variant": "owt"})["caffe"].preprocessing == TORCHVISION_PREPROCESSING


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"mirrors": "http://one"}, r"caffe\.mirrors: expected a list of http\(s\) URLs"),
        ({"mirrors": ["file:///etc/passwd"]}, r"caffe\.mirrors: expected a list of http"),
        (
            {"file": "../../escape"},
            r"caffe\.file: expected a plain file name, got '\.\./\.\./escape'",
        ),
        ({"file": ".hidden"}, r"caffe\.file: expected a plain file name"),
        ({"digest": "xyz"}, r"caffe\.digest: expected 8 to 64"),
        ({"digest": "9116"}, r"caffe\.digest: expected 8 to 64"),
        ({"digest": "0" * 64}, r"caffe\.digest_algorithm: expected .* got sha1"),
        (
            {"digest_algorithm": "md5"},
            r"caffe\.digest_algorithm: expected sha1, sha256 or null, got 'md5'",
        ),
        ({"digest_algorithm": []}, r"caffe\.digest_algorithm: expected sha1"),
        ({"digest_algorithm": None}, r"caffe\.digest_algorithm: expected .* got None"),
        ({"size": -1}, r"caffe\.size: expected a whole number above 0"),
        ({"size": True}, r"caffe\.size: expected a whole number"),
        (
            {"variant": "vgg"},
            r"caffe\.variant: expected alexnet, caffenet, paper, owt or null, got 'vgg'",
        ),
        ({"top1": 571}, r"caffe\.top1: expected a percentage"),
        ({"top5": float("nan")}, r"caffe\.top5: expected a percentage"),
        ({"notes": "two\nlines"}, r"caffe\.notes: expected one line of text"),
        ({"name": "other"}, r"caffe: expected fields among file, mirrors.* got 'name'"),
        ({"preprocessing": []}, r"caffe\.preprocessing: expected an object"),
        (
            {"preprocessing": {"mean": "abc"}},
            r"caffe\.preprocessing\.mean: expected three numbers",
        ),
        (
            {"preprocessing": {"std": [1, 0, 1]}},
            r"caffe\.preprocessing\.std: expected three numbers above 0",
        ),
        (
            {"preprocessing": {"crop": 300}},
            r"caffe\.preprocessing: preprocessing\.crop: expected 1 to resize_to",
        ),
        (
            {"preprocessing": {"gamma": 1}},
            r"caffe\.preprocessing: expected fields among .* got 'gamma'",
        ),
        (
            {"file": "bvlc_alexnet.npy"},
            r"tensorflow\.file: .* bvlc_alexnet\.npy, which is the file of caffe",
        ),
        (["not", "fields"], r"caffe: expected an object of fields, got \['not', 'fields'\]"),
    ],
)
def test_override_errors_name_file_and_field_in_one_line(override, tmp_path, entry, message):
    with pytest.raises(WeightsError, match=rf"catalogue\.json: .*{message}") as error:
        override(json.dumps({"caffe": entry}).encode())
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b"[1]", b"[" * 100_000, b"1" * 5000])
def test_override_that_is_no_catalogue(override, text):
    with pytest.raises(WeightsError, match=r"catalogue\.json: expected"):
        override(text)


def test_override_file_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("ALEXNET_KERAS_CATALOG", str(tmp_path / "none.json"))
    with pytest.raises(
        WeightsError,
        match=r"none\.json: the catalogue named by ALEXNET_KERAS_CATALOG cannot be read",
    ):
        catalog()


def test_a_new_entry_needs_a_file_and_a_plain_name(override):
    with pytest.raises(WeightsError, match=r"mine\.file: expected the file name"):
        override(mine={"variant": "owt"})
    with pytest.raises(WeightsError, match="expected a name of letters"):
        override(**{"../mine": {"file": "a"}})


def test_catalogue_store_and_recognition_load_no_framework():
    program = (
        "import sys, weights.store, alexnet_keras.pretrained.catalog, weights.recognise, "
        "weights.download;"
        "sys.exit(bool({'tensorflow', 'keras', 'h5py', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
