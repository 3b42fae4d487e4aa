"""Absolute speed on one device, preferably a GPU, with any installed Keras backend.

    python -m benchmarks.gpu [--backend jax|torch|tensorflow] [--batch-sizes 1,32,128,256]
        [--json out.json]

Images per second of inference and of the training step (forward, backward, momentum SGD with
coupled weight decay) on synthetic data already on the device, compared with a matrix product in
the same run and precision. Needs Keras, NumPy, click, rich and one backend. Calls are queued
without waiting, as in training; the clock stops when the device has finished the last one.
"""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import click

from alexnet_keras.configs.architecture import VARIANTS
from benchmarks.measure import parse_batch_sizes

BACKENDS = ("tensorflow", "jax", "torch")
CLASSES = 1000
REPETITIONS = 7


@click.command(context_settings={"show_default": True})
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="Keras backend.  [default: $KERAS_BACKEND, or the first one installed]",
)
@click.option("--variant", type=click.Choice(list(VARIANTS)), default="alexnet", help="Network.")
@click.option("--batch-sizes", default="1,32,128,256", callback=parse_batch_sizes)
@click.option(
    "--seconds",
    default=5.0,
    type=click.FloatRange(0, min_open=True),
    help="Duration of each measurement.",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "tf32", "bfloat16"]),
    default="float32",
    help="float32 turns TF32 off; bfloat16 keeps the weights in float32.",
)
@click.option(
    "--compile",
    "compiled",
    is_flag=True,
    help="Use torch.compile, or XLA with TensorFlow; JAX always compiles.",
)
@click.option("--width", default=1.0, help="Multiplies filters and units.")
@click.option(
    "--gemm-size", default=8192, type=click.IntRange(1), help="Size of the square matrix product."
)
@click.option(
    "--json",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the results to this file.",
)
def main(
    backend, variant, batch_sizes, seconds, precision, compiled, width, gemm_size, file
) -> None:
    """Measure and print."""
    engine = _engine(_select_backend(backend), variant, width, precision, compiled)
    report = {
        **_description(engine),
        "variant": variant,
        "width": width,
        "precision": precision,
        "compiled": compiled,
    }
    _, times = _measure(engine, engine.gemm(gemm_size), seconds)
    report["gemm"] = {"size": gemm_size, **_rates(times, 2 * gemm_size**3 / 1e12, "tflops")}
    report["measurements"] = []
    for batch_size in sorted(batch_sizes):  # so that peak memory is that of the batch size
        for task in ("inference", "training"):
            report["measurements"].append(
                _measurement(engine, task, batch_size, seconds, report["gemm"]["tflops"])
            )
            if file is not None:  # after each, so that running out of memory loses nothing
                file.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report)


def _select_backend(backend: str | None) -> str:
    installed = [name for name in BACKENDS if find_spec(name) is not None]
    backend = backend or os.environ.get("KERAS_BACKEND") or next(iter(installed), None)
    if backend not in installed:
        names = ", ".join(installed) or "none"
        raise click.UsageError(f"--backend: expected one of {names} (installed), got {backend}")
    return backend


def _engine(backend: str, variant: str, width: float, precision: str, compiled: bool):
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from benchmarks.engines import ENGINES

    architecture = VARIANTS[variant] if width == 1 else VARIANTS[variant].with_width(width)
    return ENGINES[backend](architecture, CLASSES, precision, compiled)


def _description(engine) -> dict:
    import keras
    import numpy as np

    from benchmarks.engines import forward_flops, training_flops

    backend = keras.backend.backend()
    return {
        "device": engine.name,
        "gpu": engine.on_gpu,
        "tf32": engine.tf32,
        "backend": backend,
        "versions": {
            backend: engine.version,
            "keras": keras.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "parameters": engine.model.count_params(),
        "gflop_per_image": {
            "inference": sum(forward_flops(engine.model)) / 1e9,
            "training": training_flops(engine.model) / 1e9,
        },
    }


def _measurement(engine, task: str, batch_size: int, seconds: float, gemm_tflops: float) -> dict:
    """Throughput of one task at one batch size."""
    import numpy as np

    from benchmarks.engines import forward_flops, training_flops

    rng = np.random.default_rng(0)
    shape = (batch_size, *engine.model.input_shape[1:])
    x = engine.put(rng.standard_normal(shape, np.float32) * np.float32(60))  # pixels with mean 0
    labels = engine.put(rng.integers(0, CLASSES, batch_size, np.int32))
    result, times = _measure(
        engine,
        lambda: engine.infer(x) if task == "inference" else engine.train(x, labels),
        seconds,
    )
    if task == "training" and not math.isfinite(float(result)):
        raise click.ClickException(
            f"batch size {batch_size}: loss: expected a finite number, got {float(result)}"
        )
    flops = (
        sum(forward_flops(engine.model)) if task == "inference" else training_flops(engine.model)
    )
    rates = _rates(times, batch_size, "images_per_second")
    tflops = rates["images_per_second"] * flops / 1e12
    return {
        "task": task,
        "batch_size": batch_size,
        **rates,
        "milliseconds": 1e3 * statistics.median(times),
        "tflops": tflops,
        "of_gemm": tflops / gemm_tflops,
        "peak_bytes": engine.peak_bytes(),
    }


def _measure(engine, call, seconds: float):
    """The last result of ``call``, and seconds per call in each of ``REPETITIONS`` repetitions,
    after a warm-up.
    """
    engine.wait(call())
    began = perf_counter()
    engine.wait(call())
    calls = max(1, round(seconds / REPETITIONS / (perf_counter() - began)))
    times = []
    for _ in range(1 + REPETITIONS):
        began = perf_counter()
        for _ in range(calls):
            result = call()
        engine.wait(result)
        times.append((perf_counter() - began) / calls)
    return result, times[1:]


def _rates(times: list[float], amount: float, unit: str) -> dict:
    rates = [amount / time for time in times]
    return {unit: statistics.median(rates), f"{unit}_range": [min(rates), max(rates)]}


def _print(report: dict) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("task", "batch", "images/s", "range", "TFLOP/s", "of gemm", "peak GB"):
        table.add_column(header, justify="left" if header == "task" else "right", no_wrap=True)
    for row in report["measurements"]:
        low, high = row["images_per_second_range"]
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e9:.2f}"
        table.add_row(
            row["task"],
            str(row["batch_size"]),
            f"{row['images_per_second']:.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{row['tflops']:.3f}",
            f"{row['of_gemm']:.0%}",
            peak,
        )
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    tf32 = {True: "TF32 on", False: "TF32 off", None: "no TF32 on this device"}[report["tf32"]]
    gemm = report["gemm"]
    console = Console(soft_wrap=True)
    console.print(f"{report['device']}; {versions}", highlight=False)
    console.print(
        f"{report['variant']}, width {report['width']:g}, {report['precision']}, {tf32}; "
        f"gemm of {gemm['size']}: {gemm['tflops']:.3f} TFLOP/s",
        highlight=False,
    )
    console.print(table)


if __name__ == "__main__":
    main()
