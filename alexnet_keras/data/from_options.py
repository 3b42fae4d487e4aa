"""The data set and its loading from options."""

from __future__ import annotations

from alexnet_keras.configs.loading import BoxRegion, Loading
from alexnet_keras.configs.option_groups import DataOptions
from alexnet_keras.data.layouts import Dataset, open_dataset
from alexnet_keras.errors import ConfigurationError


def open_data(options: DataOptions, recursive: bool = False) -> tuple[Dataset, Loading]:
    """Open the data set. Raises ``DataError``, and ``ConfigurationError`` for an option that does
    not apply to its layout. ``recursive``: all images in a folder, without classes.
    """
    dataset = open_dataset(
        options.data,
        options.layout,
        classes=options.classes or None,
        min_size=options.min_size,
        recursive=recursive,
    )
    cut = {
        name: getattr(options, name)
        for name in ("context", "square")
        if getattr(options, name) is not None
    }
    if cut and dataset.layout != "coco":
        raise ConfigurationError(
            f"{'/'.join(cut)}: expected data of the coco layout, which has boxes; "
            f"{options.data} has the {dataset.layout} layout"
        )
    region = BoxRegion(**cut) if dataset.layout == "coco" else None
    return dataset, Loading(region, options.num_threads)
