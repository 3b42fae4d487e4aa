"""AlexNet, its preprocessing and its predictions, with the API of ``keras.applications``."""

from __future__ import annotations

import os
from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

from alexnet_keras.configs.architecture import FINAL_LAYER, Architecture, get_architecture
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING, PREPROCESSING, Preprocessing
from alexnet_keras.data import image_ops
from alexnet_keras.data.imagenet import imagenet_classes
from alexnet_keras.data.known_classes import published_classes
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.models.alexnet import AlexNetModel, build
from alexnet_keras.models.assign import assign_weights
from alexnet_keras.pretrained.catalog import find_entry
from alexnet_keras.pretrained.identification import check_variant_is_known
from alexnet_keras.pretrained.loading import resolve_weights


def AlexNet(  # noqa: N802
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=1000,  # noqa: N802
    classifier_activation="softmax",
    name=None,
    *,
    variant=None,
    skip=(),
) -> AlexNetModel:
    """Instantiate AlexNet as a functional ``keras.Model``, with keras.applications' arguments.

    Reference: Krizhevsky, Sutskever and Hinton, "ImageNet Classification with Deep Convolutional
    Neural Networks", NeurIPS 2012, https://papers.nips.cc/paper/4824.

    The input is (batch, height, width, channels) float32 as :func:`preprocess_input` returns it:
    for Caffe's weights BGR, 0-255 less the mean of ImageNet; for torchvision's RGB, standardized.

    Args:
        include_top: whether to include flatten, fc6, fc7 and fc8.
        weights: None (initial values of the variant), the name of published weights such as
            ``caffe`` or ``torchvision`` (``python -m alexnet_keras weights list`` names all), or
            the path of a weight file, a ``.keras`` file or a run folder.
        input_tensor: Keras tensor to build the network on.
        input_shape: (height, width, channels), by default (227, 227, 3), and (224, 224, 3) for
            ``owt``, ``krizhevsky`` and ``slim``. Height and width are at least 67, 63 for ``owt``
            and 52 for ``krizhevsky``; without the top they may be None.
        pooling: with ``include_top=False``: None (the output is pool5's), ``"avg"`` or ``"max"``
            (its mean or maximum over height and width).
        classes: number of outputs of fc8: that of the weights (1000 for ImageNet, 365 for
            ``places365``, 565 for ``ecoset``), or any other number with ``skip=("fc8",)``.
        classifier_activation: activation of the layer ``prob`` after fc8; None leaves it out, and
            the model returns logits.
        name: name of the model, by default the variant's.
        variant: ``"alexnet"`` (Caffe's replica, the default), ``"caffenet"``, ``"paper"``,
            ``"owt"`` (torchvision's), ``"krizhevsky"`` (the network of 2012), ``"slim"``
            (TF-Slim's alexnet_v2), or an
            :class:`~alexnet_keras.configs.architecture.Architecture`; by default that of
            ``weights``.
        skip: names of layers that keep their initial values when weights are loaded.

    Returns:
        An :class:`~alexnet_keras.models.alexnet.AlexNetModel`, a ``keras.Model`` with the
        properties ``architecture``, ``preprocessing`` and ``class_names``. Its output is
        (batch, classes) float32: probabilities 0-1 that sum to 1, or logits. With
        ``include_top=False`` it is pool5's (batch, 6, 6, 256) at 227 pixels, or (batch, 256) with
        ``pooling``.

    Raises:
        ConfigurationError: for an invalid argument, or an input too small for some layer.
        WeightsError: for weights that are missing, damaged, or of another network.

    Example::

        model = alexnet_keras.AlexNet(weights="caffe")
        images = alexnet_keras.preprocess_input(photographs, weights="caffe")
        alexnet_keras.decode_predictions(model.predict(images), top=5)
    """
    if weights is not None and not isinstance(weights, str | os.PathLike):
        raise ConfigurationError(f"weights: expected None, a name or a path, got {weights!r}")
    if skip and weights is None:
        raise ConfigurationError(f"skip: expected none without weights, got {', '.join(skip)}")
    _check_top(include_top, pooling, classes)
    source = None if weights is None else resolve_weights(weights, variant)
    if source is not None:
        check_variant_is_known(source, variant)
    architecture = (
        get_architecture(variant or "alexnet") if source is None else source.architecture
    )
    inputs = _inputs(input_tensor, input_shape, architecture, include_top)
    model = build(
        architecture,
        inputs,
        classes,
        include_top,
        pooling,
        classifier_activation,
        name,
        preprocessing=_preprocessing(source, architecture, inputs.shape[1:3]),
        class_names=_class_names(source, classes, skip),
    )
    if source is not None:
        top = () if include_top else ("fc6", "fc7", FINAL_LAYER)
        assign_weights(
            model,
            source.weights,
            skip=(*skip, *(layer for layer in top if layer in source.weights.layers)),
        )
    return model


def _preprocessing(source, architecture: Architecture, sizes) -> Preprocessing:
    """The preprocessing of the weights, else of the variant, for images of the network's size."""
    known = (source and source.preprocessing) or PREPROCESSING.get(
        architecture.name, CAFFE_PREPROCESSING
    )
    return known if None in sizes else known.with_input_size(min(sizes))


def _class_names(source, classes: int, skip: Iterable[str]) -> tuple[str, ...]:
    if source is not None and FINAL_LAYER not in skip:
        if source.model is not None:
            return source.model.class_names
        if len(source.class_names) == classes:
            return source.class_names
    return tuple(name for _, name in imagenet_classes()) if classes == 1000 else ()


def preprocess_input(
    images, weights="caffe", preprocessing: Preprocessing | None = None
) -> tf.Tensor:
    """Preprocess RGB images for the network of ``weights``.

    Images of the network's own size are only normalized; others are resized and centre-cropped
    first.

    Args:
        images: (height, width, 3) or (batch, height, width, 3), uint8 or float, RGB, 0-255.
        weights: name of published weights, whose preprocessing is applied.
        preprocessing: a :class:`~alexnet_keras.configs.preprocessing.Preprocessing` to apply
            instead, such as ``model.preprocessing``.

    Returns:
        (batch, crop, crop, 3) float32. For Caffe's weights BGR, about -124 to 152; for
        torchvision's RGB, about -2.1 to 2.6.

    Raises:
        ConfigurationError: for images of another shape, or weights without preprocessing.
        WeightsError: for an unknown name.

    Example::

        alexnet_keras.preprocess_input(photograph, preprocessing=model.preprocessing)
    """
    rule = preprocessing or find_entry(weights).preprocessing
    if rule is None:
        raise ConfigurationError(
            f"weights: expected weights of a network with preprocessing, got {weights!r}"
        )
    images = tf.convert_to_tensor(images)
    images = images[None] if images.shape.rank == 3 else images
    if images.shape.rank != 4 or images.shape[-1] != 3:
        raise ConfigurationError(
            f"images: expected (height, width, 3) or (batch, height, width, 3), got {images.shape}"
        )
    if images.shape[1:3] != (rule.crop, rule.crop):
        images = tf.map_fn(
            lambda image: image_ops.center_crop(image_ops.resize(image, rule), rule),
            images,
            fn_output_signature=tf.float32,
        )
    return image_ops.to_network_input(images, rule)


def decode_predictions(
    probabilities,
    top: int = 5,
    class_names: Iterable[str] | None = None,
    weights: str | None = None,
) -> list[list[tuple]]:
    """Decode predictions into the best classes of each image, without network access.

    Args:
        probabilities: (batch, classes), as ``model.predict`` returns them.
        top: number of classes to return for each image.
        class_names: a name for each class, such as ``model.class_names``; by default those of
            ``weights``.
        weights: name of published weights, such as ``places365``; by default of ones with the
            1000 classes of ImageNet.

    Returns:
        For each image a list of ``(wnid, name, probability)``, best first; with ``class_names``,
        and for other classes than ImageNet's, the first item is the index of the class as a
        string.

    Raises:
        ConfigurationError: for another shape of ``probabilities``, or as many classes as have no
            names, or a ``top`` below 1.

    Example::

        decode_predictions([[0.25, 0.75]], class_names=("cat", "dog"))
        # [[("1", "dog", 0.75), ("0", "cat", 0.25)]]
    """
    if top < 1:
        raise ConfigurationError(f"top: expected at least 1, got {top}")
    probabilities = np.asarray(probabilities)
    classes = _classes(sum(probabilities.shape[-1:]), class_names, weights)
    if probabilities.ndim != 2 or probabilities.shape[1] != len(classes):
        raise ConfigurationError(
            f"probabilities: expected (batch, {len(classes)}), got {probabilities.shape}"
        )
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        [(*classes[index], float(row[index])) for index in order]
        for row, order in zip(probabilities, best, strict=True)
    ]


def _classes(outputs: int, class_names: Iterable[str] | None, weights: str | None):
    """``(id, name)`` of each class: the names given, else the published ones of ``weights``."""
    if class_names is not None:
        return [(str(index), name) for index, name in enumerate(class_names)]
    entry = find_entry(weights or "caffe")
    if entry.class_names is None:
        raise ConfigurationError(
            f"class_names: expected a name for each class, got none, and {entry.name} has no "
            "published ones"
        )
    found = published_classes(entry.class_names, outputs)
    return found or published_classes(entry.class_names, entry.classes)


def _check_top(include_top, pooling, classes) -> None:
    if pooling not in (None, "avg", "max"):
        raise ConfigurationError(f"pooling: expected None, avg or max, got {pooling!r}")
    if pooling is not None and include_top:
        raise ConfigurationError(f"pooling: expected None with include_top=True, got {pooling!r}")
    if not isinstance(classes, int) or classes < 1:
        raise ConfigurationError(f"classes: expected a positive integer, got {classes!r}")


def _inputs(input_tensor, input_shape, architecture: Architecture, include_top: bool):
    if input_tensor is not None and not keras.backend.is_keras_tensor(input_tensor):
        raise ConfigurationError(
            f"input_tensor: expected a Keras tensor, got {type(input_tensor).__name__}"
        )
    default = (architecture.input_size, architecture.input_size, 3)
    shape = tuple(input_shape or default) if input_tensor is None else input_tensor.shape[1:]
    known = (
        shape if include_top else [size for size in shape[:2] if size is not None] + [*shape[2:]]
    )
    if len(shape) != 3 or not all(isinstance(size, int) and size > 0 for size in known):
        raise ConfigurationError(
            f"input_shape: expected (height, width, channels) of positive integers, got {shape}"
        )
    return keras.Input(shape) if input_tensor is None else input_tensor
