"""The trained network that options name."""

from __future__ import annotations

import logging
from dataclasses import replace

from alexnet_keras.configs.option_groups import (
    PartialOptions,
    PreprocessingOptions,
    WeightsOptions,
)
from alexnet_keras.configs.preprocessing_override import (
    check_crop,
    overridden,
    resize_and_crop_in_words,
)
from alexnet_keras.configs.recipe import VARIANT_RECIPES
from alexnet_keras.data.demo import is_demonstration
from alexnet_keras.models.resized import with_preprocessing
from alexnet_keras.pretrained.loading import Pretrained, load_pretrained
from alexnet_keras.pretrained.untrained import is_untrained, untrained_network
from alexnet_keras.progress import Progress
from weights.formats import SAVED_MODELS, detect_format

logger = logging.getLogger(__name__)


def open_weights(options: WeightsOptions, data: str, progress: Progress) -> Pretrained:
    """The network of ``options.weights``, by default that of ``data``: ``demo`` knows nothing but
    the demonstration, and everything else starts from Caffe's weights.
    """
    default = "demo" if is_demonstration(data) else "caffe"
    return open_network(options.weights or default, options, progress)


def open_network(name: str, options: PartialOptions, progress: Progress) -> Pretrained:
    """The network of a catalogue name, a weight file or a run, whose download is shown; or the
    untrained one of ``random:SEED``. Its preprocessing is that of the weights, or of ``options``
    where they have another resize or crop, which is logged.
    """
    is_overriding = isinstance(options, PreprocessingOptions)
    if is_overriding:
        check_crop(options.crop)  # before a download
    source = _opened(name, options, progress)
    if not is_overriding or source.model.preprocessing is None:
        return source
    expected = source.model.preprocessing
    used = overridden(expected, options.resize, options.crop)
    if used == expected:
        return source
    logger.warning(
        "preprocessing: %s instead of %s, which the weights expect (%s)",
        resize_and_crop_in_words(used),
        resize_and_crop_in_words(expected),
        source.source,
    )
    return replace(source, model=with_preprocessing(source.model, used), expected=expected)


def _opened(name: str, options: PartialOptions, progress: Progress) -> Pretrained:
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
