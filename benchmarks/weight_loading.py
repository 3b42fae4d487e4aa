"""Reading a full-size caffemodel: our reader against OpenCV's, and on into a built network.

    python -m benchmarks.weight_loading [--repetitions 7]

Writes a random ``bvlc_alexnet.caffemodel`` of 244 MB, reads it with both in turn, and then in a
fresh process builds the network and loads it, to tell the seconds and the peak memory that loading
adds.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import click

MAX_LOAD_SECONDS, MAX_ADDED_MEMORY = 1.5, 2.5


@click.command(context_settings={"show_default": True})
@click.option("--repetitions", default=7)
def main(repetitions: int) -> None:
    """Compare and assert the targets."""
    import cv2

    from tests.weights.caffe_files import ORDERS, prototxt, random_layers, write_v1
    from weights.caffe import read_caffemodel

    with tempfile.TemporaryDirectory() as folder:
        path, deploy = Path(folder, "bvlc_alexnet.caffemodel"), Path(folder, "deploy.prototxt")
        write_v1(path, random_layers(seed=0), ORDERS["alexnet"])
        deploy.write_text(prototxt("alexnet"), encoding="utf-8")
        megabytes = path.stat().st_size / 1e6
        ours, opencv = [], []
        for _ in range(repetitions):
            ours.append(_seconds(lambda: read_caffemodel(path)))
            opencv.append(_seconds(lambda: cv2.dnn.readNetFromCaffe(str(deploy), str(path))))
        ratio = statistics.median(opencv) / statistics.median(ours)
        click.echo(
            f"{megabytes:.0f} MB file, medians of {repetitions}: ours "
            f"{statistics.median(ours):.3f} s, "
            f"OpenCV {statistics.median(opencv):.3f} s, {ratio:.1f}x"
        )
        into = [
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", _INTO_NETWORK, str(path)],
                    check=True,
                    text=True,
                    stdout=subprocess.PIPE,
                ).stdout.splitlines()[-1]
            )
            for _ in range(3)
        ]
    seconds, added = (
        statistics.median(run[name] for run in into) for name in ("seconds", "added_mb")
    )
    click.echo(
        f"into a built network: {seconds:.2f} s, peak memory + {added:.0f} MB, "
        f"{added / megabytes:.2f}x the file"
    )
    assert ratio > 1, f"OpenCV is {1 / ratio:.1f}x as fast"
    assert seconds <= MAX_LOAD_SECONDS, f"{seconds:.2f} s, expected {MAX_LOAD_SECONDS}"
    assert added <= MAX_ADDED_MEMORY * megabytes, (
        f"{added / megabytes:.2f}x the file, expected {MAX_ADDED_MEMORY}"
    )


_INTO_NETWORK = """
import json, resource, sys
from time import perf_counter
from alexnet_keras.cli.options import prepare
prepare()
from alexnet_keras.pretrained.loading import new_network
from alexnet_keras.configs.architecture import ALEXNET
from alexnet_keras.configs.preprocessing import CAFFE_PREPROCESSING
from alexnet_keras.pretrained.assign import assign
from weights.files import read_weights
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
model = new_network(ALEXNET, CAFFE_PREPROCESSING, tuple(map(str, range(1000))))
before, began = peak(), perf_counter()
assign(model, read_weights(sys.argv[1]))
print(json.dumps({"seconds": perf_counter() - began, "added_mb": peak() - before}))
"""


def _seconds(read) -> float:
    began = perf_counter()
    read()
    return perf_counter() - began


if __name__ == "__main__":
    main()
