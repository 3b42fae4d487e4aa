"""The table that ``summary`` prints."""

from __future__ import annotations

from rich.table import Table

from alexnet_keras.configs.architecture import Architecture
from alexnet_keras.models.summary import PAPER_DIFFERENCES, LayerSummary, summarize
from alexnet_keras.progress import console

COUNTS = ("neurons", "parameters", "multiply_adds")


def print_summary(architecture: Architecture, num_classes: int) -> None:
    """Print one row per layer, the totals, and where the network differs from the paper's text."""
    rows = summarize(architecture, num_classes)
    size = architecture.input_size
    table = Table(title=f"{architecture.name}, input {size}x{size}x3")
    for heading in ("layer", "kernel", "output"):
        table.add_column(heading)
    for heading in COUNTS:
        table.add_column(heading.replace("_", "-"), justify="right")
    for row in rows:
        counts = (getattr(row, count) for count in COUNTS)
        figures = (f"{count:,}" if count else "" for count in counts)
        table.add_row(row.layer, _kernel(row), _by(row.output_shape), *figures)
    totals = [sum(getattr(row, count) for row in rows) for count in COUNTS]
    table.add_section()
    table.add_row("total", "", "", *(f"{total:,}" for total in totals))
    console.print(table)
    neurons, parameters, multiply_adds = totals
    console.print(
        f"{parameters:,} parameters, {neurons:,} neurons, {multiply_adds / 1e9:.2f} GMAC per image"
    )
    differences = PAPER_DIFFERENCES.get(architecture.name, ())
    if differences:
        console.print("Where it differs from the paper's text:")
    for difference in differences:
        console.print(f"- {difference}", highlight=False)


def _kernel(row: LayerSummary) -> str:
    stride = f" / {row.stride}" if row.stride > 1 else ""
    groups = f"{row.groups} groups" if row.groups > 1 else ""
    return ", ".join(filter(None, (f"{_by(row.kernel)}{stride}", groups)))


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
