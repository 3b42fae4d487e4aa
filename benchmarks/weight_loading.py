"""Reading a full-size caffemodel, against OpenCV, and loading it into a built network.

    python -m benchmarks.weight_loading [--repetitions 7]

Writes a random ``bvlc_alexnet.caffemodel`` of 244 MB and reads it with both in turn. Then a fresh
process builds the network and loads the file, to measure the time and the peak memory that loading
adds.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from time import perf_counter

import click

from benchmarks.measure import run_json

MAX_LOAD_SECONDS = 1.5
MAX_ADDED_MEMORY = 2.5  # times the size of the file


@click.command(context_settings={"show_default": True})
@click.option("--repetitions", default=7, help="Repetitions of each measurement.")
def main(repetitions: int) -> None:
    """Measure, print, and assert the targets."""
    from tests.weights.caffe_files import ORDERS, prototxt, random_layers, write_v1

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "bvlc_alexnet.caffemodel")
        deploy = Path(folder, "deploy.prototxt")
        write_v1(path, random_layers(seed=0), ORDERS["alexnet"])
        deploy.write_text(prototxt("alexnet"), encoding="utf-8")
        megabytes = path.stat().st_size / 1e6
        ratio = _compare_readers(path, deploy, repetitions)
        reports = [run_json(["-c", _INTO_NETWORK, str(path)]) for _ in range(3)]
    seconds = statistics.median(report["seconds"] for report in reports)
    added = statistics.median(report["added_mb"] for report in reports)
    click.echo(
        f"into a built network: {seconds:.2f} s, peak memory + {added:.0f} MB, "
        f"{added / megabytes:.2f}x the file"
    )
    assert ratio > 1, f"speed relative to OpenCV: expected more than 1, got {ratio:.2f}"
    assert seconds <= MAX_LOAD_SECONDS, (
        f"loading: expected at most {MAX_LOAD_SECONDS} s, got {seconds:.2f} s"
    )
    assert added <= MAX_ADDED_MEMORY * megabytes, (
        f"peak memory: expected at most {MAX_ADDED_MEMORY}x the file, got {added / megabytes:.2f}x"
    )


def _compare_readers(path: Path, deploy: Path, repetitions: int) -> float:
    """How many times faster than OpenCV the file is read."""
    import cv2

    from weights.caffe import read_caffemodel

    ours = []
    opencv = []
    for _ in range(repetitions):
        ours.append(_seconds(lambda: read_caffemodel(path)))
        opencv.append(_seconds(lambda: cv2.dnn.readNetFromCaffe(str(deploy), str(path))))
    ratio = statistics.median(opencv) / statistics.median(ours)
    click.echo(
        f"{path.stat().st_size / 1e6:.0f} MB file, medians of {repetitions}: ours "
        f"{statistics.median(ours):.3f} s, OpenCV {statistics.median(opencv):.3f} s, {ratio:.1f}x"
    )
    return ratio


_INTO_NETWORK = """
import json, resource, sys
from time import perf_counter
from alexnet_keras.cli.command import import_tensorflow
import_tensorflow()
from alexnet_keras.models.alexnet import new_model
from alexnet_keras.configs.architecture import ALEXNET
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.models.assign import assign_weights
from weights.reading import read_weights
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
model = new_model(ALEXNET, CAFFE_PREPROCESSING, tuple(map(str, range(1000))))
before, began = peak(), perf_counter()
assign_weights(model, read_weights(sys.argv[1]))
print(json.dumps({"seconds": perf_counter() - began, "added_mb": peak() - before}))
"""


def _seconds(read) -> float:
    began = perf_counter()
    read()
    return perf_counter() - began


if __name__ == "__main__":
    main()
