"""The network for the size of the images that it is given."""

from __future__ import annotations

from dataclasses import replace

from alexnet_keras.configs.loading import Loading
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.samples import Samples
from alexnet_keras.models.alexnet import AlexNetModel
from alexnet_keras.models.resized import for_size


def fit_to_images(
    model: AlexNetModel, samples: Samples, loading: Loading
) -> tuple[AlexNetModel, Loading]:
    """``model`` for the crop of its preprocessing, or, where images are taken whole, for the size
    of the first of ``samples``, which is then that of all; it has no fully connected layers unless
    the size is its own.
    """
    crop = model.preprocessing.crop
    if crop is not None:
        return for_size(model, (crop, crop)), loading
    first = EvaluationBatches(samples, model.preprocessing, 1, **vars(loading))
    loading = replace(loading, input_size=first.input_size)
    return for_size(model, first.input_size), loading
