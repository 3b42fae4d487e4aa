"""The reader of .pth files against files that PyTorch itself wrote, and others made without it."""

import base64
import io
import pickle
import struct
import zipfile
import zlib

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from tests.weights.npy_files import save
from tests.weights.refusal import (
    EDITS,
    assert_memory_in_proportion,
    assert_refused,
    mutated,
    read_or_refuse,
)
from tests.weights.torch_files import (
    STORAGES,
    ordered_dict,
    persistent_id,
    tensor,
    text,
    write_pth,
    zip_of,
)
from weights.state_dict import TORCHVISION_NAMES
from weights.torch import read_pth

# Made by Python 3.11 and torch 2.13.0: base = torch.arange(64.) tensors = {"features.0.weight":
# base[1:37].reshape(2, 3, 3, 2).permute(0, 3, 1, 2), "features.0.bias": base[40:42],
# "classifier.4.weight": torch.nn.Parameter(torch.eye(2).half()), "classifier.4.bias":
# base[:2].double() / 3, "classifier.6.weight": (base[:6].reshape(2, 3).T / 4).bfloat16(),
# "classifier.6.bias": base[3:6]} torch.save(tensors, "golden.pth",
# _use_new_zipfile_serialization=True, then False)
# base64.b64encode(zlib.compress(open("golden.pth", "rb").read(), 9))
ZIP = (
    "eNqllktsG1UUhq8fccyQV5sSEkhKCi0YSBy/H5BidxRZlQYJ21BkVUjuxJ7EIyZx7vi6JQgkSyihlQpCrJBAVdhUbJCKhATLLrssICQWLCqxAYFE"
    "lwg2/HfGceZOsSvSST6P4tz//OfMPffYRcXnJyQYJPdc42SSrDeNura5VFeZGt560yjI4+S8eHW871ISqhyBYE1TWdvUWuFI+JKmrzcY9dRY06w1"
    "wtU2042WVDW11bZu1KtM22w1zerFmES9oVBlGOIWVqrrGvXZEqlgNFX2qv2mRP0VD9ZE6FDFh3ttq00DSp7R4ZLiCSle/PgUH6PBkHJU8SgBxcvo"
    "Q1dqtaZhaDWmNzdb0itmXTO1+opeYxKVni3ThxkdKdPRyriY+KqutuhYA1k1fA1/Y6hh+YyXFNjs0AnFs0OPXGnwAEcZnSzTY5VJnpChtlr6mq6Z"
    "4cR+7Y/0qX1LNdUNjWmmRKdsn27FZ1VjrVfwo1bBUTqNBPyMzpQUwuvcpY/h5tmlj9tJzDI6V6bHL1t/PPE+nS/TE9ZeCBlZRT0pmK0026uG1rN7"
    "yrKL0ZMN6+Gdsux26NO83mdsqxCjeH3OXW9qv97nhfiytX/RVM9hwXKI00U4BBgNcwcfL2gJO+bbpRHbJcporEzj7hpSdg0J98YkS3znd2iKJ5q2"
    "Q2QYzZbpC+1wURkOfnA99dmnXkI4xb6tPkVO7Ld6eK1pbqiselEzW+icgjzn7njxinKXb/78+T1eHqe/ywzJ9Fy67V5VDX19c0PbZAU5Mdioz5VK"
    "8ARyl+hvqJB4ByYwQfL7CaxuM63Jz0RBXj6U7/5l6IwZGs9h5/QvMwG4BAbmMEpyzqmyFCnILz5IAnbUTg4vefyCDtgDN8EdQM6gcjAPIiAPiuAC"
    "2AIdcBl8BD4Be+ALcAN8C26CW+A2+AncAb+Cu+AvQGRC/CAIRsAEOAamwSyYBydBCCyACEiADFgGebACzoKXQRG8BirgDXAB1EEDGGALMPAWeEfm"
    "Tz60ePUf0u2/QU9+SHjy0YLsIefJsvXPZR7nlvHhKS4M3mcHTwtxYgU5Sx5w/wg5Z10/5ngeX1//8u6E1a+D80gKecQLcpQcwr/zEsnlc53cnuX9"
    "x+fhH0YQfWSg99jBUe4NisOd37jEXb+7tn7u/ud3jsR7A8QquaWZOibI2yr/kKvq9YK89H+TiEbS6Uwqlo5l09lsJpmIpmLJSDKTTqSS0UQmnoyl"
    "k4lUNm5NGWn76t8h5BGysvTwZHt5Ogft+D2Zu75HuMXO+TklCH/3kj6T2R3DOQJnhBglH+k/d91hnFNsQgjz/UGY3vR0q50ncVRQv+4n4txzS52H"
    "T5TeHhKlUbfUeV5E6XRAlMbcUme7i9I9lzTuljp7dkyQzg4T1+lwa52dNCdoPz7Q/nePF5VAYKG7+LhvsSeUXPdtr33PdC2h498zyVfdBfZn9VDA"
    "1kjWenvtv6xXb/4="
)
LEGACY = (
    "eNp90k9M01AcB/CuLQMr/0EFRUVFHYpz/5ibEjcJIST1D0xNetCMsj1oTV33a9/wTyTZBQRPHj144MjRo0eOHr2YeOSoN4+aePDblRG3TLt83tK3"
    "t35/7/daFd8o1u/3s79Gn+zMD4er4p3vEsY1EkJaryAIZcfmdsG28qvMcU27RAEs0Lrwi2VybrE8KxVNvUTipqZgkr8os7xrvmQuSWskh7Q2TLqG"
    "7XBqU0VNwp1Z4hRUZU32nmGXVqhdlSuVemYfZpeZzisOc8OR8DNmrhicAgVuOwUjnK9w03KVvMOWKqZVzHNWcm0nvxpTSAyFtHYvDCv1FUaS/xdl"
    "1rJ1ft+fVEjWurEmnYjHoqlUOhqPpmMRaqvVVShXUFf2Lqf2BTUQUkV8JFXi1BFS+9WAGlRFToe2CmiGxQocvXCVe06ROaw4Yxa4Qsp4jg5z6sxR"
    "l9bTuI0lU3ep20CNhmS0rKHH8LN7F1REr1OfGlin/i3De+gAp8EcHdEGvCot3XXNZZM54US9O0f/0Z2y7uhPGWeOQsf87P2ezOnW8kFLhv4qJxKP"
    "pCdjyQQNoxwZ5RxfUAWvExt0Al+BDRrxSzrJ6VSOTm/WbkZf05kcna2dXUN9tW2fa4iesStLFjsIH2sOn0QvziNcRPiFWvg6XfR6EfKDxzldytHl"
    "5l4k672YaEibrp1+NHmQd6UpL5GOpSiMvCDyrnp5krfZCM5b2qConxnjFM9Ronl/SX9/k/871uT+sV5b8N6ldUp5W0n7j73O6UaOprxX/7H36reo"
    "LNDqbMRWPZNapcssHBTqV/WmkMlmqpntjFyfmvJHUWi8HtauL5lsw2w1gwFTWajCNuzCnrfsliD0wihEIAvzsAhlqMImvIV3sA078AE+wi58gs/w"
    "FfbgG/yAnyBMC4IMHdAJvTAIQzACozAGIZiACCQgBVOQhRmYg9swDw9Ag0ewCEUwwIIycHgOr6b/AEyYQPU="
)


def golden(encoded):
    return zlib.decompress(base64.b64decode(encoded))


def state_dict(seed=0, dtype=np.float32):
    """A small network of torchvision's names and shapes in proportion, pool5 of 2 x 2."""
    generator = np.random.default_rng(seed)
    shapes = {
        "features.0": (4, 3, 5, 5),
        "features.3": (6, 4, 3, 3),
        "features.6": (6, 6, 3, 3),
        "features.8": (6, 6, 3, 3),
        "features.10": (5, 6, 3, 3),
        "classifier.1": (8, 5 * 4),
        "classifier.4": (8, 8),
        "classifier.6": (10, 8),
    }
    parameters = {
        f"{name}.{role}": shape if role == "weight" else shape[:1]
        for name, shape in shapes.items()
        for role in ("weight", "bias")
    }
    return {
        name: generator.standard_normal(shape, np.float32).astype(dtype)
        for name, shape in parameters.items()
    }


@pytest.mark.parametrize("encoded", [ZIP, LEGACY])
def test_files_of_pytorch(tmp_path, encoded):
    weights = read_pth(save(tmp_path / "w.pth", golden(encoded)))
    assert (weights.file_format, weights.path, weights.layer_order) == (
        "pth",
        tmp_path / "w.pth",
        (),
    )
    assert list(weights.layers) == ["conv1", "fc7", "fc8"]
    assert all(array.dtype == np.float32 for pair in weights.layers.values() for array in pair)
    kernel, bias = weights.layers["conv1"]
    for out in range(2):
        for row in range(3):
            for column in range(3):
                for channel in range(2):
                    assert (
                        kernel[row, column, channel, out]
                        == 1 + out * 18 + row * 6 + column * 2 + channel
                    )
    np.testing.assert_array_equal(bias, [40, 41])
    np.testing.assert_array_equal(weights.layers["fc7"][0], [[1, 0], [0, 1]])
    np.testing.assert_array_equal(weights.layers["fc7"][1], [np.float32(0), np.float32(1 / 3)])
    np.testing.assert_array_equal(weights.layers["fc8"][0], [[0, 0.25, 0.5], [0.75, 1, 1.25]])
    np.testing.assert_array_equal(weights.layers["fc8"][1], [3, 4, 5])


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64])
def test_every_dtype_in_both_encodings(tmp_path, dtype, legacy):
    stored = state_dict(dtype=dtype)
    found = read_pth(write_pth(tmp_path / "w.pth", stored, legacy)).layers
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"]
    for name, layer in TORCHVISION_NAMES.items():
        weight = stored[f"{name}.weight"].astype(np.float32)
        if layer != "fc6":
            expected = (
                np.moveaxis(weight, (2, 3, 1, 0), (0, 1, 2, 3)) if weight.ndim == 4 else weight.T
            )
            np.testing.assert_array_equal(found[layer][0], expected)
        np.testing.assert_array_equal(found[layer][1], stored[f"{name}.bias"].astype(np.float32))
        assert found[layer][0].dtype == found[layer][1].dtype == np.float32


def test_fc6_is_reordered_to_height_width_channel(tmp_path):
    stored = state_dict()
    kernel = read_pth(write_pth(tmp_path / "w.pth", stored)).layers["fc6"][0]
    for channel in range(5):
        for row in range(2):
            for column in range(2):
                np.testing.assert_array_equal(
                    kernel[(row * 2 + column) * 5 + channel],
                    stored["classifier.1.weight"][:, channel * 4 + row * 2 + column],
                )


def test_float32_is_not_copied_but_for_fc6(tmp_path):
    found = read_pth(write_pth(tmp_path / "w.pth", state_dict())).layers
    assert [
        name for name, pair in found.items() if any(array.flags.writeable for array in pair)
    ] == ["fc6"]


def public(name):
    layer, _, role = name.rpartition(".")
    return f"{TORCHVISION_NAMES[layer]}.{role}"


@pytest.mark.parametrize(
    "rename", [public, "module.{}".format, lambda name: f"module.{public(name)}"]
)
def test_other_names(tmp_path, rename):
    expected = read_pth(write_pth(tmp_path / "a.pth", state_dict())).layers
    renamed = {rename(name): array for name, array in state_dict().items()}
    found = read_pth(write_pth(tmp_path / "b.pth", renamed)).layers
    assert list(found) == list(expected)
    for name, pair in expected.items():
        np.testing.assert_array_equal(found[name][0], pair[0])
        np.testing.assert_array_equal(found[name][1], pair[1])


PAIR = {"fc8.weight": tensor(), "fc8.bias": tensor(shape=(2,), offset=2)}
NUMBERS = np.arange(4, dtype="<f4")


def of_pickle(path, pickled, numbers=NUMBERS, **members):
    return read_pth(
        save(path, zip_of({"data.pkl": pickled, "data/0": numbers.tobytes(), **members}))
    ).layers


@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_checkpoints(tmp_path, key):
    inner = ordered_dict(PAIR)[2:-1]
    pickled = (
        b"\x80\x02}("
        + text("epoch")
        + b"K\x5a"
        + text("best_acc1")
        + tensor(shape=())(False)
        + text("arch")
        + text("alexnet")
        + text(key)
        + inner
        + b"u."
    )
    found = of_pickle(tmp_path / "w.pth", pickled)
    np.testing.assert_array_equal(found["fc8"][0], [[0, 2], [1, 3]])
    np.testing.assert_array_equal(found["fc8"][1], [2, 3])


def test_ordered_dictionary_of_python_2_and_tensors_of_pytorch_0_1(tmp_path):
    items = b"".join(
        b"]("
        + text(name)
        + part(False)
        .replace(b"_rebuild_tensor_v2", b"_rebuild_tensor")
        .replace(b"\x89ccollections\nOrderedDict\n)R", b"")
        + b"e"
        for name, part in PAIR.items()
    )
    found = of_pickle(
        tmp_path / "w.pth", b"\x80\x02ccollections\nOrderedDict\n](" + items + b"e\x85R."
    )
    np.testing.assert_array_equal(found["fc8"][0], [[0, 2], [1, 3]])


def test_big_endian_archive(tmp_path):
    found = of_pickle(
        tmp_path / "w.pth", ordered_dict(PAIR), NUMBERS.astype(">f4"), byteorder=b"big"
    )
    np.testing.assert_array_equal(found["fc8"][0], [[0, 2], [1, 3]])
    assert found["fc8"][0].dtype.isnative


def test_archive_without_checksums(tmp_path):
    content = bytearray(zip_of({"data.pkl": ordered_dict(PAIR), "data/0": NUMBERS.tobytes()}))
    for entry in zipfile.ZipFile(io.BytesIO(content)).infolist():
        checksum = struct.pack("<L", entry.CRC)
        content = content.replace(checksum, bytes(4))
    assert "fc8" in read_pth(save(tmp_path / "w.pth", bytes(content))).layers


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=2),
    order=st.permutations((0, 1)),
    offset=st.integers(0, 9),
    step=st.integers(1, 3),
    kind=st.sampled_from(sorted(STORAGES)),
)
def test_any_strides_and_offset(tmp_path_factory, shape, order, offset, step, kind):
    base = np.arange(offset + step * int(np.prod(shape)) + 2).astype(kind)
    view = base[offset::step][: int(np.prod(shape))].reshape(shape).transpose(order)
    strides = [stride // base.itemsize for stride in view.strides]
    weight = tensor(
        STORAGES[kind], numel=base.size, offset=offset, shape=view.shape, strides=strides
    )
    bias = tensor(STORAGES[kind], numel=base.size, shape=view.shape[:1])
    path = tmp_path_factory.getbasetemp() / "strided.pth"
    found = of_pickle(path, ordered_dict({"fc8.weight": weight, "fc8.bias": bias}), base)
    np.testing.assert_array_equal(found["fc8"][0], view.astype(np.float32).T)


@pytest.mark.parametrize(
    ("pickled", "expected"),
    [
        (
            ordered_dict({"features.2.weight": tensor()}),
            "tensor 'features.2.weight': expected a name of torchvision's Alex",
        ),
        (ordered_dict({"fc8.weight": tensor()}), "fc8: expected a kernel and a bias, got no bias"),
        (
            ordered_dict(PAIR | {"module.fc8.bias": tensor()}),
            "expected one tensor for fc8's bias, got two",
        ),
        (
            ordered_dict({"fc8.weight": tensor(strides=(2, 2))}),
            "tensor 'fc8.weight': expected a tensor within 4 stored "
            "numbers, got shape (2, 2), strides (2, 2), offset 0",
        ),
        (pickle.dumps([1, 2], 2), "expected a state dict of tensors, got list"),
        (pickle.dumps({"fc8.weight": 3}, 2), "'fc8.weight': expected a tensor, got int"),
        (
            b"\x80\x02" + persistent_id("LongStorage", "0", 4) + b".",
            "member archive/data.pkl: opcode GLOBAL at byte 15: "
            "expected a global of the array types, got 'torch LongStorage', which is not allowed",
        ),
        (
            ordered_dict({"fc8.weight": tensor(key="7")}),
            "zip archive: expected member 'archive/data/7', got none",
        ),
        (
            ordered_dict({"fc8.weight": tensor(numel=5)}),
            "member 'archive/data/0': expected 20 bytes, got 16",
        ),
    ],
)
def test_message_names_the_place(tmp_path, pickled, expected):
    content = zip_of({"data.pkl": pickled, "data/0": NUMBERS.tobytes()})
    assert expected in assert_refused(read_pth, save(tmp_path / "w.pth", content))


@pytest.mark.parametrize("name", ["absent", "folder", "n" * 300, "null\0byte"])
def test_no_file_there(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(WeightsError, match="expected a"):
        read_pth(tmp_path / name)


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, np.float32, np.float64])
@pytest.mark.parametrize("legacy", [False, True])
def test_memory_stays_in_proportion_to_a_good_file(tmp_path, dtype, legacy):
    large = {
        "conv5.weight": np.ones((8, 8, 3, 3), dtype),
        "conv5.bias": np.ones(8, dtype),
        "fc6.weight": np.ones((3000, 8 * 25 * 25), dtype),
        "fc6.bias": np.ones(3000, dtype),
    }
    assert_memory_in_proportion(
        read_pth, write_pth(tmp_path / "w.pth", large, legacy), "WeightSet"
    )


@pytest.mark.parametrize("encoded", [ZIP, LEGACY])
def test_truncated_at_every_byte(tmp_path, encoded):
    content = golden(encoded)
    for end in range(len(content)):
        assert_refused(read_pth, save(tmp_path / "w.pth", content[:end]))


@settings(max_examples=400, deadline=None)
@given(base=st.sampled_from([golden(ZIP), golden(LEGACY)]), edits=EDITS)
def test_mutated_file_is_read_or_refused(tmp_path_factory, base, edits):
    found = read_or_refuse(
        read_pth, save(tmp_path_factory.getbasetemp() / "mutated.pth", mutated(base, edits))
    )
    for pair in found.layers.values() if found else ():
        assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in pair)


@settings(max_examples=200, deadline=None)
@given(
    content=st.binary(max_size=300),
    prefix=st.sampled_from([b"", b"PK\x03\x04", golden(LEGACY)[:137]]),
)
def test_arbitrary_bytes_are_refused(tmp_path_factory, content, prefix):
    assert_refused(
        read_pth, save(tmp_path_factory.getbasetemp() / "arbitrary.pth", prefix + content)
    )
