import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from tests.weights import caffe_files as files
from weights.caffe import read_caffemodel, read_mean
from weights.caffe_writer import write_caffemodel

TINY = {"width": 1 / 64, "classes": 7, "size": 131}  # pool5 is 3 x 3
WRITERS = [files.write_v1, files.write_v2]
WEIGHTED = ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
TRUNK = "bvlc_alexnet_trunk.caffemodel"


@pytest.fixture(params=WRITERS)
def tiny(request, tmp_path):
    """A small random network in Caffe's order and a file that holds it."""
    layers = files.random_layers(3, **TINY)
    return layers, request.param(tmp_path / "tiny.caffemodel", layers)


def test_canonical_order_is_that_of_the_definition_index_by_index(tiny):
    layers, path = tiny
    read = read_caffemodel(path).layers
    assert list(read) == WEIGHTED
    for name in ("conv1", "conv2", "conv4"):
        kernel = layers[name][0]
        for o, i, h, w in np.ndindex(*kernel.shape):
            assert read[name][0][h, w, i, o] == kernel[o, i, h, w]
    for name in ("fc7", "fc8"):
        np.testing.assert_array_equal(read[name][0], layers[name][0].T)
    kernel, channels = layers["fc6"][0], len(layers["conv5"][0])
    assert kernel.shape[1] == 9 * channels
    for c, h, w in np.ndindex(channels, 3, 3):
        np.testing.assert_array_equal(
            read["fc6"][0][(h * 3 + w) * channels + c], kernel[:, c * 9 + h * 3 + w]
        )
    for name in WEIGHTED:
        np.testing.assert_array_equal(read[name][1], layers[name][1])


def test_opencv_reads_the_same_values_from_the_same_file(tiny):
    _, path = tiny
    network = files.opencv_network(path, files.prototxt(**TINY))
    for name, (kernel, bias) in read_caffemodel(path).layers.items():
        theirs = network.getLayer(network.getLayerId(name)).blobs
        if kernel.ndim == 4:
            np.testing.assert_array_equal(kernel, theirs[0].transpose(2, 3, 1, 0))
        elif name != "fc6":
            np.testing.assert_array_equal(kernel, theirs[0].T)
        np.testing.assert_array_equal(bias, theirs[1].ravel())


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("variant", "start"),
    [
        ("alexnet", ["conv1", "norm1", "pool1", "conv2", "norm2", "pool2"]),
        ("caffenet", ["conv1", "pool1", "norm1", "conv2", "pool2", "norm2"]),
    ],
)
def test_layer_order_tells_caffenet_from_alexnet(tmp_path, write, variant, start):
    path = write(
        tmp_path / "tiny.caffemodel", files.random_layers(0, **TINY), files.ORDERS[variant]
    )
    found = read_caffemodel(path)
    assert found.layer_order == (
        *start,
        "conv3",
        "conv4",
        "conv5",
        "pool5",
        "fc6",
        "fc7",
        "fc8",
        "prob",
    )
    assert (found.file_format, found.path) == ("caffemodel", path)


V1_BY_HAND = bytes.fromhex(
    "0a 01 6e"  # name: "n"
    "12 37"  # layers, 55 bytes
    "22 03 66 63 38"  # name: "fc8"
    "28 0e"  # type: INNER_PRODUCT
    "32 1a 08 01 10 01 18 02 20 02 2a 10 0000803f 00000040 00004040 "
    "00008040"  # blobs: 1, 1, 2, 2: 1 2 3 4
    "32 12 08 01 10 01 18 01 20 02 2a 08 0000003f 000000bf"
)  # blobs: 1, 1, 1, 2: 0.5 -0.5
V2_BY_HAND = bytes.fromhex(
    "a2 06 33"  # layer, 51 bytes
    "0a 03 66 63 38"  # name: "fc8"
    "12 02 49 50"  # type
    "3a 18 3a 04 0a 02 02 02 2a 10 0000803f 00000040 00004040 00008040"  # blobs: shape 2, 2
    "3a 0e 3a 02 08 02 2d 0000003f 2d 000000bf"
)  # blobs: dim 2 unpacked, floats unpacked


@pytest.mark.parametrize("encoded", [V1_BY_HAND, V2_BY_HAND], ids=["V1", "V2"])
def test_bytes_written_by_hand(tmp_path, encoded):
    (tmp_path / "hand").write_bytes(encoded)
    kernel, bias = read_caffemodel(tmp_path / "hand").layers["fc8"]
    assert kernel.tolist() == [[1, 3], [2, 4]]
    assert bias.tolist() == [0.5, -0.5]


KERNEL, BIAS = np.arange(6, dtype=np.float32).reshape(2, 3) - 2.5, np.float32([7, 8])
SHAPE = files.shape(2, 3)
ENCODINGS = {
    "double_data": SHAPE + files.packed(8, KERNEL, "<f8"),
    "double_data unpacked": SHAPE + files.unpacked(8, KERNEL, "d"),
    "unpacked": SHAPE + files.unpacked(5, KERNEL),
    "packed in pieces": files.packed(5, KERNEL[0]) + SHAPE + files.packed(5, KERNEL[1]),
    "packed and unpacked": files.unpacked(5, KERNEL[0]) + SHAPE + files.packed(5, KERNEL[1]),
    "pieces apart": files.unpacked(5, KERNEL[0])
    + files.unpacked(6, [9, 9])
    + files.unpacked(5, KERNEL[1])
    + SHAPE,
    "shape unpacked": files.delimited(7, files.integer(1, 2) + files.integer(1, 3))
    + files.packed(5, KERNEL),
    "shape in pieces": files.delimited(7, files.integer(1, 2))
    + files.delimited(7, files.integer(1, 3))
    + files.packed(5, KERNEL),
    "four numbers before shape": files.shape(3, 2) + files.v1_blob(KERNEL),
    "diff": SHAPE + files.packed(5, KERNEL) + files.packed(6, np.full(6, np.nan)),
    "fields of the future": files.integer(900, 5)
    + SHAPE
    + files.unpacked(901, [1], "d")
    + files.packed(5, KERNEL)
    + files.text(902, "?"),
}


@pytest.mark.parametrize("blob", ENCODINGS.values(), ids=ENCODINGS)
def test_every_way_to_encode_a_blob(tmp_path, blob):
    path = tmp_path / "one.caffemodel"
    layer = (
        files.text(1, "fc8") + files.delimited(7, blob) + files.delimited(7, files.v2_blob(BIAS))
    )
    path.write_bytes(files.v2_network([layer]))
    kernel, bias = read_caffemodel(path).layers["fc8"]
    np.testing.assert_array_equal(kernel, KERNEL.T)
    np.testing.assert_array_equal(bias, BIAS)
    assert kernel.dtype == bias.dtype == np.float32


def test_layers_of_other_names_are_kept_and_weightless_ones_only_ordered(tmp_path):
    layers = [
        files.v1_layer("data"),
        files.v1_layer("mine", (KERNEL, BIAS)),
        files.v1_layer("norm1"),
    ]
    (tmp_path / "w").write_bytes(files.v1_network(layers))
    found = read_caffemodel(tmp_path / "w")
    assert list(found.layers) == ["mine"]
    assert found.layer_order == ("norm1",)


@pytest.mark.parametrize("write", WRITERS)
def test_reading_copies_nothing_and_does_not_write_through(tmp_path, write):
    layers = {"fc8": (np.ones((1024, 1024), np.float32), np.zeros(1024, np.float32))}
    path = write(tmp_path / "w.caffemodel", layers)
    read_caffemodel(path)
    tracemalloc.start()
    kernel, _ = read_caffemodel(path).layers["fc8"]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20 < kernel.nbytes
    assert not kernel.flags.writeable


def test_trunk_is_read_as_opencv_reads_it(shared_data):
    network = files.opencv_network(shared_data / TRUNK, files.prototxt(last="pool5"))
    found = read_caffemodel(shared_data / TRUNK)
    assert list(found.layers) == list(found.layer_order) == WEIGHTED[:5]
    for name, (kernel, bias) in found.layers.items():
        theirs = network.getLayer(network.getLayerId(name)).blobs
        np.testing.assert_array_equal(kernel, theirs[0].transpose(2, 3, 1, 0))
        np.testing.assert_array_equal(bias, theirs[1].ravel())


def test_conv1_of_the_trunk_has_the_two_groups_of_the_papers_figure_3(shared_data):
    kernel, _ = read_caffemodel(shared_data / TRUNK).layers["conv1"]
    colour = kernel - kernel.mean(axis=2, keepdims=True)
    share = (colour**2).sum(axis=(0, 1, 2)) / (kernel**2).sum(axis=(0, 1, 2))
    low, high = sorted([np.median(share[:48]), np.median(share[48:])])
    assert high > 5 * low


@pytest.mark.parametrize("name", [b"AlexNet", b"paper", b"", b"\xff" * 500])
def test_the_name_that_others_give_their_network_is_no_variant(tmp_path, name):
    path = files.write_v2(tmp_path / "w.caffemodel", files.random_layers(width=1 / 48))
    path.write_bytes(path.read_bytes().replace(files.text(1, "AlexNet"), files.delimited(1, name)))
    assert read_caffemodel(path).variant is None


def test_written_file_gives_the_same_bits_back(tiny, tmp_path):
    layers = read_caffemodel(tiny[1]).layers
    write_caffemodel(tmp_path / "again.caffemodel", layers)
    again = read_caffemodel(tmp_path / "again.caffemodel").layers
    assert list(again) == list(layers)
    for name in layers:
        assert [array.tobytes() for array in again[name]] == [
            array.tobytes() for array in layers[name]
        ]


def test_opencv_computes_the_same_from_the_written_file(tiny, tmp_path):
    write_caffemodel(tmp_path / "again.caffemodel", read_caffemodel(tiny[1]).layers)
    image = np.random.default_rng(0).uniform(-120, 130, (1, 3, 131, 131)).astype(np.float32)
    probabilities = []
    for path in (tiny[1], tmp_path / "again.caffemodel"):
        network = files.opencv_network(path, files.prototxt(**TINY))
        network.setInput(image)
        probabilities.append(network.forward("prob"))
    np.testing.assert_array_equal(*probabilities)
    assert probabilities[0].std() > 1e-3


@settings(max_examples=30, deadline=None)
@given(
    filters=st.integers(1, 300),
    inputs=st.integers(1, 9),
    side=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_any_shape_makes_the_round_trip(tmp_path_factory, filters, inputs, side, seed):
    values = np.random.default_rng(seed).standard_normal((side, side, inputs, filters), np.float32)
    layers = {
        "conv5": (values, values[0, 0, 0]),
        "fc6": (np.tile(values[0, 0].T, (4, 1)), values[0, 0, :, 0]),
    }
    path = tmp_path_factory.mktemp("shape") / "w.caffemodel"
    write_caffemodel(path, layers)
    for name, arrays in read_caffemodel(path).layers.items():
        for read, written in zip(arrays, layers[name], strict=True):
            np.testing.assert_array_equal(read, written)


def test_writing_holds_a_block_at_a_time(tmp_path):
    layers = {"fc7": (np.ones((4096, 2048), np.float32), np.zeros(2048, np.float32))}
    tracemalloc.start()
    write_caffemodel(tmp_path / "w.caffemodel", layers)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < layers["fc7"][0].nbytes * 0.6


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "w.caffemodel"
    path.write_bytes(b"old")
    with pytest.raises(AttributeError):
        write_caffemodel(path, {"fc8": (KERNEL.T, BIAS), "broken": (None, None)})
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["absent/w.caffemodel", "folder"])
def test_place_that_cannot_be_written_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match=name):
        write_caffemodel(tmp_path / name, {"fc8": (KERNEL.T, BIAS)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]


def test_caffes_imagenet_mean_comes_out_as_rgb(shared_data):
    mean = read_mean(shared_data / "ilsvrc_2012_mean.npy")
    assert (mean.shape, mean.dtype) == ((256, 256, 3), np.float32)
    np.testing.assert_allclose(mean.mean(axis=(0, 1)), [122.679, 116.669, 104.007], atol=0.01)


BGR = np.stack([np.full((2, 4), level) + np.arange(4) for level in (100, 110, 120)]).astype(
    np.float32
)


@pytest.mark.parametrize(
    "blob",
    [files.v1_blob(BGR), files.v2_blob(BGR), files.v2_blob(BGR[None])],
    ids=["four numbers", "shape", "batch of one"],
)
def test_binaryproto_mean(tmp_path, blob):
    (tmp_path / "mean.binaryproto").write_bytes(blob)
    mean = read_mean(tmp_path / "mean.binaryproto")
    assert (mean.shape, mean.dtype) == ((2, 4, 3), np.float32)
    assert mean[1, 3].tolist() == [123, 113, 103]


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "u1"])
@pytest.mark.parametrize(
    "array", [BGR, np.asfortranarray(BGR), BGR[:, 0, 0]], ids=["C", "Fortran", "three numbers"]
)
def test_npy_mean_in_any_plain_encoding(tmp_path, dtype, array):
    np.save(tmp_path / "mean.npy", array.astype(dtype))
    mean = read_mean(tmp_path / "mean.npy")
    np.testing.assert_array_equal(
        mean, array[::-1] if array.ndim == 1 else array[::-1].transpose(1, 2, 0)
    )
    assert mean.dtype == np.float32


def test_npy_mean_with_its_channels_last_is_rgb(tmp_path):
    np.save(tmp_path / "mean.npy", BGR[::-1].transpose(1, 2, 0))
    np.testing.assert_array_equal(
        read_mean(tmp_path / "mean.npy"), BGR[::-1].transpose(1, 2, 0), strict=True
    )


@pytest.mark.slow
def test_full_size_file_is_read_and_written_back_as_opencv_reads_it(tmp_path):
    path = files.write_v1(tmp_path / "full.caffemodel", files.random_layers())
    assert path.stat().st_size > 243_000_000
    layers = read_caffemodel(path).layers
    assert sum(array.size for arrays in layers.values() for array in arrays) == 60_965_224
    write_caffemodel(tmp_path / "again.caffemodel", layers)
    original, again = (
        files.opencv_network(file, files.prototxt())
        for file in (path, tmp_path / "again.caffemodel")
    )
    for name in WEIGHTED:
        theirs, ours = (
            network.getLayer(network.getLayerId(name)).blobs for network in (original, again)
        )
        for expected, written in zip(theirs, ours, strict=True):
            np.testing.assert_array_equal(written.ravel(), expected.ravel())
