"""The command line. It parses, calls one function, prints; TensorFlow is imported only when a
command runs.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from alexnet_keras import __version__
from alexnet_keras.cli.command import command
from alexnet_keras.cli.options import named_options, options_from
from alexnet_keras.cli.training_commands import training_group
from alexnet_keras.cli.weights_commands import weights_group
from alexnet_keras.configs.options import (
    EvaluateOptions,
    ExtractOptions,
    PredictOptions,
    VariantOptions,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alexnet_keras")
def main():
    """AlexNet for Keras: train it, transfer it, extract its features.

    Every command runs on a built-in demonstration unless --data names another data set.
    """


main.add_command(training_group.commands["scratch"])
main.add_command(training_group.commands["transfer"])


@command(main)
@options_from(ExtractOptions)
def extract(**options):
    """Write the frozen features of any layer, a row for each sample."""
    from modes.extract import run_extraction

    run_extraction(**named_options())


@command(main)
@click.argument("source", metavar="RUN|WEIGHTS")
@options_from(EvaluateOptions)
def evaluate(**options):
    """Measure a run or a weight file on a split."""
    from modes.evaluate import run_evaluation

    run_evaluation(**named_options())


@command(main)
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE..."
)
@options_from(PredictOptions)
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def predict(as_json, **options):
    """Name what is on images, with probabilities."""
    from modes.predict import run_prediction

    named = named_options()
    named.pop("as_json", None)
    found = run_prediction(**named)
    if as_json:
        _print_json(found, options["crops"])
        return
    for image, best in zip(found.images, found.top, strict=True):
        click.echo(str(image))
        for prediction in best:
            click.echo(f"  {prediction.probability:6.1%}  {prediction.name}")


def _print_json(found, crops: int) -> None:
    rows = [
        {"file": str(image), "predictions": [prediction._asdict() for prediction in best]}
        for image, best in zip(found.images, found.top, strict=True)
    ]
    about = {"weights": found.source.describe(), "crops": crops, "images": rows}
    click.echo(json.dumps(about, indent=2))


@command(main)
@options_from(VariantOptions)
@click.option("--width", type=float, default=1.0, help="Multiplies filters and units.")
@click.option("--num-classes", type=click.IntRange(1), default=1000, help="Outputs of fc8.")
def summary(variant, width, num_classes):
    """Print the network layer by layer: kernels, outputs, neurons, parameters, multiply-adds."""
    from alexnet_keras.cli.summary_table import print_summary
    from alexnet_keras.configs.architecture import VARIANTS

    print_summary(VARIANTS[variant or "alexnet"].with_width(width), num_classes)


main.add_command(weights_group)
