"""Class probabilities of images, from the centre crop or from the paper's ten."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.loading import Loading
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.alexnet import AlexNetModel, logits_model
from alexnet_keras.models.resized import check_size


def prediction_batches(
    model: AlexNetModel,
    samples: Samples,
    batch_size: int = 32,
    crops: int = 1,
    loading: Loading = Loading(),
) -> EvaluationBatches:
    """The samples as network inputs: ``batch_size`` crops at a time, or fewer if there are fewer.

    Raises ``ConfigurationError`` for a network without preprocessing or fc8, and for numbers of
    crops other than 1 and 10, and for images of another size than the network's.
    """
    if model.preprocessing is None or FINAL_LAYER not in [layer.name for layer in model.layers]:
        raise ConfigurationError(
            f"{model.name}: expected a network with preprocessing that ends in {FINAL_LAYER}, got "
            f"{'one without preprocessing' if model.preprocessing is None else 'no such layer'}"
        )
    images = max(1, min(batch_size // crops, len(samples)))
    batches = EvaluationBatches(samples, model.preprocessing, images, crops=crops, **vars(loading))
    check_size(model, batches.input_size)
    return batches


def predict(model: AlexNetModel, batches: EvaluationBatches) -> Iterator[np.ndarray]:
    """Class probabilities, (samples, classes) float32, of the samples of each batch in order; NaN
    for those that cannot be read.

    With ten crops they are the mean of the softmaxes of the four corners, the centre and their
    mirror images (paper, section 4.1). Raises ``DataError`` naming an unreadable file where
    ``batches`` are loaded with ``bad="error"``.
    """
    step = _classifier(model, batches.crops)
    left = len(batches.samples)
    for batch in batches:
        real = min(left, batches.batch_size)
        left -= real
        probabilities = step(batch.images).numpy()[:real]
        probabilities[batch.weights.numpy()[:real] == 0] = np.nan
        yield probabilities


def _classifier(model: AlexNetModel, crops: int) -> Callable:
    """A compiled function from the images of a batch to probabilities (images, classes) float32,
    whether or not the model ends in a softmax.
    """
    network = logits_model(model)

    def probabilities(images):
        crops_of_all = tf.reshape(images, (-1, *images.shape[-3:]))
        logits = tf.cast(network(crops_of_all, training=False), tf.float32)
        softmax = tf.nn.softmax(logits)
        return tf.reduce_mean(tf.reshape(softmax, (-1, crops, softmax.shape[-1])), axis=1)

    return tf.function(probabilities, autograph=False)
