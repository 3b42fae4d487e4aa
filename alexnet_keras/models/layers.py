"""The layers that AlexNet needs and Keras lacks: local response normalization, a trainable grouped
convolution, and dropout whose mask depends on the sample, so that a resumed or distributed run
draws the same masks.

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
    from alexnet_keras.models.backends.tensorflow import convolve, normalize, should_split_groups
else:
    from alexnet_keras.models.backends.generic import convolve, normalize, should_split_groups


@keras.saving.register_keras_serializable("alexnet_keras")
class LocalResponseNormalization(keras.layers.Layer):
    """``x / (bias + alpha * sum of x**2 over 2 * depth_radius + 1 neighbouring channels) **
    beta``.

    Input and output: (batch, height, width, channels); computed in float32 and returned in the
    layer's compute dtype. ``alpha`` multiplies the plain sum: Caffe's ``alpha: 1e-4, local_size:
    5`` is ``alpha=2e-5, depth_radius=2`` here. Source: Krizhevsky et al. 2012, section 3.3.
    """

    def __init__(self, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.depth_radius = depth_radius
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def build(self, input_shape):
        self.built_size = tuple(input_shape[1:])

    def call(self, inputs):
        x = ops.cast(inputs, "float32")
        fixed_size = None not in self.built_size and tuple(x.shape[1:]) == self.built_size
        x = normalize(x, self.depth_radius, self.bias, self.alpha, self.beta, fixed_size)
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
        }


@keras.saving.register_keras_serializable("alexnet_keras")
class GroupedConv2D(keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with padding in pixels, as in Caffe, and groups that can be trained
    on every CPU.

    Input (batch, height, width, in); the kernel is a single variable (kernel, kernel, in / groups,
    filters). Each group is computed by a convolution of its own where that is faster, or the only
    way (``should_split_groups``).
    """

    def __init__(self, filters, kernel_size, padding=0, **kwargs):
        self.padding_pixels = padding
        super().__init__(
            filters, kernel_size, padding="valid", **{**kwargs, "data_format": "channels_last"}
        )

    def call(self, inputs, training=False):
        groups = self.groups if should_split_groups(self.compute_dtype) else 1
        parts = zip(
            ops.split(self._padded(inputs), groups, -1),
            ops.split(ops.convert_to_tensor(self.kernel), groups, -1),
            ops.split(ops.convert_to_tensor(self.bias), groups),
            strict=True,
        )
        outputs = [
            self.activation(convolve(x, kernel, bias, self.strides, self._padding_rule, training))
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
        pad = (self.padding_pixels, self.padding_pixels)
        return (
            inputs
            if self._padding_rule == "same" or not any(pad)
            else ops.pad(inputs, [(0, 0), pad, pad, (0, 0)])
        )

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        pad = 2 * self.padding_pixels
        return super().compute_output_shape(
            (batch, height and height + pad, width and width + pad, channels)
        )

    def get_config(self):
        return {**super().get_config(), "padding": self.padding_pixels}


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
    Source of the rate: Krizhevsky et al. 2012, section 4.2.
    """

    def call(self, inputs, training=False):
        if not training or self.rate == 0 or _stream.get(None) is None:
            return super().call(inputs, training)
        from alexnet_keras.models.backends.tensorflow import sample_dropout

        return sample_dropout(inputs, self.rate, *_stream.get(), self.name)
