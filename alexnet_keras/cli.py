"""The command line. It parses, calls one function, prints; TensorFlow is imported only when a command runs."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import click

from alexnet_keras import __version__
from alexnet_keras.cli_options import (
    DEMONSTRATIONS,
    INTERRUPTED,
    batch_size_option,
    command,
    crops_option,
    data_options,
    default_weights,
    open_data,
    output_option,
    overwrite_option,
    partial_option,
    printable,
    seed_option,
    variant_option,
    weights_option,
)
from alexnet_keras.cli_weights import weights_group
from alexnet_keras.errors import ConfigurationError, DataError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="alexnet_keras")
def main():
    """AlexNet for Keras: train it, transfer it, extract its features.

    Every command runs on a built-in demonstration when it is given no data.
    """


@command(main)
@data_options("demo")
@variant_option
@click.option("--width", type=float,
              help="Multiplies filters and units.  [default: 0.25 and 0.125 on demonstration data, else 1]")
@click.option("--epochs", type=int, metavar="N", show_default="the recipe's", help="Passes over the train split.")
@batch_size_option()
@click.option("--lr", type=float, show_default="the recipe's", help="Initial learning rate.")
@seed_option
@output_option
@overwrite_option
def scratch(variant, width, epochs, batch_size, lr, seed, output, overwrite, **data):
    """Train a network end to end, from random initial values."""
    from alexnet_keras import spec
    from modes.scratch import scratch
    demo = data["data"] in DEMONSTRATIONS
    variant = variant or "alexnet"
    widths = () if width is None else (width, width)
    architecture = spec.demo_architecture(variant, *widths) if demo else spec.VARIANTS[variant].widened(*widths or (1.0,))
    recipe = _changed(spec.DEMO_RECIPE if demo else spec.RECIPES[variant], epochs, batch_size, lr)
    preprocessing = spec.PREPROCESSING[variant]
    dataset, loading = open_data(**data)
    with _run("scratch", output, overwrite, dataset, loading, seed=seed, recipe=asdict(recipe),
              architecture=architecture.to_dict(), preprocessing=asdict(preprocessing)) as (run, progress):
        if demo and width is None:
            _say("The demonstration has a thousandth of ImageNet's images and two minutes: the real "
                 f"{preprocessing.crop}x{preprocessing.crop} network at a quarter of its filters and an eighth of its "
                 "hidden units.")
        outcome = scratch(dataset, run, architecture=architecture, preprocessing=preprocessing, recipe=recipe, seed=seed,
                          loading=loading, callbacks=[progress])
    _report(run, outcome)


@command(main)
@data_options("demo-new")
@weights_option
@variant_option
@partial_option
@click.option("--train-from", default="fc6", metavar="LAYER", help="Lowest layer that fine-tuning changes.")
@click.option("--epochs", type=int, metavar="N", show_default="the recipe's", help="Passes of fine-tuning.")
@batch_size_option()
@click.option("--lr", type=float, show_default="the recipe's", help="Rate of fine-tuning; the head's is ten times that.")
@seed_option
@output_option
@overwrite_option
def transfer(weights, variant, partial, train_from, epochs, batch_size, lr, seed, output, overwrite, **data):
    """Give a trained network a new head for your classes, and fine-tune it."""
    from alexnet_keras import spec
    from modes.transfer import layers_below, transfer
    demo = data["data"] in DEMONSTRATIONS
    recipe = _changed(spec.DEMO_FINETUNE_RECIPE if demo else spec.FINETUNE_RECIPE, epochs, batch_size, lr)
    dataset, loading = open_data(**data)
    _check_splits(dataset)
    base = _pretrained(default_weights(weights, data["data"]), variant, partial)
    layers_below(base.model, train_from)
    with _run("transfer", output, overwrite, dataset, loading, seed=seed, train_from=train_from, weights=base.describe(),
              head_recipe=asdict(spec.HEAD_RECIPE), recipe=asdict(recipe), architecture=base.model.architecture.to_dict(),
              preprocessing=asdict(base.model.preprocessing)) as (run, progress):
        outcome = transfer(dataset, run, base=base, head_recipe=spec.HEAD_RECIPE, recipe=recipe, train_from=train_from,
                           seed=seed, loading=loading, callbacks=[progress])
    _report(run, outcome)


@command(main)
@data_options("demo")
@weights_option
@variant_option
@partial_option
@click.option("--layer", "layers", multiple=True, default=("fc7",), metavar="NAME", help="Public layer name (repeatable).")
@click.option("--split", "splits", multiple=True, metavar="NAME", help="Repeatable.  [default: every split in turn]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("feats.npy"), metavar="FILE",
              help=".npy (several layers: one file each) or .h5.")
@batch_size_option(32)
@click.option("--skip-bad", is_flag=True, help="Rows of unreadable files become NaN instead of an error.")
@click.option("--probe", is_flag=True, help="Train a linear classifier on the train rows, test it on the val rows.")
@overwrite_option
def extract(weights, variant, partial, layers, splits, out, batch_size, skip_bad, probe, overwrite, **data):
    """Write the frozen features of any layer, a row for each sample."""
    from modes.extract import extract_features
    dataset, loading = open_data(**data)
    parts = [dataset.samples(split) for split in splits or dataset.split_names]
    if probe:
        _check_probe(dataset, parts)
    source = _pretrained(default_weights(weights, data["data"]), variant, partial)
    with _counting("extract", sum(map(len, parts))) as advance:
        files = extract_features(dataset, out, source=source, layers=layers, splits=splits, batch_size=batch_size,
                                 loading={**loading, "bad": "mark" if skip_bad else "error"}, overwrite=overwrite,
                                 on_batch=advance)
    for layer, path in files.items():
        _say(f"{layer} -> {path}")
        if probe:
            from alexnet_keras.probe import linear_probe
            result = linear_probe(path, layer, out.with_suffix(".csv"), dataset)
            _say(f"linear probe on {layer}: accuracy {result.accuracy:.1%}, balanced accuracy "
                 f"{result.balanced_accuracy:.1%} on {result.images} val images")


@command(main)
@click.argument("source", metavar="RUN|WEIGHTS")
@data_options(None)
@variant_option
@partial_option
@click.option("--split", default="val", metavar="NAME", help="train, val or the data set's own name.")
@crops_option
@batch_size_option(64)
def evaluate(source, variant, partial, split, crops, batch_size, **data):
    """Measure a run or a weight file on a split."""
    from alexnet_keras.data.pipeline import EvaluationBatches
    from alexnet_keras.evaluation import evaluate
    from alexnet_keras.runs import data_of
    if data["data"] is None:
        data |= {name: value for name, value in data_of(Path(source)).items() if data[name] in (None, ())}
    dataset, loading = open_data(**data)
    samples = dataset.samples(split)
    model = _pretrained(source, variant, partial).model
    if model.class_names != samples.class_names:
        raise DataError(f"{data['data']}: expected the {len(model.class_names)} classes of {source}, found "
                        f"{len(samples.class_names)} others")
    with _counting("evaluate", len(samples)) as advance:
        batches = EvaluationBatches(samples, model.preprocessing, batch_size, views=int(crops), **loading)
        evaluation = evaluate(model, batches, advance)
    _tell(evaluation, f"{source} on {dataset.name} {samples.split}")


@command(main)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--weights", default="caffe", metavar="NAME|PATH|RUN", help="A name of the catalogue, a weight file or a run.")
@variant_option
@partial_option
@crops_option
@click.option("--top", type=click.IntRange(1), default=5, metavar="N", help="Classes to print.")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
def predict(images, weights, variant, partial, crops, top, as_json):
    """Name what is on images, with probabilities."""
    from alexnet_keras.applications import decode_predictions
    from alexnet_keras.data.imagenet import imagenet_classes
    from alexnet_keras.prediction import predict
    source = _pretrained(weights, variant, partial)
    probabilities = predict(source.model, images, crops=int(crops))
    names = source.model.class_names or tuple(map(str, range(probabilities.shape[1])))
    published = names == tuple(name for _, name in imagenet_classes())
    decoded = decode_predictions(probabilities, top, None if published else names)
    if as_json:
        fields = ("id", "name", "probability")
        rows = [{"file": str(image), "predictions": [dict(zip(fields, row, strict=True)) for row in best]}
                for image, best in zip(images, decoded, strict=True)]
        click.echo(json.dumps({"weights": source.describe(), "crops": int(crops), "images": rows}, indent=2))
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
    from alexnet_keras.spec import VARIANTS
    from alexnet_keras.summary import print_summary
    print_summary(VARIANTS[variant or "alexnet"].widened(width), num_classes)


main.add_command(weights_group)


def _changed(recipe, epochs, batch_size, lr):
    given = {"epochs": epochs, "batch_size": batch_size, "learning_rate": lr}
    changes = {name: value for name, value in given.items() if value is not None}
    if "epochs" in changes:
        changes["drop_epochs"] = tuple(drop * epochs / recipe.epochs for drop in recipe.drop_epochs)
    return replace(recipe, **changes)


def _check_splits(dataset) -> None:
    """A mode that learns needs both splits; found out before anything is loaded or written."""
    for split in ("train", "val"):
        if not any(name.startswith(split) for name in dataset.split_names):
            raise DataError(f"{dataset.root}: expected a train split to learn from and a val split to measure on, "
                            f"found only {', '.join(dataset.split_names)}")
        dataset.samples(split)


def _check_probe(dataset, parts) -> None:
    """A probe learns from the train rows and is measured on the val rows; found out before anything is computed."""
    extracted = [part.split for part in parts]
    for split in ("train", "val"):
        if dataset.samples(split).split not in extracted:
            raise ConfigurationError(f"probe: expected the train and val splits among those extracted, found "
                                     f"{', '.join(extracted)}")


@contextmanager
def _run(mode, output, overwrite, dataset, loading, **config):
    """A run folder with its config and log, and the progress to show."""
    from alexnet_keras.console import log_to
    from alexnet_keras.runs import new_run
    from alexnet_keras.training_progress import TrainingProgress
    _check_splits(dataset)
    run = new_run(output, mode, overwrite)
    with log_to(run.folder / "run.log"):
        crops = loading["crops"] and asdict(loading["crops"])
        run.write_config({"mode": mode, "data": dataset.describe() | {"crops": crops}, "workers": loading["workers"],
                          **config})
        _say(f"{mode}: {len(dataset.samples('train'))} train and {len(dataset.samples('val'))} val samples of "
             f"{len(dataset.class_names)} classes from {dataset.name}; writing {run.folder}")
        yield run, TrainingProgress()


def _pretrained(name, variant, partial):
    from alexnet_keras.console import DownloadProgress
    from alexnet_keras.pretrained import pretrained
    source = pretrained(name, variant, partial, progress=DownloadProgress())
    if name == "demo":
        click.echo("These weights know only the demonstration's shapes; for real images use --weights caffe.", err=True)
    return source


def _report(run, outcome) -> None:
    _tell(outcome.evaluation, f"{run.folder}")
    if not outcome.finished:
        sys.exit(INTERRUPTED)


def _tell(evaluation, label: str) -> None:
    _say(f"{label}: top-1 {evaluation.top1:.2%}, top-5 {evaluation.top5:.2%}, mean per class "
         f"{evaluation.mean_per_class:.2%} on {evaluation.images} images, "
         f"{evaluation.images / evaluation.seconds:.0f} images/s")


def _counting(label: str, total: int):
    from alexnet_keras.console import counting
    return counting(label, total)


def _say(text: str) -> None:
    from alexnet_keras.console import console
    console.print(printable(text))
