"""What an image's header claims is checked before anything is decoded: decompression bombs and
files of no known format.
"""

import io
import resource
import struct
import zlib

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from alexnet_keras.configs.loading import BoxRegion
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.data import decoding, image_headers
from alexnet_keras.data.bad_files import reason_of
from tests.alexnet_keras.tiny import encoded, picture

PICTURE = picture(0, 61, 83)
PALETTE = Image.fromarray(PICTURE).quantize(16)


def claiming(width, height, file_format):
    """A small image whose header says that it is ``width`` x ``height``."""
    contents = bytearray(encoded(PICTURE, file_format))
    if file_format == "JPEG":
        place = contents.index(b"\xff\xc0") + 5
        contents[place : place + 4] = struct.pack(">HH", height, width)
    elif file_format == "PNG":
        contents[16:24] = struct.pack(">II", width, height)
        contents[29:33] = struct.pack(">I", zlib.crc32(contents[12:29]))
    elif file_format == "BMP":
        contents[18:26] = struct.pack("<ii", width, height)
    else:
        place = contents.index(b"\x2c\x00\x00\x00\x00") + 5
        contents[place : place + 4] = struct.pack("<HH", width, height)
    return bytes(contents)


READERS = {
    "whole": lambda contents: decoding.decode_image(contents),
    "box": lambda contents: decoding.decode_region(
        contents, tf.constant((1.0, 2.0, 3.0, 4.0)), CAFFE_PREPROCESSING, BoxRegion()
    ),
}


@pytest.mark.parametrize("traced", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "GIF", "BMP"])
def test_a_decompression_bomb_is_refused_by_its_header_and_takes_no_memory(
    file_format, reader, traced
):
    read = tf.function(READERS[reader], autograph=False) if traced else READERS[reader]
    read(tf.constant(encoded(PICTURE, file_format)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for width, height in ((60_000, 60_000), (13_378, 13_378), (65_000, 2754)):
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            read(tf.constant(claiming(width, height, file_format)))
        assert (
            reason_of(caught.value)
            == f"expected at most 178956970 pixels, got height and width {height} {width}"
        )
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    )  # KiB; 178,956,970 pixels take 512 MiB


def test_pillow_draws_the_line_at_the_same_size():
    assert 2 * Image.MAX_IMAGE_PIXELS == image_headers.MAX_PIXELS
    Image.warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    Image.open(io.BytesIO(claiming(178_956_970, 1, "PNG")))
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(claiming(178_956_971, 1, "PNG")))


@pytest.mark.parametrize(("width", "height"), [(13_377, 13_377), (178_956_970, 1)])
def test_up_to_the_limit_the_decoder_has_its_say(width, height):
    """What the header claims is allowed, what follows is too short: this error is the
    decoder's.
    """
    with pytest.raises(tf.errors.InvalidArgumentError, match="PNG"):
        decoding.decode_image(claiming(width, height, "PNG"))


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"GIF8",
        b"GIF89a",
        b"BM",
        b"\x89PNG",
        encoded(PICTURE, "PNG")[:20],
        encoded(PICTURE, "GIF")[:60],
        encoded(PICTURE)[:20],
        encoded(PICTURE, "TIFF"),
        encoded(PICTURE, "WEBP"),
        claiming(0, 0, "PNG"),
        claiming(2**32 - 1, 5, "PNG"),
    ],
)
def test_a_header_that_is_none_is_refused_in_a_line(contents):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        decoding.decode_image(tf.constant(contents))
    assert len(reason_of(caught.value)) > 10


@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_image_is_said_without_tensorflows_words(reader):
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        READERS[reader](tf.constant(encoded(PICTURE, "TIFF")))
    assert reason_of(caught.value) == "expected a JPEG, PNG, GIF or BMP with an intact header"


def test_the_largest_frame_of_an_animation_counts():
    frames = [PALETTE, Image.fromarray(PICTURE[:40]).quantize(8), PALETTE]
    contents = encoded(
        frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"\x2c" * 300
    )
    assert decoding.decode_image(contents).shape == (61, 83, 3)
    last = contents.rindex(b"\x2c\x00\x00\x00\x00")
    bomb = contents[: last + 5] + struct.pack("<HH", 65_535, 65_535) + contents[last + 9 :]
    with pytest.raises(tf.errors.InvalidArgumentError, match="expected at most 178956970 pixels"):
        decoding.decode_image(bomb)


@settings(max_examples=80, deadline=None)
@given(
    st.binary(max_size=80), st.sampled_from([b"", b"GIF89a", b"BM", b"\x89PNG", b"\xff\xd8\xff"])
)
def test_no_bytes_raise_anything_else(tail, magic):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoding.decode_image(tf.constant(magic + tail))
