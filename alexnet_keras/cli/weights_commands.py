"""``weights list|fetch|show|convert|verify``: parse, call one function, print."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path

import click

from alexnet_keras.cli.command import command
from alexnet_keras.cli.options import overwrite_option

NOT_RECORDED = "not recorded in the file"


@click.group("weights")
def weights_group():
    """List, fetch, show, convert and verify weights."""


json_option = click.option("--json", "as_json", is_flag=True, help="For machines.")


@command(weights_group, tensorflow=False, name="list")
@json_option
def list_weights(as_json):
    """All published weights: variant, size, top-1 / top-5, and their path if downloaded."""
    from alexnet_keras.pretrained.catalog import PUBLISHED

    rows = [_row(entry) for entry in PUBLISHED.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        accuracy = f"{row['top1']} / {row['top5']}" if row["top1"] else "none published"
        size = f"{row['size'] / 1e6:.1f} MB" if row["size"] else ""
        click.echo(
            f"{row['name']:14}{row['variant'] or '':10}{size:>9}  {accuracy:15} "
            f"{row['path'] or 'not here'}"
        )
        for text in filter(None, (row["protocol"], row["notes"], f"licence: {row['licence']}")):
            click.echo(f"{'':14}{text}")


@command(weights_group, tensorflow=False)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def fetch(names):
    """Download published weights that are not here yet, and check their digests."""
    from alexnet_keras.pretrained.catalog import find_entry
    from weights.store import fetch

    for entry in [find_entry(name) for name in names]:
        here = _local_path(entry)
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
    from alexnet_keras.pretrained.loading import resolve_weights
    from weights.statistics import ORDER_IN_FILE, ORDER_SHOWN, array_statistics
    from weights.store import digest_of

    found = resolve_weights(source, progress=_progress())
    weights = found.weights
    rows = [asdict(row) for row in array_statistics(weights.layers)]
    about = {
        "source": source,
        "path": str(weights.path),
        "format": weights.file_format,
        "variant": found.variant,
        "layer_order": list(weights.layer_order),
        "sha256": digest_of(weights.path),
        "order_in_file": ORDER_IN_FILE[weights.file_format],
        "order_shown": ORDER_SHOWN,
        "preprocessing": found.preprocessing and asdict(found.preprocessing),
        "arrays": rows,
    }
    if as_json:
        click.echo(json.dumps(about, indent=2))
    else:
        _print_source(about)


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


def _row(entry) -> dict:
    """The fields of a catalogue entry and of its file, and its path."""
    fields = asdict(entry)
    file = fields.pop("file")
    return {"name": fields.pop("name"), "file": file.pop("name"), **file, **fields} | {
        "path": _local_path(entry)
    }


def _local_path(entry) -> str | None:
    """The path of a published file on this machine, None where it is not here or is damaged."""
    from alexnet_keras.errors import WeightsError
    from weights.store import fetch

    try:
        return str(fetch(entry.file, offline=True))
    except WeightsError:
        return None


def _print_source(about: dict) -> None:
    """The facts of ``show``, a line each, then a row for each array."""
    count = sum(math.prod(row["shape"]) for row in about["arrays"])
    rule = about["preprocessing"]
    expected = (
        (
            f"{rule['channel_order']}, 0-255 minus the mean (red {rule['mean'][0]:.2f}, green "
            f"{rule['mean'][1]:.2f}, blue "
            f"{rule['mean'][2]:.2f}), {rule['crop']}x{rule['crop']}"
        )
        if rule
        else NOT_RECORDED
    )
    lines = {
        "path": about["path"],
        "format": about["format"],
        "sha256": about["sha256"],
        "variant": about["variant"] or NOT_RECORDED,
        "numbers": f"{count:,}",
        "input": expected,
        "layer order": " ".join(about["layer_order"]) or NOT_RECORDED,
        "axes in file": about["order_in_file"],
        "axes shown": about["order_shown"],
    }
    for title, text in lines.items():
        click.echo(f"{title:13} {text}")
    click.echo(
        f"\n{'layer':7}{'array':8}{'shape':16}{'dtype':9}{'min':>11}{'mean':>12}{'max':>11}{'std':>11}"
    )
    for row in about["arrays"]:
        shape = "x".join(map(str, row["shape"]))
        click.echo(
            f"{row['layer']:7}{row['role']:8}{shape:16}{row['dtype']:9}{row['minimum']:11.4g}{row['mean']:12.4g}"
            f"{row['maximum']:11.4g}{row['std']:11.4g}"
        )
