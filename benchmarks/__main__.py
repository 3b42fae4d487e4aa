"""Every measure of this project against what a user would pick instead, and against the limits of
the machine.

    python -m benchmarks [NAMES...] [--json FILE] [--plot FILE]

The peers come with ``pip install alexnet_keras[bench]``; those that are not installed are left
out.
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

from alexnet_keras.cli.options import prepare
from benchmarks.measure import Line, Options, print_table, show, to_json

NAMES = (
    "inference",
    "training_step",
    "loop",
    "input_pipeline",
    "extraction",
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


def _batch_sizes(context, parameter, value: str | None) -> tuple[int, ...]:
    sizes = value.split(",") if value else []
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise click.BadParameter(f"expected positive integers like 1,32,128, got {value!r}")
    return tuple(map(int, sizes))


@click.command(context_settings={"show_default": True})
@click.argument("names", nargs=-1, type=click.Choice(NAMES))
@click.option(
    "--batch-sizes", metavar="N,N,...", callback=_batch_sizes, help="[default: each measure's own]"
)
@click.option("--repetitions", default=10, type=click.IntRange(1))
@click.option(
    "--threads",
    default=Options().threads,
    type=click.IntRange(1),
    help="Of ours and of each peer.",
)
@click.option(
    "--json",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write all figures here.",
)
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw them here.")
def main(names, batch_sizes, repetitions, threads, file, plot) -> None:
    """Measure NAMES, or all there is, and print a table."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    prepare()
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
            if file is not None:  # after each line, so that what comes later takes nothing away
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
