"""Feature extraction: a model that returns the activations of any layer."""

from __future__ import annotations

from collections.abc import Iterable

import keras

from alexnet_keras.errors import ConfigurationError


def feature_extractor(model: keras.Model, layers: str | Iterable[str]) -> keras.Model:
    """A ``keras.Model`` from images to ``{layer: activations}``, for any layer names of ``model``.

    The inputs are those of ``model``, (batch, height, width, 3) float32; the outputs have the
    shapes and dtypes of the layers. The outputs of conv1-conv5, fc6 and fc7 include their
    activation; those of fc8 are logits. Raises ``ConfigurationError`` that lists the valid names
    for an unknown one.

    Example::

        extractor = feature_extractor(AlexNet(weights="caffe"), ["pool5", "fc7"])
        extractor(preprocess_input(images))["pool5"].shape  # (batch, 6, 6, 256)
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    valid = [
        layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)
    ]
    unknown = [name for name in names if name not in valid]
    if unknown or not names:
        raise ConfigurationError(
            f"layer: expected one of {', '.join(valid)}; got {', '.join(unknown) or 'none'}"
        )
    return keras.Model(model.input, {name: model.get_layer(name).output for name in names})
