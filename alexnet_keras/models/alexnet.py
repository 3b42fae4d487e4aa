"""AlexNet, built from an ``Architecture`` with Keras's functional API (paper, section 3)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import keras

from alexnet_keras.configs.architecture import (
    FINAL_LAYER,
    Architecture,
    Convolution,
    Dense,
    Dropout,
    Flatten,
    Normalization,
    Pooling,
    WithinChannelNormalization,
)
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models import layers
from alexnet_keras.models.initial_weights import initializers


class _Metadata(NamedTuple):
    architecture: Architecture | None
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...]


@keras.saving.register_keras_serializable("alexnet_keras")
class AlexNetModel(keras.Model):
    """A functional ``keras.Model`` with an architecture, a preprocessing and class names.

    Args:
        inputs: Keras tensor (batch, height, width, channels).
        outputs: Keras tensor computed from ``inputs``.
        name: name of the model.
        architecture: the :class:`~alexnet_keras.configs.architecture.Architecture` of the layers.
        preprocessing: the :class:`~alexnet_keras.configs.preprocessing.Preprocessing` from an RGB
            image to ``inputs``.
        class_names: a name for each output, in order.

    They are saved in its ``.keras`` file, and ``keras.models.clone_model`` keeps them.
    """

    # *args: up to 3.14, Keras recognises a functional model by this signature.
    def __init__(
        self,
        *args,
        architecture: Architecture | None = None,
        preprocessing: Preprocessing | None = None,
        class_names: Iterable[str] = (),
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        metadata = _Metadata(architecture, preprocessing, tuple(class_names))
        self._metadata = (
            metadata if any(metadata) else getattr(self.output, "alexnet_metadata", metadata)
        )

    @property
    def architecture(self) -> Architecture | None:
        return self._metadata.architecture

    @property
    def preprocessing(self) -> Preprocessing | None:
        return self._metadata.preprocessing

    @property
    def class_names(self) -> tuple[str, ...]:
        return self._metadata.class_names

    def _run_through_graph(self, *args, **kwargs):
        """``keras.models.clone_model`` passes what this returns to the constructor, and nothing
        else of the model.
        """
        outputs = super()._run_through_graph(*args, **kwargs)
        if keras.utils.is_keras_tensor(outputs):
            outputs.alexnet_metadata = self._metadata
        return outputs

    def save(self, filepath, *args, **kwargs):
        """Save the model to a ``.keras`` file, as ``keras.Model.save`` does. Raises
        ``ConfigurationError`` for an HDF5 file, which could not be loaded.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise ConfigurationError(
                f"{filepath}: expected a name that ends in .keras, got an HDF5 file, from which "
                "no model can be loaded; save_weights writes the weights alone to .weights.h5"
            )
        super().save(filepath, *args, **kwargs)

    def get_config(self):
        return {
            **super().get_config(),
            "architecture": self.architecture and self.architecture.to_dict(),
            "preprocessing": self.preprocessing and dataclasses.asdict(self.preprocessing),
            "class_names": list(self.class_names),
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        # Files of the first versions hold the three under one key.
        config = {**config, **config.get("alexnet", {})}
        config.pop("alexnet", None)
        if config["architecture"]:
            config["architecture"] = Architecture.from_dict(config["architecture"])
        if config["preprocessing"]:
            config["preprocessing"] = Preprocessing.from_dict(config["preprocessing"])
        return super().from_config(config, custom_objects)


def build(
    architecture: Architecture,
    inputs,
    classes: int = 1000,
    include_top: bool = True,
    pooling: str | None = None,
    classifier_activation: str | None = "softmax",
    name: str | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    class_names: Iterable[str] = (),
    seed: int | None = None,
) -> AlexNetModel:
    """Build the network of ``architecture`` on ``inputs``, a Keras tensor (batch, height, width,
    channels) float32.

    Height and width may be None without the top. Returns a functional model whose output is
    (batch, classes) with the top, else pool5 (batch, 6, 6, 256) at 227, or its mean or maximum
    over height and width with ``pooling="avg" | "max"``. With ``seed`` the initial weights are the
    same in every process, whatever was drawn before. Raises ``ConfigurationError`` for an
    input too small for some layer, and for a fully connected layer without a ``Flatten`` before
    it.
    """
    x = inputs
    for spec in architecture.layers:
        if isinstance(spec, Flatten) and not include_top:
            break
        check_input(spec, x.shape, inputs.shape)
        x = _layer(spec, architecture, x, seed)(x)
    if include_top:
        x = _classifier(x, architecture, classes, classifier_activation, seed)
    elif pooling is not None:
        x = {"avg": keras.layers.GlobalAveragePooling2D, "max": keras.layers.GlobalMaxPooling2D}[
            pooling
        ](data_format="channels_last")(x)
    sources = keras.utils.get_source_inputs(inputs)
    return AlexNetModel(
        sources[0] if len(sources) == 1 else sources,
        x,
        name=name or architecture.name,
        architecture=architecture,
        preprocessing=preprocessing,
        class_names=class_names,
    )


def new_model(
    architecture: Architecture,
    preprocessing: Preprocessing,
    class_names: tuple[str, ...],
    seed: int | None = None,
) -> AlexNetModel:
    """A network with initial weights, as :func:`build` draws them, for images of
    ``preprocessing``'s size, with an output for each class name.
    """
    return build(
        architecture,
        keras.Input((preprocessing.crop, preprocessing.crop, 3)),
        len(class_names),
        preprocessing=preprocessing,
        class_names=class_names,
        seed=seed,
    )


def float32_copy(model: AlexNetModel) -> AlexNetModel:
    """A copy of the network that computes in float32; ``model`` itself if it already does."""
    if model.get_layer(FINAL_LAYER).compute_dtype == "float32":
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        copy = new_model(model.architecture, model.preprocessing, model.class_names)
    finally:
        keras.config.set_dtype_policy(policy)
    copy.set_weights(model.get_weights())
    return copy


def logits_model(model: keras.Model) -> keras.Model:
    """The part of ``model`` from its input to the logits of fc8, before any ``prob``; it shares
    the layers of ``model``.
    """
    return keras.Model(model.input, model.get_layer(FINAL_LAYER).output)


def _classifier(
    x, architecture: Architecture, classes: int, activation: str | None, seed: int | None
):
    check_input(Dense(FINAL_LAYER, classes), x.shape, x.shape)
    initial = initializers(architecture.initial_values, FINAL_LAYER, x.shape[-1], seed)
    logits = keras.layers.Dense(classes, name=FINAL_LAYER, **initial)(x)
    if activation is None:
        return logits
    return keras.layers.Activation(activation, dtype="float32", name="prob")(logits)


def _layer(spec, architecture: Architecture, x, seed: int | None) -> keras.layers.Layer:
    initial = architecture.initial_values
    match spec:
        case Convolution(name, filters, kernel, stride, padding, groups, ceil_mode, activated):
            return layers.GroupedConv2D(
                filters,
                kernel,
                padding,
                ceil_mode,
                strides=stride,
                groups=groups,
                name=name,
                activation=architecture.activation if activated else None,
                **initializers(initial, name, kernel * kernel * x.shape[-1] // groups, seed),
            )
        case Normalization(name, depth_radius, bias, alpha, beta, groups):
            return layers.LocalResponseNormalization(
                depth_radius, bias, alpha, beta, groups, name=name
            )
        case WithinChannelNormalization(name, size, bias, alpha, beta):
            return layers.WithinChannelNormalization(size, bias, alpha, beta, name=name)
        case Pooling(name, size, stride, ceil_mode, activated):
            activation = architecture.activation if activated else None
            return layers.MaxPooling2D(size, stride, ceil_mode, activation, name=name)
        case Flatten(name):
            return keras.layers.Flatten(data_format="channels_last", name=name)
        case Dense(name, units):
            return keras.layers.Dense(
                units,
                activation=architecture.activation,
                name=name,
                **initializers(initial, name, x.shape[-1], seed),
            )
        case Dropout(name, rate, scaled_at):
            return layers.SampleDropout(rate, scaled_at, name=name)


def check_input(spec, shape, input_shape) -> None:
    """Raise ``ConfigurationError`` for an input of a layer, whose ``shape`` is (batch, ...), that
    the layer cannot take; ``input_shape`` is that of the network's input.
    """
    if isinstance(spec, Dense) and len(shape) != 2:
        raise ConfigurationError(
            f"architecture: {spec.name}: expected a Flatten layer before it, got none"
        )
    window = {Convolution: lambda s: s.kernel - 2 * s.padding, Pooling: lambda s: s.size}.get(
        type(spec)
    )
    if window and any(size is not None and size < window(spec) for size in shape[1:3]):
        raise ConfigurationError(
            f"input_shape: expected at least {window(spec)}x{window(spec)} pixels at {spec.name}, "
            f"got {shape[1]}x{shape[2]} from an input of {input_shape[1]}x{input_shape[2]}"
        )
    if isinstance(spec, Normalization) and shape[-1] % spec.groups:
        raise ConfigurationError(
            f"architecture: {spec.name}: expected channels that {spec.groups} groups divide, got "
            f"{shape[-1]}"
        )
