"""Images against Pillow (decoding, antialiased resizing), OpenCV (Caffe's resizing) and slicing by
hand.
"""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from alexnet_keras.configs.loading import BoxRegion
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PAPER_PREPROCESSING,
    PREPROCESSING,
    TORCHVISION_PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.data import decoding, image_ops
from tests.alexnet_keras.tiny import encoded, picture

MEAN = np.float32(CAFFE_PREPROCESSING.mean)
PICTURE = picture(0, 61, 83)
NOISE = np.random.default_rng(0).integers(0, 256, (120, 140, 3), np.uint8)


def decoded(contents):
    """Grey levels as this project decodes them, of more than eight bits so that differences can be
    negative.
    """
    return decoding.decode_image(contents).numpy().astype(np.float32)


def by_pillow(contents):
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).convert("RGB"))


def photographs(shared_data, every):
    """(bytes, Pillow's pixels) of real photographs of ImageNet."""
    paths = sorted((shared_data / "imagenet_sample" / "val").glob("*/*"))[::every]
    assert len(paths) >= 5
    for path in paths:
        contents = path.read_bytes()
        yield contents, by_pillow(contents)


def test_real_photographs_decode_as_pillow_does(shared_data):
    for contents, pixels in photographs(shared_data, every=6):
        np.testing.assert_allclose(decoded(contents), pixels, atol=1e-4)


def test_warp_is_opencvs_bilinear_resize_within_one_grey_level(shared_data):
    """The largest difference of any pixel and channel; seen 0.75, which is OpenCV's fixed-point
    rounding.
    """
    for contents, pixels in photographs(shared_data, every=6):
        found = image_ops.resize(decoding.decode_image(contents), CAFFE_PREPROCESSING)
        theirs = cv2.resize(pixels, (256, 256), interpolation=cv2.INTER_LINEAR)
        assert abs(found - theirs).numpy().max() <= 1


def pillow_short_side(pixels, target=256):
    """torchvision's Resize(256): the longer side is truncated to whole pixels."""
    height, width = pixels.shape[:2]
    size = (
        (target, target * height // width)
        if width <= height
        else (target * width // height, target)
    )
    channels = [
        Image.fromarray(pixels[..., c].astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
        for c in range(3)
    ]
    return np.stack(channels, -1), np.asarray(
        Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    )


@pytest.mark.parametrize("rule", [TORCHVISION_PREPROCESSING, PAPER_PREPROCESSING])
def test_short_side_is_pillows_antialiased_resize_within_one_grey_level(shared_data, rule):
    """The largest difference of any pixel and channel: 0.05 in floating point, 1 from Pillow's
    8-bit images.
    """
    for contents, pixels in photographs(shared_data, every=9):
        found = image_ops.resize(decoding.decode_image(contents), rule).numpy()
        exact, rounded = pillow_short_side(pixels)
        if rule.resize == "square":
            top, left = (exact.shape[0] - 256) // 2, (exact.shape[1] - 256) // 2
            exact, rounded = (
                each[top : top + 256, left : left + 256] for each in (exact, rounded)
            )
        assert found.shape == exact.shape
        assert abs(found - exact).max() <= 0.05
        assert abs(found - rounded).max() <= 1.001


@pytest.mark.parametrize(
    ("height", "width"), [(300, 200), (200, 300), (375, 500), (256, 256), (257, 999), (100, 101)]
)
def test_short_side_keeps_the_aspect_ratio_as_torchvision_counts_it(height, width):
    image = tf.zeros((height, width, 3))
    assert (
        tuple(image_ops.resize(image, TORCHVISION_PREPROCESSING).shape)
        == pillow_short_side(np.zeros((height, width, 3), np.uint8))[1].shape
    )


def exif(orientation):
    """An Exif block that asks viewers to turn the picture."""
    block = Image.Exif()
    block[0x112] = orientation
    return block


@pytest.mark.parametrize(
    "options",
    [
        *({"subsampling": s, "quality": q} for s in (0, 1, 2) for q in (30, 90)),
        {"progressive": True},
        *({"exif": exif(orientation)} for orientation in range(10)),
    ],
)
@pytest.mark.parametrize("image", [PICTURE, NOISE])
def test_jpeg_decodes_as_pillow_does(image, options):
    contents = encoded(image, **options)
    np.testing.assert_allclose(decoded(contents), by_pillow(contents), atol=1e-4)


def test_grey_jpeg():
    contents = encoded(Image.fromarray(PICTURE).convert("L"))
    np.testing.assert_allclose(decoded(contents), by_pillow(contents), atol=1e-4)


@pytest.mark.parametrize("transform", [0, 2])
def test_cmyk_jpeg_of_adobe_is_inverted(transform):
    """Pillow writes CMYK as Adobe does, inverted and marked; with transform 2 the same bytes mean
    YCCK.
    """
    image = np.dstack([255 - PICTURE, np.broadcast_to(np.arange(83, dtype=np.uint8), (61, 83))])
    contents = encoded(Image.fromarray(image, "CMYK"), quality=95)
    marker = b"Adobe\x00d\x00\x00\x00\x00"
    assert contents.count(marker + b"\x00") == 1
    contents = contents.replace(marker + b"\x00", marker + bytes([transform]))
    assert abs(decoded(contents) - by_pillow(contents)).max() <= 1.001
    if transform == 0:
        expected = PICTURE * (1 - np.arange(83)[:, None] / 255)
        assert abs(decoded(contents) - expected).mean() < 3


def palette():
    return Image.fromarray(PICTURE).quantize(16)


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(PICTURE),
        Image.fromarray(PICTURE).convert("L"),
        Image.fromarray(PICTURE).convert("1"),
        palette(),
        Image.fromarray(PICTURE).convert("LA"),
        Image.fromarray(np.dstack([PICTURE, NOISE[:61, :83, 0]])),
    ],
    ids=["RGB", "grey", "1 bit", "palette", "grey and alpha", "RGBA"],
)
def test_png_decodes_as_pillow_does(image):
    contents = encoded(image, "PNG")
    np.testing.assert_allclose(decoded(contents), by_pillow(contents), atol=1e-4)


def test_alpha_is_dropped_and_not_blended():
    clear = np.dstack([PICTURE, np.zeros((61, 83), np.uint8)])
    np.testing.assert_allclose(decoded(encoded(clear, "PNG")), PICTURE, atol=1e-4)
    np.testing.assert_allclose(
        decoded(encoded(palette(), "PNG", transparency=3)), palette().convert("RGB"), atol=1e-4
    )


def test_sixteen_bit_png_keeps_the_upper_eight():
    grey = np.arange(61 * 83, dtype=np.uint16).reshape(61, 83) * 12
    np.testing.assert_allclose(
        decoded(encoded(grey, "PNG")), np.repeat(grey[..., None] >> 8, 3, -1), atol=1e-4
    )
    colour = cv2.imencode(".png", PICTURE[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_allclose(decoded(colour), PICTURE, atol=1e-4)


@pytest.mark.parametrize(("image", "file_format"), [(PICTURE, "BMP"), (palette(), "GIF")])
def test_other_formats(image, file_format):
    contents = encoded(image, file_format)
    np.testing.assert_allclose(decoded(contents), by_pillow(contents), atol=1e-4)


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"hello",
        encoded(PICTURE)[:-40],
        encoded(PICTURE)[:-1],
        encoded(PICTURE)[:300],
        encoded(PICTURE, "PNG")[:-900],
        encoded(PICTURE, "TIFF"),
        b"\xff\xd8\xff\xe0" + bytes(500),
    ],
)
def test_what_is_no_whole_image_raises(contents):
    with pytest.raises(tf.errors.InvalidArgumentError):
        decoding.decode_image(contents)


def box_of(contents, box, context=0.0, square=False):
    region = BoxRegion(context, square)
    return decoding.decode_region(
        contents, tf.constant(box, tf.float32), CAFFE_PREPROCESSING, region
    )[0].numpy()


@pytest.mark.parametrize(
    "contents",
    [*(encoded(NOISE, quality=80, subsampling=s) for s in (0, 1, 2)), encoded(NOISE, "PNG")],
    ids=["4:4:4", "4:2:2", "4:2:0", "PNG"],
)
@pytest.mark.parametrize(
    "box",
    [
        (10, 20, 30, 40),
        (33, 47, 51, 70),
        (16, 16, 32, 32),
        (0, 0, 140, 120),
        (101, 70, 39, 50),
        (1, 1, 1, 1),
        (7, 9, 100, 3),
        (32, 40, 64, 17),
    ],
)
def test_the_part_that_is_decoded_is_that_of_the_whole(contents, box):
    x, y, width, height = box
    np.testing.assert_allclose(
        box_of(contents, box), decoded(contents)[y : y + height, x : x + width], atol=1e-4
    )


@pytest.mark.parametrize(
    ("box", "context", "square", "rows", "columns"),
    [  # the image is 120 x 140
        ((40, 30, 20, 10), 0.0, False, (30, 40), (40, 60)),
        ((40, 30, 20, 10), 0.1, False, (29, 41), (38, 62)),
        ((40, 30, 20, 10), 0.0, True, (25, 45), (40, 60)),
        ((40, 30, 20, 10), 0.5, True, (15, 55), (30, 70)),
        ((0, 0, 20, 10), 0.5, False, (-5, 15), (-10, 30)),
        ((130, 10, 10, 100), 0.0, True, (10, 110), (85, 185)),
        ((0, 0, 140, 120), 0.1, True, (-24, 144), (-14, 154)),
        ((10.4, 20.4, 0.2, 0.3), 0.0, False, (20, 21), (10, 11)),
    ],
)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
def test_region_of_a_box_and_what_leaves_the_image_is_exactly_the_mean(
    box, context, square, rows, columns, file_format
):
    contents = encoded(NOISE, file_format)
    margin = 60
    framed = np.broadcast_to(MEAN, (120 + 2 * margin, 140 + 2 * margin, 3)).copy()
    framed[margin:-margin, margin:-margin] = decoded(contents)
    expected = framed[
        margin + rows[0] : margin + rows[1], margin + columns[0] : margin + columns[1]
    ]
    found = box_of(contents, box, context, square)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_array_equal(found[expected == MEAN], expected[expected == MEAN])


SMALL = Preprocessing(crop=7, resize_to=12)


@pytest.mark.parametrize(
    ("size", "crop", "start"),
    [
        ((12, 15), 7, (2, 4)),
        ((12, 12), 12, (0, 0)),
        ((13, 12), 12, (0, 0)),
        ((256, 256), 227, (14, 14)),
        ((256, 341), 224, (16, 58)),
    ],
)
def test_center_crop_leaves_the_smaller_part_above_and_left(size, crop, start):
    image = np.random.default_rng(0).random((*size, 3), np.float32)
    rule = Preprocessing(crop=crop, resize_to=max(12, crop))
    np.testing.assert_array_equal(
        image_ops.center_crop(image, rule),
        image[start[0] : start[0] + crop, start[1] : start[1] + crop],
    )


@pytest.mark.parametrize(
    "rule", [CAFFE_PREPROCESSING, TORCHVISION_PREPROCESSING, PAPER_PREPROCESSING]
)
@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (100, 130), (256, 256)])
def test_a_window_of_the_resized_image_is_cut_out_of_it(rule, height, width):
    """Bit for bit, or to 0.01 of a grey level where antialiasing is done for the window alone."""
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    whole = image_ops.resize(image, rule).numpy()
    size = whole.shape[:2]
    for top, left in ((0, 0), (11, 5), (size[0] - rule.crop, size[1] - rule.crop)):
        window = image_ops.resize_and_crop(
            image, rule, lambda margin, at=(top, left): tf.minimum(margin, at)
        )
        expected = whole[top : top + rule.crop, left : left + rule.crop]
        np.testing.assert_allclose(window, expected, rtol=0, atol=0.01 if rule.antialias else 0)


@pytest.mark.parametrize(("height", "width"), [(12, 15), (12, 12), (7, 7)])
def test_ten_crops_by_hand(height, width):
    image = np.random.default_rng(0).random((height, width, 3), np.float32)
    top, left = (height - 7) // 2, (width - 7) // 2
    five = [
        image[:7, :7],
        image[:7, width - 7 :],
        image[height - 7 :, :7],
        image[height - 7 :, width - 7 :],
        image[top : top + 7, left : left + 7],
    ]
    np.testing.assert_array_equal(
        image_ops.ten_crops(image, SMALL), five + [crop[:, ::-1] for crop in five]
    )


def test_ten_crops_of_a_landscape_are_the_views_of_the_2012_code():
    """Central 256x256, then offsets 0, 16 and 32: corners, centre and their mirror images."""
    image = np.random.default_rng(0).integers(0, 256, (256, 341, 3), np.uint8)
    square = image[:, 42:298]
    places = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)]
    five = [square[top : top + 224, left : left + 224] for top, left in places]
    rule = PREPROCESSING["krizhevsky"]
    np.testing.assert_array_equal(
        image_ops.ten_crops(image_ops.resize(image, rule), rule),
        five + [crop[:, ::-1] for crop in five],
    )


@pytest.mark.parametrize("rule", [CAFFE_PREPROCESSING, TORCHVISION_PREPROCESSING])
def test_network_input_by_hand(rule):
    grey_levels = PICTURE.astype(np.float32)
    found = image_ops.to_network_input(tf.constant(grey_levels), rule).numpy()
    expected = (grey_levels - np.float64(rule.mean)) / np.float64(rule.std)
    np.testing.assert_allclose(
        found,
        expected[..., ::-1] if rule.channel_order == "BGR" else expected,
        rtol=1e-5,
        atol=1e-4,
    )


@pytest.mark.parametrize("rule", [CAFFE_PREPROCESSING, TORCHVISION_PREPROCESSING])
def test_a_mirrored_input_is_the_plain_one_turned_over_in_every_bit(rule):
    images = np.random.default_rng(0).uniform(0, 255, (2, 5, 4, 3)).astype(np.float32)
    for batch in (images, images[0]):
        plain = image_ops.to_network_input(batch, rule).numpy()
        np.testing.assert_array_equal(
            image_ops.to_network_input(batch, rule, tf.constant(True)), plain[..., ::-1, :]
        )
        np.testing.assert_array_equal(
            image_ops.to_network_input(batch, rule, tf.constant(False)), plain
        )


@pytest.mark.parametrize("mirrored", [None, False, True])
@pytest.mark.parametrize("rule", [CAFFE_PREPROCESSING, TORCHVISION_PREPROCESSING])
@pytest.mark.parametrize("shape", [(4, 4, 3), (10, 4, 4, 3)])
def test_a_mean_image_is_subtracted_after_mirroring_by_hand(rule, mirrored, shape):
    """It has left and right sides of its own, which no crop turns over."""
    levels = np.random.default_rng(0).uniform(0, 255, (4, 4, 3)).astype(np.float32)
    images = np.random.default_rng(1).uniform(0, 255, shape).astype(np.float32)
    rule = replace(rule, crop=4, mean_image=MeanImage.from_array(levels))
    crops = images[..., ::-1, :] if mirrored else images
    expected = (crops - levels.astype(np.float64)) / rule.std
    found = image_ops.to_network_input(
        images, rule, None if mirrored is None else tf.constant(mirrored)
    )
    assert found.dtype == tf.float32
    np.testing.assert_allclose(
        found,
        expected[..., ::-1] if rule.channel_order == "BGR" else expected,
        rtol=1e-5,
        atol=1e-4,
    )


def test_a_palette_bmp_is_refused_since_tensorflow_gets_its_colours_wrong():
    with pytest.raises(tf.errors.InvalidArgumentError, match="palette"):
        decoding.decode_image(tf.constant(encoded(palette(), file_format="BMP")))


def test_a_line_of_pixels_does_not_grow_with_its_aspect_ratio():
    line = tf.zeros((1, 10_000, 3))
    assert image_ops.resize(line, TORCHVISION_PREPROCESSING).shape == (256, 16 * 256, 3)


@pytest.mark.parametrize("shape", [(5, 4, 3), (2, 5, 4, 3), (1, 1, 3), (2, 3, 5, 4, 3)])
def test_by_rows_is_the_plain_operation_in_every_bit(shape):
    image = np.random.default_rng(0).uniform(0, 255, shape).astype(np.float32)
    colour = np.float32((122.67891434, 0.3, 58.395))
    for operation, plain in (
        (tf.subtract, image - colour),
        (tf.divide, image / colour),
        (tf.add, image + colour),
    ):
        np.testing.assert_array_equal(image_ops.per_channel(operation, image, colour), plain)


def test_by_rows_keeps_what_is_known_of_the_shape():
    def operation(image):
        return image_ops.per_channel(tf.add, image, (1.0, 2.0, 3.0))

    traced = tf.function(operation).get_concrete_function(tf.TensorSpec((None, 5, None, 3)))
    assert traced.output_shapes.as_list() == [None, 5, None, 3]
