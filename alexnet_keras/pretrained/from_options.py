"""The trained network that options name."""

from __future__ import annotations

from alexnet_keras.configs.option_groups import PartialOptions, WeightsOptions
from alexnet_keras.data.demo import DEMONSTRATIONS
from alexnet_keras.pretrained.loading import Pretrained, load_pretrained
from alexnet_keras.progress import Progress


def open_weights(options: WeightsOptions, data: str, progress: Progress) -> Pretrained:
    """The network of ``options.weights``, by default that of ``data``: ``demo`` knows nothing but
    the demonstration, and everything else starts from Caffe's weights.
    """
    default = "demo" if data in DEMONSTRATIONS else "caffe"
    return open_network(options.weights or default, options, progress)


def open_network(name: str, options: PartialOptions, progress: Progress) -> Pretrained:
    """The network of a catalogue name, a weight file or a run; its download is shown."""
    source = load_pretrained(
        name, options.variant, options.partial, progress.download, options.mean
    )
    if name == "demo":
        progress.print_error(
            "These weights know only the demonstration's shapes; for real images use --weights "
            "caffe."
        )
    return source
