"""The catalogue of published weights."""

from __future__ import annotations

import subprocess
import sys

import pytest

from alexnet_keras.configs.architecture import VARIANTS
from alexnet_keras.configs.preprocessing import PREPROCESSING
from alexnet_keras.data.known_classes import published_classes
from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.catalog import PUBLISHED, find_entry
from weights.store import fetch

DIGEST_LENGTHS = {"md5": 32, "sha1": 40, "sha256": 64}  # in hexadecimal digits


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
    entry = find_entry(name)
    published = entry.file
    assert (published.name, entry.variant, published.digest_algorithm, entry.top1, entry.top5) == (
        file,
        variant,
        algorithm,
        top1,
        top5,
    )
    assert (published.digest or "").startswith(digest or "")
    assert entry.preprocessing == PREPROCESSING[variant]
    assert entry.classes == 1000


def test_every_entry_is_sound():
    assert set(PUBLISHED) == {
        "caffe",
        "caffenet",
        "tensorflow",
        "torchvision",
        "onnx",
        "places365",
        "places365-torch",
        "sin",
        "ecoset",
        "matconvnet",
        "slim",
        "demo",
        "imagenet_mean",
        "lpips",
    }
    for entry in PUBLISHED.values():
        file = entry.file
        assert entry.variant is None or entry.variant in VARIANTS
        assert all(url.startswith(("http://", "https://")) for url in file.mirrors)
        if entry.name == "sin":  # its file name holds the first eight digits, as torch.hub has it
            assert file.digest == file.name.split("-")[1][:8]
            continue
        assert file.digest is None or len(file.digest) == DIGEST_LENGTHS[file.digest_algorithm]
    assert len({entry.file.name.lower() for entry in PUBLISHED.values()}) == len(PUBLISHED)


# As CSAILVision/places365, MatConvNet's list of checksums and thingsvision print them.
@pytest.mark.parametrize(
    ("name", "file", "variant", "classes", "digest", "top1"),
    [
        ("places365", "alexnet_places365.caffemodel", "caffenet", 365, None, None),
        ("places365-torch", "alexnet_places365.pth.tar", "owt", 365, None, None),
        (
            "sin",
            "alexnet_train_60_epochs_lr0.001-b4aa5238.pth.tar",
            "owt",
            1000,
            "b4aa5238",
            None,
        ),
        ("ecoset", "alexnet_ecoset.pth", "owt", 565, None, None),
        (
            "matconvnet",
            "imagenet-caffe-alex.mat",
            "alexnet",
            1000,
            "ed49ef44caf18496291ce0c3257b0596",
            57.4,
        ),
    ],
)
def test_alexnets_in_circulation(name, file, variant, classes, digest, top1):
    entry = find_entry(name)
    assert (entry.file.name, entry.variant, entry.classes) == (file, variant, classes)
    assert (entry.file.digest, entry.top1) == (digest, top1)
    order = "BGR" if variant == "caffenet" else "RGB"
    assert entry.preprocessing.channel_order == order
    assert entry.preprocessing.crop == (224 if variant == "owt" else 227)
    names = published_classes(entry.class_names, entry.classes)
    assert (names is None) == (name == "ecoset")


def test_the_onnx_entry_says_which_accuracy_belongs_to_which_network():
    entry = find_entry("onnx")
    assert "224" in entry.protocol
    assert "asymmetric" in entry.protocol
    assert "227" in entry.notes
    assert "57.1 / 80.2" in entry.notes


def test_slim_is_a_checkpoint_that_has_to_be_laid_there():
    entry = find_entry("slim")
    assert (entry.variant, entry.file.mirrors) == ("slim", ())
    with pytest.raises(
        WeightsError, match="cannot be downloaded: put it at .*alexnet_v2.ckpt.index"
    ):
        fetch(entry.file)


def test_demo_has_nine_classes_and_no_mirror():
    entry = find_entry("demo")
    assert (entry.variant, entry.classes, entry.file.mirrors) == ("alexnet", 9, ())


def test_an_unknown_name_lists_the_valid_ones():
    with pytest.raises(
        WeightsError,
        match="^weights: expected one of caffe, caffenet, tensorflow, torchvision.*, got 'cafe'$",
    ):
        find_entry("cafe")


def test_catalogue_store_and_recognition_load_no_framework():
    program = (
        "import sys, weights.store, alexnet_keras.pretrained.catalog, weights.formats, "
        "weights.download;"
        "sys.exit(bool({'tensorflow', 'keras', 'h5py', 'onnx'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
