"""Loading as with torchvision's transforms: Pillow decodes and resizes, NumPy normalizes, in
several threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data.samples import Samples

CONTEXT = 0.1


def pillow_batches(
    samples: Samples, rule: Preprocessing, batch_size: int, threads: int, training: bool
) -> Callable[[], Iterator[np.ndarray]]:
    """A function that yields all samples in batches (batch, crop, crop, 3) float32; Pillow always
    antialiases.
    """
    pool = ThreadPoolExecutor(threads)
    generator = np.random.default_rng(0)

    def batches() -> Iterator[np.ndarray]:
        for start in range(0, len(samples) - batch_size + 1, batch_size):
            draws = (
                generator.random((batch_size, 3)) if training else np.full((batch_size, 3), 0.5)
            )
            yield np.stack(
                list(
                    pool.map(
                        lambda row, draw: _sample(samples, rule, row, draw),
                        range(start, start + batch_size),
                        draws,
                    )
                )
            )

    return batches


def _sample(samples: Samples, rule: Preprocessing, row: int, draw: np.ndarray) -> np.ndarray:
    image = Image.open(samples.paths[row]).convert("RGB")
    if samples.boxes is not None:
        image = _object(image, samples.boxes[row])
    image = _resized(image, rule)
    left, top = ((np.array(image.size) - rule.crop) * draw[:2]).astype(int)
    window = np.asarray(image.crop((left, top, left + rule.crop, top + rule.crop)), np.float32)
    window = window - np.float32(rule.mean)
    window = window if rule.std == (1, 1, 1) else window / np.float32(rule.std)
    window = window[:, ::-1] if draw[2] < 0.5 else window
    return window[..., ::-1] if rule.channel_order == "BGR" else window


def _resized(image: Image.Image, rule: Preprocessing) -> Image.Image:
    target = rule.resize_to
    scale = target / min(image.size)
    size = (
        (target, target)
        if rule.resize == "warp"
        else tuple(max(target, int(side * scale)) for side in image.size)
    )
    return image.resize(size, Image.Resampling.BILINEAR)


def _object(image: Image.Image, box: np.ndarray) -> Image.Image:
    """The square around a box; pixels outside the image are black."""
    center, half = box[:2] + box[2:] / 2, max(box[2:]) * (1 + 2 * CONTEXT) / 2
    return image.crop(tuple(np.round([*(center - half), *(center + half)]).astype(int)))
