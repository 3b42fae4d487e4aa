"""AlexNet's layers by shape and order: fine-tuned and renamed files, and other networks."""

import logging

import pytest

from tests.weights import caffe_files as files
from weights.caffe import read_caffemodel
from weights.layer_matching import PUBLIC_NAMES, match_layers

ALEXNET = {
    "conv1": (11, 11, 3, 96),
    "conv2": (5, 5, 48, 256),
    "conv3": (3, 3, 256, 384),
    "conv4": (3, 3, 192, 384),
    "conv5": (3, 3, 192, 256),
    "fc6": (9216, 4096),
    "fc7": (4096, 4096),
    "fc8": (4096, 205),
}
OWT = dict(
    zip(
        PUBLIC_NAMES,
        [
            (11, 11, 3, 64),
            (5, 5, 64, 192),
            (3, 3, 192, 384),
            (3, 3, 384, 256),
            (3, 3, 256, 256),
            (9216, 4096),
            (4096, 4096),
            (4096, 565),
        ],
        strict=True,
    )
)
TINY = {"width": 1 / 64, "classes": 20, "size": 131}


def renamed(shapes, **names):
    return {names.get(name, name): shape for name, shape in shapes.items()}


def numbered(shapes):
    return {f"layer_{index}": shape for index, shape in enumerate(shapes.values())}


def without(shapes, *names):
    return {name: shape for name, shape in shapes.items() if name not in names}


@pytest.mark.parametrize("network", [ALEXNET, OWT])
@pytest.mark.parametrize(
    "names",
    [
        {"fc8": "fc8_flickr"},
        {"fc6": "fc6_new", "fc7": "fc7_new", "fc8": "fc8_new"},
        {"conv1": "Convolution1", "fc8": "score"},
    ],
)
def test_layers_of_other_names(network, names):
    found = match_layers(renamed(network, **names))
    assert found == {names.get(name, name): name for name in PUBLIC_NAMES}


@pytest.mark.parametrize("network", [ALEXNET, OWT])
@pytest.mark.parametrize("count", [5, 6, 7, 8])
def test_no_name_of_ours_and_the_last_dense_layers_left_out(network, count):
    shapes = numbered(dict(list(network.items())[:count]))
    assert list(match_layers(shapes).values()) == list(PUBLIC_NAMES[:count])


OTHERS = {
    "VGG's first kernels": ALEXNET | {"conv1": (3, 3, 3, 96)},
    "grey images": ALEXNET | {"conv1": (11, 11, 1, 96)},
    "three groups": ALEXNET | {"conv2": (5, 5, 32, 256)},
    "inputs that no layer puts out": ALEXNET | {"fc8": (1000, 10)},
    "fc6 of another trunk": ALEXNET | {"fc6": (9217, 4096)},
    "no conv5": without(ALEXNET, "conv5"),
    "no conv1": without(ALEXNET, "conv1"),
    "two heads": {**ALEXNET, "head": (4096, 10)},
    "a dense layer first": {"fc": (3, 3), **ALEXNET},
    "one convolution": {"a": (11, 11, 3, 96)},
    "a kernel of 3 dimensions": {**without(ALEXNET, "fc8"), "head": (1, 4096, 10)},
}


@pytest.mark.parametrize("shapes", OTHERS.values(), ids=OTHERS)
def test_what_is_no_alexnet_keeps_its_names(shapes):
    shapes = renamed(shapes, conv3="three")
    assert match_layers(shapes) == {name: name for name in shapes}


def test_public_names_stay_where_the_order_says_otherwise():
    swapped = {
        **without(ALEXNET, "fc7", "fc8"),
        "fc8": (4096, 4096),
        "last": (4096, 10),
    }
    assert match_layers(swapped) == {name: name for name in swapped}
    backwards = dict(reversed(ALEXNET.items()))
    assert match_layers(backwards) == {name: name for name in backwards}


@pytest.mark.parametrize("write", [files.write_v1, files.write_v2])
def test_a_fine_tuned_caffemodel_says_in_one_line_what_became_what(tmp_path, caplog, write):
    layers = files.random_layers(3, **TINY)
    order = [name.replace("fc8", "fc8_flickr") for name in files.CAFFENET_ORDER]
    fc8 = layers.pop("fc8")
    path = write(tmp_path / "w.caffemodel", {**layers, "fc8_flickr": fc8}, order)
    with caplog.at_level(logging.WARNING):
        found = read_caffemodel(path)
    assert list(found.layers) == list(PUBLIC_NAMES)
    assert (found.layers["fc8"][0] == fc8[0].T).all()
    assert found.layer_order.index("pool1") < found.layer_order.index("norm1")
    assert found.layer_order[-2:] == ("fc8", "prob")
    assert caplog.messages == [f"{path}: layers found by shape and order: fc8_flickr is fc8"]


@pytest.mark.parametrize("encoding", ["v1", "v2"])
def test_a_caffemodel_without_one_public_name_still_tells_its_order(tmp_path, encoding):
    layers = files.random_layers(3, **TINY)
    encode = {"v1": files.v1_layer, "v2": files.v2_layer}[encoding]
    network = {"v1": files.v1_network, "v2": files.v2_network}[encoding]
    path = tmp_path / "w.caffemodel"
    content = network([encode(name, layers.get(name)) for name in files.CAFFENET_ORDER])
    for (
        name
    ) in files.CAFFENET_ORDER:  # of the same length: no field of the message changes its size
        content = content.replace(name.encode(), name.upper().encode())
    path.write_bytes(content)
    found = read_caffemodel(path)
    assert found.layer_order == tuple(
        name for name in files.CAFFENET_ORDER if name.startswith(("conv", "pool", "norm", "fc"))
    )
    assert (found.layers["conv1"][0] == layers["conv1"][0].transpose(2, 3, 1, 0)).all()


def test_names_of_ours_bring_no_line(tmp_path, caplog):
    read_caffemodel(files.write_v2(tmp_path / "w.caffemodel", files.random_layers(3, **TINY)))
    assert caplog.messages == []
