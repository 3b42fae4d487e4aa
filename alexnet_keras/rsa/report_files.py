"""The files that the result of ``similarity`` is written to."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.configs.analysis_options import SimilarityOptions
from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.rsa.figure import draw_figure, import_matplotlib
from alexnet_keras.rsa.files import SUFFIXES, write_rdms
from alexnet_keras.rsa.report import SimilarityReport
from alexnet_keras.rsa.similarities import Similarity

COLUMNS = (
    "compare",
    "first",
    "second",
    "value",
    "interval_low",
    "interval_high",
    "ceiling_low",
    "ceiling_high",
    "subjects",
)
FILES = ("similarity.csv", "similarity.json")
FIGURE = "similarity.png"


def check_writable(options: SimilarityOptions) -> None:
    """Raise ``RunError`` where a file that is to be written exists or cannot be, and
    ``ConfigurationError`` for a figure without Matplotlib or ``out``.
    """
    if options.figure:
        import_matplotlib()
        if options.out is None:
            raise ConfigurationError("figure: expected out, the folder to draw it into, got none")
    files = [] if options.rdm_file is None else [options.rdm_file]
    if files and files[0].suffix.lower() not in SUFFIXES:
        raise ConfigurationError(
            f"rdm_file: expected a name that ends in {', '.join(SUFFIXES)}, got {files[0]}"
        )
    if options.out is not None:
        if options.out.exists() and not options.out.is_dir():
            raise RunError(f"{options.out}: expected a folder for the tables, got a file")
        files += [options.out / name for name in (*FILES, *[FIGURE] * options.figure)]
    existing = [path for path in files if path.exists()]
    if existing and not options.overwrite:
        raise RunError(f"{existing[0]}: already exists; choose another name or pass --overwrite")


def write_report(report: SimilarityReport) -> None:
    """Write what the report's options ask for. Raises ``RunError``.

    ``similarity.csv``: the columns :data:`COLUMNS`. ``similarity.json``: the same with the value
    of every subject, the stimuli, the options and the description of the features.
    ``similarity.png``: see :func:`~alexnet_keras.rsa.figure.draw_figure`.
    """
    options = report.options
    if options.rdm_file is not None:
        write_rdms(options.rdm_file, report.rdms, options.overwrite)
    if options.out is None:
        return
    names = (*FILES, *[FIGURE] * options.figure)
    with atomic_write(*(options.out / name for name in names)) as (table, about, *figure):
        options.out.mkdir(parents=True, exist_ok=True)
        _write_csv(table, report.similarities)
        text = json.dumps(_finite(_described(report)), indent=2, allow_nan=False)
        about.write_text(text + "\n", encoding="utf-8")
        for path in figure:
            draw_figure(path, report)


def _write_csv(path: Path, similarities: Sequence[Similarity]) -> None:
    with open(path, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for found in similarities:
            bounds = (*(found.interval or ("", "")), *(found.ceiling or ("", "")))
            names = (found.compare, found.first, found.second)
            writer.writerow((*names, found.value, *bounds, len(found.subjects)))


def _described(report: SimilarityReport) -> dict:
    options = {
        name: str(value) if isinstance(value, Path) else value
        for name, value in asdict(report.options).items()
    }
    return {
        "layers": {each.name: each.about for each in report.layers},
        "references": {each.name: each.about for each in report.references},
        "options": options,
        "similarities": [asdict(found) for found in report.similarities],
        "stimuli": list(report.rows.stimuli),
        "rows": len(report.rows.names),
        "left_out": list(report.rows.left_out),
        "rsatoolbox": version("rsatoolbox"),
        "features": [
            {"files": {layer: str(path) for layer, path in each.files.items()}}
            | {"description": each.description}
            for each in report.features
        ],
    }


def _finite(value):
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
