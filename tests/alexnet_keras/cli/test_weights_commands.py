"""``weights list|fetch|show|convert|verify`` and ``predict`` as a user meets them."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from alexnet_keras.configs.architecture import CAFFENET
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.data.imagenet import imagenet_classes
from tests.alexnet_keras.tiny import encoded, picture_files, tiny_layers, tiny_model
from tests.alexnet_keras.trees import assert_refused, class_folders, invoke
from tests.conftest import ROOT
from tests.weights import caffe_files, npy_files
from tests.weights.mirror import LOGIN_PAGE, Answer, isolated_mirror
from weights.canonical import to_channels_first
from weights.store import cache_folder
from weights.writing import write_weights

LAYERS = tiny_layers(size=227)
THOUSAND = tiny_layers(size=227, classes=1000)
TRUNK = {name: LAYERS[name] for name in ("conv1", "conv2", "conv3", "conv4", "conv5")}


def caffemodel(path, variant="alexnet", layers=LAYERS):
    return caffe_files.write_v1(path, to_channels_first(layers, path), caffe_files.ORDERS[variant])


@pytest.fixture
def publish(monkeypatch, tmp_path):
    with isolated_mirror(monkeypatch, tmp_path) as publisher:
        yield publisher


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / "run").mkdir()
    tiny_model(size=67).save(tmp_path / "run" / "model.keras")
    return tmp_path / "run"


def test_help_and_list_need_neither_tensorflow_nor_numpy():
    code = (
        "import sys; from alexnet_keras.cli.main import main; main(sys.argv[1:], "
        "standalone_mode=False); "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'keras', 'numpy')))"
    )
    for arguments in (
        ["--help"],
        ["weights", "--help"],
        ["predict", "--help"],
        ["weights", "list"],
    ):
        subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            check=True,
            capture_output=True,
            timeout=60,
        )


def test_list_tells_accuracies_and_what_they_belong_to(publish):
    content = caffemodel(cache_folder().parent.parent / "w.caffemodel").read_bytes()
    publish(Answer(content), content=content)
    lines = invoke("weights", "list").stdout.splitlines()
    assert next(line for line in lines if line.startswith("caffe ")).split() == [
        "caffe",
        "alexnet",
        "57.1",
        "/",
        "80.2",
        "not",
        "downloaded",
    ]
    assert next(line for line in lines if line.startswith("torchvision ")).split()[1:4] == [
        "owt",
        "244.4",
        "MB",
    ]
    onnx = next(number for number, line in enumerate(lines) if line.startswith("onnx "))
    assert "54.8 / 78.23" in lines[onnx]
    assert "input 224, asymmetric pooling" in lines[onnx + 1]
    invoke("weights", "fetch", "caffe")
    lines = invoke("weights", "list").stdout.splitlines()
    assert str(cache_folder() / "bvlc_alexnet.caffemodel") in next(
        line for line in lines if line.startswith("caffe ")
    )


def test_list_as_json():
    rows = {row["name"]: row for row in json.loads(invoke("weights", "list", "--json").stdout)}
    assert set(rows) == {
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
    assert rows["caffe"]["digest"] == "9116a64c0fbe4459d18f4bb6b56d647b63920377"
    assert rows["demo"]["path"] == str(ROOT / "weights" / "demo.keras")
    assert rows["caffenet"]["path"] is None


def test_fetch_shows_progress_and_asks_once(publish, tmp_path):
    content = caffemodel(tmp_path / "w.caffemodel").read_bytes()
    publish(Answer(content), content=content)
    first, second = (invoke("weights", "fetch", "caffe") for _ in range(2))
    digest = hashlib.sha1(content).hexdigest()
    target = cache_folder() / "bvlc_alexnet.caffemodel"
    assert first.stdout == f"caffe: {target} (downloaded, sha1 {digest})\n"
    assert (
        f"bvlc_alexnet.caffemodel: {len(content) / 1e6:.1f} of {len(content) / 1e6:.1f} MB"
        in first.stderr
    )
    assert second.stdout == f"caffe: {target} (already downloaded, sha1 {digest})\n"
    assert len(publish.mirror.asked) == 1


def test_fetch_takes_names_only(tmp_path):
    assert_refused(
        "weights",
        "fetch",
        caffemodel(tmp_path / "w.caffemodel"),
        says="weights: expected one of caffe, ",
    )


def test_offline_without_a_cache_says_what_to_fetch_and_where_to_put_it(publish, monkeypatch):
    url = publish(content=b"whatever")
    monkeypatch.setenv("ALEXNET_KERAS_OFFLINE", "1")
    for arguments in (
        ("weights", "fetch", "caffe"),
        ("weights", "verify", "caffe"),
        ("predict", __file__),
    ):
        assert_refused(
            *arguments,
            says=(
                url,
                hashlib.sha1(b"whatever").hexdigest(),
                "and downloads are off",
                cache_folder() / "bvlc_alexnet.caffemodel",
            ),
        )
    assert publish.mirror.asked == []


def test_a_login_page_instead_of_the_file(publish):
    url = publish(Answer(LOGIN_PAGE, content_type="text/html"), content=b"whatever")
    result = invoke("weights", "fetch", "caffe")
    assert result.exit_code == 2
    warning, error = result.stderr.splitlines()
    assert (
        warning
        == f"warning: {url}: sent an HTML page (a login, error or notice page, not the file)"
    )
    assert error.startswith("error: bvlc_alexnet.caffemodel could not be downloaded: ")


def test_show_tells_shapes_statistics_order_and_digest(tmp_path):
    path = caffemodel(tmp_path / "w.caffemodel", "caffenet")
    text = invoke("weights", "show", path).stdout
    facts = dict(line.split(None, 1) for line in text.splitlines() if line)
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["variant"] == "caffenet"
    assert "conv1 pool1 norm1 conv2" in text
    assert "channel, height, width order" in text
    assert "BGR" in text
    kernel = LAYERS["conv1"][0]
    row = next(line.split() for line in text.splitlines() if line.startswith("conv1  kernel"))
    assert row[2:4] == ["x".join(map(str, kernel.shape)), "float32"]
    assert [float(value) for value in row[4:]] == pytest.approx(
        [kernel.min(), kernel.mean(), kernel.max(), kernel.std()], rel=1e-3, abs=1e-5
    )


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".weights.h5", ".caffemodel"])
def test_show_as_json(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    write_weights(path, LAYERS)
    told = json.loads(invoke("weights", "show", path, "--json").stdout)
    assert told["format"] == suffix[1:]
    assert told["variant"] is None
    assert {
        row["layer"]: tuple(row["shape"]) for row in told["arrays"] if row["role"] == "kernel"
    } == {name: kernel.shape for name, (kernel, _) in LAYERS.items()}


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("caffenet", "BGR, 0-255 minus the mean (red 122.68, green 116.67, blue 104.01), 227x227"),
        (
            "owt",
            "RGB, 0-255 minus the mean (red 123.67, green 116.28, blue 103.53), "
            "divided by the standard deviation (red 58.40, green 57.12, blue 57.38), 224x224",
        ),
    ],
)
def test_show_prints_the_preprocessing(tmp_path, variant, expected):
    if variant == "owt":
        path = tmp_path / "model.keras"
        tiny_model("owt", size=224).save(path)
    else:
        path = caffemodel(tmp_path / "w.caffemodel", variant)
    lines = invoke("weights", "show", path).stdout.splitlines()
    assert next(line.split(None, 1)[1] for line in lines if line.startswith("input")) == expected


def test_show_says_that_a_mean_image_is_subtracted(tmp_path):
    image = MeanImage.from_array(np.full((67, 67, 3), 100))
    rule = CAFFE_PREPROCESSING.with_input_size(67).with_mean_image(image)
    tiny_model(preprocessing=rule).save(tmp_path / "model.keras")
    shown = invoke("weights", "show", tmp_path / "model.keras").stdout
    assert "input         BGR, 0-255 minus the mean image, 67x67\n" in shown
    assert image.values not in shown


def test_show_a_run(run_folder):
    told = json.loads(invoke("weights", "show", run_folder, "--json").stdout)
    assert (told["format"], told["variant"], told["path"]) == (
        "keras",
        "alexnet",
        str(run_folder / "model.keras"),
    )
    assert told["layer_order"][:3] == ["conv1", "norm1", "pool1"]
    assert told["preprocessing"]["crop"] == 67


def test_convert_a_run_and_verify_the_file_against_it(run_folder, tmp_path):
    out = tmp_path / "ours.safetensors"
    assert invoke("weights", "convert", run_folder, out).stdout.splitlines() == [
        f"{run_folder} -> {out}"
    ]
    assert_refused(
        "weights", "convert", run_folder, out, says=(out, "already exists", "--overwrite")
    )
    assert invoke("weights", "convert", run_folder, out, "--overwrite").exit_code == 0
    result = invoke("weights", "verify", run_folder, "--against", out)
    assert result.exit_code == 0
    assert f"bit for bit, equal to {out}; sha256 " in result.stdout


def test_convert_says_where_the_file_cannot_record_the_network(tmp_path):
    network = CAFFENET.without("norm1").with_width(0.05)
    tiny_model(network).save(tmp_path / "changed.keras")
    out = tmp_path / "w.npz"
    assert invoke("weights", "convert", tmp_path / "changed.keras", out).stdout.splitlines()[
        1
    ] == (
        f"Their network is caffenet with other layers, which {out} does not record: open it with "
        "the architecture as variant."
    )


def test_verify_a_known_name(publish, tmp_path):
    content = caffemodel(tmp_path / "w.caffemodel").read_bytes()
    publish(Answer(content), content=content)
    numbers = sum(kernel.size + bias.size for kernel, bias in LAYERS.values())
    assert invoke("weights", "verify", "caffe").stdout == (
        f"{cache_folder() / 'bvlc_alexnet.caffemodel'}: {numbers:,} parameters of "
        f"{', '.join(LAYERS)} loaded bit for bit; sha1 "
        f"{hashlib.sha1(content).hexdigest()}, as published\n"
    )


def test_verify_tells_one_differing_bit(tmp_path):
    path = caffemodel(tmp_path / "w.caffemodel")
    layers = {**LAYERS, "fc7": (LAYERS["fc7"][0].copy(), LAYERS["fc7"][1])}
    layers["fc7"][0].view(np.uint32)[1, 2] ^= 1
    write_weights(tmp_path / "other.npz", layers)
    assert_refused(
        "weights",
        "verify",
        path,
        "--against",
        tmp_path / "other.npz",
        says=f"fc7 kernel: 1 of {LAYERS['fc7'][0].size} numbers, first at [1, 2]",
    )


def test_verify_says_what_a_partial_file_lacks(tmp_path):
    path = caffemodel(tmp_path / "trunk.caffemodel", layers=TRUNK)
    result = invoke("weights", "verify", path)
    assert result.exit_code == 0
    assert (
        result.stderr
        == f"warning: {path} lacks fc6, fc7, fc8: they stay at their initial values\n"
    )
    assert "parameters of conv1, conv2, conv3, conv4, conv5 loaded bit for bit" in result.stdout


def test_predict_names_and_probabilities(tmp_path):
    weights = caffemodel(tmp_path / "w.caffemodel", layers=THOUSAND)
    paths = picture_files(tmp_path, 2)
    lines = invoke("predict", *paths, "--weights", weights, "--top", 3).stdout.splitlines()
    assert [lines[0], lines[4]] == paths
    told = json.loads(invoke("predict", *paths, "--weights", weights, "--top", 3, "--json").stdout)
    assert (told["crops"], told["weights"]["sha256"]) == (
        1,
        hashlib.sha256(weights.read_bytes()).hexdigest(),
    )
    classes = dict(imagenet_classes())
    for path, image, shown in zip(paths, told["images"], (lines[1:4], lines[5:]), strict=True):
        assert image["file"] == path
        assert all(classes[row["id"]] == row["name"] for row in image["predictions"])
        assert [row["probability"] for row in image["predictions"]] == sorted(
            (row["probability"] for row in image["predictions"]), reverse=True
        )
        assert shown == [
            f"  {row['probability']:6.1%}  {row['name']}" for row in image["predictions"]
        ]


def test_predict_of_a_run_names_its_own_classes(run_folder, tmp_path):
    (path,) = picture_files(tmp_path, 1)
    for crops in ("1", "10"):
        told = json.loads(
            invoke("predict", path, "--weights", run_folder, "--json", "--crops", crops).stdout
        )
        rows = told["images"][0]["predictions"]
        assert sum(row["probability"] for row in rows) == pytest.approx(1, abs=1e-5)
        assert {row["name"] for row in rows} == {f"class {index}" for index in range(5)}
        assert all(row["name"] == f"class {row['id']}" for row in rows)


def test_predict_of_a_bad_image(run_folder, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    for name, expected in (("bad.jpg", "a readable image"), ("missing.jpg", "an image file")):
        path = tmp_path / name
        assert_refused(
            "predict", path, "--weights", run_folder, says=f"{path}: expected {expected}"
        )


def test_a_variant_that_contradicts_the_file_is_refused(tmp_path):
    (path,) = picture_files(tmp_path, 1)
    weights = caffemodel(tmp_path / "w.caffemodel", "caffenet")
    assert_refused(
        "predict",
        path,
        "--weights",
        weights,
        "--variant",
        "alexnet",
        says="these are weights of caffenet, not of alexnet",
    )
    assert_refused(
        "predict",
        path,
        "--weights",
        weights,
        "--variant",
        "owt",
        says="these are weights of caffenet",
    )


def test_a_caffenet_under_the_name_of_another_is_refused(publish, tmp_path):
    content = caffemodel(tmp_path / "w.caffemodel", "caffenet").read_bytes()
    publish(Answer(content), content=content)
    assert invoke("weights", "fetch", "caffe").exit_code == 0
    assert_refused(
        "predict",
        __file__,
        says="expected the layers of alexnet, got those of caffenet",
    )


@pytest.mark.parametrize(
    "command",
    [
        "predict",
        "evaluate",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("extract", "transfer")),
    ],
)
def test_gaps_are_refused_or_told(tmp_path, command):
    """Every command that loads weights: without --partial an error, with it one warning, and then
    its work.
    """
    weights = caffemodel(tmp_path / "trunk.caffemodel", layers=TRUNK)
    wnids = [wnid for wnid, _ in imagenet_classes()[:2]]
    data = class_folders(tmp_path / "data", wnids, count=2)
    image = data / "val" / wnids[0] / "0.jpg"
    arguments = {
        "predict": ("predict", image, "--weights", weights),
        "evaluate": ("evaluate", weights, "--data", data),
        "extract": (
            "extract",
            "--weights",
            weights,
            "--data",
            data,
            "--layer",
            "pool5",
            "--out",
            tmp_path / "feats.npy",
        ),
        "transfer": (
            "transfer",
            "--weights",
            weights,
            "--data",
            data,
            "--epochs",
            1,
            "--batch-size",
            2,
            "--output",
            tmp_path / "run",
        ),
    }[command]
    assert_refused(*arguments, says=(weights, "missing: fc6, fc7"))
    warning = f"warning: {weights} lacks fc6, fc7, fc8: they stay at their initial values\n"
    result = invoke(*arguments, "--partial")
    if command in ("predict", "evaluate"):  # probabilities of random layers mean nothing
        depends = f"{weights}: fc8 depends on fc6 and fc7, which are missing from the file"
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr == f"{warning}error: {depends}\n"
        return
    assert result.exit_code == 0, result.output
    assert result.stderr == warning


def test_extract_refuses_a_layer_that_depends_on_a_missing_one(tmp_path):
    weights = caffemodel(tmp_path / "trunk.caffemodel", layers=TRUNK)
    data = class_folders(tmp_path / "data", count=1)
    result = invoke(
        "extract",
        "--weights",
        weights,
        "--partial",
        "--data",
        data,
        "--layer",
        "pool5",
        "--layer",
        "fc7",
        "--out",
        tmp_path / "feats.npy",
    )
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == (
        f"error: {weights}: fc7 depends on fc6, which is missing from the file"
    )
    assert not list(tmp_path.glob("feats*"))


HOSTILE = {
    "empty.caffemodel": b"",
    "page.caffemodel": LOGIN_PAGE,
    "pointer.npy": b"version https://git-lfs.github.com/spec/v1\noid sha256:"
    + b"4" * 64
    + b"\nsize 243862418\n",
    "system.npy": npy_files.npy_of(b"\x80\x02cposix\nsystem\nU\x04exit\x85R."),
    "length.caffemodel": caffe_files.text(1, "AlexNet") + b"\x12" + caffe_files.varint(2**63),
    "shape.caffemodel": caffe_files.one_blob(caffe_files.shaped(5, 5)),
    "nan.caffemodel": caffe_files.one_layer(
        caffe_files.v2_blob(np.full((2, 3), np.nan)), caffe_files.v2_blob(np.ones(2))
    ),
    "archive.keras": caffe_files.saved(np.ones(3)),
    "image.pth": encoded(np.zeros((9, 9, 3), np.uint8)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_one_line_for_every_command(tmp_path, name):
    path = npy_files.save(tmp_path / name, HOSTILE[name])
    (image,) = picture_files(tmp_path, 1)
    out = tmp_path / "out.npz"
    for arguments in (
        ("weights", "show", path),
        ("weights", "verify", path),
        ("weights", "convert", path, out),
        ("predict", image, "--weights", path),
    ):
        assert len(assert_refused(*arguments, says=str(path))) < 700 + len(str(path))
    assert not out.exists()
