"""The mean that a recipe subtracts: a colour, or an image that is read or computed."""

from __future__ import annotations

import logging
from dataclasses import replace
from time import perf_counter

from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.mean_image import MeanImage
from alexnet_keras.configs.recipe import Recipe
from alexnet_keras.data.mean_pass import CentralCrops, mean_of, sums_of_crops
from alexnet_keras.data.samples import Samples
from alexnet_keras.distribute.workers import Workers
from alexnet_keras.errors import DataError
from alexnet_keras.pretrained.mean_image import read_mean_image
from alexnet_keras.progress import Progress

BATCH_SIZE = 16
# A worker waits for the others at every sum, never so long that they seem lost.
STEPS_PER_SUM = 100
logger = logging.getLogger(__name__)


def needs_pass(recipe: Recipe) -> bool:
    """Whether the mean image of the recipe has to be computed from the train split."""
    return recipe.mean == "image" and recipe.preprocessing.mean_image is None


def with_given_mean(recipe: Recipe, mean: str | None, workers: Workers) -> Recipe:
    """The recipe with the mean that the option names: ``"pixel"``, ``"image"``, or the mean image
    of a file, which has to be the same on all workers.
    """
    if mean is None:
        return recipe
    if mean == "image":
        return replace(recipe, mean="image")
    if mean == "pixel":
        if recipe.mean == "image":
            logger.warning(
                "mean: recipe %s subtracts the mean image of the train split; with pixel, a mean "
                "colour is subtracted instead",
                recipe.name,
            )
        rule = replace(recipe.preprocessing, mean_image=None)
        return replace(recipe, mean="pixel", preprocessing=rule)
    rule = recipe.preprocessing.with_mean_image(read_mean_image(mean, ("pixel", "image")))
    workers.check_equal({f"--mean {mean}: sha256": rule.mean_image.sha256})
    return replace(recipe, mean="image", preprocessing=rule)


def with_computed_mean(
    recipe: Recipe, train: Samples, loading: Loading, workers: Workers, progress: Progress
) -> Recipe:
    """The recipe with the mean of the central crops of all readable samples: the same bits on
    every worker, and for any number of workers and threads.

    Raises ``DataError`` if no sample is readable, or too many are not.
    """
    rule, began = recipe.preprocessing, perf_counter()
    crops = CentralCrops(train, rule, BATCH_SIZE * workers.count, **vars(loading))
    total, count = 0.0, 0.0
    with progress.track("mean image", len(train)) as advance:
        for part in sums_of_crops(crops, STEPS_PER_SUM, advance):
            sums = workers.all_reduce_sum(list(part))
            total, count = total + sums[0], count + float(sums[1])
    if not count:
        raise DataError(f"{train.split}: expected images for the mean image, got none readable")
    progress.print(
        f"mean image: computed from {count:.0f} images in {perf_counter() - began:.0f} s"
    )
    image = MeanImage.from_array(mean_of(total, count))
    return replace(recipe, preprocessing=rule.with_mean_image(image))
