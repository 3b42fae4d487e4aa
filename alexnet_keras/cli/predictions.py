"""Predictions that are printed as they are computed."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import Any

import click

from alexnet_keras.configs.option_fields import read_options
from alexnet_keras.configs.options import PredictOptions
from alexnet_keras.evaluation.prediction_files import json_text
from alexnet_keras.progress import Progress
from modes.predict import PredictionStream


def print_predictions(named: dict[str, Any], as_json: bool) -> None:
    """Print the predictions of ``named["images"]`` on stdout, and progress on stderr, unless the
    rows themselves are seen on a terminal.
    """
    images = named.pop("images")
    options = read_options(PredictOptions, named)
    progress = Progress()
    stream = PredictionStream(images, options, progress)
    shown = (
        nullcontext(lambda images: None)
        if sys.stdout.isatty()
        else progress.track("predict", len(stream.samples), on_stderr=True)
    )
    with shown as advance:
        rows = stream.rows(advance)
        text = (
            json_text(stream.source.describe(), options.crops, rows)
            if as_json
            else map(_lines, rows)
        )
        for piece in text:
            click.echo(piece, nl=False)


def _lines(row) -> str:
    found = [f"  {each.probability:6.1%}  {each.name}\n" for each in row.top]
    if row.error is not None:
        found = [f"  not a readable image: {row.error}\n"]
    return f"{row.image}\n" + "".join(found)
