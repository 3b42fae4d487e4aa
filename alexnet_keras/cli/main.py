"""The command line. It parses, calls one function, prints; TensorFlow is imported only when a
command runs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from alexnet_keras import __version__
from alexnet_keras.cli.options import (
    batch_size_option,
    command,
    crops_option,
    data_options,
    default_weights,
    open_data,
    open_pretrained,
    overwrite_option,
    partial_option,
    variant_option,
    weights_option,
)
from alexnet_keras.cli.printing import print_evaluation, say
from alexnet_keras.cli.training_commands import training_group
from alexnet_keras.cli.weights_commands import weights_group
from alexnet_keras.errors import ConfigurationError, DataError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alexnet_keras")
def main():
    """AlexNet for Keras: train it, transfer it, extract its features.

    Every command runs on a built-in demonstration when it is given no data.
    """


main.add_command(training_group.commands["scratch"])
main.add_command(training_group.commands["transfer"])


@command(main)
@data_options("demo")
@weights_option
@variant_option
@partial_option
@click.option(
    "--layer",
    "layers",
    multiple=True,
    default=("fc7",),
    metavar="NAME",
    help="Public layer name (repeatable).",
)
@click.option(
    "--split",
    "splits",
    multiple=True,
    metavar="NAME",
    help="Repeatable.  [default: every split in turn]",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("feats.npy"),
    metavar="FILE",
    help=".npy (several layers: one file each) or .h5.",
)
@batch_size_option(32)
@click.option(
    "--skip-bad", is_flag=True, help="Rows of unreadable files become NaN instead of an error."
)
@click.option(
    "--probe",
    is_flag=True,
    help="Train a linear classifier on the train rows, test it on the val rows.",
)
@overwrite_option
def extract(
    weights, variant, partial, layers, splits, out, batch_size, skip_bad, probe, overwrite, **data
):
    """Write the frozen features of any layer, a row for each sample."""
    from modes.extract import extract_features

    dataset, loading = open_data(**data)
    parts = [dataset.samples(split) for split in splits or dataset.split_names]
    if probe:
        _check_probe(dataset, parts)
    source = open_pretrained(default_weights(weights, data["data"]), variant, partial)
    with _counting("extract", sum(map(len, parts))) as advance:
        files = extract_features(
            dataset,
            out,
            source=source,
            layers=layers,
            splits=splits,
            batch_size=batch_size,
            loading=replace(loading, bad="mark" if skip_bad else "error"),
            overwrite=overwrite,
            on_batch=advance,
        )
    for layer, path in files.items():
        say(f"{layer} -> {path}")
        if probe:
            from alexnet_keras.features.linear_probe import linear_probe

            result = linear_probe(path, layer, out.with_suffix(".csv"), dataset)
            say(
                f"linear probe on {layer}: accuracy {result.accuracy:.1%}, balanced accuracy "
                f"{result.balanced_accuracy:.1%} on {result.images} val images"
            )


@command(main)
@click.argument("source", metavar="RUN|WEIGHTS")
@data_options(None)
@variant_option
@partial_option
@click.option(
    "--split", default="val", metavar="NAME", help="train, val or the data set's own name."
)
@crops_option
@batch_size_option(64)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Also write classes.csv and confusion.csv.",
)
def evaluate(source, variant, partial, split, crops, batch_size, out, **data):
    """Measure a run or a weight file on a split."""
    from alexnet_keras.data.batches import EvaluationBatches
    from alexnet_keras.evaluation.evaluator import evaluate
    from alexnet_keras.training.run_folder import data_of

    if data["data"] is None:
        data |= {
            name: value
            for name, value in data_of(Path(source)).items()
            if data[name] in (None, ())
        }
    dataset, loading = open_data(**data)
    samples = dataset.samples(split)
    model = open_pretrained(source, variant, partial).model
    if model.class_names != samples.class_names:
        raise DataError(
            f"{data['data']}: expected the {len(model.class_names)} classes of {source}, got "
            f"{len(samples.class_names)} others"
        )
    with _counting("evaluate", len(samples)) as advance:
        batches = EvaluationBatches(
            samples, model.preprocessing, batch_size, crops=int(crops), **vars(loading)
        )
        evaluation = evaluate(model, batches, advance)
    print_evaluation(evaluation, f"{source} on {dataset.name} {samples.split}")
    if out is not None:
        from alexnet_keras.evaluation.class_tables import write_tables

        write_tables(out, evaluation, samples.class_names)


@command(main)
@click.argument(
    "images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE..."
)
@click.option(
    "--weights",
    default="caffe",
    metavar="NAME|PATH|RUN",
    help="A name of the catalogue, a weight file or a run.",
)
@variant_option
@partial_option
@crops_option
@click.option("--top", type=click.IntRange(1), default=5, metavar="N", help="Classes to print.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def predict(images, weights, variant, partial, crops, top, as_json):
    """Name what is on images, with probabilities."""
    from alexnet_keras.applications import decode_predictions
    from alexnet_keras.data.imagenet import imagenet_classes
    from alexnet_keras.evaluation.prediction import predict

    source = open_pretrained(weights, variant, partial)
    probabilities = predict(source.model, images, crops=int(crops))
    names = source.model.class_names or tuple(map(str, range(probabilities.shape[1])))
    published = names == tuple(name for _, name in imagenet_classes())
    decoded = decode_predictions(probabilities, top, None if published else names)
    if as_json:
        fields = ("id", "name", "probability")
        rows = [
            {
                "file": str(image),
                "predictions": [dict(zip(fields, row, strict=True)) for row in best],
            }
            for image, best in zip(images, decoded, strict=True)
        ]
        click.echo(
            json.dumps(
                {"weights": source.describe(), "crops": int(crops), "images": rows}, indent=2
            )
        )
        return
    for image, best in zip(images, decoded, strict=True):
        click.echo(str(image))
        for _, name, probability in best:
            click.echo(f"  {probability:6.1%}  {name}")


@command(main)
@variant_option
@click.option("--width", type=float, default=1.0, help="Multiplies filters and units.")
@click.option("--num-classes", type=click.IntRange(1), default=1000, help="Outputs of fc8.")
def summary(variant, width, num_classes):
    """Print the network layer by layer: kernels, outputs, neurons, parameters, multiply-adds."""
    from alexnet_keras.configs.architecture import VARIANTS
    from alexnet_keras.models.summary import print_summary

    print_summary(VARIANTS[variant or "alexnet"].widened(width), num_classes)


main.add_command(weights_group)


def _check_probe(dataset, parts) -> None:
    """A probe learns from the train rows and is measured on the val rows; found out before
    anything is computed.
    """
    extracted = [part.split for part in parts]
    for split in ("train", "val"):
        if dataset.samples(split).split not in extracted:
            raise ConfigurationError(
                f"probe: expected the train and val splits among those extracted, got "
                f"{', '.join(extracted)}"
            )


def _counting(label: str, total: int):
    from alexnet_keras.cli.console import counting

    return counting(label, total)
