"""The results as a bar chart: ours and each peer, with the spread."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import COPY, SGEMM, Line

OURS = "#1b6ca8"
PEER = "#9aa5b1"
BAR_HEIGHT = 0.8
INCHES_PER_BAR = 0.24
MAX_RATIO = 3.0


def draw(lines: Iterable[Line], path: Path) -> None:
    """Write an image with a group of bars for each measure, relative to ours."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    lines = [line for line in lines if len(_shown(line)) > 1]
    bars = sum(len(_shown(line)) + 1 for line in lines)
    figure, axes = pyplot.subplots(figsize=(9, 1 + INCHES_PER_BAR * bars), layout="constrained")
    at = 0.0
    ticks = []
    for line in lines:
        axes.text(0, at, f"{line.measure}, {line.unit}", weight="bold", va="center")
        at += 1
        for name in _shown(line):
            _bar(axes, line, name, at)
            ticks.append((at, name))
            at += 1
    axes.set_yticks(*zip(*ticks, strict=True))
    axes.invert_yaxis()
    axes.axvline(1, color=OURS, linewidth=0.8)
    axes.set_xlim(0, min(axes.get_xlim()[1], MAX_RATIO))
    axes.set_xlabel("relative to ours")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _shown(line: Line) -> list[str]:
    return [name for name in line.rates if name not in (SGEMM, COPY)]


def _bar(axes, line: Line, name: str, at: float) -> None:
    ours = line.rates[line.ours].median
    rate = line.rates[name]
    spread = [[(rate.median - rate.low) / ours], [(rate.high - rate.median) / ours]]
    axes.barh(
        at,
        rate.median / ours,
        BAR_HEIGHT,
        xerr=spread,
        color=OURS if name == line.ours else PEER,
        capsize=2,
    )
    axes.text(
        min(rate.high / ours, 0.9 * MAX_RATIO),
        at,
        f"  {_format(rate.median)}",
        va="center",
        size="small",
    )


def _format(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"
