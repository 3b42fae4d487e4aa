"""The layers that AlexNet needs and Keras lacks: local response normalization, across channels and
within one; a trainable grouped convolution; max pooling with an activation; and dropout whose mask
depends on the sample, so that a resumed or distributed run draws the same masks.

Their operations are in ``backends/tensorflow.py``, and for Keras's other backends in
``backends/generic.py``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    from alexnet_keras.models.backends.tensorflow import (
        convolve,
        normalize,
        normalize_within,
        should_split_groups,
    )
else:
    from alexnet_keras.models.backends.generic import (
        convolve,
        normalize,
        normalize_within,
        should_split_groups,
    )


@keras.saving.register_keras_serializable("alexnet_keras")
class LocalResponseNormalization(keras.layers.Layer):
    """``x / (bias + alpha * sum of x**2 over 2 * depth_radius + 1 neighbouring channels) **
    beta``, in each of ``groups`` groups of channels by itself.

    Input and output: (batch, height, width, channels); computed in float32 and returned in the
    layer's compute dtype. ``alpha`` multiplies the plain sum: Caffe's ``alpha: 1e-4, local_size:
    5`` is ``alpha=2e-5, depth_radius=2`` here. Source: Krizhevsky et al. 2012, section 3.3.
    """

    def __init__(self, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75, groups=1, **kwargs):
        super().__init__(**kwargs)
        self.groups = groups
        self.depth_radius = depth_radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def build(self, input_shape):
        self.built_size = tuple(input_shape[1:])

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        constants = (self.bias, self.alpha, self.beta)
        x = normalize(x, self.depth_radius, *constants, _has_fixed_size(x, self), self.groups)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "depth_radius": self.depth_radius,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
            "groups": self.groups,
        }


@keras.saving.register_keras_serializable("alexnet_keras")
class WithinChannelNormalization(keras.layers.Layer):
    """``x / (bias + alpha * sum of x**2 over the size x size pixels around it) ** beta``, in each
    channel by itself; pixels beyond the edge count as zeros.

    Input and output: (batch, height, width, channels); computed in float32 and returned in the
    layer's compute dtype. Source: ``rnorm`` in the code of 2012, whose ``scale`` divided by
    ``size ** 2`` is ``alpha`` here.
    """

    def __init__(self, size=5, bias=1.0, alpha=0.001 / 25, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def build(self, input_shape):
        self.built_size = tuple(input_shape[1:])

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        constants = (self.bias, self.alpha, self.beta)
        x = normalize_within(x, self.size, *constants, _has_fixed_size(x, self))
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {
            **super().get_config(),
            "size": self.size,
            "bias": self.bias,
            "alpha": self.alpha,
            "beta": self.beta,
        }


def _has_fixed_size(x, layer: keras.layers.Layer) -> bool:
    """Whether ``x`` has the size that ``layer`` was built for, and that is a fixed one."""
    return None not in layer.built_size and tuple(x.shape[1:]) == layer.built_size


def _beyond(size: int | None, window: int, stride: int) -> int:
    """How many pixels of the last window lie beyond ``size`` pixels, where the number of windows
    is rounded up; for an unknown size the largest such number, which gives as many windows.
    """
    return stride - 1 if size is None else (window - size) % stride


@keras.saving.register_keras_serializable("alexnet_keras")
class GroupedConv2D(keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with padding in pixels, as in Caffe, and groups that can be trained
    on every CPU.

    Input (batch, height, width, in); the kernel is a single variable (kernel, kernel, in / groups,
    filters). ``ceil_mode`` rounds the output size up, with zeros on the right and bottom. Each
    group is computed by a convolution of its own where that is faster, or the only way
    (``should_split_groups``).
    """

    def __init__(self, filters, kernel_size, padding=0, ceil_mode=False, **kwargs):
        self.padding_pixels = padding
        self.ceil_mode = ceil_mode
        super().__init__(
            filters, kernel_size, padding="valid", **{**kwargs, "data_format": "channels_last"}
        )

    def call(self, inputs, training=False):
        return self._computed(inputs, training, self.activation)

    def preactivation(self, inputs):
        """The output before the activation."""
        return self._computed(inputs, False, keras.activations.linear)

    def _computed(self, inputs, training: bool, activation):
        groups = self.groups if should_split_groups(self.compute_dtype) else 1
        parts = zip(
            ops.split(self._padded(inputs), groups, -1),
            ops.split(ops.convert_to_tensor(self.kernel), groups, -1),
            ops.split(ops.convert_to_tensor(self.bias), groups),
            strict=True,
        )
        outputs = [
            activation(convolve(x, kernel, bias, self.strides, self._padding_rule, training))
            for x, kernel, bias in parts
        ]
        # PyTorch's concatenate would copy even a single part.
        return outputs[0] if groups == 1 else ops.concatenate(outputs, -1)

    @property
    def _padding_rule(self) -> str:
        """``"same"`` where that equals the padding in pixels, else ``"valid"`` on a padded input:
        oneDNN has no gradient for explicit padding.
        """
        same = self.strides == (1, 1) and all(
            2 * self.padding_pixels + 1 == size for size in self.kernel_size
        )
        return "same" if same else "valid"

    def _padded(self, inputs):
        pads = self._pads(inputs.shape[1:3])
        return (
            inputs
            if self._padding_rule == "same" or not any(map(any, pads))
            else ops.pad(inputs, [(0, 0), *pads, (0, 0)])
        )

    def _pads(self, sizes) -> list[tuple[int, int]]:
        """The pixels added above and below, left and right."""
        pad = self.padding_pixels
        windows = zip(sizes, self.kernel_size, self.strides, strict=True)
        beyond = [
            _beyond(size and size + 2 * pad, window, stride) if self.ceil_mode else 0
            for size, window, stride in windows
        ]
        return [(pad, pad + more) for more in beyond]

    def compute_output_shape(self, input_shape):
        batch, *sizes, channels = input_shape
        pads = self._pads(sizes)
        padded = [size and size + sum(pad) for size, pad in zip(sizes, pads, strict=True)]
        return super().compute_output_shape((batch, *padded, channels))

    def get_config(self):
        return {
            **super().get_config(),
            "padding": self.padding_pixels,
            "ceil_mode": self.ceil_mode,
        }


@keras.saving.register_keras_serializable("alexnet_keras")
class MaxPooling2D(keras.layers.MaxPooling2D):
    """``keras.layers.MaxPooling2D`` without padding, and with an activation of the maxima.

    Input (batch, height, width, channels). ``ceil_mode`` rounds the output size up: the last
    windows may lie partly beyond the right and bottom edges.
    """

    def __init__(self, pool_size, strides, ceil_mode=False, activation=None, **kwargs):
        super().__init__(
            pool_size, strides, **{**kwargs, "padding": "valid", "data_format": "channels_last"}
        )
        self.ceil_mode = ceil_mode
        self.activation = keras.activations.get(activation)

    def call(self, inputs):
        return self.activation(self.preactivation(inputs))

    def preactivation(self, inputs):
        """The maxima before the activation."""
        pads = [(0, beyond) for beyond in self._beyond(inputs.shape[1:3])]
        if any(map(any, pads)):
            pads = [(0, 0), *pads, (0, 0)]
            inputs = ops.pad(inputs, pads, constant_values=-float("inf"))
        return super().call(inputs)

    def _beyond(self, sizes) -> list[int]:
        windows = zip(sizes, self.pool_size, self.strides, strict=True)
        return [_beyond(*window) if self.ceil_mode else 0 for window in windows]

    def compute_output_shape(self, input_shape):
        batch, *sizes, channels = input_shape
        beyond = self._beyond(sizes)
        padded = [size and size + more for size, more in zip(sizes, beyond, strict=True)]
        return super().compute_output_shape((batch, *padded, channels))

    def get_config(self):
        return {
            **super().get_config(),
            "ceil_mode": self.ceil_mode,
            "activation": keras.activations.serialize(self.activation),
        }


_stream: ContextVar[tuple] = ContextVar("stream")


@contextlib.contextmanager
def sample_masks(seed: int, position) -> Iterator[None]:
    """A context in which :class:`SampleDropout` draws the mask of each sample as a function of
    (seed, position in the training stream, layer).

    ``position``: that of the first row of the batch, an int64 scalar. TensorFlow only.
    """
    token = _stream.set((seed, position))
    try:
        yield
    finally:
        _stream.reset(token)


@keras.saving.register_keras_serializable("alexnet_keras")
class SampleDropout(keras.layers.Dropout):
    """``keras.layers.Dropout`` whose mask, inside :func:`sample_masks`, depends on the sample and
    not on the batch.

    One batch of 256, two workers with 128 each, or sixteen accumulated batches of 16 then drop the
    same units. Elsewhere (in ``model.fit``, under JAX and PyTorch) this is Keras's own dropout.
    With ``scaled_at="inference"`` what is kept in training is not scaled, and the output at test
    is multiplied by ``1 - rate``. Source: Krizhevsky et al. 2012, section 4.2.
    """

    def __init__(self, rate, scaled_at="training", **kwargs):
        super().__init__(rate, **kwargs)
        self.scaled_at = scaled_at

    def call(self, inputs, training=False):
        scaled = self.scaled_at == "training"
        if not training or self.rate == 0 or _stream.get(None) is None:
            outputs = super().call(inputs, training)
            return outputs if scaled else outputs * (1 - self.rate)
        from alexnet_keras.models.backends.tensorflow import sample_dropout

        return sample_dropout(inputs, self.rate, *_stream.get(), self.name, scaled)

    def get_config(self):
        return {**super().get_config(), "scaled_at": self.scaled_at}
