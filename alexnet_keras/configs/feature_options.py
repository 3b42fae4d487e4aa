"""The groups of options of feature extraction."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from alexnet_keras.configs.option_fields import option


@dataclass(frozen=True, kw_only=True)
class FeatureFileOptions:
    """The files that features are written to."""

    out: Path = option(
        Path("feats.npy"), "Output file: .npy (one file per layer) or .h5.", metavar="FILE"
    )
    skip_bad: bool = option(
        False, "Write NaN for unreadable files instead of stopping at the first."
    )
    overwrite: bool = option(False, "Replace existing files.")
