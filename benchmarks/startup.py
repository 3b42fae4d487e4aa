"""Starting up: from a data set as large as ImageNet or COCO to its first batch, without an index and with it.

    python -m benchmarks.startup [--folder FOLDER] [--photographs ../shared/data/imagenet_sample]

Generates an ImageNet tree of hard links to a few photographs and a COCO data set whose ``instances_train2017.json`` is as
large as the real one, then reads each in fresh processes. With ``--folder`` they are kept there and used again.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import click
from PIL import Image

from alexnet_keras.data.imagenet import imagenet_classes

LONGEST_FIRST_BATCH_SECONDS = 5
LONGEST_BUILD_SECONDS = {"imagenet": 60, "coco": 40}
MOST_BUILD_GB = {"coco": 4}
IMAGENET_IMAGES = 1_281_167
COCO_IMAGES, COCO_OBJECTS, COCO_CLASSES = 118_287, 860_001, 80
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "imagenet_sample"


@click.command(context_settings={"show_default": True})
@click.option("--folder", type=click.Path(path_type=Path), help="Generate here and keep it.  [default: temporary]")
@click.option("--photographs", type=click.Path(path_type=Path, exists=True), default=SHARED,
              help="JPEG files, at any depth.")
@click.option("--scale", default=1.0, help="A fraction of the full size; the targets hold at 1.")
@click.option("--repetitions", default=3, help="Processes that start with the index.")
def main(folder: Path | None, photographs: Path, scale: float, repetitions: int) -> None:
    """Generate, measure, print and assert the targets."""
    missed = []
    with ExitStack() as stack:
        folder = (folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))).absolute()
        home = stack.enter_context(tempfile.TemporaryDirectory())
        for layout, write in (("imagenet", write_imagenet), ("coco", write_coco)):
            root = folder / f"{layout}-{scale:g}"
            if not root.exists():
                unfinished = folder / f".{root.name}"
                shutil.rmtree(unfinished, ignore_errors=True)
                write(unfinished, sorted(photographs.rglob("*.[Jj]*")), scale)
                unfinished.rename(root)
            runs = [_first_batch(root, layout, home) for _ in range(1 + repetitions)]
            missed += _report(layout, runs[0], runs[1:])
    assert not missed, "; ".join(missed)


def write_imagenet(root: Path, photographs: list[Path], scale: float) -> None:
    """``train/<wnid>/<wnid>_<number>.JPEG``, the thousand classes equally large."""
    originals = _copy(photographs, root / ".photographs")
    images = int(IMAGENET_IMAGES * scale)
    for label, (wnid, _) in enumerate(imagenet_classes()):
        folder = root / "train" / wnid
        folder.mkdir(parents=True)
        for number in range(label, images, 1000):
            os.link(originals[number % len(originals)], folder / f"{wnid}_{number}.JPEG")


def write_coco(root: Path, photographs: list[Path], scale: float) -> None:
    """``train2017/*.jpg`` and a JSON file of which, as in COCO's own, polygons are the most."""
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
        file.write(", ".join(_image(number, name, *sizes[number % len(sizes)]) for number, name in enumerate(names)))
        file.write('], "annotations": [')
        for number in range(int(COCO_OBJECTS * scale)):
            image = rng.randrange(len(names))
            file.write(", " * bool(number) + _object(number, image, *sizes[image % len(sizes)], rng))
        categories = [{"supercategory": "thing", "id": number, "name": f"class {number}"} for number in range(COCO_CLASSES)]
        file.write(f'], "categories": {json.dumps(categories)}}}')


def _copy(photographs: list[Path], folder: Path) -> list[Path]:
    """The photographs on the file system of the data set, for hard links do not cross to another."""
    folder.mkdir(parents=True)
    return [Path(shutil.copyfile(path, folder / f"{number}.jpg")) for number, path in enumerate(photographs)]


def _image(number: int, name: str, width: int, height: int) -> str:
    return json.dumps({"license": 3, "file_name": name, "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                       "height": height, "width": width, "date_captured": "2013-11-14 11:18:45",
                       "flickr_url": f"http://farm9.staticflickr.com/8186/{number:010d}_0123456789_z.jpg", "id": number})


def _object(number: int, image: int, width: int, height: int, rng: random.Random) -> str:
    """An annotation with a polygon of 23 points in its box, as COCO's have on average."""
    w, h = rng.uniform(0.1, 0.9) * width, rng.uniform(0.1, 0.9) * height
    x, y = rng.uniform(0, width - w), rng.uniform(0, height - h)
    polygon = [round(start + rng.random() * length, 2) for _ in range(23) for start, length in ((x, w), (y, h))]
    return json.dumps({"segmentation": [polygon], "area": w * h / 2, "iscrowd": 0, "image_id": image,
                       "bbox": [round(value, 2) for value in (x, y, w, h)], "category_id": rng.randrange(COCO_CLASSES),
                       "id": number})


def _first_batch(root: Path, layout: str, home: str) -> dict[str, float]:
    """Seconds to each stage of a fresh process, and its peak memory."""
    environment = {**os.environ, "KERAS_HOME": home, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return json.loads(subprocess.run([sys.executable, "-c", _START, str(root), layout], check=True, text=True,
                                     stdout=subprocess.PIPE, env=environment).stdout.splitlines()[-1])


_START = """
import json, re, sys
from pathlib import Path
from time import perf_counter, process_time
import tensorflow
began, cpu = perf_counter(), process_time()
from alexnet_keras.data.layouts import open_dataset
from alexnet_keras.data.pipeline import TrainingBatches
from alexnet_keras.spec import CAFFE_PREPROCESSING
samples = open_dataset(sys.argv[1], sys.argv[2]).samples("train")
read = perf_counter()
batches = TrainingBatches(samples, CAFFE_PREPROCESSING, 256, seed=0)
made = perf_counter()
next(iter(batches.between(0, 1)))
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())
print(json.dumps({"samples": len(samples), "read": read - began, "batches": made - read,
                  "first_batch": perf_counter() - made, "total": perf_counter() - began, "cpu": process_time() - cpu,
                  "peak_gb": int(peak[1]) / 1e6}))
"""


def _report(layout: str, cold: dict[str, float], indexed: list[dict[str, float]]) -> list[str]:
    """Print the two rows of a data set; returns the targets that they miss."""
    warm = {stage: statistics.median(run[stage] for run in indexed) for stage in cold}
    click.echo(f"{layout}: {cold['samples']} samples; seconds after importing TensorFlow, batch 256")
    for name, run in (("no index", cold), ("index", warm)):
        click.echo(f"  {name:8}  read {run['read']:5.2f}  batches {run['batches']:5.2f}  "
                   f"first batch {run['first_batch']:5.2f}  in all {run['total']:5.2f}  "
                   f"of the processor {run['cpu']:5.2f}  peak {run['peak_gb']:.2f} GB")
    limits = [("first batch with the index", warm["total"], LONGEST_FIRST_BATCH_SECONDS, "s"),
              ("reading without it", cold["read"], LONGEST_BUILD_SECONDS[layout], "s"),
              ("peak without it", cold["peak_gb"], MOST_BUILD_GB.get(layout, math.inf), "GB")]
    return [f"{layout}: {what}: {found:.1f} {unit}, expected {most}" for what, found, most, unit in limits if found > most]


if __name__ == "__main__":
    main()
