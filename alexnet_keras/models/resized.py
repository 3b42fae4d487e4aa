"""A network for images of another size, or with another preprocessing; its layers are shared."""

from __future__ import annotations

import keras

from alexnet_keras.configs.architecture import Flatten
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.alexnet import AlexNetModel, check_input


def with_preprocessing(model: AlexNetModel, preprocessing: Preprocessing) -> AlexNetModel:
    """The same network, whose images are prepared in another way."""
    return _sharing(model, model.input, model.output, preprocessing)


def for_size(model: AlexNetModel, size: tuple[int, int]) -> AlexNetModel:
    """The network for images of ``size`` (height, width): ``model`` itself where its inputs have
    that size, else its layers up to the first that does not fit: flatten at the latest, since fc6
    has a weight for each pixel of pool5.

    Raises ``ConfigurationError`` for a size that is too small for the first layer.
    """
    known = zip(model.input.shape[1:3], size, strict=True)
    if all(own in (None, pixels) for own, pixels in known):
        return model
    inputs = x = keras.Input((*size, 3))
    for spec in model.architecture.layers:
        try:
            check_input(spec, x.shape, inputs.shape)
        except ConfigurationError as error:
            if x is inputs:
                raise ConfigurationError(
                    f"crop: {str(error).removeprefix('input_shape: ')}"
                ) from None
            break
        if isinstance(spec, Flatten):
            break
        x = model.get_layer(spec.name)(x)
    return _sharing(model, inputs, x, model.preprocessing)


def check_size(model: AlexNetModel, size: tuple[int, int]) -> None:
    """Raise ``ConfigurationError`` unless the whole network takes images of ``size`` (height,
    width).
    """
    expected = model.input.shape[1:3]
    if expected != size:
        raise ConfigurationError(
            f"crop: expected images of {expected[1]} x {expected[0]} pixels for the fully "
            f"connected layers, got {size[1]} x {size[0]}"
        )


def _sharing(model: AlexNetModel, inputs, outputs, preprocessing: Preprocessing) -> AlexNetModel:
    return AlexNetModel(
        inputs,
        outputs,
        name=model.name,
        architecture=model.architecture,
        preprocessing=preprocessing,
        class_names=model.class_names,
    )
