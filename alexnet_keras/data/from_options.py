"""The data set that options name, and how its images are loaded."""

from __future__ import annotations

from alexnet_keras.configs.loading import BoxRegion, Loading
from alexnet_keras.configs.options import DataOptions
from alexnet_keras.data.layouts import Dataset, open_dataset
from alexnet_keras.errors import ConfigurationError


def open_data(options: DataOptions) -> tuple[Dataset, Loading]:
    """The data set and its loading. Raises ``DataError``, and ``ConfigurationError`` for an option
    that would have no effect on this layout.
    """
    dataset = open_dataset(
        options.data,
        options.layout,
        classes=options.classes or None,
        min_size=options.min_size,
    )
    cut = {
        name: getattr(options, name)
        for name in ("context", "square")
        if getattr(options, name) is not None
    }
    if cut and dataset.layout != "coco":
        raise ConfigurationError(
            f"{'/'.join(cut)}: cuts objects out of a coco data set; {options.data} is "
            f"{dataset.layout}, where it would have no effect"
        )
    region = BoxRegion(**cut) if dataset.layout == "coco" else None
    return dataset, Loading(region, options.num_threads)
