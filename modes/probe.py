"""Probe: how well a simple classifier tells classes apart by the features of a layer.

What it is: a linear SVM, logistic regression or the nearest neighbours, trained on saved features
and tested on rows that it has not seen, layer by layer. The network itself is not trained. This is
the third method of transfer learning, and the first that papers report:
:mod:`alexnet_keras.features.probing` names them.

When to use it: when there are tens to thousands of labelled images, too few to fine-tune a
network; and to ask what a layer makes explicit, for which papers compare it with the same layer of
an untrained network.

What to expect: among trained layers pool5 to fc7 serve other kinds of images best. A score is to
be held against chance (1 / classes for balanced accuracy) and against an untrained network, whose
features are far above chance too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial

from alexnet_keras.atomic_files import check_keeps_inputs
from alexnet_keras.configs.analysis_options import ProbeOptions
from alexnet_keras.configs.option_fields import accept_options, read_options
from alexnet_keras.errors import ConfigurationError, DataError
from alexnet_keras.features.classifiers import CLASSIFIERS, LINEAR, Classifier
from alexnet_keras.features.probe_report import (
    FILES,
    ProbeReport,
    ProbeScore,
    check_writable,
    write_report,
)
from alexnet_keras.features.probe_rows import (
    ProbeRows,
    check_classes,
    default_label,
    finite_rows,
    read_probe_rows,
    read_split,
    split_indices,
)
from alexnet_keras.features.probing import (
    Splitter,
    cross_validate,
    group_folds,
    permuted_scores,
)
from alexnet_keras.features.saved import Features, read_features
from alexnet_keras.progress import Progress

logger = logging.getLogger(__name__)

FOLDS = 5


@accept_options(ProbeOptions, name="probe")
def run_probe(
    features: str | os.PathLike | Features, *, verbose: str | int = "auto", **options
) -> ProbeReport:
    """Train classifiers on features and test them on rows that they have not seen.

    Does the same as the command ``probe``. ``features``: a features file with a table of its rows
    beside it, as ``extract`` writes them, or what ``read_features`` returned. ``verbose``:
    ``"auto"`` or 1 shows progress, 0 is silent. Rows that are not finite are left out. Raises
    ``ConfigurationError``, ``DataError`` and ``RunError``.

    Example::

        report = alexnet_keras.probe("feats.h5", classifiers="all", permutations=100)
        report.best.layer, report.best.balanced_accuracy, report.best.interval
    """
    options = read_options(ProbeOptions, options)
    classifiers = _classifiers(options)
    check_writable(options.out, options.overwrite)
    if not isinstance(features, Features):
        features = read_features(features)
    if options.out is not None:
        outputs = [options.out / name for name in FILES]
        check_keeps_inputs(outputs, (*features.files.values(), features.table))
    layers = options.layers or tuple(features)
    _check_once("layer", layers)
    features.check_layers(layers)
    rows, splitter = _splits(features, layers, options)
    fits = len(layers) * len(classifiers) * len(splitter(rows.labels)) * (options.permutations + 1)
    with Progress(verbose).track("probe", fits, on_stderr=True, unit="fits") as advance:
        scores = tuple(
            _score(features, layer, rows, splitter, classifier, options, advance)
            for layer in layers
            for classifier in classifiers
        )
    report = ProbeReport(scores, rows, features, options)
    if options.out is not None:
        write_report(options.out, report)
    return report


def _classifiers(options: ProbeOptions) -> list[Classifier]:
    """The classifiers asked for. Raises ``ConfigurationError`` for settings of which they would
    have none.
    """
    _check_once("classifier", options.classifiers)
    names = CLASSIFIERS if "all" in options.classifiers else options.classifiers
    for setting, users in (("c", LINEAR), ("n_neighbors", ("knn",))):
        given = getattr(options, setting) is not None
        if given and (options.tune or not set(users) & set(names)):
            reason = "tune, which chooses it" if options.tune else f"only {', '.join(names)}"
            raise ConfigurationError(
                f"{setting}: expected the classifier {' or '.join(users)}, got {reason}"
            )
    return [
        Classifier(name, options.c or 1.0, options.n_neighbors or 5, options.seed)
        for name in names
    ]


def _check_once(option: str, names: tuple[str, ...]) -> None:
    if len(set(names)) < len(names):
        raise ConfigurationError(f"{option}: expected each once, got {', '.join(names)}")


def _splits(
    features: Features, layers: tuple[str, ...], options: ProbeOptions
) -> tuple[ProbeRows, Splitter]:
    """The rows that are used, and how they are divided."""
    if options.split_by is not None:
        return _one_split(features, layers, options)
    rows = finite_rows(features, layers, read_probe_rows(features, options.label, options.group))
    folds = options.folds or FOLDS
    where = f"{features.table}: {options.label or default_label(features)}"
    rows = check_classes(where, rows, folds, options.skip_rare)
    splitter = group_folds(rows.groups, folds, options.seed)
    found = len(splitter(rows.labels))
    if found < folds:
        raise DataError(
            f"{features.table}: expected groups that {folds} folds can share out, got groups for "
            f"{found}; use fewer folds"
        )
    return rows, splitter


def _one_split(
    features: Features, layers: tuple[str, ...], options: ProbeOptions
) -> tuple[ProbeRows, Splitter]:
    for setting in ("folds", "skip_rare"):
        if getattr(options, setting):
            raise ConfigurationError(f"{setting}: expected folds, got split_by {options.split_by}")
    masks = read_split(features, options.split_by)
    rows = read_probe_rows(features, options.label, options.group, masks[0] | masks[1])
    rows = finite_rows(features, layers, rows)
    split = split_indices(f"{features.table}: {options.split_by}", rows, *masks)
    check_classes(f"{features.table}: train", rows.select(split[0]), 1, False)
    return rows, lambda labels: [split]


def _score(
    features: Features,
    layer: str,
    rows: ProbeRows,
    splitter: Splitter,
    classifier: Classifier,
    options: ProbeOptions,
    on_fold: Callable[[int], None],
) -> ProbeScore:
    """What a classifier reaches on a layer, and what it reaches with permuted labels."""
    measure = partial(
        cross_validate,
        features[layer],
        rows.rows,
        groups=rows.groups,
        splitter=splitter,
        classifier=classifier,
        tune=options.tune,
        on_fold=on_fold,
    )
    result = measure(rows.labels)
    if result.unconverged:
        logger.warning(
            "%s: %s: %d of %d fits did not converge",
            layer,
            classifier.name,
            result.unconverged,
            len(result.scores),
        )
    permuted = permuted_scores(
        rows.labels, rows.groups, options.permutations, options.seed, measure
    )
    return ProbeScore(layer, classifier.name, result, permuted)
