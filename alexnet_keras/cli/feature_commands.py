"""The commands that read features files: parse, call one function, print its result."""

from __future__ import annotations

from pathlib import Path

import click

from alexnet_keras.cli.command import command
from alexnet_keras.cli.options import named_options, options_from, overwrite_option
from alexnet_keras.configs.analysis_options import (
    DistanceOptions,
    ProbeOptions,
    SimilarityOptions,
)

feature_group = click.Group()


@command(feature_group, tensorflow=False)
@click.argument("features", metavar="FEATURES")
@options_from(ProbeOptions)
def probe(**options):
    """Train and test simple classifiers on saved features, layer by layer."""
    from alexnet_keras.cli.probe_table import print_report
    from modes.probe import run_probe

    print_report(run_probe(**named_options()))


@command(feature_group, tensorflow=False)
@click.argument("features", nargs=-1, required=True, metavar="FEATURES...")
@options_from(SimilarityOptions)
def similarity(**options):
    """Compare the representations of layers with one another and with references."""
    from alexnet_keras.cli.similarity_table import print_report
    from modes.similarity import run_similarity

    print_report(run_similarity(**named_options()))


@command(feature_group)
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@options_from(DistanceOptions)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def distance(as_json, **options):
    """Print how different two images look: LPIPS v0.1; of two folders, image by image."""
    from alexnet_keras.cli.distances import print_distances
    from modes.distance import run_distance

    named = named_options()
    named.pop("as_json", None)
    print_distances(run_distance(**named), as_json)


@command(feature_group, tensorflow=False)
@click.argument("out", type=click.Path(path_type=Path))
@click.argument(
    "parts", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="PART..."
)
@overwrite_option
def merge(**options):
    """Join the parts that extract --shard I/N wrote into OUT, byte by byte.

    PART is the description of a part, such as feats-2-of-4.json, or its features file.
    """
    from alexnet_keras.features.merging import merge_features

    merge_features(options.pop("out"), options.pop("parts"), **options)
