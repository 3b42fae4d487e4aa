"""Class probabilities of image files, from the centre crop or from the paper's ten."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import decoding, image_ops
from alexnet_keras.data.bad_files import reason_of
from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.models.alexnet import AlexNetModel, logits_model

BATCH_SIZE = 32
"""Crops that go through the network at once."""


def predict(
    model: AlexNetModel,
    paths: Sequence[str | os.PathLike],
    crops: int = 1,
) -> np.ndarray:
    """Class probabilities, (images, classes) float32: one row per file of ``paths``, in order.

    Each image goes through ``model.preprocessing``. ``crops``: 1 takes the centre, 10 the mean of
    the softmaxes of the four corners, the centre and their mirror images (paper, section 4.1).
    Raises ``DataError`` naming a file that is no readable image, and ``ConfigurationError`` for
    another number of crops, or a network without preprocessing or fc8.
    """
    if crops not in (1, 10):
        raise ConfigurationError(f"crops: expected 1 or 10, got {crops}")
    probabilities = _classifier(model)
    rows = [np.zeros((0, model.get_layer(FINAL_LAYER).units), np.float32)]
    images_per_batch = BATCH_SIZE // crops
    for start in range(0, len(paths), images_per_batch):
        images = tf.concat(
            [
                _read(path, model.preprocessing, crops)
                for path in paths[start : start + images_per_batch]
            ],
            0,
        )
        found = probabilities(images).numpy()
        rows.append(found.reshape(-1, crops, found.shape[1]).mean(axis=1))
    return np.concatenate(rows)


def _classifier(model: AlexNetModel) -> Callable:
    """A compiled function from network inputs (batch, crop, crop, 3) to probabilities (batch,
    classes) float32, whether or not the model ends in a softmax.
    """
    if model.preprocessing is None or FINAL_LAYER not in [layer.name for layer in model.layers]:
        raise ConfigurationError(
            f"{model.name}: expected a network with preprocessing that ends in {FINAL_LAYER}, got "
            f"{'one without preprocessing' if model.preprocessing is None else 'no such layer'}"
        )
    network = logits_model(model)
    return tf.function(
        lambda images: tf.nn.softmax(tf.cast(network(images, training=False), tf.float32)),
        autograph=False,
        input_signature=[tf.TensorSpec(model.input.shape, tf.float32)],
    )


def _read(path: str | os.PathLike, preprocessing: Preprocessing, crops: int) -> tf.Tensor:
    """An image file as the network's input, (crops, crop, crop, 3) float32."""
    try:
        image = image_ops.resize(
            decoding.decode_image(tf.io.read_file(os.fsencode(path))), preprocessing
        )
    except tf.errors.OpError as error:
        raise DataError(
            f"{os.fspath(path)}: expected a readable image, got: {reason_of(error)}"
        ) from None
    windows = (
        image_ops.ten_crops(image, preprocessing)
        if crops == 10
        else image_ops.center_crop(image, preprocessing)[None]
    )
    return image_ops.to_network_input(windows, preprocessing)
