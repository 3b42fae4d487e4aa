"""What ``weights list``, ``weights show`` and ``weights check`` print."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from alexnet_keras.pretrained.check import TrainedCheck

NOT_RECORDED = "not recorded in the file"


def print_published(rows: list[dict]) -> None:
    """Print each entry of the catalogue, then how its accuracy was measured, notes and licence."""
    for row in rows:
        accuracy = f"{row['top1']} / {row['top5']}" if row["top1"] else "none published"
        size = f"{row['size'] / 1e6:.1f} MB" if row["size"] else ""
        click.echo(
            f"{row['name']:17}{row['variant'] or '':10}{size:>9}  {accuracy:15} "
            f"{row['path'] or 'not downloaded'}"
        )
        for text in filter(None, (row["protocol"], row["notes"], f"licence: {row['licence']}")):
            click.echo(f"{'':17}{text}")


def print_weights(description: dict) -> None:
    """Print the properties of a weight file, then one row per array."""
    count = sum(math.prod(row["shape"]) for row in description["arrays"])
    lines = {
        "path": description["path"],
        "format": description["format"],
        "sha256": description["sha256"],
        "variant": description["variant"] or NOT_RECORDED,
        "parameters": f"{count:,}",
        "input": _input(description["preprocessing"]),
        "layer order": " ".join(description["layer_order"]) or NOT_RECORDED,
        "axes in file": description["order_in_file"],
        "axes shown": description["order_shown"],
    }
    for title, text in lines.items():
        click.echo(f"{title:13} {text}")
    columns = f"{'min':>11}{'mean':>12}{'max':>11}{'std':>11}"
    click.echo(f"\n{'layer':7}{'array':8}{'shape':16}{'dtype':9}{columns}")
    for row in description["arrays"]:
        shape = "x".join(map(str, row["shape"]))
        click.echo(
            f"{row['layer']:7}{row['role']:8}{shape:16}{row['dtype']:9}{row['minimum']:11.4g}"
            f"{row['mean']:12.4g}{row['maximum']:11.4g}{row['std']:11.4g}"
        )


def print_check(found: TrainedCheck) -> None:
    """Print the verdict, its reasons, and every statistic with its effect and z."""
    click.echo(f"{found.path}: {found.verdict}")
    for reason in found.reasons:
        click.echo(f"  {reason}")
    if found.colourfulness:
        shares = " and ".join(f"{share:.2f}" for share in found.colourfulness)
        of = "conv1's two towers" if len(found.colourfulness) == 2 else "conv1"
        click.echo(f"  The share of colour in the kernels of {of} is {shares} (random: 0.67).")
    if any(layer.evidence for layer in found.layers):
        click.echo(f"\n{'layer':7}{'state':16}{'statistic':36}{'effect':>8}{'z':>8}")
    for layer in found.layers:
        for row in layer.evidence:
            click.echo(
                f"{layer.layer:7}{layer.state:16}{row.statistic:36}{row.effect:8.3f}{row.z:8.1f}"
            )
        if layer.dead_filters:
            click.echo(f"{layer.layer:7}{layer.dead_filters} dead filters")


def _input(preprocessing: dict | None) -> str:
    if preprocessing is None:
        return NOT_RECORDED
    size = preprocessing["crop"]
    image = preprocessing["mean_image"]
    mean = f"({_rgb(preprocessing['mean'])})" if image is None else "image"
    text = f"{preprocessing['channel_order']}, 0-255 minus the mean {mean}"
    if any(value != 1 for value in preprocessing["std"]):
        text += f", divided by the standard deviation ({_rgb(preprocessing['std'])})"
    return f"{text}, {size}x{size}"


def _rgb(values: list[float] | tuple[float, ...]) -> str:
    red, green, blue = values
    return f"red {red:.2f}, green {green:.2f}, blue {blue:.2f}"
