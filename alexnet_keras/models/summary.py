"""The table that every AlexNet page draws by hand, computed from the network itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import keras
from rich.table import Table

from alexnet_keras.configs.architecture import Architecture
from alexnet_keras.models.alexnet import build
from alexnet_keras.progress import console


@dataclass(frozen=True)
class Row:
    """One layer. ``neurons`` counts the outputs of weighted layers; ``multiply_adds`` is for one
    image.
    """

    layer: str
    kernel: str
    output: str
    neurons: int
    parameters: int
    multiply_adds: int


def summarize(architecture: Architecture, classes: int = 1000) -> list[Row]:
    """A row for each layer of the network, in order."""
    size = architecture.input_size
    model = build(architecture, keras.Input((size, size, 3)), classes)
    return [
        _row(layer) for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)
    ]


def print_summary(architecture: Architecture, classes: int = 1000) -> None:
    """Print the table and its totals."""
    rows = summarize(architecture, classes)
    table = Table(
        title=f"{architecture.name}, input {architecture.input_size}x{architecture.input_size}x3"
    )
    for heading in ("layer", "kernel", "output"):
        table.add_column(heading)
    for heading in ("neurons", "parameters", "multiply-adds"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.layer,
            row.kernel,
            row.output,
            *(
                f"{count:,}" if count else ""
                for count in (row.neurons, row.parameters, row.multiply_adds)
            ),
        )
    neurons, parameters, multiply_adds = (
        sum(getattr(row, name) for row in rows)
        for name in ("neurons", "parameters", "multiply_adds")
    )
    table.add_section()
    table.add_row("total", "", "", f"{neurons:,}", f"{parameters:,}", f"{multiply_adds:,}")
    console.print(table)
    console.print(
        f"{parameters:,} parameters, {neurons:,} neurons, {multiply_adds / 1e9:.2f} GMAC an image"
    )


def _row(layer: keras.layers.Layer) -> Row:
    output = layer.output.shape[1:]
    kernel = layer.kernel.shape if hasattr(layer, "kernel") else None
    positions = math.prod(output[:-1]) if kernel is not None and len(kernel) == 4 else 1
    return Row(
        layer.name,
        _describe(layer, kernel),
        "x".join(map(str, output)),
        math.prod(output) if kernel is not None else 0,
        layer.count_params(),
        positions * math.prod(kernel) if kernel is not None else 0,
    )


def _describe(layer: keras.layers.Layer, kernel) -> str:
    if isinstance(layer, keras.layers.MaxPooling2D):
        return f"{layer.pool_size[0]}x{layer.pool_size[1]} / {layer.strides[0]}"
    if kernel is None:
        return ""
    text = "x".join(map(str, kernel))
    if len(kernel) == 4:
        text += f" / {layer.strides[0]}" if layer.strides[0] > 1 else ""
        text += f", {layer.groups} groups" if layer.groups > 1 else ""
    return text
