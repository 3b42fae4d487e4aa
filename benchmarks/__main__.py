"""Benchmarks of this project against the alternatives and against the limits of the machine.

    python -m benchmarks [NAMES...] [--json FILE] [--plot FILE]

``python -m pip install -e ".[bench]"`` installs the peers; those that are missing are skipped.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import click

from alexnet_keras.cli.command import import_tensorflow
from benchmarks.measure import (
    Line,
    Options,
    parse_batch_sizes,
    print_table,
    show,
    to_json,
)

NAMES = (
    "inference",
    "training_step",
    "variants",
    "loop",
    "input_pipeline",
    "extraction",
    "thingsvision",
    "head_training",
    "startup",
    "growth",
)
PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "torch",
    "onnxruntime",
    "openvino",
    "opencv-python-headless",
    "simplejpeg",
    "pillow",
)


@click.command(context_settings={"show_default": True})
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--batch-sizes",
    metavar="N,N,...",
    callback=parse_batch_sizes,
    help="Batch sizes to measure.  [default: each benchmark's own]",
)
@click.option(
    "--repetitions", default=10, type=click.IntRange(1), help="Repetitions of each measurement."
)
@click.option(
    "--threads",
    default=Options().threads,
    type=click.IntRange(1),
    help="Threads of this project and of each peer.",
)
@click.option(
    "--json",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the results to this file.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Draw the results into this file.",
)
def main(names, batch_sizes, repetitions, threads, file, plot) -> None:
    """Run the benchmarks NAMES, or all of them, and print a table."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import_tensorflow()
    _limit_threads(threads)
    environment = _environment(threads)
    click.echo(
        f"{environment['processor']}, {threads} threads, load {environment['load']}; "
        + ", ".join(f"{name} {found}" for name, found in environment["versions"].items())
    )
    lines: list[Line] = []
    for name in names or NAMES:
        for line in importlib.import_module(f"benchmarks.{name}").lines(
            Options(batch_sizes, repetitions, threads)
        ):
            lines.append(line)
            print_table([line])
            if file is not None:  # after each line, so that a later failure loses nothing
                file.write_text(
                    json.dumps(to_json(lines, environment), indent=1) + "\n", encoding="utf-8"
                )
    show(lines)
    if plot is not None:
        from benchmarks.plot import draw

        draw(lines, plot)


def _limit_threads(threads: int) -> None:
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _environment(threads: int) -> dict:
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "platform": platform.platform(),
        "load": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%d %H:%M"),
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")),
        platform.machine(),
    )


if __name__ == "__main__":
    main()
