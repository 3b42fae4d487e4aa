"""Small networks, images and data sets for tests."""

from __future__ import annotations

import io
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from alexnet_keras.configs.architecture import ALEXNET, VARIANTS, InitialValues
from alexnet_keras.configs.preprocessing import PREPROCESSING, Preprocessing
from alexnet_keras.data.samples import Samples
from alexnet_keras.models.alexnet import build
from alexnet_keras.pretrained.loading import Pretrained

PREPROCESSING_16 = Preprocessing(crop=16, resize_to=20)
SMALLEST = {"alexnet": 67, "caffenet": 67, "paper": 67, "owt": 63, "krizhevsky": 52, "slim": 67}


def slow(*values):
    """Further values of a parameter, for the slow tests only."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def tiny_model(variant="alexnet", width=0.05, size=None, classes=5, **options):
    """A network of a few hundred thousand parameters at most, that knows its architecture and
    preprocessing.
    """
    architecture = VARIANTS[variant].with_width(width) if isinstance(variant, str) else variant
    size = size or SMALLEST[architecture.name]
    facts = {
        "preprocessing": PREPROCESSING[architecture.name].with_input_size(size),
        "class_names": tuple(f"class {index}" for index in range(classes)),
    }
    return build(architecture, keras.Input((size, size, 3)), classes, **{**facts, **options})


def tiny_source(folder):
    """A tiny network whose activations are not tiny, as if read from a file in ``folder``."""
    keras.utils.set_random_seed(0)
    he = InitialValues(kernels="he")
    path = folder / "tiny.keras"
    path.write_bytes(b"tiny")
    model = tiny_model(replace(ALEXNET.with_width(0.05), initial_values=he))
    return Pretrained(model, "tiny", path)


def tiny_layers(seed=0, width=0.05, size=67, classes=5):
    """Random canonical layers of ``ALEXNET.with_width(width)``, made without TensorFlow."""
    generator, layers, channels = np.random.default_rng(seed), {}, 3
    for spec in ALEXNET.with_width(width).layers:
        if hasattr(spec, "filters"):
            shape = (spec.kernel, spec.kernel, channels // spec.groups, spec.filters)
        elif hasattr(spec, "units"):
            shape = (
                channels * ((size - 67) // 32 + 1) ** 2 if spec.name == "fc6" else channels,
                spec.units,
            )
        else:
            continue
        layers[spec.name], channels = shape, shape[-1]
    layers["fc8"] = (channels, classes)
    return {
        name: (
            generator.standard_normal(shape, np.float32) / np.float32(np.prod(shape[:-1]) ** 0.5),
            generator.standard_normal(shape[-1], np.float32),
        )
        for name, shape in layers.items()
    }


def picture(seed=0, height=40, width=50):
    """A smooth coloured picture, (height, width, 3) uint8: JPEG keeps it, and no two seeds
    agree.
    """
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image, file_format="JPEG", **options):
    """The bytes of an image file; ``image`` is an array or a Pillow image."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(
        stream, file_format, **options
    )
    return stream.getvalue()


def picture_files(folder, count, bad=None):
    """``count`` small JPEG files; those whose index is in ``bad`` hold the bytes given there.
    Returns their paths.
    """
    paths = []
    for index in range(count):
        path = folder / f"{index:03d}.jpg"
        path.write_bytes(encoded(picture(index)) if index not in (bad or {}) else bad[index])
        paths.append(str(path))
    return paths


def samples_of(paths, labels=None, classes=5, boxes=None, split="val"):
    """Samples with a row for each path; labels run 0, 1, 2 ... unless given."""
    labels = np.arange(len(paths)) % classes if labels is None else labels
    boxes = None if boxes is None else np.asarray(boxes, np.float32)
    return Samples(
        np.array([f"id{row}" for row in range(len(paths))]),
        np.array(paths, str),
        np.asarray(labels, np.int32),
        boxes,
        tuple(f"class {index}" for index in range(classes)),
        split,
        {},
    )
