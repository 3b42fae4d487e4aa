"""The groups of options of feature extraction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alexnet_keras.configs.option_fields import option


@dataclass(frozen=True, kw_only=True)
class LayerOptions:
    """The layers, and the form of their rows."""

    layers: tuple[str, ...] = option(
        ("fc7",),
        "Layer whose output to extract (repeatable): a name as in summary, fc6:pre for the values "
        "before its ReLU, or all.",
        flag="--layer",
        metavar="NAME",
    )
    pool: str | None = option(
        None,
        "Mean or maximum over height and width; layers without them stay as they are.",
        choices=("avg", "max"),
    )
    flatten: bool = option(False, "Write each row as one vector, in height, width, channel order.")
    dtype: str = option(
        "float32", "Type of the numbers that are written.", choices=("float32", "float16")
    )


@dataclass(frozen=True, kw_only=True)
class FeatureFileOptions:
    """The files that features are written to."""

    out: Path = option(
        Path("feats.npy"),
        "Output file: .npy or .csv (of several layers, one file each), .npz, .h5 or .mat.",
        metavar="FILE",
    )
    rows_per_file: int | None = option(
        None, "Divide each .npy into files of N rows.", minimum=1, metavar="N"
    )
    shard: str | None = option(
        None,
        "Extract only part I of N, from 1 on, into <stem>-I-of-N; the command merge joins them.",
        metavar="I/N",
    )
    skip_bad: bool = option(
        False, "Write NaN for unreadable files instead of stopping at the first."
    )
    resume: bool = option(False, "Continue an extraction that was interrupted.")
    overwrite: bool = option(False, "Replace existing files.")


@dataclass(frozen=True, kw_only=True)
class ProjectionOptions:
    """Features reduced to fewer numbers, by a basis that is fitted or used again."""

    project: str | None = option(
        None,
        "Reduce each layer to K numbers a row: principal components (pca:50) or a sparse random "
        "projection (srp:1000). The basis is saved as <stem>-<layer>.basis.npz.",
        metavar="pca:K|srp:K",
    )
    fit_on: str | None = option(
        None,
        "Data that --project is fitted on.  [default: the data extracted, which is then read "
        "twice]",
        metavar="demo|demo-new|PATH",
    )
    fit_splits: tuple[str, ...] = option(
        (),
        "Split that --project is fitted on (repeatable).  [default: all of --fit-on, else those "
        "extracted]",
        flag="--fit-split",
        metavar="NAME",
    )
    basis: tuple[Path, ...] = option(
        (), "Saved basis to project with, one for each layer (repeatable).", metavar="FILE"
    )
    seed: int = option(0, "Random seed of --project srp.", minimum=0, maximum=2**31 - 1)
