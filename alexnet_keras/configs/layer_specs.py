"""The layers of an architecture and their initial values, as frozen descriptions."""

from __future__ import annotations

from dataclasses import dataclass, field

from alexnet_keras.configs.serialization import ADDED_LATER
from alexnet_keras.errors import ConfigurationError


@dataclass(frozen=True)
class Convolution:
    """Convolution and its activation; ``padding`` in pixels on every side, ``groups`` as in
    Caffe.

    ``ceil_mode`` rounds the output size up, with zeros beyond the right and bottom edges, as the
    code of 2012 does. Without ``activated`` the output is linear.
    """

    name: str
    filters: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    ceil_mode: bool = field(default=False, metadata=ADDED_LATER)
    activated: bool = field(default=True, metadata=ADDED_LATER)


@dataclass(frozen=True)
class Normalization:
    """Local response normalization across ``2 * depth_radius + 1`` channels (paper, section 3.3).

    ``alpha`` multiplies the plain sum of squares. Caffe divides its alpha of 1e-4 by the window of
    5; the paper does not. The window never leaves one of ``groups`` equal groups of channels.
    """

    name: str
    depth_radius: int = 2
    bias: float = 1.0
    alpha: float = 1e-4 / 5
    beta: float = 0.75
    groups: int = field(default=1, metadata=ADDED_LATER)


@dataclass(frozen=True)
class Pooling:
    """Max pooling; it overlaps where ``stride < size`` (paper, section 3.4).

    ``ceil_mode`` rounds the output size up: the last window may lie partly beyond the edge.
    ``activated`` applies the network's activation to the maxima.
    """

    name: str
    size: int = 3
    stride: int = 2
    ceil_mode: bool = field(default=False, metadata=ADDED_LATER)
    activated: bool = field(default=False, metadata=ADDED_LATER)


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
    """Dropout: ``rate`` is the fraction set to zero in training (paper, section 4.2).

    ``scaled_at``: ``"training"`` divides what is kept by ``1 - rate`` in training;
    ``"inference"`` multiplies everything by ``1 - rate`` at test instead, as in 2012.
    """

    name: str
    rate: float = 0.5
    scaled_at: str = field(default="training", metadata=ADDED_LATER)

    def __post_init__(self):
        if self.scaled_at not in ("training", "inference"):
            raise ConfigurationError(
                f"{self.name}.scaled_at: expected training or inference, got {self.scaled_at!r}"
            )


@dataclass(frozen=True)
class WithinChannelNormalization:
    """Normalization across the ``size`` x ``size`` neighbouring pixels of the same channel, which
    the code of 2012 has and the paper does not.

    ``alpha`` multiplies the plain sum of squares; pixels beyond the edge count as zeros.
    """

    name: str
    size: int = 5
    bias: float = 1.0
    alpha: float = 0.001 / 25
    beta: float = 0.75

    def __post_init__(self):
        if self.size < 1 or self.size % 2 == 0:
            raise ConfigurationError(f"{self.name}.size: expected an odd number, got {self.size}")


@dataclass(frozen=True)
class InitialValues:
    """The initializers of the weights. Biases are constant: ``raised_bias`` in the layers of
    ``raised``, else 0 (paper, section 5).

    ``kernels``: ``"normal"`` draws N(0, stddev), ``hidden_stddev`` in fc6 and fc7 and what
    ``layer_stddevs`` says of a layer (the paper, Caffe); ``"he"`` draws N(0, sqrt(2 / fan_in))
    truncated at two deviations; ``"torch"`` draws kernels and biases alike from
    U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default; ``"glorot"`` draws convolutions from
    U(-limit, limit), limit = sqrt(6 / (fan_in + fan_out)), and dense kernels from
    N(0, hidden_stddev) truncated at two deviations (TF-Slim's alexnet_v2).
    """

    kernels: str = "normal"
    stddev: float = 0.01
    hidden_stddev: float = 0.005
    raised_bias: float = 0.1
    raised: tuple[str, ...] = ("conv2", "conv4", "conv5", "fc6", "fc7")
    layer_stddevs: tuple[tuple[str, float], ...] = field(default=(), metadata=ADDED_LATER)

    def __post_init__(self):
        if self.kernels not in ("normal", "he", "torch", "glorot"):
            raise ConfigurationError(
                "initial_values.kernels: expected normal, he, torch or glorot, got "
                f"{self.kernels!r}"
            )
        fields = {name: getattr(self, name) for name in ("stddev", "hidden_stddev", "raised_bias")}
        by_layer = {f"layer_stddevs.{layer}": value for layer, value in self.layer_stddevs}
        for name, value in (fields | by_layer).items():
            if not 0 <= value <= 100:
                raise ConfigurationError(f"initial_values.{name}: expected 0 to 100, got {value}")

    def stddev_of(self, layer: str) -> float:
        default = self.hidden_stddev if layer in ("fc6", "fc7") else self.stddev
        return dict(self.layer_stddevs).get(layer, default)

    def bias_of(self, layer: str) -> float:
        return self.raised_bias if layer in self.raised else 0.0


LayerSpec = (
    Convolution | Normalization | Pooling | Flatten | Dense | Dropout | WithinChannelNormalization
)
