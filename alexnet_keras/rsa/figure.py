"""The figure of ``similarity``: the RDMs, and how alike the layers and references are."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from alexnet_keras.errors import ConfigurationError
from alexnet_keras.rsa.report import SimilarityReport
from alexnet_keras.rsa.representations import Representation

# Okabe and Ito 2008: told apart by every kind of colour vision, with a marker of its own each.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "os^Dv<>"
_COLUMNS = 6
_LABELS = {
    "spearman": "Spearman's correlation of RDMs",
    "tau-a": "Kendall's tau-a of RDMs",
    "pearson": "Pearson's correlation of RDMs",
    "linear-cka": "linear CKA, debiased",
    "rbf-cka": "RBF CKA, debiased",
}


def draw_figure(path: Path, report: SimilarityReport) -> None:
    """Draw a PNG: above, the RDM of each layer and reference (its mean over subjects) as
    percentiles of its distances; below, for each comparison, the similarity of every layer with
    every reference, with intervals and noise ceilings, or without a reference that of every two
    layers. Raises ``ConfigurationError`` without Matplotlib.
    """
    new_figure, new_canvas = import_matplotlib()
    shown = (*report.layers, *report.references)
    methods = tuple(dict.fromkeys(each.compare for each in report.similarities))
    rdm_rows = math.ceil(len(shown) / _COLUMNS)
    below = 2 if len(methods) > 1 else 1
    rows = math.ceil(len(methods) / below)
    size = (11, 2.1 * rdm_rows + 0.5 + 4.2 * rows)
    figure = new_figure(size, dpi=150, layout="constrained")
    new_canvas(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.1 * rdm_rows + 0.5, 4.2 * rows or 0.1))
    _draw_rdms(upper, shown, rdm_rows, len(report.rows.stimuli))
    axes = list(lower.subplots(rows, below, squeeze=False).flat) if methods else []
    for place, method in zip(axes, methods, strict=False):
        (_draw_curves if report.references else _draw_matrix)(place, report, method)
    for place in axes[len(methods) :]:
        place.set_axis_off()
    figure.savefig(path, format="png")


def import_matplotlib() -> tuple[type, type]:
    """Matplotlib's ``Figure`` and the canvas that needs no screen. Raises
    ``ConfigurationError``.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigurationError(
            "figure: expected matplotlib, got none; install it with "
            'python -m pip install "alexnet_keras[science]"'
        ) from None
    return Figure, FigureCanvasAgg


def _short(name: str, most: int = 24) -> str:
    name = Path(name).name
    return name if len(name) <= most else f"{name[: most - 1]}…"


def _draw_rdms(figure, shown: tuple[Representation, ...], rows: int, stimuli: int) -> None:
    from scipy.stats import rankdata

    axes = figure.subplots(rows, math.ceil(len(shown) / rows), squeeze=False)
    upper = np.triu_indices(stimuli, 1)
    image = None
    for place, each in zip(axes.flat, shown, strict=False):
        matrix = np.zeros((stimuli, stimuli))
        ranks = np.mean([rankdata(vector) for vector in each.vectors], axis=0)
        matrix[upper] = 100 * rankdata(ranks) / len(ranks)
        image = place.imshow(matrix + matrix.T, cmap="viridis", vmin=0, vmax=100)
        place.set_title(_short(each.name), fontsize=9)
        place.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel(f"{stimuli} stimuli", fontsize=8)
    for place in list(axes.flat)[len(shown) :]:
        place.set_axis_off()
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.01)
    bar.set_label("distance (percentile)", fontsize=8)
    bar.ax.tick_params(labelsize=7)


def _draw_curves(place, report: SimilarityReport, method: str) -> None:
    layers = [each.name for each in report.layers]
    shift = 0.5 / max(1, len(report.references))
    line = "-" if len(report.features) == 1 else ""  # layers of different networks are no curve
    for number, reference in enumerate(report.references):
        colour = _COLOURS[number % len(_COLOURS)]
        found = [report.between(layer, reference.name, method) for layer in layers]
        at = np.arange(len(layers)) + shift * (number - (len(report.references) - 1) / 2)
        values = np.array([each.value for each in found])
        subjects = len(reference.vectors)
        name = _short(reference.name)
        label = name + (f" ({subjects} subjects)" if subjects > 1 else "")
        style = {"marker": _MARKERS[number % len(_MARKERS)], "linestyle": line}
        place.plot(at, values, color=colour, label=label, **style)
        for x, each in zip(at, found, strict=True):
            if each.interval:
                place.vlines(x, *each.interval, color=colour, linewidth=1.5)
        if found[0].ceiling:
            ceiling = f"noise ceiling of {name}"
            place.axhspan(*found[0].ceiling, color=colour, alpha=0.2, label=ceiling)
    place.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    _name_layers(place, layers)
    place.set_xlabel("layer")
    bars = "\n(bars: 95% intervals over stimuli)" if report.options.bootstrap else ""
    place.set_ylabel(_LABELS[method] + bars, fontsize=9)
    place.legend(
        fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.17), ncols=3, frameon=False
    )


def _draw_matrix(place, report: SimilarityReport, method: str) -> None:
    layers = [each.name for each in report.layers]
    matrix = report.matrix(method)
    image = place.imshow(matrix, aspect="auto", vmin=min(0, np.nanmin(matrix)), vmax=1)
    _name_layers(place, layers)
    place.set_yticks(range(len(layers)), [_short(name) for name in layers], fontsize=8)
    place.set(xlabel="layer", ylabel="layer")
    place.figure.colorbar(image, ax=place, label=_LABELS[method])
    if len(layers) <= 10:
        for (row, column), value in np.ndenumerate(matrix):
            colour = "white" if value < 0.6 else "black"
            place.text(
                column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour
            )


def _name_layers(place, layers: list[str]) -> None:
    crowded = len(layers) > 8 or max(map(len, layers)) > 9
    turned = {"rotation": 40, "ha": "right"} if crowded else {}
    place.set_xticks(range(len(layers)), [_short(name) for name in layers], fontsize=8, **turned)
