"""The layers that AlexNet needs and Keras lacks: local response normalization, a trainable grouped convolution, and
dropout whose masks belong to the samples, so that a run can be resumed and shared among workers."""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Iterator
from contextvars import ContextVar

import keras
import numpy as np
import tensorflow as tf


@keras.saving.register_keras_serializable("alexnet_keras")
class LocalResponseNormalization(keras.layers.Layer):
    """``x / (bias + alpha * sum of x**2 over 2 * depth_radius + 1 neighbouring channels) ** beta``.

    Input and output: (batch, height, width, channels); computed in float32 and returned in the layer's compute dtype.
    ``alpha`` multiplies the plain sum: Caffe's ``alpha: 1e-4, local_size: 5`` is ``alpha=2e-5, depth_radius=2`` here.
    Source: Krizhevsky et al. 2012, section 3.3.
    """

    def __init__(self, depth_radius=2, bias=1.0, alpha=2e-5, beta=0.75, **kwargs):
        super().__init__(**kwargs)
        self.depth_radius, self.bias, self.alpha, self.beta = depth_radius, bias, alpha, beta

    def call(self, inputs):
        return tf.cast(self._normalize(tf.cast(inputs, tf.float32)), self.compute_dtype)

    @tf.custom_gradient
    def _normalize(self, x):
        """TensorFlow's forward pass with a gradient of our own: its LRNGrad is four times slower than this on a CPU."""
        channels = x.shape[-1]
        window = tf.constant(np.tri(channels, k=self.depth_radius) - np.tri(channels, k=-self.depth_radius - 1), x.dtype)

        def gradient(upstream):
            denominator = self.bias + self.alpha * tf.linalg.matmul(x * x, window)
            scaled = upstream * tf.exp(-self.beta * tf.math.log(denominator))  # vectorized, where tf.pow is not
            return scaled - 2 * self.alpha * self.beta * x * tf.linalg.matmul(scaled * x / denominator, window)
        return tf.nn.local_response_normalization(x, self.depth_radius, self.bias, self.alpha, self.beta), gradient

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "depth_radius": self.depth_radius, "bias": self.bias,
                "alpha": self.alpha, "beta": self.beta}


@keras.saving.register_keras_serializable("alexnet_keras")
class GroupedConv2D(keras.layers.Conv2D):
    """``keras.layers.Conv2D`` with Caffe's padding in pixels, whose groups train on every CPU.

    Input (batch, height, width, in), kernel (kernel, kernel, in / groups, filters), one variable whatever the groups.
    Each group is a convolution of its own, so that TensorFlow fuses it with its bias and activation. Keras pushes
    ``groups > 1`` through XLA (a training step is four to five times slower), and TensorFlow's native grouped
    convolution has no gradient on CPUs without oneDNN.
    """

    def __init__(self, filters, kernel_size, padding=0, **kwargs):
        self.padding_pixels = padding
        super().__init__(filters, kernel_size, padding="valid", **{**kwargs, "data_format": "channels_last"})

    def call(self, inputs):
        parts = zip(tf.split(self._padded(inputs), self.groups, -1),
                    tf.split(keras.ops.convert_to_tensor(self.kernel), self.groups, -1),
                    tf.split(keras.ops.convert_to_tensor(self.bias), self.groups), strict=True)
        return tf.concat([
            self.activation(tf.nn.bias_add(tf.nn.conv2d(x, kernel, self.strides, self._padding_rule), bias))
            for x, kernel, bias in parts], -1)

    @property
    def _padding_rule(self) -> str:
        """SAME where that is what the pixels mean: oneDNN has no backward pass for padding given in pixels."""
        same = self.strides == (1, 1) and all(2 * self.padding_pixels + 1 == size for size in self.kernel_size)
        return "SAME" if same else "VALID"

    def _padded(self, inputs):
        pad = (self.padding_pixels, self.padding_pixels)
        return inputs if self._padding_rule == "SAME" or not any(pad) else tf.pad(inputs, [(0, 0), pad, pad, (0, 0)])

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        pad = 2 * self.padding_pixels
        return super().compute_output_shape((batch, height and height + pad, width and width + pad, channels))

    def get_config(self):
        return {**super().get_config(), "padding": self.padding_pixels}


_stream: ContextVar[tuple] = ContextVar("stream")


@contextlib.contextmanager
def masks_of(seed: int, position) -> Iterator[None]:
    """Inside, each row of a batch is a sample of the training stream, the first one at ``position`` (an int64 scalar).

    :class:`SampleDropout` then draws its masks as a function of (seed, place in the stream, layer).
    """
    token = _stream.set((seed, position))
    try:
        yield
    finally:
        _stream.reset(token)


@keras.saving.register_keras_serializable("alexnet_keras")
class SampleDropout(keras.layers.Dropout):
    """``keras.layers.Dropout`` whose mask, inside :func:`masks_of`, belongs to the sample and not to the batch.

    One batch of 256, two workers with 128 each, or sixteen accumulated batches of 16 then drop the same units. The masks
    are consecutive pieces of one Philox stream for each layer, so a row costs what plain dropout costs. Elsewhere (in
    ``model.fit``) this is Keras's own dropout. Source of the rate: Krizhevsky et al. 2012, section 4.2.
    """

    def call(self, inputs, training=False):
        if not training or self.rate == 0 or _stream.get(None) is None:
            return super().call(inputs, training)
        seed, position = _stream.get()
        size = int(np.prod(inputs.shape[1:]))
        blocks = -(-size // 4)  # the generator counts in blocks of four values
        counter = tf.stack([tf.cast(position, tf.uint64) * blocks, tf.constant(0, tf.uint64)])
        key = tf.constant([seed << 32 | zlib.crc32(self.name.encode())], tf.uint64)
        draws = tf.raw_ops.StatelessRandomUniformV2(shape=[tf.shape(inputs)[0], 4 * blocks], key=key, counter=counter,
                                                    alg=tf.random.Algorithm.PHILOX.value)
        kept = tf.reshape(draws[:, :size] >= self.rate, tf.shape(inputs))
        return tf.where(kept, inputs / (1 - self.rate), tf.zeros((), inputs.dtype))
