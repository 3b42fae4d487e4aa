"""The .onnx reader against models that the onnx package encodes."""

import os

import numpy as np
import pytest

from alexnet_keras.errors import WeightsError
from weights.onnx import read_onnx

onnx = pytest.importorskip("onnx")
from tests.weights.onnx_files import (  # noqa: E402
    CAFFENET,
    LAYERS,
    elsewhere,
    model_of,
    tensor_of,
    write,
)  # noqa: E402

helper = onnx.helper


def assert_layers(found, expected=LAYERS):
    """``found`` in canonical form, ``expected`` channels first."""
    assert list(found) == list(expected)
    for name, (kernel, bias) in expected.items():
        if kernel.ndim == 4:
            kernel = np.moveaxis(kernel, (2, 3, 1, 0), (0, 1, 2, 3))
        elif name == "fc6":
            kernel = np.stack(
                [
                    kernel[:, channel * 4 + row * 2 + column]
                    for row in range(2)
                    for column in range(2)
                    for channel in range(5)
                ]
            )
        else:
            kernel = kernel.T
        np.testing.assert_array_equal(found[name][0], kernel)
        np.testing.assert_array_equal(found[name][1], bias)
        assert found[name][0].dtype == found[name][1].dtype == np.float32


def test_the_zoos_form(tmp_path):
    weights = read_onnx(write(tmp_path / "w.onnx", model_of()))
    assert (weights.file_format, weights.path) == ("onnx", tmp_path / "w.onnx")
    assert_layers(weights.layers)
    assert weights.layer_order == (
        "conv1",
        "norm1",
        "pool1",
        "conv2",
        "norm2",
        "pool2",
        "conv3",
        "conv4",
        "conv5",
        "pool5",
        "fc6",
        "fc7",
        "fc8",
    )


def test_the_order_tells_caffenet(tmp_path):
    order = read_onnx(write(tmp_path / "w.onnx", model_of(order=CAFFENET))).layer_order
    assert order[:6] == ("conv1", "pool1", "norm1", "conv2", "pool2", "norm2")


def test_float32_is_not_copied_but_for_fc6(tmp_path):
    found = read_onnx(write(tmp_path / "w.onnx", model_of())).layers
    assert [
        name for name, pair in found.items() if any(array.flags.writeable for array in pair)
    ] == ["fc6"]


@pytest.mark.parametrize(
    "options",
    [
        {"names": "onnx::Conv_{}{}"},
        {"names": "{1}.{0}"},
        {"transB": 0},
        {"alpha": 1.0, "beta": 1.0},
        {"dense": "MatMul"},
    ],
)
def test_other_names_and_ways_to_write_a_dense_layer(tmp_path, options):
    assert_layers(read_onnx(write(tmp_path / "w.onnx", model_of(**options))).layers)


def plain_floats(array, name):
    return helper.make_tensor(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape, array.ravel().tolist()
    )


@pytest.mark.parametrize(
    ("dtype", "tensor"),
    [
        ("float16", tensor_of),
        ("float64", tensor_of),
        ("float32", plain_floats),
        ("float64", plain_floats),
    ],
)
def test_other_dtypes_and_ways_to_write_numbers(tmp_path, dtype, tensor):
    layers = {
        name: tuple(array.astype(np.float16).astype(dtype) for array in pair)
        for name, pair in LAYERS.items()
    }
    assert_layers(
        read_onnx(write(tmp_path / "w.onnx", model_of(layers, tensor=tensor))).layers, layers
    )


def test_bfloat16(tmp_path):
    def rounded(array, name):
        bits = np.ascontiguousarray(array).view("<u4") >> 16
        return helper.make_tensor(
            name, onnx.TensorProto.BFLOAT16, array.shape, bits.astype("<u2").tobytes(), raw=True
        )

    found = read_onnx(write(tmp_path / "w.onnx", model_of(tensor=rounded))).layers["fc7"][1]
    np.testing.assert_allclose(found, LAYERS["fc7"][1], rtol=2**-7)
    assert (found.view("<u4") & 0xFFFF == 0).all()


def test_numbers_in_a_file_of_the_same_folder(tmp_path):
    onnx.save_model(
        model_of(),
        tmp_path / "w.onnx",
        save_as_external_data=True,
        location="w.data",
        size_threshold=0,
    )
    assert (tmp_path / "w.data").stat().st_size >= sum(
        array.nbytes for pair in LAYERS.values() for array in pair
    )
    assert_layers(read_onnx(tmp_path / "w.onnx").layers)
    os.remove(tmp_path / "w.data")
    with pytest.raises(WeightsError, match=r"w.data: expected a file, got none"):
        read_onnx(tmp_path / "w.onnx")


@pytest.mark.parametrize(
    "location",
    [
        "../outside",
        "{}/outside",
        "link",
        "folder/../../outside",
        "a/b/../../../outside",
        "",
        ".",
        "..",
        "/etc/passwd",
        "/dev/zero",
        "folder",
        "line\nfeed",
        "n" * 300,
        "absent",
        "w.onnx/outside",
        "~/outside",
    ],
)
def test_external_data_stay_in_the_folder(tmp_path, location):
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "outside").write_bytes(bytes(40))
    (folder / "link").symlink_to(tmp_path / "outside")
    (folder / "w.onnx").write_bytes(elsewhere(location.format(tmp_path)))
    with pytest.raises(WeightsError, match=r"^[ -~]+: [ -~]+$"):
        read_onnx(folder / "w.onnx")


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        ("-1", "40"),
        ("99", "40"),
        ("1", "40"),
        ("0", "39"),
        ("0", "41"),
        ("x", "40"),
        ("0", "1e1"),
        ("9" * 30, "40"),
        ("0", "9" * 14),
        ("0.0", "40"),
        ("0", "-40"),
        ("\u0664", "40"),
        ("", "0"),
    ],
)
def test_external_data_stay_in_their_file(tmp_path, offset, length):
    (tmp_path / "outside").write_bytes(bytes(40))
    (tmp_path / "w.onnx").write_bytes(elsewhere("outside", offset, length))
    with pytest.raises(
        WeightsError, match=r"^[ -~]+: graph\[0\] initializer\[15\] 'fc8_b_0'[ -~]+$"
    ):
        read_onnx(tmp_path / "w.onnx")
