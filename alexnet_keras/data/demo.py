"""The built-in demonstration: drawn shapes in COCO's own layout, in two groups of classes.

``demo`` is what a network learns from scratch; ``demo-new`` has other shapes and few examples, for
transfer. Light shapes of random colour, size, stretch and rotation lie on dark soft backgrounds,
so only the outline tells the class.
"""

from __future__ import annotations

import colorsys
import json
import math
import random
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageDraw

from alexnet_keras.data.demo_shapes import SHAPES, Point
from alexnet_keras.errors import ConfigurationError, DataError
from weights.locations import keras_cache

VERSION = 1
SUPERSAMPLING = 3
IMAGE_SIZES = ((500, 375), (375, 500), (400, 400))
RADII = (40.0, 92.0)
GAP = 4

DEMONSTRATIONS = tuple(SHAPES)
OBJECTS_PER_CLASS = {"demo": {"train": 150, "val": 45}, "demo-new": {"train": 12, "val": 36}}


def demo_root(group: str, seed: int = 0) -> Path:
    """The root of a demonstration set, ``demo`` or ``demo-new``, in COCO's layout with the splits
    train and val.

    It is drawn in seconds at first use into ``$KERAS_HOME`` (or ``~/.keras``)
    ``/datasets/alexnet_keras``, whole or not at all, and is the same byte for byte for one seed
    and one version of Pillow. Raises ``DataError`` if that folder cannot be written.
    """
    if group not in SHAPES:
        raise ConfigurationError(
            f"demonstration: expected one of {', '.join(SHAPES)}, got {group!r}"
        )
    root = keras_cache("datasets") / f"{group}-v{VERSION}-seed{seed}"
    try:
        if root.is_dir():
            return root
        root.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root.parent, prefix=".unfinished-") as unfinished:
            _write(Path(unfinished, group), group, seed)
            _publish(Path(unfinished, group), root)
    except OSError as error:
        raise DataError(
            f"{root}: the demonstration set cannot be written: {error}; "
            "KERAS_HOME may name another folder"
        ) from None
    return root


def _publish(folder: Path, root: Path) -> None:
    """Rename into place; where another process was faster, its folder stays, for it holds the same
    bytes.
    """
    try:
        folder.rename(root)
    except OSError:
        if not root.is_dir():
            raise


def _write(root: Path, group: str, seed: int) -> None:
    root.joinpath("annotations").mkdir(parents=True)
    for split, count in OBJECTS_PER_CLASS[group].items():
        root.joinpath(split).mkdir()
        rng = random.Random(f"{VERSION} {seed} {group} {split}")
        dataset = _write_images(root / split, group, count, rng)
        root.joinpath("annotations", f"instances_{split}.json").write_text(
            json.dumps(dataset), encoding="utf-8"
        )


def _write_images(folder: Path, group: str, count: int, rng: random.Random) -> dict:
    """Draw ``count`` objects of each class into as many images as they need; returns the COCO
    annotations.
    """
    numbers = {
        name: number
        for number, name in enumerate([name for shapes in SHAPES.values() for name in shapes], 1)
    }
    waiting = list(SHAPES[group]) * count
    rng.shuffle(waiting)
    images, annotations = [], []
    while waiting:
        image, placed = _draw_image(group, waiting, rng)
        images.append(
            {
                "id": len(images) + 1,
                "file_name": f"{len(images) + 1:06d}.jpg",
                "width": image.width,
                "height": image.height,
            }
        )
        image.save(folder / images[-1]["file_name"], quality=90)
        annotations += [
            {
                "id": len(annotations) + place,
                "image_id": len(images),
                "category_id": numbers[name],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": [],
            }
            for place, (name, box) in enumerate(placed, 1)
        ]
    return {
        "info": {"description": f"alexnet_keras {group}", "version": str(VERSION)},
        "licenses": [],
        "categories": [
            {"id": numbers[name], "name": name, "supercategory": group} for name in SHAPES[group]
        ],
        "images": images,
        "annotations": annotations,
    }


def _draw_image(
    group: str, waiting: list[str], rng: random.Random
) -> tuple[Image.Image, list[tuple[str, list[int]]]]:
    """One image with the last two to six of ``waiting``, which are taken off it as long as there
    is room.
    """
    image = _draw_background(rng)
    placed = []
    for _ in range(min(rng.randrange(2, 7), len(waiting))):
        mask = _draw_shape(*SHAPES[group][waiting[-1]], rng)
        corner = _find_room(image.size, mask.size, [box for _, box in placed], rng)
        if corner is None:
            break
        image.paste(_draw_paint(mask.size, rng), corner, mask)
        placed.append((waiting.pop(), [*corner, *mask.size]))
    return image, placed


def _draw_background(rng: random.Random) -> Image.Image:
    """A dark soft background: two random colours, mixed differently from place to place."""
    size = IMAGE_SIZES[rng.randrange(len(IMAGE_SIZES))]
    first, second = ([rng.uniform(5, 80) for _ in range(3)] for _ in range(2))
    shares = [rng.random() for _ in range(4 * 4)]
    colours = bytes(
        int(a + share * (b - a)) for share in shares for a, b in zip(first, second, strict=True)
    )
    return Image.frombytes("RGB", (4, 4), colours).resize(size, Image.Resampling.BICUBIC)


def _draw_paint(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A light colour that fades a little from corner to corner."""
    hue, saturation = rng.random(), rng.uniform(0.05, 0.5)
    shades = [colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.85, 1)) for _ in range(4)]
    return Image.frombytes(
        "RGB", (2, 2), bytes(int(255 * level) for shade in shades for level in shade)
    ).resize(size)


def _draw_shape(
    outlines: list[list[Point]], max_degrees: float, rng: random.Random
) -> Image.Image:
    """The antialiased mask of a shape of random size, stretch and rotation, cropped to what is not
    empty.
    """
    radius, stretch = rng.uniform(*RADII), rng.uniform(0.8, 1)
    turn = math.radians(rng.uniform(-max_degrees, max_degrees))
    side = 2 * math.ceil(radius * 1.15) + 2
    mask = Image.new("L", (side * SUPERSAMPLING, side * SUPERSAMPLING))
    draw = ImageDraw.Draw(mask)
    for outline, ink in zip(outlines, [255] + [0] * len(outlines), strict=False):
        points = [
            (
                x * stretch * math.cos(turn) - y * math.sin(turn),
                x * stretch * math.sin(turn) + y * math.cos(turn),
            )
            for x, y in outline
        ]
        draw.polygon(
            [
                ((side / 2 + radius * x) * SUPERSAMPLING, (side / 2 + radius * y) * SUPERSAMPLING)
                for x, y in points
            ],
            fill=ink,
        )
    mask = mask.reduce(SUPERSAMPLING)
    return mask.crop(mask.getbbox())


def _find_room(
    image: tuple[int, int], size: tuple[int, int], taken: list[list[int]], rng: random.Random
) -> tuple[int, int] | None:
    """A corner at which a box of ``size`` keeps its distance from those taken, or None after 40
    trials.
    """
    for _ in range(40):
        x, y = (
            rng.randrange(GAP, whole - part - GAP) for whole, part in zip(image, size, strict=True)
        )
        if all(
            x + size[0] + GAP < left
            or left + width + GAP < x
            or y + size[1] + GAP < top
            or top + height + GAP < y
            for left, top, width, height in taken
        ):
            return x, y
    return None
