"""The networks that the authors of 2012 trained beside :data:`KRIZHEVSKY`, as replaced fields of
its description.

Each is named after its layer file in https://github.com/computerhistory/AlexNet-Source-Code.
"""

from __future__ import annotations

from dataclasses import replace

from alexnet_keras.configs.architecture import (
    KRIZHEVSKY,
    Convolution,
    Normalization,
    Pooling,
)
from alexnet_keras.configs.network import Architecture

# layers-145-half: one tower, whose conv5 and fully connected layers are as wide as two.
ONE_TOWER = (
    KRIZHEVSKY.replace_each(Convolution, groups=1)
    .replace_each(Normalization, groups=1)
    .with_width(0.5, units=1)
    .replace_layers("conv5", filters=256)
)

# layers-147: pooling without overlap. conv2 and conv5 lose a pixel of padding, so that the maps
# keep about their sizes: 55, 28, 26, 13, 13, 13, 11, 6.
NO_OVERLAP = (
    KRIZHEVSKY.replace_each(Pooling, size=2)
    .replace_layers("conv2", padding=1)
    .replace_layers("conv5", padding=0)
)

# layers-148: no normalization, neither across channels nor within them.
NO_NORMALIZATION = KRIZHEVSKY.without("norm1", "norm2", "cnorm2")


def _with_sixth_convolution() -> Architecture:
    """layers-146: conv6 on pool5, which sees both towers; it was pre-trained on all of ImageNet
    Fall 2011 (paper, section 6).
    """
    initial = KRIZHEVSKY.initial_values
    place = KRIZHEVSKY.layer_names.index("pool5") + 1
    conv6 = Convolution("conv6", 256, kernel=3, padding=1)
    return replace(
        KRIZHEVSKY,
        layers=(*KRIZHEVSKY.layers[:place], conv6, *KRIZHEVSKY.layers[place:]),
        initial_values=replace(
            initial,
            raised=(*initial.raised, "conv6"),
            layer_stddevs=(*initial.layer_stddevs, ("conv6", 0.03)),
        ),
    )


SIX_CONVOLUTIONS = _with_sixth_convolution()

ABLATIONS = {
    "145-half": ONE_TOWER,
    "146": SIX_CONVOLUTIONS,
    "147": NO_OVERLAP,
    "148": NO_NORMALIZATION,
}
"""By the number of the layer file; 145 is :data:`KRIZHEVSKY` itself."""
