"""Whether a network holds what its file says: verify and convert, and that they notice when it
does not.
"""

import hashlib
import os
import zipfile

import numpy as np
import pytest

from alexnet_keras.configs.architecture import ALEXNET, VARIANTS, Dropout
from alexnet_keras.errors import ConfigurationError, WeightsError
from alexnet_keras.pretrained import loading
from alexnet_keras.pretrained.loading import resolve_weights
from alexnet_keras.pretrained.verification import convert, verify
from tests.alexnet_keras.tiny import tiny_layers, tiny_model
from tests.weights import caffe_files
from tests.weights.mirror import Answer, isolated_mirror
from tests.weights.refusal import assert_refused
from weights.canonical import to_channels_first
from weights.reading import read_weights
from weights.store import cache_folder
from weights.writing import write_weights

LAYERS = tiny_layers(size=227)
NUMBERS = sum(kernel.size + bias.size for kernel, bias in LAYERS.values())
FORMATS = (".caffemodel", ".mat", ".pth", ".npz", ".safetensors", ".weights.h5")


def caffemodel(path, variant="alexnet", layers=LAYERS):
    return caffe_files.write_v1(path, to_channels_first(layers, path), caffe_files.ORDERS[variant])


@pytest.fixture
def model_file(tmp_path):
    tiny_model(size=67).save(tmp_path / "tiny.keras")
    return tmp_path / "tiny.keras"


def flipped(path, name="conv3", position=7):
    """The same layers with the last bit of one number turned over, as ``.npz``."""
    layers = {layer: (kernel.copy(), bias) for layer, (kernel, bias) in LAYERS.items()}
    layers[name][0].reshape(-1).view(np.uint32)[position] ^= 1
    write_weights(path, layers)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_sound_file(tmp_path, suffix):
    path = tmp_path / f"w{suffix}"
    write_weights(path, LAYERS)
    found = verify(str(path))
    assert (found.path, found.layers, found.num_values, found.missing) == (
        path,
        tuple(LAYERS),
        NUMBERS,
        (),
    )
    assert (found.digest, found.published) == (
        f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}",
        False,
    )


def test_a_model_file_is_read_again_without_keras(model_file):
    found = verify(str(model_file))
    assert found.layers == ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    assert found.missing == ()


def test_a_partial_file_is_verified_as_far_as_it_goes(tmp_path):
    path = caffemodel(
        tmp_path / "trunk.caffemodel",
        layers={name: LAYERS[name] for name in ("conv1", "conv2", "conv3")},
    )
    found = verify(str(path))
    assert (found.layers, found.missing) == (
        ("conv1", "conv2", "conv3"),
        ("conv4", "conv5", "fc6", "fc7", "fc8"),
    )


def test_a_network_that_differs_in_one_bit_is_noticed(tmp_path, monkeypatch):
    real = loading.assign_weights

    def assign_wrongly(model, weights, **options):
        missing = real(model, weights, **options)
        kernel = model.get_layer("conv3").kernel
        values = kernel.numpy()
        values.reshape(-1).view(np.uint32)[7] ^= 1
        kernel.assign(values)
        return missing

    monkeypatch.setattr(loading, "assign_weights", assign_wrongly)
    path = caffemodel(tmp_path / "w.caffemodel")
    with pytest.raises(
        WeightsError,
        match=r"w\.caffemodel: the network differs from the file: conv3 kernel: 1 of \d+ ",
    ):
        verify(str(path))


def test_a_model_file_whose_weights_keras_misreads_is_noticed(model_file, monkeypatch):
    real = loading.load_model

    def load_wrongly(path):
        model = real(path)
        model.get_layer("fc7").bias.assign(model.get_layer("fc7").bias + 1)
        return model

    monkeypatch.setattr(loading, "load_model", load_wrongly)
    with pytest.raises(WeightsError, match="fc7 bias"):
        verify(str(model_file))


def test_against_another_file(tmp_path):
    path = caffemodel(tmp_path / "w.caffemodel")
    write_weights(tmp_path / "same.weights.h5", LAYERS)
    verify(str(path), str(tmp_path / "same.weights.h5"))
    other = flipped(tmp_path / "other.npz")
    with pytest.raises(WeightsError) as caught:
        verify(str(path), str(other))
    size = LAYERS["conv3"][0].size
    assert str(caught.value).startswith(
        f"{path}: differs from {other}: conv3 kernel: 1 of {size} numbers, first at ["
    )


def test_many_differences_are_counted_not_listed(tmp_path):
    path = caffemodel(tmp_path / "w.caffemodel")
    write_weights(
        tmp_path / "zero.npz",
        {name: (kernel * 0, bias * 0) for name, (kernel, bias) in LAYERS.items()},
    )
    with pytest.raises(WeightsError, match="; and 13 more$"):
        verify(str(path), str(tmp_path / "zero.npz"))


def test_the_digest_of_a_known_name_is_computed_again(tmp_path, monkeypatch):
    """A file that is changed in place, size and time kept, passes the remembered check; not this
    one.
    """
    content = caffemodel(tmp_path / "w.caffemodel").read_bytes()
    with isolated_mirror(monkeypatch, tmp_path) as publish:
        publish(Answer(content), content=content)
        found = verify("caffe")
        assert (found.digest, found.published) == (
            f"sha1 {hashlib.sha1(content).hexdigest()}",
            True,
        )
        path = cache_folder() / "bvlc_alexnet.caffemodel"
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        with open(path, "r+b") as file:
            file.seek(len(content) // 2)
            file.write(bytes([content[len(content) // 2] ^ 1]))
        os.utime(path, ns=times)
        with pytest.raises(WeightsError, match="expected sha1 .*, got "):
            verify("caffe")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("variant", ["alexnet", "caffenet"])
def test_a_conversion_and_back_is_bit_exact(tmp_path, suffix, variant):
    source, there, back = (
        caffemodel(tmp_path / "w.caffemodel", variant),
        tmp_path / f"a{suffix}",
        tmp_path / "b.caffemodel",
    )
    assert convert(str(source), there) == (variant, variant)
    assert convert(str(there), back) == (variant, variant)
    expected, found = read_weights(source).layers, read_weights(back).layers
    for name, arrays in expected.items():
        for one, other in zip(arrays, found[name], strict=True):
            assert one.shape == other.shape
            assert one.tobytes() == other.tobytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_every_format_records_the_variant(tmp_path, suffix, variant):
    """Through every format to a network, no variant asked for."""
    tiny_model(variant).save(tmp_path / "ours.keras")
    out, again = tmp_path / f"ours{suffix}", tmp_path / "again.npz"
    assert convert(str(tmp_path / "ours.keras"), out) == (variant, variant)
    assert read_weights(out).variant == variant
    assert convert(str(out), again) == (variant, variant)
    assert resolve_weights(str(again)).architecture == VARIANTS[variant]
    other = "owt" if variant != "owt" else "alexnet"
    with pytest.raises(WeightsError, match=f": these are weights of {variant}, not of {other}$"):
        resolve_weights(str(out), other)


def test_the_variant_of_a_file_that_records_none_can_be_given(tmp_path):
    write_weights(tmp_path / "w.npz", LAYERS)
    out = tmp_path / "out.pth"
    assert convert(str(tmp_path / "w.npz"), out, variant="caffenet") == ("caffenet", "caffenet")
    assert resolve_weights(str(out)).variant == "caffenet"
    with pytest.raises(WeightsError, match="these are weights of caffenet, not of alexnet"):
        convert(str(out), tmp_path / "again.npz", variant="alexnet")
    with pytest.raises(ConfigurationError, match="variant: expected one of alexnet, "):
        convert(str(tmp_path / "w.npz"), tmp_path / "again.npz", variant="vgg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.pth", "w.npz"]


@pytest.mark.parametrize("variant", ["slim", "owt"])
def test_a_variant_of_other_shapes_is_not_recorded(tmp_path, variant):
    write_weights(tmp_path / "w.npz", LAYERS)
    refusal = assert_refused(
        lambda path: convert(str(path), tmp_path / "out.npz", variant=variant),
        tmp_path / "w.npz",
    )
    assert refusal == (
        f"expected layers of the shapes of {variant}, got those of alexnet, caffenet, paper or "
        "krizhevsky"
    )
    assert not (tmp_path / "out.npz").exists()


def test_a_network_with_other_layers_records_no_variant(tmp_path):
    """A file that called it alexnet would be opened as one, with normalization."""
    tiny_model(ALEXNET.without("norm1", "norm2").with_width(0.05)).save(tmp_path / "ours.keras")
    assert convert(str(tmp_path / "ours.keras"), tmp_path / "w.npz") == ("alexnet", None)
    assert read_weights(tmp_path / "w.npz").variant is None


def test_a_recipe_s_dropout_is_no_other_network(tmp_path):
    network = ALEXNET.replace_each(Dropout, rate=0.2).with_width(0.05)
    tiny_model(network).save(tmp_path / "ours.keras")
    assert convert(str(tmp_path / "ours.keras"), tmp_path / "w.npz") == ("alexnet", "alexnet")


def test_a_variant_that_is_not_known_is_asked_for(tmp_path):
    write_weights(tmp_path / "w.npz", LAYERS, variant="zfnet")
    refusal = assert_refused(lambda path: resolve_weights(str(path)), tmp_path / "w.npz")
    assert refusal.endswith("got those of zfnet; --variant chooses the network")
    assert resolve_weights(str(tmp_path / "w.npz"), "paper").architecture.name == "paper"


def test_a_written_caffenet_lists_its_layers_in_its_order(tmp_path):
    source = caffemodel(tmp_path / "w.caffemodel", "caffenet")
    convert(str(source), tmp_path / "again.caffemodel")
    order = read_weights(tmp_path / "again.caffemodel").layer_order
    assert order == (
        "conv1",
        "pool1",
        "norm1",
        "conv2",
        "pool2",
        "norm2",
        "conv3",
        "conv4",
        "conv5",
        "pool5",
        "fc6",
        "fc7",
        "fc8",
        "prob",
    )


@pytest.mark.parametrize("variant", ["alexnet", "caffenet"])
def test_a_model_of_ours_becomes_a_caffemodel_that_opencv_runs(tmp_path, variant):
    """The same activations from OpenCV's network of the written file as from Keras's of the
    model.
    """
    model = tiny_model(variant, size=67)
    model.save(tmp_path / "ours.keras")
    convert(str(tmp_path / "ours.keras"), tmp_path / "ours.caffemodel")
    images = np.random.default_rng(0).uniform(-100, 100, (1, 67, 67, 3)).astype(np.float32)
    network = caffe_files.opencv_network(
        tmp_path / "ours.caffemodel", caffe_files.prototxt(variant, 5, 0.05, 67)
    )
    network.setInput(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(model(images).numpy(), network.forward(), atol=1e-4)


def test_what_is_there_is_not_overwritten(tmp_path):
    source, out = caffemodel(tmp_path / "w.caffemodel"), tmp_path / "out.npz"
    out.write_bytes(b"precious")
    with pytest.raises(WeightsError, match=r"out\.npz: already exists"):
        convert(str(source), out)
    assert out.read_bytes() == b"precious"
    convert(str(source), out, overwrite=True)
    assert len(read_weights(out).layers) == 8


def test_a_file_can_be_converted_over_itself(tmp_path):
    source = caffemodel(tmp_path / "w.caffemodel")
    expected = {
        name: kernel.tobytes() for name, (kernel, _) in read_weights(source).layers.items()
    }
    convert(str(source), source, overwrite=True)
    assert {
        name: kernel.tobytes() for name, (kernel, _) in read_weights(source).layers.items()
    } == expected


@pytest.mark.parametrize("name", ["out.pt", "out", "out.h5"])
def test_a_suffix_that_is_not_written_is_refused_before_anything_is_read(tmp_path, name):
    with pytest.raises(
        WeightsError, match=r"expected a name that ends in one of \.caffemodel, \.mat, \.pth"
    ):
        convert("caffe", tmp_path / name)


def test_a_folder_that_is_not_there(tmp_path):
    source = caffemodel(tmp_path / "w.caffemodel")
    with pytest.raises(WeightsError, match="cannot be written"):
        convert(str(source), tmp_path / "no" / "out.npz")


def test_a_writer_that_changes_a_number_is_noticed(tmp_path, monkeypatch):
    from alexnet_keras.pretrained import verification

    source = caffemodel(tmp_path / "w.caffemodel")
    monkeypatch.setattr(verification, "write_weights", lambda path, *_: flipped(path))
    with pytest.raises(WeightsError, match="what was written differs from .*: conv3 kernel"):
        convert(str(source), tmp_path / "out.npz")


def test_a_model_file_without_its_weights_is_refused(tmp_path, model_file):
    bare = tmp_path / "bare.keras"
    with zipfile.ZipFile(model_file) as whole, zipfile.ZipFile(bare, "w") as part:
        for name in ("config.json", "metadata.json"):
            part.writestr(name, whole.read(name))
    with pytest.raises(WeightsError, match=r"bare\.keras: "):
        verify(str(bare))
