"""Feature extraction: the activations of a trained network for every image, layer by layer.

What it is: nothing is trained. Each image runs through the network once, and the activations of
the layers you name are written to a file, one row per sample.

When to use it: to compare layers with brain recordings or with other models, to search or cluster
images, or for the simplest kind of transfer learning, a linear classifier on frozen features
(``probe``).

What to expect: pool5 and fc6 transfer best to other kinds of images; fc8 is specific to the
classes that the network was trained on.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import keras

from alexnet_keras.atomic_files import atomic_write
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.option_fields import accept_options, read_options
from alexnet_keras.configs.options import ExtractOptions
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.from_options import open_data
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.features.extraction import extract
from alexnet_keras.features.extractor import feature_extractor, layer_of
from alexnet_keras.features.feature_files import open_feature_files
from alexnet_keras.features.linear_probe import ProbeResult, fit_linear_probe
from alexnet_keras.features.projection_from_options import (
    ProjectionPlan,
    identify_network,
    open_projections,
    plan_projection,
)
from alexnet_keras.features.saved import Features
from alexnet_keras.pretrained.from_options import open_weights
from alexnet_keras.pretrained.loading import Pretrained, check_loaded
from alexnet_keras.progress import Progress
from alexnet_keras.training.run_config import runtime_environment

_SILENT = Progress(verbose=0)


@accept_options(ExtractOptions, name="extract")
def run_extraction(*, verbose: str | int = "auto", **options) -> Features:
    """Write the features of any layer of a trained network, one row per sample, and open them.

    Does the same as the command ``extract``; every option is a keyword. ``verbose``: ``"auto"`` or
    1 shows progress, 0 is silent. Raises ``ConfigurationError``, ``DataError``, ``WeightsError``
    and ``RunError``.

    Example::

        features = alexnet_keras.extract(data="photographs", layers=["pool5", "fc6"], out="f.h5")
        features["fc6"][:10], features.rows["class"][:10]
    """
    options = read_options(ExtractOptions, options)
    progress = Progress(verbose)
    dataset, loading = open_data(options)
    parts = [dataset.samples(split) for split in options.splits or dataset.split_names]
    if options.probe:
        _check_probe(dataset, parts)
    loading = replace(loading, bad="mark" if options.skip_bad else "error")
    files = extract_features(
        dataset,
        options.out,
        source=open_weights(options, options.data, progress),
        layers=options.layers,
        pool=options.pool,
        flatten=options.flatten,
        dtype=options.dtype,
        splits=options.splits,
        batch_size=options.batch_size,
        loading=loading,
        projection=plan_projection(options, dataset, parts, loading),
        overwrite=options.overwrite,
        progress=progress,
    )
    rows = options.out.with_suffix(".csv")
    probes = {}
    for layer, path in files.items():
        progress.print(f"{layer} -> {path}")
        if options.probe:
            probes[layer] = fit_linear_probe(path, layer, rows, dataset)
            progress.print(_probe_line(layer, probes[layer]))
    return Features(files, rows, probes, options.out.with_suffix(".json"))


def extract_features(
    dataset: Dataset,
    out: Path,
    *,
    source: Pretrained,
    layers: tuple[str, ...] = ("fc7",),
    pool: str | None = None,
    flatten: bool = False,
    dtype: str = "float32",
    splits: tuple[str, ...] = (),
    batch_size: int = 32,
    loading: Loading = Loading(),
    projection: ProjectionPlan = ProjectionPlan(),
    overwrite: bool = False,
    progress: Progress = _SILENT,
    on_batch: Callable[[int], None] = lambda rows: None,
) -> dict[str, Path]:
    """Write the activations of ``layers`` for every sample of ``splits``, row i for sample i.

    ``splits`` defaults to all splits, in turn. ``out``: ``.npy`` (with several layers, one file
    ``<stem>-<layer>.npy`` per layer) or ``.h5`` (one data set per layer). ``<stem>.csv`` beside it
    lists the sample of each row, and ``<stem>.json`` how the features were computed. ``layers``,
    ``pool`` and ``flatten`` are those of
    :func:`~alexnet_keras.features.extractor.feature_extractor`. A basis that
    ``projection`` fits is written to ``<stem>-<layer>.basis.npz``. Returns the file of each layer.
    Raises ``ConfigurationError``, ``RunError``, and ``WeightsError`` for a
    layer that depends on weights missing from the file.
    """
    extractor = feature_extractor(source.model, layers, pool=pool, flatten=flatten)
    layers = tuple(extractor.output)
    check_loaded(source, map(layer_of, layers))
    paths = output_files(out, layers)
    about = (out.with_suffix(".csv"), out.with_suffix(".json"))
    bases = basis_files(out, layers) if projection.is_fitted else {}
    _check_writable([*paths.values(), *about, *bases.values()], overwrite)
    parts = _parts(dataset, splits)
    rows = sum(map(len, parts))

    def make_batches(part: Samples, loading: Loading = loading) -> EvaluationBatches:
        return EvaluationBatches(part, source.model.preprocessing, batch_size, **vars(loading))

    batches = [make_batches(part) for part in parts]
    fitting = {"make_batches": make_batches, "progress": progress}
    projections = open_projections(projection, extractor, _network(source), bases, **fitting)
    transform = {name: each.apply for name, each in projections.items()}
    shapes = {name: (rows, *_row_shape(name, extractor, projections)) for name in paths}
    with (
        atomic_write(*about, *bases.values()) as (rows_file, description_file, *basis_parts),
        open_feature_files(paths, shapes, dtype) as sinks,
    ):
        for layer, basis_part in zip(bases, basis_parts, strict=True):
            projections[layer].save(basis_part)
        with progress.track("extract", rows) as advance:
            for part in batches:
                on_rows = _both(advance, on_batch)
                extract(extractor, part, sinks, on_rows, transform=transform, dtype=dtype)
        _write_rows(rows_file, parts)
        bad_rows = [int(start + row) for start, part in _offsets(batches) for row in part.bad_rows]
        form = {"dtype": dtype, **({"pool": pool} if pool else {})}
        description = _description(source, paths, shapes, dataset, parts, bad_rows, loading)
        for layer, about_layer in description["layers"].items():
            about_layer |= form | _about_projection(projections.get(layer))
        description_file.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
    return paths


def _parts(dataset: Dataset, splits: tuple[str, ...]) -> list[Samples]:
    parts = [dataset.samples(split) for split in splits or dataset.split_names]
    names = [part.split for part in parts]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"split: expected each once, got {', '.join(names)}")
    return parts


def basis_files(out: Path, layers: tuple[str, ...]) -> dict[str, Path]:
    """The file that the basis of each layer is saved in."""
    return {
        layer: out.with_name(f"{out.stem}-{layer.replace(':', '-')}.basis.npz") for layer in layers
    }


def output_files(out: Path, layers: tuple[str, ...]) -> dict[str, Path]:
    """The file that each layer's rows are written to. Raises ``ConfigurationError``."""
    if out.suffix not in (".npy", ".h5"):
        raise ConfigurationError(f"out: expected a name that ends in .npy or .h5, got {out}")
    if out.suffix == ".h5" or len(layers) == 1:
        return dict.fromkeys(layers, out)
    return {layer: out.with_name(f"{out.stem}-{layer}.npy") for layer in layers}


def _probe_line(layer: str, result: ProbeResult) -> str:
    return (
        f"linear probe on {layer}: accuracy {result.accuracy:.1%}, balanced accuracy "
        f"{result.balanced_accuracy:.1%} on {result.images} val images"
    )


def _network(source: Pretrained) -> dict:
    model = source.model
    return identify_network(model.architecture.name, source.describe(), model.preprocessing)


def _about_projection(projection) -> dict:
    return {} if projection is None else {"projection": projection.describe()}


def _both(*calls: Callable[[int], None]) -> Callable[[int], None]:
    return lambda rows: [call(rows) for call in calls]


def _row_shape(layer: str, extractor: keras.Model, projections: Mapping) -> tuple[int, ...]:
    if layer in projections:
        return (projections[layer].components,)
    return tuple(extractor.output[layer].shape[1:])


def _check_probe(dataset: Dataset, parts: list[Samples]) -> None:
    """Check, before anything is computed, that the train and val splits are extracted."""
    extracted = [part.split for part in parts]
    for split in ("train", "val"):
        if dataset.samples(split).split not in extracted:
            raise ConfigurationError(
                f"probe: expected the train and val splits among those extracted, got "
                f"{', '.join(extracted)}"
            )


def _check_writable(paths: list[Path], overwrite: bool) -> None:
    existing = [path for path in paths if path.exists()]
    if existing and not overwrite:
        raise RunError(f"{existing[0]}: already exists; choose another --out or pass --overwrite")
    folders = [path for path in existing if path.is_dir()]
    if folders:
        raise RunError(f"{folders[0]}: expected a file to write, got a folder")
    if not paths[0].parent.is_dir():
        raise RunError(f"{paths[0].parent}: expected an existing folder to write the features to")


def _offsets(batches: list[EvaluationBatches]) -> Iterator[tuple[int, EvaluationBatches]]:
    start = 0
    for part in batches:
        yield start, part
        start += len(part.samples)


def _write_rows(path: Path, parts: list[Samples]) -> None:
    row = 0
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("row", "split", "id", "path", "label", "class"))
        for part in parts:
            for sample_id, image, label in zip(part.ids, part.paths, part.labels, strict=True):
                writer.writerow(
                    (row, part.split, sample_id, image, label, part.class_names[label])
                )
                row += 1


def _description(source, paths, shapes, dataset, parts, bad_rows, loading) -> dict:
    region = loading.region
    return {
        "variant": source.model.architecture.name,
        "weights": source.describe(),
        "preprocessing": asdict(source.model.preprocessing),
        "region": region and asdict(region),
        "layers": {
            name: {"file": path.name, "shape": list(shapes[name])} for name, path in paths.items()
        },
        "data": {
            "name": dataset.name,
            "layout": dataset.layout,
            "splits": {part.split: len(part) for part in parts},
        },
        "bad_rows": bad_rows,
        "environment": runtime_environment(),
    }
