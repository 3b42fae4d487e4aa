"""Similarity: how alike the representations of layers are, to one another and to a reference.

What it is: representational similarity analysis (Kriegeskorte et al. 2008). The distances between
each two stimuli in a layer's activations are its RDM, and the RDMs of layers, of brain responses
or of categories are correlated. Centred kernel alignment (Kornblith et al. 2019) compares the
activations themselves.

When to use it: to ask which layer is most like a brain region's or people's responses to the same
images, and how much of them any model could explain (the noise ceiling).

What to expect: neighbouring layers are alike. Low correlations are usual with real responses: the
noise ceiling is their measure, and an untrained network (``--weights random:0``) the control.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from alexnet_keras.atomic_files import check_keeps_inputs
from alexnet_keras.configs.analysis_options import SimilarityOptions
from alexnet_keras.configs.option_fields import accept_options, read_options
from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features.saved import Features, read_features
from alexnet_keras.progress import Progress
from alexnet_keras.rsa.comparison import draw_stimuli
from alexnet_keras.rsa.rdm_arrays import MIN_STIMULI
from alexnet_keras.rsa.rdms import as_rdms
from alexnet_keras.rsa.report import SimilarityReport
from alexnet_keras.rsa.report_files import FIGURE, FILES, check_writable, write_report
from alexnet_keras.rsa.representations import (
    Representation,
    Rows,
    layer_representation,
    read_layers,
    read_representation,
)
from alexnet_keras.rsa.similarities import BANDWIDTH, COMPARISONS, compare_all
from alexnet_keras.rsa.toolbox import import_rsatoolbox

FeaturesLike = str | os.PathLike | Features


@accept_options(SimilarityOptions, name="similarity")
def run_similarity(
    features: FeaturesLike | Sequence[FeaturesLike], *, verbose: str | int = "auto", **options
) -> SimilarityReport:
    """Compare the representations of layers, and of references, on the same stimuli.

    Does the same as the command ``similarity``. ``features``: a features file as ``extract``
    writes it, what ``read_features`` returned, or several of these, of the same stimuli.
    ``verbose``: ``"auto"`` or 1 shows progress, 0 is silent. Needs rsatoolbox (extra ``science``).
    Rows that are not finite are left out. Raises ``ConfigurationError``, ``DataError`` and
    ``RunError``.

    Example::

        report = alexnet_keras.similarity("feats.h5", reference="subjects.h5", compare="all")
        report.between("pool5", "subjects.h5", "spearman").value, report.matrix("linear-cka")
    """
    options = read_options(SimilarityOptions, options)
    methods = _methods(options)
    import_rsatoolbox()
    check_writable(options)
    several = [features] if isinstance(features, str | os.PathLike | Features) else features
    files = [each if isinstance(each, Features) else read_features(each) for each in several]
    if not files:
        raise ConfigurationError("features: expected at least one features file, got none")
    _check_keeps_inputs(options, files)
    progress = Progress(verbose)
    rows, layers = _layers(files, options, progress)
    references = [read_representation(each, rows, options.rdm) for each in options.reference]
    if len(layers) + len(references) < 2 and options.rdm_file is None:
        raise ConfigurationError(
            f"similarity: expected two layers or a reference, got only {layers[0].name}"
        )
    counts = draw_stimuli(len(rows.stimuli), options.bootstrap, options.seed)
    with progress.track(
        "bootstrap", len(methods) * len(counts), unit="samples", on_stderr=True
    ) as advance:
        similarities = compare_all(
            layers, references, methods, counts, options.bandwidth or BANDWIDTH, advance
        )
    vectors = np.concatenate([each.vectors for each in layers])
    rdms = as_rdms(vectors, options.rdm, rows.stimuli, [each.name for each in layers])
    report = SimilarityReport(
        tuple(similarities),
        rdms,
        tuple(layers),
        tuple(references),
        rows,
        tuple(files),
        options,
    )
    write_report(report)
    return report


def _check_keeps_inputs(options: SimilarityOptions, files: Sequence[Features]) -> None:
    read = [path for each in files for path in (*each.files.values(), each.table)]
    read += map(Path, options.reference)
    if options.rdm_file is not None:
        check_keeps_inputs([options.rdm_file], read, "--rdm-file")
    if options.out is not None:
        check_keeps_inputs([options.out / name for name in (*FILES, FIGURE)], read)


def _methods(options: SimilarityOptions) -> tuple[str, ...]:
    for name in ("layers", "reference", "compare"):
        given = getattr(options, name)
        if len(set(given)) < len(given):
            raise ConfigurationError(f"{name}: expected each once, got {', '.join(given)}")
    methods = COMPARISONS if "all" in options.compare else options.compare
    if options.bandwidth is not None and "rbf-cka" not in methods:
        raise ConfigurationError(
            f"bandwidth: expected the comparison rbf-cka, got only {', '.join(methods)}"
        )
    return methods


def _layers(
    files: Sequence[Features], options: SimilarityOptions, progress: Progress
) -> tuple[Rows, list[Representation]]:
    total = sum(len(options.layers or each) for each in files)
    with progress.track("read", total, unit="layers", on_stderr=True) as advance:
        rows, products = read_layers(files, options.layers, options.repeats, advance)
    if len(rows.stimuli) < MIN_STIMULI:
        which = " whose features are finite" if rows.left_out else ""
        raise DataError(
            f"features: expected at least {MIN_STIMULI} stimuli, got {len(rows.stimuli)}{which}"
        )
    layers = [
        layer_representation(name, products.pop(name), rows, options.rdm)
        for name in list(products)
    ]
    return rows, layers
