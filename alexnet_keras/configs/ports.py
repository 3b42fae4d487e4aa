"""Networks of other projects that are a variant with other constants, under the name that their
files record.
"""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_keras.configs.architecture import CAFFENET, Architecture, Normalization
from alexnet_keras.configs.preprocessing import Preprocessing


@dataclass(frozen=True)
class Port:
    """A network and what it expects of an image."""

    architecture: Architecture
    preprocessing: Preprocessing


PORTS = {
    # github.com/heuritech/convnets-keras: pooling before normalization with the paper's constants.
    "convnets-keras": Port(
        CAFFENET.replace_each(Normalization, bias=2.0, alpha=1e-4),
        Preprocessing(antialias=True, channel_order="RGB", mean=(123.68, 116.779, 103.939)),
    )
}
