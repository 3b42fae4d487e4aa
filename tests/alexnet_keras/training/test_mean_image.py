"""``--mean``: read or computed before anything is trained, recorded, and never computed twice."""

import logging
from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import alexnet_keras
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING, Preprocessing
from alexnet_keras.configs.recipe import CAFFE_RECIPE, RECIPES, Recipe
from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.errors import DataError
from alexnet_keras.progress import Progress
from alexnet_keras.training import mean_image
from tests.alexnet_keras.tiny import picture_files, samples_of, tiny_model
from tests.alexnet_keras.training.resumable import model_arrays
from tests.alexnet_keras.trees import assert_refused, class_folders, invoke, read

RULE = Preprocessing(crop=16, resize_to=20)
RECIPE = replace(CAFFE_RECIPE, name="2012", mean="image", preprocessing=RULE)
TINY = ("--width", "0.02", "--batch-size", "4", "--steps", "2", "--mean", "image")


@pytest.fixture(scope="module")
def workers():
    return open_workers("one")


def given(recipe, mean, workers):
    return mean_image.with_given_mean(recipe, mean, workers)


def save(path, size, level=100):
    np.save(path, np.full((size, size, 3), level, np.float32))
    return path


def test_the_option_stands_above_the_recipe(tmp_path, workers, caplog):
    file = save(tmp_path / "mean.npy", 20)
    plain = replace(RECIPE, mean="pixel")
    assert given(RECIPE, None, workers) == given(plain, "image", workers) == RECIPE
    assert given(plain, "pixel", workers) == plain
    read_in = given(plain, file, workers)
    assert read_in == given(RECIPE, file, workers)
    assert read_in.preprocessing.mean_image.array.tolist() == np.full((16, 16, 3), 100).tolist()
    assert [mean_image.needs_pass(each) for each in (RECIPE, plain, read_in)] == [
        True,
        False,
        False,
    ]
    assert not caplog.records


def test_the_mean_colour_instead_of_the_image_is_warned_of(workers, caplog):
    image = MeanImage.from_array(np.full((16, 16, 3), 7))
    recipe = replace(RECIPE, preprocessing=RULE.with_mean_image(image))
    with caplog.at_level(logging.WARNING):
        found = given(recipe, "pixel", workers)
    assert found == replace(RECIPE, mean="pixel")
    assert caplog.messages == [
        "mean: recipe 2012 subtracts the mean image of the train split; with pixel, a mean colour "
        "is subtracted instead"
    ]


def computed(samples, workers, **loading):
    return mean_image.with_computed_mean(
        RECIPE, samples, Loading(**loading), workers, Progress(verbose=0)
    )


def test_no_readable_image_has_no_mean(tmp_path, workers):
    samples = samples_of(picture_files(tmp_path, 2, bad={0: b"", 1: b"no"}), split="train")
    with pytest.raises(DataError, match="^train: expected images for the mean image, got none"):
        computed(samples, workers, bad="mark")


def test_white_images_have_a_white_mean(tmp_path, workers):
    """Antialiased, white becomes a little more than 255."""
    Image.new("RGB", (500, 375), "white").save(tmp_path / "white.png")
    recipe, samples = RECIPES["krizhevsky"], samples_of([tmp_path / "white.png"])
    found = mean_image.with_computed_mean(recipe, samples, Loading(), workers, Progress(verbose=0))
    np.testing.assert_allclose(found.preprocessing.mean_image.array, 255, atol=1e-3)


def test_the_pass_tells_its_rate_and_the_time_left(tmp_path, workers, monkeypatch, capsys):
    monkeypatch.setattr("alexnet_keras.progress.PLAIN_LINE_SECONDS", 0)
    samples = samples_of(picture_files(tmp_path, 40), split="train")
    mean_image.with_computed_mean(RECIPE, samples, Loading(), workers, Progress())
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("  mean image 16/40 images  ")
    assert first.endswith(" s left")
    assert last.startswith("mean image: computed from 40 images in ")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return class_folders(tmp_path_factory.mktemp("data") / "tree", count=3)


@pytest.fixture(scope="module")
def run(tree, tmp_path_factory):
    """A run with a mean image that it computed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = invoke("scratch", "--data", tree, *TINY, "--output", folder)
    assert (done.exit_code, done.stderr) == (0, "")
    assert "mean image: computed from 9 images in " in done.stdout
    return folder


def image_of(run):
    return Recipe.from_dict(read(run / "config.json")["recipe"]).preprocessing.mean_image


def test_a_run_records_and_carries_its_mean_image(run):
    config = read(run / "config.json")
    assert config["options"]["mean"] == config["recipe"]["mean"] == "image"
    assert config["preprocessing"] == config["recipe"]["preprocessing"]
    rule = replace(CAFFE_PREPROCESSING, mean_image=image_of(run))
    assert Preprocessing.from_dict(config["preprocessing"]) == rule
    model = alexnet_keras.load_model(run)
    assert model.preprocessing == keras.models.clone_model(model).preprocessing == rule
    photograph = np.random.default_rng(0).integers(0, 256, (227, 227, 3), np.uint8)
    np.testing.assert_array_equal(
        alexnet_keras.preprocess_input(photograph, preprocessing=rule)[0],
        (photograph - rule.mean_image.array)[..., ::-1],
    )


def test_it_is_the_train_splits(run, tree):
    crops = [
        tf.image.resize(
            tf.io.decode_jpeg(path.read_bytes(), dct_method="INTEGER_ACCURATE"), (256, 256)
        )
        for path in (tree / "train").rglob("*.jpg")
    ]
    expected = np.mean(crops, axis=0, dtype=np.float64)[14:241, 14:241]
    np.testing.assert_allclose(image_of(run).array, expected, atol=1e-3)


@pytest.fixture
def no_pass(monkeypatch):
    monkeypatch.setattr(
        "alexnet_keras.training.session.with_computed_mean",
        lambda *arguments: pytest.fail("the mean image was computed again"),
    )


@pytest.mark.usefixtures("no_pass")
def test_a_resumed_run_does_not_compute_it_again(run, tree, tmp_path):
    before = image_of(run)
    done = invoke("scratch", "--resume", run, "--steps", "3")
    assert (done.exit_code, done.stderr) == (0, "")
    assert image_of(run) == before
    assert_refused("scratch", "--resume", run, "--mean", "pixel", says="--mean: cannot change")


@pytest.mark.slow
def test_an_interrupted_run_ends_with_the_same_bits(tree, tmp_path):
    options = ("--data", tree, *TINY, "--lr-schedule", "constant", "--augment", "paper")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for arguments in (
        (*options, "--steps", "5", "--output", whole),
        (*options, "--output", cut),
        ("--resume", cut, "--steps", "5"),
    ):
        assert invoke("scratch", *arguments).exit_code == 0
    assert image_of(cut) == image_of(whole)
    assert model_arrays(cut / "model.keras") == model_arrays(whole / "model.keras")


@pytest.mark.slow
@pytest.mark.usefixtures("no_pass")
def test_another_run_takes_it_over(run, tree, tmp_path):
    options = (*TINY[:-1], run, "--output", tmp_path / "other")
    assert invoke("scratch", "--data", tree, *options).exit_code == 0
    assert image_of(tmp_path / "other") == image_of(run)


@pytest.mark.usefixtures("no_pass")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--batch-size", "3", "--accumulate", "2"), "batch_size: expected a multiple of 2"),
        (("--lr-mult", "conv9=1"), "lr_mult: expected one of the layers"),
        (("--lr", "-1"), "lr: expected a positive number"),
    ],
)
def test_what_is_refused_is_refused_before_the_pass(tree, empty_folder, options, says):
    assert_refused("scratch", "--data", tree, *TINY, *options, says=says)


@pytest.mark.usefixtures("no_pass")
def test_a_folder_in_use_is_refused_before_the_pass(tree, tmp_path):
    (tmp_path / "taken").write_text("mine")
    done = invoke("scratch", "--data", tree, *TINY, "--output", tmp_path)
    assert (done.exit_code, "expected an empty folder" in done.stderr) == (2, True)


@pytest.mark.parametrize("size", [3, 226, 228, 255])
def test_a_file_of_another_size_is_refused(tree, tmp_path, empty_folder, size):
    file = save(tmp_path / "mean.npy", size)
    assert_refused(
        "scratch",
        "--data",
        tree,
        "--mean",
        file,
        says=f"mean: expected an image of 227x227 or 256x256 pixels, got {size}x{size}",
    )


@pytest.mark.slow
def test_files_damaged_in_the_pass_are_known_to_the_run(tmp_path, caplog):
    """Named once, and recorded."""
    root = class_folders(tmp_path / "tree", ("cat", "dog"), 60)
    bad = root / "train" / "cat" / "7.jpg"
    bad.write_bytes(b"no image")
    done = invoke("scratch", "--data", root, *TINY, "--output", tmp_path / "run")
    assert done.exit_code == 0
    assert done.stderr.count("7.jpg: skipped") == 1
    assert "mean image: computed from 119 images" in done.stdout
    assert str(bad) in (tmp_path / "run" / "bad_files.csv").read_text()


@pytest.mark.slow
def test_an_interrupted_pass_leaves_a_folder_that_is_started_again(tree, tmp_path, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("alexnet_keras.training.session.with_computed_mean", interrupted)
        done = invoke("scratch", "--data", tree, *TINY, "--output", tmp_path / "run")
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")
    (tmp_path / "run" / "bad_files.csv").write_text("split,id,path,reason\n")
    done = invoke("scratch", "--data", tree, *TINY, "--output", tmp_path / "run")
    assert (done.exit_code, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def model(run):
    return alexnet_keras.load_model(run)


def by_hand(model, path, layer):
    """A layer's output for the photograph, through ``preprocess_input``."""
    image = keras.utils.img_to_array(keras.utils.load_img(path))
    x = alexnet_keras.preprocess_input(image, preprocessing=model.preprocessing)
    return keras.Model(model.input, model.get_layer(layer).output)(x).numpy()


def test_extracted_features_are_of_crops_less_the_mean_image(run, model, tree, tmp_path):
    options = {"data": tree, "weights": run, "splits": "val", "layers": "fc8", "verbose": 0}
    features = alexnet_keras.extract(**options, out=tmp_path / "f.npy")
    rule = Preprocessing.from_dict(read(tmp_path / "f.json")["preprocessing"])
    assert rule == model.preprocessing
    expected = by_hand(model, features.rows["path"][0], "fc8")
    np.testing.assert_allclose(features["fc8"][:1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_transfer_keeps_the_mean_image_of_its_weights(run, model, tree, tmp_path):
    options = {"data": tree, "weights": run, "epochs": 1, "batch_size": 4, "verbose": 0}
    cache = tmp_path / "cache"
    done = alexnet_keras.transfer(**options, feature_cache=cache, output=tmp_path / "run")
    assert done.model.preprocessing == model.preprocessing
    assert alexnet_keras.evaluate(done, verbose=0).top1 == done.result["top1"]
    (features,) = cache.glob("*.npy")
    first = sorted((tree / "train").rglob("*.jpg"))[0]
    layer = model.get_layer("fc8")
    expected = by_hand(model, first, "fc8")
    found = np.load(features)[:1] @ layer.kernel.numpy() + layer.bias.numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_weights_alone_are_used_with_the_mean_image_of_their_run(run, model, tree, tmp_path):
    file = tmp_path / "w.npz"
    converted = invoke("weights", "convert", run, file)
    assert (converted.exit_code, converted.stdout) == (0, f"{run} -> {file}\n")
    assert converted.stderr == (
        f"warning: {file}: the mean image of {run} is not in it; use them together, with --mean "
        f"{run}\n"
    )
    path = tree / "val" / "cat" / "0.jpg"
    expected = alexnet_keras.predict([path], weights=run, verbose=0).probabilities
    found = alexnet_keras.predict([path], weights=file, mean=run, verbose=0).probabilities
    assert found.tobytes() == expected.tobytes()
    without = alexnet_keras.predict([path], weights=file, verbose=0).probabilities
    assert without.tobytes() != expected.tobytes()
    options = {"data": tree, "weights": file, "batch_size": 4, "steps": 1, "verbose": 0}
    done = alexnet_keras.transfer(**options, mean=run, output=tmp_path / "run")
    assert done.model.preprocessing == model.preprocessing


def test_the_network_of_2012_misses_its_mean_image(tree, tmp_path, caplog):
    """Bare weights do; a saved network knows what it was trained with."""
    network = tiny_model("krizhevsky", width=0.04, size=224, classes=3)
    network.save(tmp_path / "model.keras")
    file = tmp_path / "w.npz"
    invoke("weights", "convert", tmp_path / "model.keras", file)
    path = tree / "val" / "cat" / "0.jpg"
    mean = save(tmp_path / "mean.npy", 224)
    warned = []
    for weights, options in ((tmp_path, {}), (file, {"mean": mean}), (file, {})):
        caplog.clear()
        alexnet_keras.predict([path], weights=weights, verbose=0, **options)
        ours = [each for each in caplog.records if each.name.startswith("alexnet_keras")]
        warned.append([each.getMessage() for each in ours])
    text = "krizhevsky was trained on images less a mean image; without mean, a mean colour is"
    assert warned == [[], [], [f"{file}: {text} subtracted"]]


@pytest.mark.slow
def test_the_recipe_of_2012_with_caffes_mean_image(tree, tmp_path, shared_data):
    """The central 224x224 of the file, as in convdata_jpeg.py."""
    file = shared_data / "ilsvrc_2012_mean.npy"
    arguments = ("--variant", "krizhevsky", "--width", "0.04", "--batch-size", "4", "--steps", "1")
    options = (*arguments, "--mean", file, "--output", tmp_path / "run")
    done = invoke("scratch", "--data", tree, *options)
    assert done.exit_code == 0
    expected = np.load(file)[::-1, 16:240, 16:240].transpose(1, 2, 0).astype(np.float32)
    np.testing.assert_array_equal(image_of(tmp_path / "run").array, expected)


@pytest.mark.slow
def test_a_transfer_is_resumed_with_the_mean_image_that_it_began_with(run, tree, tmp_path):
    file = tmp_path / "w.npz"
    invoke("weights", "convert", run, file)
    save(tmp_path / "mean.npy", 227)
    options = ("--data", tree, "--weights", file, "--batch-size", "4", "--steps", "1")
    options = (*options, "--mean", tmp_path / "mean.npy", "--output", tmp_path / "run")
    assert invoke("transfer", *options).exit_code == 0
    resume = ("transfer", "--resume", tmp_path / "run", "--steps", "2")
    save(tmp_path / "mean.npy", 227, level=101)
    refused = invoke(*resume)
    assert refused.exit_code == 2
    assert "expected the mean image that the run began with (sha256 " in refused.stderr
    save(tmp_path / "mean.npy", 227)
    assert invoke(*resume).exit_code == 0


@pytest.mark.slow
def test_evaluation_and_prediction_with_one_crop_and_ten(run, model, tree):
    assert alexnet_keras.evaluate(run, verbose=0).top1 == read(run / "result.json")["top1"]
    assert alexnet_keras.evaluate(run, crops=10, verbose=0).images == 9
    path = tree / "val" / "cat" / "0.jpg"
    centre, ten = (alexnet_keras.predict([path], weights=run, crops=n, verbose=0) for n in (1, 10))
    np.testing.assert_allclose(
        centre.probabilities, by_hand(model, path, "prob"), rtol=1e-4, atol=1e-6
    )
    image = tf.image.resize(keras.utils.img_to_array(keras.utils.load_img(path)), (256, 256))
    places = [(0, 0), (0, 29), (29, 0), (29, 29), (14, 14)]
    crops = [image[top : top + 227, left : left + 227].numpy() for top, left in places]
    crops = np.stack([*crops, *(crop[:, ::-1] for crop in crops)])
    x = (crops - model.preprocessing.mean_image.array)[..., ::-1]
    np.testing.assert_allclose(ten.probabilities[0], model(x).numpy().mean(0), rtol=1e-3)
