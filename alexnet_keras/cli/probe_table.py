"""The table that ``probe`` prints."""

from __future__ import annotations

from rich.table import Table

from alexnet_keras.features.probe_report import ProbeReport, ProbeScore
from alexnet_keras.progress import console, printable


def print_report(report: ProbeReport) -> None:
    """Print a row for each layer and classifier, the best marked, and what chance would reach."""
    table = Table()
    for heading in ("layer", "classifier"):
        table.add_column(heading)
    for heading in ("balanced accuracy", "95% over folds", "accuracy", "p", ""):
        table.add_column(heading, justify="right")
    for score in report.scores:
        table.add_row(*_cells(score), "best" if score is report.best else "")
    console.print(table)
    rows = report.rows
    console.print(
        f"{report.tested.sum()} rows of {len(rows.class_names)} classes tested; chance: balanced "
        f"accuracy {report.chance:.1%}; always the most frequent class: accuracy "
        f"{report.majority:.1%}"
    )


def _cells(score: ProbeScore) -> tuple[str, ...]:
    interval = "-" if score.interval is None else "{:.1%} - {:.1%}".format(*score.interval)
    p_value = "" if score.p_value is None else f"{score.p_value:.3g}"
    return (
        printable(score.layer),
        score.classifier,
        f"{score.balanced_accuracy:.1%}",
        interval,
        f"{score.accuracy:.1%}",
        p_value,
    )
