"""LPIPS: how different two images look, by the activations of a trained AlexNet.

Source: Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features
as a Perceptual Metric", CVPR 2018, equation 1; version 0.1 of their package ``lpips``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import keras
import numpy as np
from keras import ops

from alexnet_keras.configs.architecture import OWT
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.perceptual.images import check_same_shape, checked_images
from alexnet_keras.perceptual.loading import (
    find_heads,
    matching_heads,
    open_trunk,
    specs_to_conv5,
)
from alexnet_keras.progress import Progress

EPSILON = 1e-10
# From RGB in -1 to 1, as the package lpips takes it, to about the input of torchvision's network.
_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)


class PerceptualDistance:
    """A perceptual distance with its weights loaded once; a loss function for training.

    The arguments are those of :func:`perceptual_distance`. ``trunk``: the network;
    ``heads_path``: the file of the linear heads.

    Example::

        distance = PerceptualDistance()
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(distance(images, decoder(codes)))
    """

    def __init__(
        self,
        weights: str | os.PathLike | keras.Model = "torchvision",
        heads: str | os.PathLike = "lpips",
        *,
        net: str = "owt",
        partial: bool = False,
        progress: Progress | None = None,
    ):
        if net != OWT.name:
            known = " (what the package lpips calls alex)" if net == "alex" else ""
            raise ConfigurationError(
                f"net: expected {OWT.name}, whose linear heads are published, got {net!r}{known}"
            )
        progress = progress or Progress(0)
        self.trunk = open_trunk(weights, partial, progress)
        model = self.trunk.model
        self.heads_path = find_heads(heads, progress)
        self._layers = [model.get_layer(spec.name) for spec in specs_to_conv5(model.architecture)]
        self._heads = matching_heads(self.heads_path, model)

    def __call__(self, a, b):
        """The distances of two batches, as :func:`perceptual_distance` returns them."""
        a, b = checked_images("a", a), checked_images("b", b)
        check_same_shape(a, b)
        a = ops.convert_to_tensor(a, "float32")
        b = ops.convert_to_tensor(b, "float32")
        if len(a.shape) == 3:
            return self._distance(a[None], b[None])[0]
        return self._distance(a, b)

    def _distance(self, a, b):
        pairs = zip(self._activations(a), self._activations(b), self._heads, strict=True)
        return sum(
            ops.mean(ops.sum(head * ops.square(_unit(x) - _unit(y)), -1), (1, 2))
            for x, y, head in pairs
        )

    def _activations(self, images) -> Iterator:
        """Those of the convolutions, after their ReLU and before any pooling."""
        x = (images / 127.5 - 1 - _constant(_SHIFT)) / _constant(_SCALE)
        for layer in self._layers:
            x = layer(x)
            if layer.name.startswith("conv"):
                yield ops.cast(x, "float32")


def perceptual_distance(
    a,
    b,
    net: str = "owt",
    *,
    weights: str | os.PathLike | keras.Model = "torchvision",
    heads: str | os.PathLike = "lpips",
    partial: bool = False,
):
    """LPIPS v0.1 with AlexNet: 0 for equal images, about 1 for unrelated ones; differentiable.

    Equal to ``lpips.LPIPS(net="alex")`` of the package ``lpips``, which takes channels first and
    RGB in -1 to 1: here an image is RGB in 0-255, not resized and nothing subtracted. Where all
    channels of a layer are 0, the gradient is 0, and that of the package NaN.

    Args:
        a: images, (batch, height, width, 3) or (height, width, 3), RGB, 0-255, of any real dtype:
            a NumPy array or a tensor of Keras's backend; at least 31 x 31 pixels.
        b: as many images of the same size.
        net: the network, ``"owt"``: torchvision's, the one whose heads are published.
        weights: those of the network: a name of the catalogue, a weight file, a run, a model, or
            ``random:SEED``.
        heads: the published linear heads: a ``.pth`` file, or ``"lpips"`` of the catalogue.
        partial: accept a weight file without the layers above conv5, which are not used.

    Returns:
        A tensor (batch,) float32, or () of two single images. Loading the weights takes longer
        than comparing two images: in a loop, create one :class:`PerceptualDistance` before it.

    Raises:
        ConfigurationError: another ``net``, weights of another variant.
        DataError: shapes that differ or are none of images; images that are too small; and of
            NumPy arrays values beyond 0-255, not finite or in 0-1. Tensors' values are not
            checked.
        WeightsError: weights or heads that cannot be used.

    Example::

        alexnet_keras.perceptual_distance(photographs, compressed).numpy()
    """
    return PerceptualDistance(weights, heads, net=net, partial=partial)(a, b)


def _unit(x):
    """``x`` divided by its norm over channels."""
    squares = ops.sum(ops.square(x), -1, keepdims=True)
    # The root's gradient is infinite at 0.
    norm = ops.sqrt(ops.where(squares > 0, squares, 1.0))
    return x / (norm + EPSILON)


def _constant(values):
    return ops.convert_to_tensor(np.asarray(values, np.float32))
