"""Training's crops, mirroring and colour against slicing by hand, torchvision's published
algorithm, Pillow and OpenCV.
"""

import dataclasses
import math

import cv2
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats

from alexnet_keras.configs.augmentation import AUGMENTATIONS, IMAGENET_COLOUR_AXES, Augmentation
from alexnet_keras.configs.preprocessing import (
    CAFFE_PREPROCESSING,
    PREPROCESSING,
    Preprocessing,
)
from alexnet_keras.configs.recipe import RECIPES
from alexnet_keras.data import image_ops
from alexnet_keras.data.augment_ops import (
    COLOUR_STREAM,
    augment,
    colour_shift,
    random_region,
    scale_colour_down,
)

SMALL = Preprocessing(crop=7, resize_to=12)
SMALL_ANTIALIASED = Preprocessing(crop=7, resize_to=12, resize="short_side", antialias=True)
COORDINATES = np.stack(np.broadcast_arrays(*np.ogrid[:12, :15], 0.0), -1).astype(np.float32)
SHORT = dataclasses.replace(SMALL, resize="short_side")
STANDARD, PAPER, TORCHVISION = (
    AUGMENTATIONS["standard"],
    AUGMENTATIONS["paper"],
    AUGMENTATIONS["torchvision"],
)
NOISE = np.random.default_rng(0).integers(-120, 135, (40, 50, 3)).astype(np.float32)


def seed_of(*numbers):
    return tf.constant(numbers, tf.int64)


def augmented(image, rule, augmentation, seed):
    window, mirrored = augment(image, rule, augmentation, seed)
    return (
        window if mirrored is None else tf.cond(mirrored, lambda: window[:, ::-1], lambda: window)
    )


def for_places(function, count):
    """``function(seed)`` for the first places of the stream of seed 7, in one graph."""

    def one(place):
        return function(tf.stack([tf.constant(7, tf.int64), place]))

    spec = tf.TensorSpec(
        None, tf.function(one, autograph=False).get_concrete_function(seed_of(0)[0]).output_dtypes
    )
    return tf.function(
        lambda: tf.map_fn(one, tf.range(count, dtype=tf.int64), fn_output_signature=spec)
    )().numpy()


def test_random_crops_are_uniform_and_half_of_them_mirrored():
    windows = for_places(
        lambda seed: augmented(tf.constant(COORDINATES), SHORT, STANDARD, seed), 2000
    )
    tops, lefts, rights = (
        windows[:, 0, 0, 0].astype(int),
        windows[:, 0, 0, 1],
        windows[:, 0, -1, 1],
    )
    mirrored, lefts = lefts > rights, np.minimum(lefts, rights).astype(int)
    for window, top, left, flipped in zip(windows, tops, lefts, mirrored, strict=True):
        expected = COORDINATES[top : top + 7, left : left + 7]
        np.testing.assert_array_equal(window, expected[:, ::-1] if flipped else expected)
    counts = np.zeros((6, 9, 2))
    np.add.at(counts, (tops, lefts, mirrored.astype(int)), 1)
    mean = 2000 / counts.size
    assert (
        (counts - mean) ** 2 / mean
    ).sum() < 161  # chi-squared with 107 degrees of freedom: 0.1% lie above
    assert abs(mirrored.mean() - 0.5) < 0.04


@pytest.mark.parametrize("place", range(6))
def test_the_standard_crop_repeats_what_earlier_versions_drew(place):
    """One draw of three numbers from the seed itself: top, left, mirror; runs of version 0.1 go on
    unchanged.
    """
    top, left, mirror = tf.random.stateless_uniform((3,), (3, place)).numpy()
    top, left = int(top * np.float32(6)), int(left * np.float32(9))
    window = COORDINATES[top : top + 7, left : left + 7]
    np.testing.assert_array_equal(
        augmented(COORDINATES, SHORT, STANDARD, seed_of(3, place)),
        window if mirror < 0.5 else window[:, ::-1],
    )


@pytest.mark.parametrize("augmentation", [STANDARD, PAPER, TORCHVISION])
def test_it_depends_on_its_seed_alone(augmentation):
    def crop(*seed):
        return augmented(NOISE, SMALL, augmentation, seed_of(*seed)).numpy().tobytes()

    assert crop(3, 4) == crop(3, 4)
    assert len({crop(3, place) for place in range(20)}) > 10
    assert len({crop(seed, 3) for seed in range(20)}) > 10


@pytest.mark.parametrize("rule", [SMALL, SMALL_ANTIALIASED])
@pytest.mark.parametrize("augmentation", AUGMENTATIONS.values(), ids=list(AUGMENTATIONS))
def test_eager_graph_and_parallel_streams_agree_in_every_bit(rule, augmentation):
    images = [
        np.ascontiguousarray(NOISE[:height, :width])
        for height, width in ((40, 50), (9, 50), (40, 1), (3, 4))
    ]

    def stream(calls):
        data = tf.data.Dataset.from_generator(
            lambda: iter(images), output_signature=tf.TensorSpec((None, None, 3))
        )
        return np.stack(
            [
                *data.enumerate()
                .map(
                    lambda place, image: augmented(
                        image, rule, augmentation, tf.stack([tf.constant(5, tf.int64), place])
                    ),
                    num_parallel_calls=calls,
                )
                .as_numpy_iterator()
            ]
        )

    eager = np.stack(
        [
            augmented(image, rule, augmentation, seed_of(5, place))
            for place, image in enumerate(images)
        ]
    )
    assert eager.shape == (4, 7, 7, 3)
    for calls in (1, 4):
        np.testing.assert_array_equal(stream(calls), eager)


def test_without_augmentation_it_is_the_central_crop():
    expected = image_ops.center_crop(image_ops.resize(NOISE, SMALL), SMALL)
    np.testing.assert_array_equal(
        augmented(NOISE, SMALL, AUGMENTATIONS["none"], seed_of(1, 2)), expected
    )


@pytest.mark.parametrize("crop", ["center", "random", "resized"])
def test_a_mirrored_image_is_the_same_window_turned_over(crop):
    turned = 0
    for place in range(40):
        plain = augmented(
            NOISE, SMALL, Augmentation("x", crop, mirror=False), seed_of(0, place)
        ).numpy()
        found = augmented(NOISE, SMALL, Augmentation("x", crop), seed_of(0, place)).numpy()
        turned += (found == plain[:, ::-1]).all()
        assert (found == plain).all() or (found == plain[:, ::-1]).all()
    assert 10 <= turned <= 30


def torchvision_region(generator, height, width, area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)):
    """RandomResizedCrop.get_params as torchvision documents it, with NumPy's draws: (top, left,
    height, width).
    """
    for _ in range(10):
        target = height * width * generator.uniform(*area)
        ratio = math.exp(generator.uniform(*map(math.log, aspect)))
        w, h = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if 0 < w <= width and 0 < h <= height:
            return generator.integers(height - h + 1), generator.integers(width - w + 1), h, w
    h, w = height, width
    if width / height < aspect[0]:
        h = round(width / aspect[0])
    elif width / height > aspect[1]:
        w = round(height * aspect[1])
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize("height_width", [(375, 500), (100, 300), (60, 400), (17, 12)])
def test_regions_are_distributed_as_torchvisions(height_width):
    """Kolmogorov-Smirnov on each number and on what ties them together; the draws are fixed, so it
    passes or never does.
    """
    found = for_places(
        lambda seed: random_region(tf.constant(height_width), TORCHVISION, seed), 4000
    ).astype(float)
    generator = np.random.default_rng(1)
    expected = np.array(
        [torchvision_region(generator, *height_width) for _ in range(20_000)], float
    )

    def views(regions):
        top, left, height, width = regions.T
        margins = height_width - regions[:, 2:]
        return [
            *regions.T,
            height * width,
            width / height,
            *(regions[:, :2] / np.maximum(margins, 1)).T,
            top + left,
        ]

    for ours, theirs in zip(views(found), views(expected), strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


@pytest.mark.parametrize(
    ("height_width", "means", "full"),
    [
        ((375, 500), (52.401, 108.777, 270.033, 281.708), 0.006),
        ((60, 400), (2.267, 166.714, 55.5, 66.096), 0.4681),
        ((12, 17), (1.518, 3.821, 8.961, 9.359), 0.17),
    ],
)
def test_regions_have_the_means_that_torchvision_printed(height_width, means, full):
    """60,000 calls of torchvision 0.28's own get_params; ``full``: how often the whole height was
    taken.
    """
    found = for_places(
        lambda seed: random_region(tf.constant(height_width), TORCHVISION, seed), 4000
    )
    assert (abs(found.mean(0) - means) < 4 * found.std(0) / math.sqrt(4000)).all()
    assert abs((found[:, 2] == height_width[0]).mean() - full) < 4 * math.sqrt(full / 4000)


@pytest.mark.parametrize(
    ("height_width", "area", "aspect", "expected"),
    [
        ((100, 100), (1, 1), (1, 1), (0, 0, 100, 100)),
        (
            (10, 1000),
            (0.08, 1),
            (3 / 4, 4 / 3),
            (0, 493, 10, 13),
        ),  # 10 * 4/3 = 13.3; (1000 - 13) // 2
        ((1000, 10), (0.08, 1), (3 / 4, 4 / 3), (493, 0, 13, 10)),
        ((1, 50), (0.08, 1), (3 / 4, 4 / 3), (0, 24, 1, 1)),
        ((50, 1), (0.08, 1), (3 / 4, 4 / 3), (24, 0, 1, 1)),
        ((1, 1), (0.08, 1), (3 / 4, 4 / 3), (0, 0, 1, 1)),
        ((1, 1), (1, 1), (0.1, 0.3), (0, 0, 1, 1)),
        ((40, 90), (1, 1), (1, 1), (0, 25, 40, 40)),
        ((90, 40), (1, 1), (2, 3), (35, 0, 20, 40)),
    ],
)
def test_regions_by_hand(height_width, area, aspect, expected):
    augmentation = Augmentation("x", "resized", area=area, aspect=aspect)
    for place in range(5):
        assert (
            tuple(
                random_region(tf.constant(height_width), augmentation, seed_of(0, place)).numpy()
            )
            == expected
        )


def test_a_quarter_of_a_square_lies_anywhere():
    augmentation = Augmentation("x", "resized", area=(0.25, 0.25), aspect=(1, 1))
    found = for_places(lambda seed: random_region(tf.constant((8, 8)), augmentation, seed), 1000)
    assert (found[:, 2:] == 4).all()
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(found[:, :2].T), 1)
    assert (
        (counts - 40) ** 2 / 40
    ).sum() < 52  # chi-squared with 24 degrees of freedom: 0.1% lie above


@pytest.mark.parametrize("place", range(4))
def test_a_resized_region_is_pillows_or_opencvs_within_a_grey_level(place):
    big = Preprocessing(crop=32, resize_to=32)
    top, left, height, width = random_region(
        tf.constant(NOISE.shape[:2]), TORCHVISION, seed_of(1, place)
    ).numpy()
    region = NOISE[top : top + height, left : left + width]
    plain = Augmentation("x", "resized", mirror=False)
    found = augmented(NOISE, big, plain, seed_of(1, place)).numpy()
    assert abs(found - cv2.resize(region, (32, 32), interpolation=cv2.INTER_LINEAR)).max() < 0.05
    found = augmented(
        NOISE, dataclasses.replace(big, antialias=True), plain, seed_of(1, place)
    ).numpy()
    theirs = [
        Image.fromarray(region[..., c]).resize((32, 32), Image.Resampling.BILINEAR)
        for c in range(3)
    ]
    assert abs(found - np.stack(theirs, -1)).max() < 0.05


def test_colour_shifts_have_the_covariance_that_the_axes_say():
    shifts = for_places(lambda seed: colour_shift(PAPER, seed), 4000)
    axes = np.array(IMAGENET_COLOUR_AXES)
    expected = 0.1**2 * axes.T @ axes
    scale = np.sqrt(np.diag(expected))
    assert (abs(shifts.mean(0)) < 4 * scale / math.sqrt(4000)).all()
    assert (
        abs(np.cov(shifts.T) - expected) / np.outer(scale, scale) < 4 * math.sqrt(2 / 4000)
    ).all()
    along = shifts @ np.linalg.inv(axes) / 0.1
    for draws in along.T:
        assert stats.kstest(draws, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(along.T) - np.eye(3)).max() < 4 / math.sqrt(4000)


@pytest.mark.parametrize("crop", ["center", "random", "resized"])
def test_a_colour_shift_is_one_for_all_pixels_and_clips_none(crop):
    white = np.full((30, 40, 3), 255.0, np.float32) - np.float32(SMALL.mean)
    shifted = augmented(
        white, SMALL, Augmentation("x", crop, colour_sigma=5.0), seed_of(0, 1)
    ).numpy()
    plain = augmented(white, SMALL, Augmentation("x", crop), seed_of(0, 1)).numpy()
    shift = colour_shift(Augmentation("x", colour_sigma=5.0), seed_of(0, 1)).numpy()
    assert abs(shift).max() > 50
    np.testing.assert_array_equal(shifted, plain + shift)


def test_the_shift_of_an_image_by_hand():
    axes = ((100.0, 0.0, 0.0), (0.0, 10.0, 0.0), (0.0, 0.0, 1.0))
    augmentation = Augmentation("x", colour_sigma=0.5, colour_axes=axes)
    found = for_places(lambda seed: colour_shift(augmentation, seed), 2000)
    np.testing.assert_allclose(found.std(0), (50, 5, 0.5), rtol=0.07)
    mixed = dataclasses.replace(augmentation, colour_axes=((1.0, 2.0, 3.0),) * 3)
    found = colour_shift(mixed, seed_of(0, 0)).numpy()
    np.testing.assert_allclose(found / found[0], (1, 2, 3), rtol=1e-6)


def test_colour_does_not_follow_from_where_the_window_lies():
    places = for_places(lambda seed: tf.random.stateless_uniform((3,), seed), 2000)
    shifts = for_places(lambda seed: colour_shift(PAPER, seed), 2000)
    assert abs(np.corrcoef(places.T, shifts.T)[:3, 3:]).max() < 4 / math.sqrt(2000)


SIZES = st.one_of(st.integers(1, 6), st.integers(1, 300))


@settings(max_examples=60, deadline=None)
@given(
    height=SIZES,
    width=SIZES,
    place=st.integers(0, 2**62),
    run=st.integers(-(2**31), 2**31),
    augmentation=st.sampled_from(list(AUGMENTATIONS.values())),
    rule=st.sampled_from([SMALL, SMALL_ANTIALIASED]),
)
def test_an_image_of_any_size_gives_one_window_of_it(
    height, width, place, run, augmentation, rule
):
    image = np.random.default_rng(0).uniform(-100, 100, (height, width, 3)).astype(np.float32)
    found = augmented(
        image, rule, dataclasses.replace(augmentation, colour_sigma=0.0), seed_of(run, place)
    ).numpy()
    assert found.shape == (7, 7, 3)
    assert found.dtype == np.float32
    assert image.min() - 1e-3 <= found.min() <= found.max() <= image.max() + 1e-3
    top, left, region_height, region_width = random_region(
        tf.constant((height, width)), augmentation, seed_of(run, place)
    )
    assert 0 <= top < top + region_height <= height
    assert 0 <= left < left + region_width <= width


def test_imagenets_axes_are_krizhevskys():
    """cuda-convnet2's make-data/input_meta: standard deviations 121.780061, 37.093889, 19.720833,
    vectors as columns.
    """
    vectors = np.array(
        [
            [-0.56351045, -0.5761844, -0.59200296],
            [-0.71257945, -0.02354167, 0.70119634],
            [0.41795513, -0.81698062, 0.39731118],
        ]
    )
    expected = vectors * np.array([[121.78006099], [37.09388853], [19.72083305]])
    np.testing.assert_allclose(IMAGENET_COLOUR_AXES, -expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("colour_sigma", -0.1),
        ("colour_sigma", math.nan),
        ("colour_sigma", math.inf),
        ("area", (0.0, 1.0)),
        ("area", (0.5, 0.2)),
        ("area", (0.5, 1.5)),
        ("aspect", (0.0, 1.0)),
        ("aspect", (2.0, 1.0)),
        ("aspect", (1.0, math.inf)),
        ("aspect", (math.nan, 1.0)),
        ("colour_axes", ((1.0, 2.0, 3.0),)),
        ("colour_axes", ((1.0, 2.0, math.nan),) * 3),
    ],
)
def test_what_no_image_could_be_changed_by_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"^augmentation\.{field}: expected [^\n]*, got "):
        Augmentation("x", **{field: value})


def test_the_window_of_real_size_keeps_its_shape_in_a_graph():
    traced = tf.function(lambda image: augmented(image, CAFFE_PREPROCESSING, PAPER, seed_of(0, 0)))
    concrete = traced.get_concrete_function(tf.TensorSpec((None, None, 3)))
    assert concrete.output_shapes == (227, 227, 3)


OF_2012 = RECIPES["krizhevsky"].augmentation


@pytest.mark.parametrize(("epoch", "noisy"), [(0.0, True), (66.99, True), (67.0, False)])
def test_the_noise_of_2012_and_its_end(epoch, noisy):
    """``(crop - mean + 0.1 * noise) / 1.1``; from epoch 67 on, neither noise nor division."""
    rule, seed = dataclasses.replace(SHORT, channel_order="RGB"), seed_of(3, 5)
    stream = tf.random.fold_in(seed, COLOUR_STREAM)
    draws = tf.random.stateless_normal((3, 1), stream).numpy().astype(np.float64)
    plain, mirrored = augment(NOISE, rule, STANDARD, seed)
    crop = plain.numpy().astype(np.float64)[:, :: -1 if mirrored else 1]
    expected = crop - rule.mean
    if noisy:
        expected = (expected + 0.1 * (draws * IMAGENET_COLOUR_AXES).sum(0)) / 1.1
    window, mirrored = augment(NOISE, rule, OF_2012, seed, epoch)
    found = image_ops.to_network_input(window, rule, mirrored)
    found = scale_colour_down(found, OF_2012, epoch).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)
    if not noisy:
        without = image_ops.to_network_input(plain, rule, mirrored)
        np.testing.assert_array_equal(found, without)


@pytest.mark.slow
def test_crops_of_2012_have_33_by_33_places():
    rule = PREPROCESSING["krizhevsky"]
    row, column = np.ogrid[:256, :256]
    places = tf.constant(np.stack(np.broadcast_arrays(row, column, 0), -1).astype(np.float32))
    corners = for_places(lambda seed: augment(places, rule, OF_2012, seed)[0][0, 0, :2], 12_000)
    shifts = for_places(lambda seed: colour_shift(OF_2012, seed)[:2], 12_000)
    found = np.unique(np.round(corners - shifts), axis=0)
    np.testing.assert_array_equal(found, np.argwhere(np.ones((33, 33))))
