"""The trained network that options name."""

from __future__ import annotations

import logging

from alexnet_keras.configs.option_groups import PartialOptions, WeightsOptions
from alexnet_keras.configs.recipe import VARIANT_RECIPES
from alexnet_keras.data.demo import DEMONSTRATIONS
from alexnet_keras.pretrained.loading import Pretrained, load_pretrained
from alexnet_keras.pretrained.untrained import is_untrained, untrained_network
from alexnet_keras.progress import Progress
from weights.formats import SAVED_MODELS, detect_format

logger = logging.getLogger(__name__)


def open_weights(options: WeightsOptions, data: str, progress: Progress) -> Pretrained:
    """The network of ``options.weights``, by default that of ``data``: ``demo`` knows nothing but
    the demonstration, and everything else starts from Caffe's weights.
    """
    default = "demo" if data in DEMONSTRATIONS else "caffe"
    return open_network(options.weights or default, options, progress)


def open_network(name: str, options: PartialOptions, progress: Progress) -> Pretrained:
    """The network of a catalogue name, a weight file or a run, whose download is shown; or the
    untrained one of ``random:SEED``.
    """
    if is_untrained(name):
        return untrained_network(name, options)
    source = load_pretrained(
        name,
        options.variant,
        options.partial,
        progress.download,
        options.mean,
        options.kernel_order,
    )
    if name == "demo":
        progress.print_error(
            "These weights know only the demonstration's shapes; for real images use --weights "
            "caffe."
        )
    if options.mean is None and _lacks_mean_image(source):
        logger.warning(
            "%s: %s was trained on images less a mean image; without mean, a mean colour is "
            "subtracted",
            source.path,
            source.model.architecture.name,
        )
    return source


def _lacks_mean_image(source: Pretrained) -> bool:
    """Whether these are bare weights of a network whose own recipe subtracts a mean image."""
    recipe = VARIANT_RECIPES.get(source.model.architecture and source.model.architecture.name)
    if recipe is None or recipe.mean != "image":
        return False
    return detect_format(source.path).format not in SAVED_MODELS
