"""The command line: each command parses its options, calls one function and prints the result.
TensorFlow is imported only when a command runs.
"""

from __future__ import annotations

import click

from alexnet_keras import __version__
from alexnet_keras.cli.command import command
from alexnet_keras.cli.feature_commands import feature_group
from alexnet_keras.cli.options import named_options, options_from
from alexnet_keras.cli.training_commands import training_group
from alexnet_keras.cli.weights_commands import weights_group
from alexnet_keras.configs.option_groups import VariantOptions
from alexnet_keras.configs.options import EvaluateOptions, ExtractOptions, PredictOptions
from alexnet_keras.errors import ConfigurationError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alexnet_keras")
def main():
    """AlexNet for Keras: train it, fine-tune it, extract its features.

    scratch, transfer and extract use a small built-in data set unless --data names another.
    """


main.add_command(training_group.commands["scratch"])
main.add_command(training_group.commands["transfer"])


@command(main)
@options_from(ExtractOptions)
def extract(**options):
    """Write the features of any layer of a trained network, one row per sample."""
    from modes.extract import run_extraction

    run_extraction(**named_options())


@command(main)
@click.argument("source", metavar="RUN|WEIGHTS")
@options_from(EvaluateOptions)
def evaluate(**options):
    """Evaluate a run or a weight file on a split of a data set."""
    from modes.evaluate import run_evaluation

    run_evaluation(**named_options())


@command(main)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@options_from(PredictOptions)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def predict(as_json, **options):
    """Classify images and print class probabilities, or write them to a file.

    IMAGE: a file, a folder, a glob, a list (.txt), a table (.csv), an array (.npy, .npz, .h5), -
    for a list on standard input, or another data set.
    """
    named = named_options()
    named.pop("as_json", None)
    if options["out"] is None:
        from alexnet_keras.cli.predictions import print_predictions

        print_predictions(named, as_json)
        return
    if as_json:
        raise ConfigurationError("json: expected predictions to print, got --out; name it .json")
    from modes.predict import run_prediction

    run_prediction(**named)


@command(main)
@options_from(VariantOptions)
@click.option("--width", type=float, default=1.0, help="Multiplier of filters and units.")
@click.option("--num-classes", type=click.IntRange(1), default=1000, help="Outputs of fc8.")
def summary(variant, width, num_classes):
    """Print a table of the layers, with neurons, parameters and multiply-adds."""
    from alexnet_keras.cli.summary_table import print_summary
    from alexnet_keras.configs.architecture import VARIANTS

    print_summary(VARIANTS[variant or "alexnet"].with_width(width), num_classes)


for _command in feature_group.commands.values():
    main.add_command(_command)
main.add_command(weights_group)
