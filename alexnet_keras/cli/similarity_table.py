"""The table that ``similarity`` prints."""

from __future__ import annotations

from rich.table import Table

from alexnet_keras.progress import console, printable
from alexnet_keras.rsa.report import SimilarityReport


def print_report(report: SimilarityReport) -> None:
    """Print a row for each two layers, and each layer and reference, by each comparison."""
    table = Table()
    for heading in ("compare", "first", "second"):
        table.add_column(heading, overflow="fold")
    has_ceiling = any(found.ceiling for found in report.similarities)
    for heading in ("similarity", "95% interval", *["noise ceiling"] * has_ceiling):
        table.add_column(heading, justify="right", no_wrap=True)
    for found in report.similarities:
        names = (found.compare, printable(found.first), printable(found.second))
        bounds = (_range(found.interval), *[_range(found.ceiling)] * has_ceiling)
        table.add_row(*names, f"{found.value:.3f}", *bounds)
    console.print(table)
    console.print(
        f"{len(report.rows.stimuli)} stimuli, distance: {report.options.rdm}; intervals over "
        f"{report.options.bootstrap} samples of stimuli"
    )


def _range(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else "[{:.3f}, {:.3f}]".format(*bounds)
