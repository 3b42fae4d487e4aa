"""The projections that options ask for: bases that are fitted, or saved ones."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras

from alexnet_keras.configs.feature_options import ProjectionOptions
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.from_options import open_data
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.features.extraction import extract
from alexnet_keras.features.incremental_pca import IncrementalFit, check_rows
from alexnet_keras.features.projection import (
    Projection,
    check_components,
    load_projection,
    parse_projection,
    random_projection,
)
from alexnet_keras.progress import Progress


@dataclass(frozen=True)
class ProjectionPlan:
    """What is done to the features of every layer: nothing, a projection that is fitted on
    ``parts``, whose data are read from ``file``, or one of ``bases``.
    """

    kind: str | None = None
    components: int = 0
    seed: int = 0
    data: str = ""
    parts: tuple[Samples, ...] = ()
    loading: Loading = Loading()
    bases: tuple[Path, ...] = ()
    file: Path | None = None

    @property
    def is_fitted(self) -> bool:
        """Whether bases are fitted, which are then saved."""
        return self.kind is not None

    @property
    def reads_data(self) -> bool:
        """Whether fitting takes a pass over ``parts``."""
        return self.kind == "pca"

    def describe_data(self) -> dict:
        """What the basis records of the data, JSON-ready."""
        if not self.reads_data:
            return {}
        digest = hashlib.sha256()
        for part in self.parts:
            for path in part.paths:
                digest.update(f"{path}\n".encode(errors="surrogateescape"))
            if part.boxes is not None:
                digest.update(part.boxes.tobytes())
        return {
            "data": self.data,
            "splits": {part.split: len(part) for part in self.parts},
            "samples_sha256": digest.hexdigest(),
        }


def plan_projection(
    options: ProjectionOptions, dataset: Dataset, parts: Sequence[Samples], loading: Loading
) -> ProjectionPlan:
    """The plan of the options of ``extract``, of which ``dataset``, ``parts`` and ``loading`` are
    the data. The samples to fit on are read. Raises ``ConfigurationError`` for options that
    contradict one another, and ``DataError`` for fewer samples than components.
    """
    if options.project is None:
        _check_no_effect(options, ("fit_on", "fit_splits"), "without project")
        return ProjectionPlan(bases=options.basis)
    _check_no_effect(options, ("basis",), "with project, which fits one")
    kind, components = parse_projection(options.project)
    if kind == "srp":
        _check_no_effect(options, ("fit_on", "fit_splits"), "on srp, which depends on no data")
        return ProjectionPlan(kind, components, options.seed)
    if options.fit_on is not None:
        dataset, fit_loading = _open_fit_data(options)
        loading = replace(fit_loading, bad=loading.bad)
        parts = [dataset.samples(split) for split in options.fit_splits or dataset.split_names]
    elif options.fit_splits:
        parts = [dataset.samples(split) for split in options.fit_splits]
    check_rows(sum(map(len, parts)), components, "project")
    return ProjectionPlan(
        kind, components, options.seed, dataset.name, tuple(parts), loading, file=dataset.file
    )


def identify_network(
    variant: str, weights: Mapping, preprocessing: Preprocessing, pool: str | None = None
) -> dict:
    """What has to be the same where a basis is used again: JSON-ready.

    ``weights``: as ``Pretrained.describe`` tells.
    """
    image = preprocessing.mean_image
    rule = asdict(replace(preprocessing, mean_image=None))
    return {
        "variant": variant,
        "weights": {name: weights.get(name) for name in ("source", "sha256")},
        # As it is read from a file: lists instead of tuples.
        "preprocessing": json.loads(json.dumps({**rule, "mean_image": image and image.sha256})),
        "pool": pool,
    }


def open_projections(
    plan: ProjectionPlan,
    extractor: keras.Model,
    network: Mapping,
    files: Mapping[str, Path],
    *,
    make_batches: Callable[[Samples, Loading], EvaluationBatches],
    progress: Progress,
) -> dict[str, Projection]:
    """The projection of each output of ``extractor``: loaded, or fitted in one pass over the
    plan's samples. Empty if the plan is to do nothing.

    ``network``: of :func:`identify_network`. ``files``: where the caller will save a basis that is
    fitted. Raises ``ConfigurationError`` for a basis of something else and for more components
    than features, ``DataError`` for a file that is no basis, and where
    :meth:`IncrementalFit.finish` does.
    """
    widths = {name: math.prod(output.shape[1:]) for name, output in extractor.output.items()}
    if plan.bases:
        return _load(plan.bases, widths, network)
    if not plan.is_fitted:
        return {}
    for layer, width in widths.items():
        check_components(plan.components, width, layer)
    if plan.reads_data:
        found = _fit(plan, extractor, widths, make_batches, progress)
    else:
        found = [random_projection(plan.components, *each, plan.seed) for each in widths.items()]
    return {
        each.layer: replace(
            each,
            network=network,
            fitted_on={**plan.describe_data(), **each.fitted_on},
            file=files[each.layer].name,
        )
        for each in found
    }


def saved_or_fitted(
    files: Mapping[str, Path], fit: Callable[[], dict[str, Projection]]
) -> dict[str, Projection]:
    """The bases in ``files`` where an interrupted extraction left them, else those of ``fit``,
    which are saved there.
    """
    if all(path.exists() for path in files.values()):
        return {layer: load_projection(path) for layer, path in files.items()}
    fitted = fit()
    for layer, path in files.items():
        fitted[layer].save(path)
    return fitted


def _fit(plan, extractor, widths, make_batches, progress) -> list[Projection]:
    fits = {
        layer: IncrementalFit(plan.components, width, layer) for layer, width in widths.items()
    }
    sinks = {layer: fit.append for layer, fit in fits.items()}
    with progress.track("fit", sum(map(len, plan.parts))) as advance:
        for part in plan.parts:
            extract(extractor, make_batches(part, plan.loading), sinks, advance)
    return [fit.finish() for fit in fits.values()]


def _load(paths: Sequence[Path], widths: Mapping[str, int], network: Mapping) -> dict:
    loaded: dict[str, Projection] = {}
    for path in paths:
        projection = load_projection(path)
        layer = projection.layer if projection.layer in widths else ", ".join(widths)
        projection.check_fits(str(path), layer, widths.get(layer, projection.width), network)
        if layer in loaded:
            raise ConfigurationError(f"basis: expected one for {layer}, got two")
        loaded[layer] = projection
    lacking = [layer for layer in widths if layer not in loaded]
    if lacking:
        raise ConfigurationError(
            f"basis: expected one for each layer, got none for {', '.join(lacking)}"
        )
    return loaded


def _open_fit_data(options: ProjectionOptions) -> tuple[Dataset, Loading]:
    """The data of ``fit_on``, in its own layout; what selects COCO objects applies to it too."""
    others = {"classes": (), "min_size": None, "context": None, "square": None}
    found = replace(options, data=options.fit_on, layout=None)
    dataset, loading = open_data(replace(found, **others))
    return open_data(found) if dataset.layout == "coco" else (dataset, loading)


def _check_no_effect(options: ProjectionOptions, names: Sequence[str], reason: str) -> None:
    for name in names:
        if getattr(options, name) not in (None, ()):
            raise ConfigurationError(f"{name}: has no effect {reason}")
