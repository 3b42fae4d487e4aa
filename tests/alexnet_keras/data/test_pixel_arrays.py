"""Images in arrays: the pixels of PNG files, bit for bit, from every form of array."""

import io
import tracemalloc

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet_keras.array_readers.open_arrays import open_images_array
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.image_arrays import read_array
from alexnet_keras.data.image_files import read_images
from alexnet_keras.data.layouts import detect_layout, open_dataset, open_images
from alexnet_keras.data.pixel_arrays import PixelArray
from alexnet_keras.errors import DataError
from tests.alexnet_keras.tiny import PREPROCESSING_16

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 21, 34, 3), np.uint8)


def images_of(samples, **options):
    batches = EvaluationBatches(samples, PREPROCESSING_16, 2, **options)
    return np.concatenate([batch.images.numpy() for batch in batches])[: len(samples)]


@pytest.fixture(scope="module")
def from_png(tmp_path_factory):
    folder = tmp_path_factory.mktemp("png")
    for row, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(folder / f"{row}.png")
    return images_of(read_images(folder))


def npy(folder, array):
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def npz(folder, array):
    np.savez(folder / "a.npz", images=array)
    return folder / "a.npz"


def compressed(folder, array):
    np.savez_compressed(folder / "a.npz", other=array[:1], images=array)
    return f"{folder / 'a.npz'}:images"


def hdf5(folder, array):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("stimuli", data=array, chunks=(1, 8, 8, 3), compression="gzip")
        file.create_dataset("labels", data=np.arange(5))
    return f"{folder / 'a.h5'}:stimuli"


def contiguous(folder, array):
    with h5py.File(folder / "a.hdf5", "w") as file:
        file["stimuli"] = array
    return folder / "a.hdf5"


def in_memory(folder, array):
    return array


FORMS = (npy, npz, compressed, hdf5, contiguous, in_memory)


@pytest.mark.parametrize("form", FORMS)
def test_the_pixels_are_those_of_png_files(tmp_path, from_png, form):
    source = form(tmp_path, PIXELS)
    dataset = open_dataset(source)
    assert (dataset.layout, dataset.split_names) == ("array", ("all",))
    samples = dataset.samples("all")
    assert samples.ids.tolist()[:2] == ["000000", "000001"]
    assert samples.paths[3].endswith("[3]")
    np.testing.assert_array_equal(images_of(samples, num_threads=3), from_png)


@pytest.mark.parametrize("scale", [1, 255])
def test_floating_point_pixels_and_the_range_that_they_are_taken_for(tmp_path, from_png, scale):
    dtype = np.float32 if scale == 1 else np.float64
    samples = read_array(npy(tmp_path, (PIXELS / dtype(scale)).astype(dtype)))
    (note,) = samples.warnings
    assert f"values 0-{255 // scale}: the largest is " in note
    found = images_of(samples)
    if scale == 1:
        np.testing.assert_array_equal(found, from_png)
    else:
        np.testing.assert_allclose(found, from_png, atol=1e-4)


@pytest.mark.parametrize("last", [(), (1,)])
def test_grey_images_are_repeated(tmp_path, last):
    grey = PIXELS[..., 0].reshape(*PIXELS.shape[:3], *last)
    samples = read_array(grey)
    (note,) = samples.warnings
    assert note == "array: grey images: each is repeated as red, green and blue"
    repeated = np.repeat(PIXELS[..., :1], 3, axis=3)
    np.testing.assert_array_equal(samples.pixels.row(2), repeated[2])
    np.testing.assert_array_equal(images_of(samples), images_of(read_array(repeated)))


def test_prediction_takes_an_array_too():
    assert open_images(PIXELS).layout == "array"
    assert detect_layout(PIXELS) == "array"


def changed(value):
    array = PIXELS / 255
    array[3, 2, 1, 0] = value
    return array


REFUSED = {
    "four channels": (
        np.zeros((2, 5, 5, 4), np.uint8),
        r"\(2, 5, 5, 4\); blend the alpha channel",
    ),
    "channels first": (
        np.zeros((2, 3, 5, 5), np.uint8),
        r"move the channels last: array\.transpose",
    ),
    "one image": (PIXELS[0], r"got \(21, 34, 3\); give a single image as array\[None\]"),
    "a vector": (
        np.zeros(4, np.uint8),
        r"expected images of shape \(N, height, width, 3\), got \(4",
    ),
    "no image": (PIXELS[:0], r"expected one or more images, got shape \(0, 21, 34, 3\)"),
    "integers": (PIXELS.astype(np.int64), "expected uint8 0-255, or floating-point .* got int64"),
    "NaN": (changed(np.nan), r"\[3\]: expected values 0-1 or 0-255, got NaN"),
    "too large": (changed(256), r"\[3\]: expected values 0-1 or 0-255, got 0 to 256"),
    "negative": (changed(-0.5), r"\[3\]: expected values 0-1 or 0-255, got -0\.5 to "),
    "infinite": (changed(np.inf), r"\[3\]: expected values 0-1 or 0-255, got 0 to inf"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arrays_that_are_no_images(tmp_path, case):
    array, says = REFUSED[case]
    for form in (npy, in_memory):
        with pytest.raises(DataError, match=says):
            read_array(form(tmp_path, array))


def test_images_of_mixed_sizes_are_never_unpickled(tmp_path):
    mixed = np.array([PIXELS[0], PIXELS[1, :9]], object)
    with pytest.raises(DataError, match="expected numbers, got dtype"):
        read_array(npy(tmp_path, mixed))
    with pytest.raises(DataError, match="expected uint8 .* got object"):
        read_array(np.zeros((2, 3, 9, 3), object))


def test_an_hdf5_data_set_without_values(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["images"] = h5py.Empty("f4")
    with pytest.raises(
        DataError, match=r"a\.h5: images: expected an array in this file, got none"
    ):
        read_array(tmp_path / "a.h5")


def test_several_arrays_and_none(tmp_path):
    hdf5(tmp_path, PIXELS)
    with pytest.raises(
        DataError, match=r"a\.h5:NAME, one of its 2 arrays, such as labels, stimuli"
    ):
        read_array(tmp_path / "a.h5")
    with pytest.raises(DataError, match="such as labels, stimuli, got 'nothing'"):
        read_array(f"{tmp_path / 'a.h5'}:nothing")
    with pytest.raises(DataError, match="expected a folder or a file, got nothing"):
        open_dataset(tmp_path / "none.npy")


def test_a_row_that_cannot_be_read_is_a_bad_file(tmp_path):
    source = hdf5(tmp_path, PIXELS)
    with h5py.File(tmp_path / "a.h5", "r") as file:
        chunk = file["stimuli"].id.get_chunk_info_by_coord((2, 0, 0, 0))
    with open(tmp_path / "a.h5", "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\xff" * chunk.size)
    batches = EvaluationBatches(read_array(source), PREPROCESSING_16, 2, bad="mark")
    weights = np.concatenate([batch.weights.numpy() for batch in batches])
    assert weights.tolist() == [1, 1, 0, 1, 1, 0]
    assert batches.bad_rows.tolist() == [2]


def test_declared_sizes_that_the_file_does_not_hold(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("rows", (10**9, 8, 8, 3), "u1", chunks=(1, 8, 8, 3))
        chunk = (1, 20_000, 20_000, 3)
        file.create_dataset("chunks", chunk, "u1", chunks=chunk, compression="gzip")
        file["chunks"].id.write_direct_chunk((0, 0, 0, 0), b"few bytes")
    with pytest.raises(DataError, match=r"expected at least a byte for each of 1000000000 rows"):
        read_array(f"{tmp_path / 'a.h5'}:rows")
    with pytest.raises(DataError, match=r"expected chunks of up to 1073741824 bytes, got 12000"):
        read_array(f"{tmp_path / 'a.h5'}:chunks")


def test_chunks_across_many_rows_are_decompressed_once(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=np.repeat(PIXELS, 20, 0), chunks=(50, 7, 17, 1))
    rows = open_images_array(tmp_path / "a.h5", "x")
    np.testing.assert_array_equal(rows[99], PIXELS[4])
    _, cache_bytes, _ = rows.id.get_access_plist().get_chunk_cache()
    assert cache_bytes >= 50 * PIXELS[0].nbytes


def test_a_large_array_is_read_by_the_row(tmp_path):
    path = tmp_path / "a.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, (10_000, 256, 256, 3)).flush()
    tracemalloc.start()
    pixels = read_array(path).pixels
    assert pixels.row(9_999).sum() == 0
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_a_truncated_file(tmp_path):
    path = npy(tmp_path, PIXELS)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"expected 10710 bytes for shape .* \(truncated\?\)"):
        read_array(path)


@settings(max_examples=40)
@given(st.data())
def test_a_changed_file_is_images_or_a_data_error(tmp_path_factory, data):
    content = io.BytesIO()
    np.save(content, PIXELS[:1])
    changed = bytearray(content.getvalue())
    for _ in range(3):
        changed[data.draw(st.integers(0, 160))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "any.npy"
    path.write_bytes(changed)
    try:
        pixels = read_array(path).pixels
    except DataError:
        return
    assert pixels.row(0).shape[2] == 3


def test_float16_is_floating_point():
    assert PixelArray(np.full((1, 2, 2, 3), 0.5, np.float16), "array").row(0).max() == 127.5
