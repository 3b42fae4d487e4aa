"""The distances that ``distance`` prints."""

from __future__ import annotations

import json

import click

from alexnet_keras.progress import printable
from modes.distance import Distances


def print_distances(found: Distances, as_json: bool) -> None:
    """Print the number of two images; of two folders, a line for each pair: its number and its
    first image.
    """
    if as_json:
        click.echo(json.dumps(found.describe(), indent=1))
        return
    names = [f"\t{printable(str(a))}" for a, _ in found.pairs] if found.of_folders else [""]
    for value, name in zip(found.values, names, strict=True):
        click.echo(f"{value:.6f}{name}")
