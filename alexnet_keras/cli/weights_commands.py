"""The commands of ``weights``, from ``list`` to ``check``: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from alexnet_keras.cli.command import command
from alexnet_keras.cli.options import overwrite_option
from alexnet_keras.cli.weights_tables import print_check, print_published, print_weights

NOT_TRAINED = 1


@click.group("weights")
def weights_group():
    """List, download, inspect, convert, verify and check weights."""


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@command(weights_group, tensorflow=False, name="list")
@json_option
def list_weights(as_json):
    """List published weights: variant, size, top-1 / top-5, and path."""
    from alexnet_keras.pretrained.description import list_published

    rows = list_published()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        print_published(rows)


@command(weights_group, tensorflow=False)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch(names):
    """Download published weights and check their digests."""
    from alexnet_keras.pretrained.catalog import find_entry
    from alexnet_keras.pretrained.description import local_path
    from weights.store import fetch

    for entry in [find_entry(name) for name in names]:
        downloaded = local_path(entry)
        path = downloaded or fetch(entry.file, progress=_progress())
        click.echo(
            f"{entry.name}: {path} ({'already downloaded' if downloaded else 'downloaded'}, "
            f"{entry.file.describe_digest()})"
        )


@command(weights_group)
@click.argument("source", metavar="NAME|PATH|RUN")
@json_option
def show(source, as_json):
    """Print the arrays of a weight file: shapes, ranges, axis order."""
    from alexnet_keras.pretrained.description import describe_weights

    description = describe_weights(source, _progress())
    if as_json:
        click.echo(json.dumps(description, indent=2))
    else:
        print_weights(description)


@command(weights_group)
@click.argument("source", metavar="NAME|PATH|RUN")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--variant", metavar="NAME", help="The network of a SOURCE that records none.")
@overwrite_option
@click.option(
    "--kernel-order",
    type=click.Choice(["theano", "tensorflow"]),
    help="Of an .h5 file of Keras 1 or 2 that does not record its backend.",
)
def convert(source, out, variant, overwrite, kernel_order):
    """Convert weights to another format, bit for bit.

    The suffix of OUT names the format: .caffemodel, .mat, .pth, .npz, .safetensors or
    .weights.h5. The file records the variant too.
    """
    from alexnet_keras.pretrained.verification import convert

    variant, recorded = convert(source, out, overwrite, _progress(), kernel_order, variant)
    click.echo(f"{source} -> {out}")
    if variant not in (None, recorded):
        click.echo(
            f"Their network is {variant} with other layers, which {out} does not record: open it "
            "with the architecture as variant."
        )


@command(weights_group)
@click.argument("source", metavar="NAME|PATH|RUN")
@click.option("--against", metavar="NAME|PATH|RUN", help="Compare with these weights too.")
def verify(source, against):
    """Check that loaded weights equal the file's, bit for bit.

    Compares the network's weights with the file, and the file's digest with the published one.
    """
    from alexnet_keras.pretrained.verification import verify

    verified = verify(source, against, _progress())
    equal = f", equal to {against}" if against else ""
    digest = f"{verified.digest}, as published" if verified.published else verified.digest
    click.echo(
        f"{verified.path}: {verified.num_values:,} parameters of {', '.join(verified.layers)} "
        f"loaded bit for bit{equal}; {digest}"
    )


@command(weights_group)
@click.argument("source", metavar="NAME|PATH|RUN")
@json_option
def check(source, as_json):
    """Tell whether weights are trained, from their values alone.

    The verdict is trained, partly trained, initial values, shuffled, damaged or unclear. The exit
    code is 0 for trained, 1 for any other verdict, and 2 for what cannot be read.
    """
    from dataclasses import asdict

    from alexnet_keras.pretrained.check import check_trained

    found = check_trained(source, _progress())
    if as_json:
        click.echo(json.dumps(asdict(found), indent=2, default=str))
    else:
        print_check(found)
    if not found.trained:
        sys.exit(NOT_TRAINED)


def _progress():
    from alexnet_keras.progress import DownloadProgress

    return DownloadProgress()
