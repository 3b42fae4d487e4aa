"""The layers of an architecture and their initial values, as frozen descriptions."""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_keras.errors import ConfigurationError


@dataclass(frozen=True)
class Convolution:
    """Convolution and its activation; ``padding`` in pixels on every side, ``groups`` as in
    Caffe.
    """

    name: str
    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Normalization:
    """Local response normalization across ``2 * depth_radius + 1`` channels (paper, section 3.3).

    ``alpha`` multiplies the plain sum of squares. Caffe divides its alpha of 1e-4 by the window of
    5; the paper does not.
    """

    name: str
    depth_radius: int = 2
    bias: float = 1.0
    alpha: float = 1e-4 / 5
    beta: float = 0.75


@dataclass(frozen=True)
class Pooling:
    """Max pooling; it overlaps where ``stride < size`` (paper, section 3.4)."""

    name: str
    size: int = 3
    stride: int = 2


@dataclass(frozen=True)
class Flatten:
    """(height, width, channels) -> (height * width * channels,), for the dense layers."""

    name: str = "flatten"


@dataclass(frozen=True)
class Dense:
    """Fully connected layer and its activation."""

    name: str
    units: int


@dataclass(frozen=True)
class Dropout:
    """Dropout: ``rate`` is the fraction set to zero in training (paper, section 4.2)."""

    name: str
    rate: float = 0.5


@dataclass(frozen=True)
class InitialValues:
    """The initializers of the weights. Biases are constant: ``raised_bias`` in the layers of
    ``raised``, else 0 (paper, section 5).

    ``kernels``: ``"normal"`` draws N(0, stddev), ``hidden_stddev`` in fc6 and fc7 (the paper,
    Caffe); ``"he"`` draws N(0, sqrt(2 / fan_in)) truncated at two deviations; ``"torch"`` draws
    kernels and biases alike from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default.
    """

    kernels: str = "normal"
    stddev: float = 0.01
    hidden_stddev: float = 0.005
    raised_bias: float = 0.1
    raised: tuple[str, ...] = ("conv2", "conv4", "conv5", "fc6", "fc7")

    def __post_init__(self):
        if self.kernels not in ("normal", "he", "torch"):
            raise ConfigurationError(
                f"initial_values.kernels: expected normal, he or torch, got {self.kernels!r}"
            )
        for name in ("stddev", "hidden_stddev", "raised_bias"):
            if not 0 <= getattr(self, name) <= 100:
                raise ConfigurationError(
                    f"initial_values.{name}: expected 0 to 100, got {getattr(self, name)}"
                )

    def stddev_of(self, layer: str) -> float:
        return self.hidden_stddev if layer in ("fc6", "fc7") else self.stddev

    def bias_of(self, layer: str) -> float:
        return self.raised_bias if layer in self.raised else 0.0


LayerSpec = Convolution | Normalization | Pooling | Flatten | Dense | Dropout
