"""Time from start to the first batch on data sets as large as ImageNet and COCO, with and without
the listing cache.

    python -m benchmarks.startup [--folder FOLDER]

Generates an ImageNet tree of hard links to a few photographs, and a COCO data set whose
``instances_train2017.json`` is as large as the real one, then reads each in fresh processes. With
``--folder`` the data sets are kept there and reused.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
from PIL import Image

from alexnet_keras.data.imagenet import imagenet_classes
from benchmarks.measure import Line, Options, Rate, run_json, show
from benchmarks.photographs import find_photographs

LIMIT = "limit"
NO_CACHE = "without the cache"
MAX_FIRST_BATCH_SECONDS = 5
MAX_BUILD_GB = 4
MAX_REPETITIONS = 3
MAX_BUILD_SECONDS = {"imagenet": 60, "coco": 40}
IMAGENET_IMAGES = 1_281_167
COCO_IMAGES = 118_287
COCO_OBJECTS = 860_001
COCO_CLASSES = 80


@click.command(context_settings={"show_default": True})
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="Keep the data sets in this folder.  [default: temporary]",
)
@click.option("--scale", default=1.0, help="Fraction of the full size; the targets are for 1.")
@click.option("--repetitions", default=3, help="Processes that start with the cache.")
def main(folder: Path | None, scale: float, repetitions: int) -> None:
    """Generate the data sets, measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        show(list(measured((folder or Path(temporary)).absolute(), scale, repetitions)))


def lines(options: Options) -> Iterator[Line]:
    """Time to the first batch, and time and memory of building the listing cache, at full size."""
    with tempfile.TemporaryDirectory() as folder:
        yield from measured(Path(folder), 1.0, min(options.repetitions, MAX_REPETITIONS))


def measured(folder: Path, scale: float, repetitions: int) -> Iterator[Line]:
    """The lines for the data sets in ``folder``, which are generated if they are missing."""
    with tempfile.TemporaryDirectory() as home:
        for layout, write in (("imagenet", write_imagenet), ("coco", write_coco)):
            root = folder / f"{layout}-{scale:g}"
            if not root.exists():
                unfinished = folder / f".{root.name}"
                shutil.rmtree(unfinished, ignore_errors=True)
                unfinished.mkdir(parents=True)
                write(unfinished, [Path(path) for path in find_photographs(unfinished)[0]], scale)
                unfinished.rename(root)
            yield from _lines(
                layout,
                _first_batch(root, layout, home),
                [_first_batch(root, layout, home) for _ in range(repetitions)],
            )


def _lines(layout: str, cold: dict, cached: list[dict]) -> Iterator[Line]:
    """``cold``: the report of the process that built the cache; ``cached``: those of later
    processes.
    """
    stages = ", ".join(
        f"{stage} {statistics.median(run[stage] for run in cached):.2f}"
        for stage in ("read", "batches", "first_batch")
    )
    yield _line(
        f"first batch, {layout}",
        [run["total"] for run in cached],
        MAX_FIRST_BATCH_SECONDS,
        "s",
        f"{cold['samples']} samples, batch 256, after importing TensorFlow; {stages}",
        {NO_CACHE: Rate.of([cold["total"]])},
    )
    yield _line(f"building the cache, {layout}", [cold["read"]], MAX_BUILD_SECONDS[layout], "s")
    yield _line(f"memory of building it, {layout}", [cold["peak_gb"]], MAX_BUILD_GB, "GB")


def _line(
    measure: str,
    values: list[float],
    limit: float,
    unit: str,
    notes: str = "",
    others: dict | None = None,
) -> Line:
    rates = {"ours": Rate.of(values), LIMIT: Rate.of([limit]), **(others or {})}
    return Line(measure, "ours", rates, {LIMIT: 1}, notes=notes, unit=unit, less_is_better=True)


def write_imagenet(root: Path, photographs: list[Path], scale: float) -> None:
    """``train/<wnid>/<wnid>_<number>.JPEG``, with equally many images in each class."""
    originals = _copy(photographs, root / ".photographs")
    images = int(IMAGENET_IMAGES * scale)
    for label, (wnid, _) in enumerate(imagenet_classes()):
        folder = root / "train" / wnid
        folder.mkdir(parents=True)
        for number in range(label, images, 1000):
            os.link(originals[number % len(originals)], folder / f"{wnid}_{number}.JPEG")


def write_coco(root: Path, photographs: list[Path], scale: float) -> None:
    """``train2017/*.jpg`` and a JSON file that, like COCO's, consists mostly of polygons."""
    originals = _copy(photographs, root / ".photographs")
    sizes = [Image.open(path).size for path in originals]
    for folder in ("train2017", "annotations"):
        (root / folder).mkdir()
    names = [f"{number:012d}.jpg" for number in range(int(COCO_IMAGES * scale))]
    for number, name in enumerate(names):
        os.link(originals[number % len(originals)], root / "train2017" / name)
    rng = random.Random(0)
    with open(root / "annotations" / "instances_train2017.json", "w", encoding="utf-8") as file:
        file.write('{"info": {}, "licenses": [], "images": [')
        file.write(
            ", ".join(
                _image(number, name, *sizes[number % len(sizes)])
                for number, name in enumerate(names)
            )
        )
        file.write('], "annotations": [')
        for number in range(int(COCO_OBJECTS * scale)):
            image = rng.randrange(len(names))
            file.write(
                ", " * bool(number) + _object(number, image, *sizes[image % len(sizes)], rng)
            )
        categories = [
            {"supercategory": "thing", "id": number, "name": f"class {number}"}
            for number in range(COCO_CLASSES)
        ]
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _copy(photographs: list[Path], folder: Path) -> list[Path]:
    """Copies on the data set's file system, since hard links cannot cross to another one."""
    folder.mkdir(parents=True)
    return [
        Path(shutil.copyfile(path, folder / f"{number}.jpg"))
        for number, path in enumerate(photographs)
    ]


def _image(number: int, name: str, width: int, height: int) -> str:
    return json.dumps(
        {
            "license": 3,
            "file_name": name,
            "coco_url": f"http://images.cocodataset.org/train2017/{name}",
            "height": height,
            "width": width,
            "date_captured": "2013-11-14 11:18:45",
            "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010d}_0123456789_z.jpg",
            "id": number,
        }
    )


def _object(number: int, image: int, width: int, height: int, rng: random.Random) -> str:
    """An annotation with a polygon of 23 points, COCO's average, inside its box."""
    w, h = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    polygon = [
        round(start + rng.random() * length, 2)
        for _ in range(23)
        for start, length in ((x, w), (y, h))
    ]
    return json.dumps(
        {
            "segmentation": [polygon],
            "area": w * h / 2,
            "iscrowd": 0,
            "image_id": image,
            "bbox": [round(value, 2) for value in (x, y, w, h)],
            "category_id": rng.randrange(COCO_CLASSES),
            "id": number,
        }
    )


def _first_batch(root: Path, layout: str, home: str) -> dict[str, float]:
    """Seconds of each stage in a fresh process, and its peak memory."""
    return run_json(["-c", _START, str(root), layout], KERAS_HOME=home, TF_CPP_MIN_LOG_LEVEL="3")


_START = """
import json, re, sys
from pathlib import Path
from time import perf_counter, process_time
import tensorflow
began, cpu = perf_counter(), process_time()
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.data.batches import TrainingBatches
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
samples = open_dataset(sys.argv[1], sys.argv[2]).samples("train")
read = perf_counter()
batches = TrainingBatches(samples, CAFFE_PREPROCESSING, 256, seed=0)
made = perf_counter()
next(iter(batches.iterate(0, 1)))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"samples": len(samples), "read": read - began, "batches": made - read,
                  "first_batch": perf_counter() - made, "total": perf_counter() - began,
                  "cpu": process_time() - cpu,
                  "peak_gb": int(peak[1]) / 1e6}))
"""


if __name__ == "__main__":
    main()
