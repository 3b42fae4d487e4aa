"""JPEG files to read: real photographs if there are any, else generated images of similar size.

Set ``ALEXNET_KERAS_PHOTOGRAPHS`` to a folder of JPEG files, at any depth, to use those instead.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from alexnet_keras.data.samples import Samples

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
GENERATED = 64
WIDTH = 500
HEIGHT = 375
QUALITY = 90


def find_photographs(folder: Path) -> tuple[list[str], str]:
    """Paths of JPEG files and a description of them; if there are none, some are generated in
    ``folder``.
    """
    place = Path(os.environ.get("ALEXNET_KERAS_PHOTOGRAPHS", SHARED / "imagenet_sample"))
    paths = sorted(
        str(path) for path in place.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg")
    )
    if paths:
        return paths, f"{len(paths)} photographs of {place.name}"
    return [
        _generated(folder, number) for number in range(GENERATED)
    ], f"{GENERATED} generated images, {WIDTH}x{HEIGHT}"


def make_samples(
    paths: list[str], count: int, boxes: np.ndarray | None = None, classes: int = 10
) -> Samples:
    """``count`` samples that cycle through ``paths``; ``boxes``: (count, 4) or None."""
    return Samples(
        np.array([str(row) for row in range(count)], object),
        np.array([paths[row % len(paths)] for row in range(count)], object),
        np.arange(count, dtype=np.int32) % classes,
        boxes,
        tuple(f"class {label}" for label in range(classes)),
        "train",
        {},
    )


def _generated(folder: Path, number: int) -> str:
    """Noise at several scales, weaker at finer ones, as in photographs."""
    generator = np.random.default_rng(number)
    levels = np.full((HEIGHT, WIDTH, 3), 128.0)
    for cells, strength in ((4, 60), (16, 30), (64, 15), (250, 8)):
        noise = generator.normal(0, 1, (cells, cells, 3)) * strength
        channels = [
            Image.fromarray(noise[..., channel].astype(np.float32)).resize(
                (WIDTH, HEIGHT), Image.Resampling.BICUBIC
            )
            for channel in range(3)
        ]
        levels += np.stack(channels, -1)
    path = folder / f"{number:03d}.jpg"
    Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8)).save(path, quality=QUALITY)
    return str(path)
