"""The options that several commands share, by their conventional names, and how an error leaves
the program.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable

import click

from alexnet_keras.cli.printing import printable
from alexnet_keras.errors import AlexNetError, ConfigurationError, TerminatedError, WorkerLostError

BAD_INPUT, WORKER_LOST, INTERRUPTED, TERMINATED = 2, 75, 130, 143
DEMONSTRATIONS = ("demo", "demo-new")
VARIANT_NAMES = ("alexnet", "caffenet", "paper", "owt")


class _WarningLines(logging.Handler):
    """The library's warnings as lines on stderr."""

    def emit(self, record):
        print(f"warning: {printable(record.getMessage())}", file=sys.stderr)


_WARNING_LINES = _WarningLines(logging.WARNING)


def command(group: click.Group, tensorflow: bool = True, **settings) -> Callable:
    """``group.command`` whose expected failures are one line on stderr and exit code 2, never a
    traceback.

    ``tensorflow``: whether it is needed, and so imported before anything else can import it with
    its chatter.
    """

    def decorate(function):
        @functools.wraps(function)
        def run(**options):
            for package in ("alexnet_keras", "weights", "modes"):
                logging.getLogger(package).addHandler(_WARNING_LINES)
            try:
                if tensorflow:
                    prepare()
                function(**options)
            except AlexNetError as error:
                click.echo(f"error: {printable(str(error))}", err=True)
                sys.exit(exit_code_of(error))
            except _out_of_memory() as error:
                reason = (
                    str(error).split("}} ")[-1].split(" on /job")[0]
                )  # TensorFlow's, without its graph nodes
                click.echo(
                    f"error: not enough memory for this network or batch: {printable(reason)}",
                    err=True,
                )
                sys.exit(BAD_INPUT)
            except KeyboardInterrupt:
                click.echo("interrupted", err=True)
                sys.exit(INTERRUPTED)

        return group.command(context_settings={"show_default": True}, **settings)(run)

    return decorate


def exit_code_of(error: AlexNetError) -> int:
    """Bad input; or a run that can be resumed, because a worker was lost or a signal came."""
    codes = {WorkerLostError: WORKER_LOST, TerminatedError: TERMINATED}
    return codes.get(type(error), BAD_INPUT)


def _out_of_memory() -> tuple[type[Exception], ...]:
    tensorflow = sys.modules.get("tensorflow")
    return (
        (MemoryError, tensorflow.errors.ResourceExhaustedError) if tensorflow else (MemoryError,)
    )


def prepare() -> None:
    """Import TensorFlow without its chatter, and with its oneDNN kernels, which are faster on
    every CPU that has AVX2.
    """
    os.environ["KERAS_BACKEND"] = (
        "tensorflow"  # whatever keras.json says: the layers of this network are TensorFlow's
    )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    stderr = os.dup(2)
    with open(
        os.devnull, "w"
    ) as silence:  # some of it is written before any log level is looked at
        os.dup2(silence.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def options(*decorators: Callable) -> Callable:
    """Several click options as one decorator, shown in the order given."""

    def decorate(function):
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def data_options(default: str | None) -> Callable:
    """``--data`` and what chooses and cuts its samples."""
    shown = default if default else "the run's own"
    return options(
        click.option(
            "--data",
            default=default,
            show_default=shown,
            metavar="demo|demo-new|PATH",
            help="The data set.",
        ),
        click.option(
            "--format",
            "layout",
            type=click.Choice(["coco", "imagenet", "folder"]),
            help="Layout of PATH.  [default: recognised]",
        ),
        click.option(
            "--classes",
            multiple=True,
            metavar="NAME",
            help="COCO: only these classes (repeatable).",
        ),
        click.option(
            "--min-size", type=float, help="COCO: pixels of a box's shorter side.  [default: 32]"
        ),
        click.option(
            "--context",
            type=float,
            help="COCO: fraction of a box added on each side.  [default: 0.1]",
        ),
        click.option(
            "--square/--no-square",
            default=None,
            help="COCO: square regions or the boxes' own shape.  [default: square]",
        ),
        click.option(
            "--threads",
            "num_threads",
            type=click.IntRange(1),
            default=2,
            metavar="N",
            help="Loader threads.",
        ),
    )


weights_option = click.option(
    "--weights",
    metavar="NAME|PATH|RUN",
    help="demo, a name of the catalogue, a weight file or a run.  "
    "[default: demo on demonstration data, else caffe]",
)
variant_option = click.option("--variant", type=click.Choice(VARIANT_NAMES), help="Which AlexNet.")
partial_option = click.option("--partial", is_flag=True, help="Accept weights that lack layers.")
crops_option = click.option(
    "--crops",
    type=click.Choice(["1", "10"]),
    default="1",
    help="Centre crop, or the mean over the paper's ten.",
)
seed_option = click.option(
    "--seed", type=click.IntRange(0, 2**31 - 1), default=0, help="Of all randomness."
)
overwrite_option = click.option("--overwrite", is_flag=True, help="Replace what is there.")


def batch_size_option(default: int | None = None) -> Callable:
    """``--batch-size``; without a default the recipe's."""
    return click.option(
        "--batch-size",
        type=int,
        default=default,
        show_default=str(default) if default else "the recipe's",
        metavar="N",
        help="Images a step.",
    )


def open_data(data: str, layout, classes, min_size, context, square, num_threads) -> tuple:
    """The data set and the keywords of its batches, from the options of :func:`data_options`.

    Raises ``ConfigurationError`` for an option that would have no effect on this layout.
    """
    from alexnet_keras.configs.loading import BoxRegion, Loading
    from alexnet_keras.data.layouts import open_dataset

    dataset = open_dataset(data, layout, classes=classes or None, min_size=min_size)
    cut = {
        name: value
        for name, value in (("context", context), ("square", square))
        if value is not None
    }
    if cut and dataset.layout != "coco":
        raise ConfigurationError(
            f"{'/'.join(cut)}: cuts objects out of a coco data set; {data} is {dataset.layout}, "
            "where it would have no effect"
        )
    region = BoxRegion(**cut) if dataset.layout == "coco" else None
    return dataset, Loading(region, num_threads)


def default_weights(weights: str | None, data: str) -> str:
    """``demo`` knows nothing but the demonstration; everything else starts from Caffe's
    weights.
    """
    return weights or ("demo" if data in DEMONSTRATIONS else "caffe")


def open_pretrained(name: str, variant, partial):
    """The network of a catalogue name, a weight file or a run, its download shown."""
    from alexnet_keras.cli.console import DownloadProgress
    from alexnet_keras.pretrained.loading import load_pretrained

    source = load_pretrained(name, variant, partial, progress=DownloadProgress())
    if name == "demo":
        click.echo(
            "These weights know only the demonstration's shapes; for real images use --weights "
            "caffe.",
            err=True,
        )
    return source
