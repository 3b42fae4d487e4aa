"""The built-in demonstration: drawn shapes in COCO's own layout, in two groups of classes.

``demo`` is what a network learns from scratch; ``demo-new`` has other shapes and few examples, for
transfer. Light shapes of random colour, size, stretch and rotation are on dark blurred
backgrounds, so only the outline distinguishes the classes.
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
SEED = 0
SUPERSAMPLING = 3
IMAGE_SIZES = ((500, 375), (375, 500), (400, 400))
RADII = (40.0, 92.0)
GAP = 4

DEMONSTRATIONS = tuple(SHAPES)

OBJECTS_PER_CLASS = {"demo": {"train": 150, "val": 45}, "demo-new": {"train": 12, "val": 36}}


def is_demonstration(data: object) -> bool:
    """Whether ``data`` names one of the built-in data sets."""
    return isinstance(data, str) and data in DEMONSTRATIONS


def demo_root(group: str) -> Path:
    """The root folder of a demonstration set, ``demo`` or ``demo-new``, in COCO's layout with the
    splits train and val.

    It is drawn in seconds at first use into ``$KERAS_HOME`` (or ``~/.keras``)
    ``/datasets/alexnet_keras``, completely or not at all, and is the same byte for byte with one
    version of Pillow. Raises ``DataError`` if that folder cannot be written.
    """
    if group not in SHAPES:
        raise ConfigurationError(f"data: expected one of {', '.join(SHAPES)}, got {group!r}")
    root = keras_cache("datasets") / f"{group}-v{VERSION}-seed{SEED}"
    try:
        if root.is_dir():
            return root
        root.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root.parent, prefix=".unfinished-") as unfinished:
            _write(Path(unfinished, group), group)
            _publish(Path(unfinished, group), root)
    except OSError as error:
        raise DataError(
            f"{root}: expected a writable folder for the demonstration set, got: {error}; "
            "set KERAS_HOME to use another folder"
        ) from None
    return root


def _publish(folder: Path, root: Path) -> None:
    """Rename into place; if another process was faster, its folder is kept, as its bytes are the
    same.
    """
    try:
        folder.rename(root)
    except OSError:
        if not root.is_dir():
            raise


def _write(root: Path, group: str) -> None:
    root.joinpath("annotations").mkdir(parents=True)
    for split, count in OBJECTS_PER_CLASS[group].items():
        root.joinpath(split).mkdir()
        rng = random.Random(f"{VERSION} {SEED} {group} {split}")
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
    remaining = list(SHAPES[group]) * count
    rng.shuffle(remaining)
    images = []
    annotations = []
    while remaining:
        image, drawn = _draw_image(group, remaining, rng)
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
                "id": len(annotations) + number,
                "image_id": len(images),
                "category_id": numbers[name],
                "bbox": box,
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": [],
            }
            for number, (name, box) in enumerate(drawn, 1)
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
    group: str, remaining: list[str], rng: random.Random
) -> tuple[Image.Image, list[tuple[str, list[int]]]]:
    """One image with the last two to six shapes of ``remaining``, as many as there is room for;
    these are removed from the list.
    """
    image = _draw_background(rng)
    placed = []
    for _ in range(min(rng.randrange(2, 7), len(remaining))):
        mask = _draw_shape(*SHAPES[group][remaining[-1]], rng)
        corner = _find_room(image.size, mask.size, [box for _, box in placed], rng)
        if corner is None:
            break
        image.paste(_draw_paint(mask.size, rng), corner, mask)
        placed.append((remaining.pop(), [*corner, *mask.size]))
    return image, placed


def _draw_background(rng: random.Random) -> Image.Image:
    """A dark blurred background: two random colours, mixed differently from place to place."""
    size = IMAGE_SIZES[rng.randrange(len(IMAGE_SIZES))]
    first, second = ([rng.uniform(5, 80) for _ in range(3)] for _ in range(2))
    shares = [rng.random() for _ in range(4 * 4)]
    colours = bytes(
        int(a + share * (b - a)) for share in shares for a, b in zip(first, second, strict=True)
    )
    return Image.frombytes("RGB", (4, 4), colours).resize(size, Image.Resampling.BICUBIC)


def _draw_paint(size: tuple[int, int], rng: random.Random) -> Image.Image:
    """A light colour that fades a little from corner to corner."""
    hue = rng.random()
    saturation = rng.uniform(0.05, 0.5)
    shades = [colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.85, 1)) for _ in range(4)]
    return Image.frombytes(
        "RGB", (2, 2), bytes(int(255 * level) for shade in shades for level in shade)
    ).resize(size)


def _draw_shape(
    outlines: list[list[Point]], max_degrees: float, rng: random.Random
) -> Image.Image:
    """The antialiased mask of a shape of random size, stretch and rotation, cropped to its
    bounding box.
    """
    radius = rng.uniform(*RADII)
    stretch = rng.uniform(0.8, 1)
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
    """A random corner for a box of ``size`` that keeps its distance from the boxes ``taken``, or
    None after 40 attempts.
    """
    for _ in range(40):
        x, y = (
            rng.randrange(GAP, side - length - GAP)
            for side, length in zip(image, size, strict=True)
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
