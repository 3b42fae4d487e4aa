"""``weights list|fetch|show|convert|verify``: parse, call one function, print."""

from __future__ import annotations

import json
from pathlib import Path

import click

from alexnet_keras.cli.command import command
from alexnet_keras.cli.options import overwrite_option
from alexnet_keras.cli.weights_tables import print_published, print_weights


@click.group("weights")
def weights_group():
    """List, fetch, show, convert and verify weights."""


json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")


@command(weights_group, tensorflow=False, name="list")
@json_option
def list_weights(as_json):
    """All published weights: variant, size, top-1 / top-5, and their path if downloaded."""
    from alexnet_keras.pretrained.description import list_published

    rows = list_published()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        print_published(rows)


@command(weights_group, tensorflow=False)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch(names):
    """Download published weights that are not here yet, and check their digests."""
    from alexnet_keras.pretrained.catalog import find_entry
    from alexnet_keras.pretrained.description import local_path
    from weights.store import fetch

    for entry in [find_entry(name) for name in names]:
        here = local_path(entry)
        path = here or fetch(entry.file, progress=_progress())
        click.echo(
            f"{entry.name}: {path} ({'already here' if here else 'downloaded'}, "
            f"{entry.file.describe_digest()})"
        )


@command(weights_group)
@click.argument("source", metavar="NAME|PATH|RUN")
@json_option
def show(source, as_json):
    """Print the layers of a weight file: shapes, ranges, order of axes and channels, digest."""
    from alexnet_keras.pretrained.description import describe_weights

    about = describe_weights(source, _progress())
    if as_json:
        click.echo(json.dumps(about, indent=2))
    else:
        print_weights(about)


@command(weights_group)
@click.argument("source", metavar="NAME|PATH|RUN")
@click.argument("out", type=click.Path(path_type=Path))
@overwrite_option
def convert(source, out, overwrite):
    """Write weights as OUT: .caffemodel, .npz, .safetensors or .weights.h5, by its suffix; bit for
    bit the same.
    """
    from alexnet_keras.pretrained.verification import convert

    variant, recorded = convert(source, out, overwrite, _progress())
    click.echo(f"{source} -> {out}")
    if variant not in (None, recorded):
        click.echo(
            f"These are weights of {variant}, which this format does not record: open them with "
            f"--variant {variant}."
        )


@command(weights_group)
@click.argument("source", metavar="NAME|PATH|RUN")
@click.option("--against", metavar="NAME|PATH|RUN", help="Other weights that must be the same.")
def verify(source, against):
    """Load weights, read the network back and compare it with the file, bit for bit; check the
    published digest.
    """
    from alexnet_keras.pretrained.verification import verify

    found = verify(source, against, _progress())
    also = f" and the same as {against}" if against else ""
    digest = f"{found.digest}, as published" if found.published else found.digest
    click.echo(
        f"{found.path}: {found.numbers:,} numbers in {', '.join(found.layers)} are in the "
        "network as in the file, "
        f"bit for bit{also}; {digest}"
    )


def _progress():
    from alexnet_keras.progress import DownloadProgress

    return DownloadProgress()
