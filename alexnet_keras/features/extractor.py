"""Feature extraction: a model that returns the activations of any layer."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable

import keras

from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.preactivation import Preactivation, has_preactivation

ALL = "all"
PRE = ":pre"
WITHOUT_A_NAME_IN_PUBLIC = (keras.layers.Flatten, keras.layers.Dropout)
"""Layers that ``all`` leaves out: their values are those of the layer below."""


def feature_extractor(
    model: keras.Model,
    layers: str | Iterable[str],
    *,
    pool: str | None = None,
    flatten: bool = False,
) -> keras.Model:
    """A ``keras.Model`` from images to ``{layer: activations}``, for any layer names of ``model``.

    The inputs are those of ``model``, (batch, height, width, 3) float32; the outputs have the
    shapes and dtypes of the layers, and their keys are the names as asked. The outputs of
    conv1-conv5, fc6 and fc7 include their activation (in ``krizhevsky`` those of conv2-conv4,
    pool1, pool5, fc6 and fc7); ``"fc6:pre"`` is fc6 before it, and then fc6 and all layers above
    are computed from these very values, so that ``relu(pre) == post`` bit for bit. The outputs of
    fc8 are logits. ``"all"`` is every layer in order but flatten and dropout. Weights are shared
    with ``model``.

    Args:
        model: a functional ``keras.Model``.
        layers: a name, or several.
        pool: ``"avg"`` or ``"max"`` over height and width: (batch, height, width, channels)
            becomes (batch, channels). Layers without height and width stay as they are.
        flatten: whether (batch, height, width, channels) becomes (batch, height * width *
            channels), in this order.

    Raises:
        ConfigurationError: for an unknown name, with the valid ones and those near it; for
            ``:pre`` of a layer without activation; for a name given twice; and for ``pool`` where
            no layer has height and width.

    Example::

        extractor = feature_extractor(AlexNet(weights="caffe"), ["pool5", "fc6:pre"], pool="max")
        extractor(preprocess_input(images))["pool5"].shape  # (batch, 256)
    """
    names = resolve_layers(model, layers)
    outputs = _outputs(model, names)
    if pool is not None:
        outputs = _pooled(outputs, pool)
    if flatten:
        outputs = {name: _flat(name, tensor) for name, tensor in outputs.items()}
    return keras.Model(model.input, outputs)


def resolve_layers(model: keras.Model, layers: str | Iterable[str]) -> tuple[str, ...]:
    """The names that ``layers`` stands for, in order, ``all`` replaced by every layer of ``model``
    but flatten and dropout. Raises ``ConfigurationError``, as :func:`feature_extractor` does.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    inner = [each for each in model.layers if not isinstance(each, keras.layers.InputLayer)]
    public = [each.name for each in inner if not isinstance(each, WITHOUT_A_NAME_IN_PUBLIC)]
    resolved = [each for name in names for each in (public if name == ALL else [name])]
    _check_known(model, [layer_of(name) for name in resolved], [each.name for each in inner])
    _check_preactivations(
        [name for name in resolved if name.endswith(PRE)],
        [each.name + PRE for each in inner if has_preactivation(each)],
    )
    repeated = [name for name, times in Counter(resolved).items() if times > 1]
    if repeated:
        found = [name for name in resolved if name in repeated]
        raise ConfigurationError(f"layer: expected each once, got {', '.join(found)}")
    return tuple(resolved)


def layer_of(name: str) -> str:
    """The layer of a name such as ``fc6:pre``."""
    return name.removesuffix(PRE)


def _check_known(model: keras.Model, names: list[str], valid: list[str]) -> None:
    unknown = [name for name in names if name not in valid]
    if not unknown and names:
        return
    near = [each for name in unknown for each in difflib.get_close_matches(name, valid, 2, 0.7)]
    hint = f" (near: {', '.join(dict.fromkeys(near))})" if near else ""
    architecture = getattr(model, "architecture", None)
    if unknown and architecture and set(unknown) <= {*architecture.layer_names}:
        height, width = model.input.shape[1:3]
        hint = f", which images of {width} x {height} pixels do not fit"
    raise ConfigurationError(
        f"layer: expected one of {', '.join(valid)}; got {', '.join(unknown) or 'none'}{hint}"
    )


def _check_preactivations(names: list[str], valid: list[str]) -> None:
    linear = [name for name in names if name not in valid]
    if linear:
        raise ConfigurationError(
            f"layer: expected {PRE} of a layer with a ReLU ({', '.join(valid)}), got "
            f"{', '.join(linear)}"
        )


def _outputs(model: keras.Model, names: tuple[str, ...]) -> dict:
    """The tensor of each name. The layers are called again, so that a layer asked for before its
    activation is computed in two steps, and everything above from the first.
    """
    split = {layer_of(name) for name in names if name.endswith(PRE)}
    found = {}

    def call(layer, *inputs, **options):
        if layer.name in split:
            before = found[layer.name + PRE] = Preactivation(layer)(*inputs)
            after = keras.layers.Activation(
                layer.activation, name=layer.name, dtype=layer.dtype_policy
            )(before)
        else:
            after = layer(*inputs, **options)
        return found.setdefault(layer.name, after)

    # A plain model first: a clone of a compiled one would be compiled too.
    keras.models.clone_model(
        keras.Model(model.input, model.output),
        input_tensors=model.input,
        clone_function=lambda layer: layer,
        call_function=call,
    )
    return {name: found[name] for name in names}


def _pooled(outputs: dict, pool: str) -> dict:
    kinds = {
        "avg": keras.layers.GlobalAveragePooling2D,
        "max": keras.layers.GlobalMaxPooling2D,
    }
    if pool not in kinds:
        raise ConfigurationError(f"pool: expected avg or max, got {pool!r}")
    spatial = [name for name, tensor in outputs.items() if len(tensor.shape) == 4]
    if not spatial:
        raise ConfigurationError(
            f"pool: expected a layer with height and width, got {', '.join(outputs)}"
        )
    return outputs | {name: _reduced(name, outputs[name], kinds[pool]) for name in spatial}


def _flat(name: str, tensor):
    return _reduced(name, tensor, keras.layers.Flatten)


def _reduced(name: str, tensor, kind: type):
    unique = f"{name.replace(':', '_')}_{kind.__name__}"
    return kind(data_format="channels_last", dtype=tensor.dtype, name=unique)(tensor)
