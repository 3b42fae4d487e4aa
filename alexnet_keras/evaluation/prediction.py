"""Class probabilities of image files, from the centre crop or from the paper's ten."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data import decoding, image_ops
from alexnet_keras.data.bad_files import reason_of
from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.models.alexnet import AlexNetModel

CROPS = (1, 10)


def predict(
    model: AlexNetModel,
    paths: Sequence[str | os.PathLike],
    crops: int = 1,
    batch_size: int = 32,
    on_batch: Callable[[int], None] = lambda images: None,
) -> np.ndarray:
    """Probabilities of the classes, (images, classes) float32, a row for each file of ``paths`` in
    their order.

    Each image goes through ``model.preprocessing``. ``crops``: 1 takes the centre, 10 the mean of
    the softmaxes of the four corners, the centre and their mirror images (paper, section 4.1).
    ``batch_size`` counts crops; ``on_batch`` is called with the number of images of each batch.
    Raises ``DataError`` naming a file that is no readable image, and ``ConfigurationError`` for
    another number of crops, a batch size below 1, or a network without preprocessing or fc8.
    """
    if crops not in CROPS:
        raise ConfigurationError(f"crops: expected 1 or 10, got {crops}")
    if batch_size < 1:
        raise ConfigurationError(f"batch size: expected at least 1, got {batch_size}")
    probabilities = _classifier(model)
    rows = [np.zeros((0, model.get_layer(FINAL_LAYER).units), np.float32)]
    images_a_batch = max(1, batch_size // crops)
    for start in range(0, len(paths), images_a_batch):
        images = tf.concat(
            [
                _read(path, model.preprocessing, crops)
                for path in paths[start : start + images_a_batch]
            ],
            0,
        )
        found = probabilities(images).numpy()
        rows.append(found.reshape(-1, crops, found.shape[1]).mean(axis=1))
        on_batch(len(rows[-1]))
    return np.concatenate(rows)


def _classifier(model: AlexNetModel) -> Callable:
    """(batch, crop, crop, 3) network inputs -> (batch, classes) float32, whether or not the model
    ends in a softmax.
    """
    if model.preprocessing is None or FINAL_LAYER not in [layer.name for layer in model.layers]:
        raise ConfigurationError(
            f"{model.name}: expected a network that has a preprocessing and ends in {FINAL_LAYER}"
        )
    network = keras.Model(model.input, model.get_layer(FINAL_LAYER).output)
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
