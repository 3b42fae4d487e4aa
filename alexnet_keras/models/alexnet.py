"""AlexNet, built from its description with Keras's functional API. Reads like section 3 of the
paper.
"""

from __future__ import annotations

import dataclasses
import math

import keras

from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    Architecture,
    Convolution,
    Dense,
    Dropout,
    InitialValues,
    Normalization,
    Pooling,
)
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.layers import GroupedConv2D, LocalResponseNormalization, SampleDropout


@keras.saving.register_keras_serializable("alexnet_keras")
class AlexNetModel(keras.Model):
    """A functional ``keras.Model`` with three facts that travel in its ``.keras`` file.

    ``architecture``: :class:`~alexnet_keras.configs.architecture.Architecture`; ``preprocessing``:
    :class:`~alexnet_keras.configs.preprocessing.Preprocessing`; ``class_names``: a name for each
    output, in order.
    """

    architecture: Architecture | None = None
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] = ()

    def get_config(self):
        return {
            **super().get_config(),
            "alexnet": {
                "architecture": self.architecture and self.architecture.to_dict(),
                "preprocessing": self.preprocessing and dataclasses.asdict(self.preprocessing),
                "class_names": list(self.class_names),
            },
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        facts = config.pop("alexnet")
        model = super().from_config(config, custom_objects)
        model.architecture = facts["architecture"] and Architecture.from_dict(
            facts["architecture"]
        )
        model.preprocessing = facts["preprocessing"] and Preprocessing.from_dict(
            facts["preprocessing"]
        )
        model.class_names = tuple(facts["class_names"])
        return model


def build(
    architecture: Architecture,
    inputs,
    classes=1000,
    include_top=True,
    pooling=None,
    classifier_activation="softmax",
    name=None,
) -> keras.Model:
    """The network of ``architecture`` on ``inputs``, a Keras tensor (batch, height, width,
    channels) float32.

    Height and width may be None without the top. Returns a functional model whose output is
    (batch, classes) with the top, else pool5 (batch, 6, 6, 256) at 227, or its mean or maximum
    over space with ``pooling="avg" | "max"``. Raises ``ConfigurationError`` for an input that some
    layer would shrink to nothing.
    """
    x = inputs
    for spec in architecture.layers:
        if isinstance(spec, Dense | Dropout):
            if not include_top:
                break
            if len(x.shape) == 4:
                x = _flatten(x)
        _check_input_size(spec, x.shape, inputs.shape)
        x = _layer(spec, architecture, x)(x)
    if include_top:
        x = x if len(x.shape) == 2 else _flatten(x)
        x = keras.layers.Dense(
            classes,
            name=FINAL_LAYER,
            **_initializers(architecture.initial_values, FINAL_LAYER, fan_in=x.shape[-1]),
        )(x)
        if classifier_activation is not None:
            x = keras.layers.Activation(classifier_activation, dtype="float32", name="prob")(x)
    elif pooling is not None:
        x = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[
            pooling
        ](data_format="channels_last")(x)
    sources = keras.utils.get_source_inputs(inputs)
    return AlexNetModel(
        sources[0] if len(sources) == 1 else sources, x, name=name or architecture.name
    )


def _layer(spec, architecture: Architecture, x) -> keras.layers.Layer:
    initial = architecture.initial_values
    match spec:
        case Convolution(name, filters, kernel, stride, padding, groups):
            return GroupedConv2D(
                filters,
                kernel,
                padding,
                strides=stride,
                groups=groups,
                name=name,
                activation=architecture.activation,
                **_initializers(initial, name, fan_in=kernel * kernel * x.shape[-1] // groups),
            )
        case Normalization(name, depth_radius, bias, alpha, beta):
            return LocalResponseNormalization(depth_radius, bias, alpha, beta, name=name)
        case Pooling(name, size, stride):
            return keras.layers.MaxPooling2D(size, stride, data_format="channels_last", name=name)
        case Dense(name, units):
            return keras.layers.Dense(
                units,
                activation=architecture.activation,
                name=name,
                **_initializers(initial, name, fan_in=x.shape[-1]),
            )
        case Dropout(name, rate):
            return SampleDropout(rate, name=name)


def _flatten(x):
    return keras.layers.Flatten(data_format="channels_last", name="flatten")(x)


def _initializers(initial: InitialValues, layer: str, fan_in: int) -> dict:
    if initial.kernels == "torch":
        limit = 1 / math.sqrt(fan_in)
        return {
            "kernel_initializer": keras.initializers.RandomUniform(-limit, limit),
            "bias_initializer": keras.initializers.RandomUniform(-limit, limit),
        }
    kernel = (
        keras.initializers.HeNormal()
        if initial.kernels == "he"
        else keras.initializers.RandomNormal(stddev=initial.stddev_of(layer))
    )
    return {
        "kernel_initializer": kernel,
        "bias_initializer": keras.initializers.Constant(initial.bias_of(layer)),
    }


def _check_input_size(spec, shape, input_shape) -> None:
    window = {Convolution: lambda s: s.kernel - 2 * s.padding, Pooling: lambda s: s.size}.get(
        type(spec)
    )
    if window and any(size is not None and size < window(spec) for size in shape[1:3]):
        raise ConfigurationError(
            f"input_shape: {spec.name} needs at least {window(spec)} pixels and gets "
            f"{shape[1]}x{shape[2]} from an input of {input_shape[1]}x{input_shape[2]}"
        )
