"""Evaluation: the accuracy of a trained network on a split of a data set.

What it is: top-1 and top-5 accuracy, the mean of the per-class accuracies and the loss, from the
centre crop of each image or averaged over the paper's ten crops (``crops=10``).

When to use it: to evaluate a run on its own data or on other data with the same classes; or to
check that published weights reach their published accuracy on your copy of ImageNet.

What to expect: ten crops take ten times as long and usually gain one or two percentage points.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from alexnet_keras.configs.architecture import FINAL_LAYER
from alexnet_keras.configs.option_fields import accept_options, options_of, read_options
from alexnet_keras.configs.options import EvaluateOptions
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.from_options import open_data
from alexnet_keras.data.samples import ALL
from alexnet_keras.errors import DataError
from alexnet_keras.evaluation.class_tables import write_tables
from alexnet_keras.evaluation.evaluator import Evaluation, evaluate
from alexnet_keras.evaluation.label_matching import match_labels
from alexnet_keras.models.resized import check_size
from alexnet_keras.pretrained.from_options import open_network
from alexnet_keras.pretrained.loading import check_loaded
from alexnet_keras.progress import Progress
from alexnet_keras.training.run_config import recorded_data_options


@accept_options(EvaluateOptions, name="evaluate")
def run_evaluation(
    source: str | os.PathLike, *, verbose: str | int = "auto", **options
) -> Evaluation:
    """Evaluate a run or a weight file on a split of a data set.

    Does the same as the command ``evaluate``. ``source``: a run folder, a ``Run``, a weight file
    or a name from ``weights list``; for a run, ``data`` defaults to the run's own. ``verbose``:
    ``"auto"`` or 1 shows progress, 0 is silent. Returns accuracies as fractions 0-1 and the
    confusion matrix. Raises ``ConfigurationError``, ``DataError``, ``WeightsError`` and
    ``RunError``.

    Example::

        alexnet_keras.evaluate("runs/scratch-1", crops=10).top1
    """
    source = os.fspath(source)
    options = read_options(EvaluateOptions, options)
    progress = Progress(verbose)
    if options.data is None:
        options = _with_data_of_run(options, Path(source))
    dataset, loading = open_data(options, options.recursive)
    is_one = dataset.split_names == (ALL,) and options.split == EvaluateOptions.split
    samples = dataset.samples(ALL if is_one else options.split)
    samples.check_labelled("evaluation")
    pretrained = open_network(source, options, progress)
    check_loaded(pretrained, [FINAL_LAYER])
    model = pretrained.model
    outputs = model.get_layer(FINAL_LAYER).units
    class_names = model.class_names or tuple(map(str, range(outputs)))
    if dataset.layout == "table":
        samples = match_labels(samples, class_names, options.data)
    if class_names != samples.class_names:
        raise DataError(
            f"{options.data}: expected the {len(class_names)} classes of {source}, got "
            f"{len(samples.class_names)} others"
        )
    batches = EvaluationBatches(
        samples, model.preprocessing, options.batch_size, crops=options.crops, **vars(loading)
    )
    check_size(model, batches.input_size)
    with progress.track("evaluate", len(samples)) as advance:
        evaluation = evaluate(model, batches, advance)
    progress.show_evaluation(evaluation, f"{source} on {dataset.name} {samples.split}")
    if options.out is not None:
        write_tables(options.out, evaluation, samples.class_names)
    return evaluation


def _with_data_of_run(options: EvaluateOptions, folder: Path) -> EvaluateOptions:
    """``options`` with unset data options taken from the run's config."""
    declared = options_of(EvaluateOptions)
    unset = {
        name: declared[name].convert(value)
        for name, value in recorded_data_options(folder).items()
        if getattr(options, name) in (None, ()) and value is not None
    }
    return replace(options, **unset)
