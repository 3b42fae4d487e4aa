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

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from alexnet_keras.atomic_files import check_keeps_inputs
from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.option_fields import accept_options, read_options
from alexnet_keras.configs.options import ExtractOptions
from alexnet_keras.data.from_options import open_data
from alexnet_keras.data.layouts import Dataset
from alexnet_keras.data.samples import Samples
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.features.extraction_job import ExtractionJob
from alexnet_keras.features.extraction_state import digest_of_facts
from alexnet_keras.features.extractor import feature_extractor, layer_of
from alexnet_keras.features.feature_files import (
    FeatureFiles,
    basis_files,
    name_files,
    write_description,
)
from alexnet_keras.features.image_size import fit_to_images
from alexnet_keras.features.linear_probe import ProbeResult, fit_linear_probe
from alexnet_keras.features.projection_from_options import (
    ProjectionPlan,
    identify_network,
    plan_projection,
)
from alexnet_keras.features.row_table import RowTable, digest_of_times
from alexnet_keras.features.saved import Features
from alexnet_keras.features.shards import RowShard, parse_shard
from alexnet_keras.features.unfinished import Unfinished
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
    dataset, loading = open_data(options, options.recursive)
    parts = _parts(dataset, options.splits)
    if options.probe:
        _check_probe(dataset, parts)
    loading = replace(loading, bad="mark" if options.skip_bad else "error")
    shard = None if options.shard is None else parse_shard(options.shard)
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
        rows_per_file=options.rows_per_file,
        shard=shard,
        resume=options.resume,
        overwrite=options.overwrite,
        progress=progress,
    )
    out = options.out if shard is None else shard.name(options.out)
    rows = out.with_suffix(".csv")
    probes = {}
    for layer, path in files.items():
        progress.print(f"{layer} -> {path}")
        if options.probe:
            probes[layer] = fit_linear_probe(path, layer, rows, dataset)
            progress.print(_probe_line(layer, probes[layer]))
    description = out.with_suffix(".json")
    progress.print(f"rows: {rows}, description: {description}")
    return Features(files, rows, probes, description)


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
    rows_per_file: int | None = None,
    shard: RowShard | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress = _SILENT,
    on_batch: Callable[[int], None] = lambda rows: None,
) -> dict[str, Path]:
    """Write the activations of ``layers`` for every sample of ``splits``, row i for sample i.

    ``splits`` defaults to all splits, in turn. ``out``, ``rows_per_file``: as
    :func:`~alexnet_keras.features.feature_files.name_files` takes them. ``<stem>.csv`` beside it
    lists the sample of each row, and ``<stem>.json`` how the features were computed. ``layers``,
    ``pool`` and ``flatten`` are those of
    :func:`~alexnet_keras.features.extractor.feature_extractor`. A basis that ``projection`` fits
    is written to ``<stem>-<layer>.basis.npz``. With ``shard``, only its rows are written.
    ``resume`` goes on after the rows of a call that was interrupted. Returns the file of each
    layer.

    Raises ``ConfigurationError``, ``RunError``, and ``WeightsError`` for a layer that depends on
    weights missing from the file.
    """
    table = RowTable(_parts(dataset, splits))
    model, loading = fit_to_images(source.model, table.parts[0], loading)
    source = replace(source, model=model)
    extractor = feature_extractor(model, layers, pool=pool, flatten=flatten)
    layers = tuple(extractor.output)
    check_loaded(source, map(layer_of, layers))
    rows = range(len(table)) if shard is None else shard.rows(len(table))
    job = ExtractionJob(
        extractor,
        source.model.preprocessing,
        _network(source, pool),
        pool,
        dtype,
        table,
        rows,
        batch_size,
        loading,
        projection,
        progress,
    )
    files = name_files(out if shard is None else shard.name(out), job.arrays, rows_per_file)
    fitted = basis_files(files.out, layers) if projection.is_fitted else {}
    inputs = (dataset.file, source.path, *projection.bases, projection.file)
    work, digest = _unfinished(job, files, fitted, inputs)
    with work.opened(resume=resume, overwrite=overwrite):
        if not work.is_complete:
            bases = job.write(work, files, fitted, on_batch)
            description = {
                **_description(source, files, job, dataset),
                **({} if shard is None else {"shard": shard.describe(rows)}),
                "bad_rows": work.bad_rows,
                "sha256": digest,
                "environment": runtime_environment(),
            }
            for layer, basis in bases.items():
                description["layers"][layer]["projection"] = basis.describe()
            write_description(work.place(files.description), description)
            work.complete()
    return files.by_layer


def _unfinished(
    job: ExtractionJob,
    files: FeatureFiles,
    fitted: Mapping[str, Path],
    inputs: Iterable[Path | None],
) -> tuple[Unfinished, str]:
    """The folder of the files until they are complete, and the digest of what determines rows.
    Raises ``RunError`` if these files would replace one of ``inputs``.
    """
    identity = job.identify()
    digest = digest_of_facts(identity)
    facts = {
        **identity,
        "files": {layer: files.describe(layer) for layer in job.arrays},
        "file_times": digest_of_times(job.table.parts),
    }
    finals = (*files.features, files.table, *fitted.values(), files.description)
    finals = tuple(dict.fromkeys(finals))
    check_keeps_inputs(finals, inputs)
    return Unfinished(files.out, finals, job.rows, facts, digest, runtime_environment()), digest


def _parts(dataset: Dataset, splits: tuple[str, ...]) -> list[Samples]:
    parts = [dataset.samples(split) for split in splits or dataset.split_names]
    names = [part.split for part in parts]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"split: expected each once, got {', '.join(names)}")
    return parts


def _probe_line(layer: str, result: ProbeResult) -> str:
    return (
        f"linear probe on {layer}: accuracy {result.accuracy:.1%}, balanced accuracy "
        f"{result.balanced_accuracy:.1%} on {result.images} val images"
    )


def _network(source: Pretrained, pool: str | None) -> dict:
    model = source.model
    return identify_network(model.architecture.name, source.describe(), model.preprocessing, pool)


def _check_probe(dataset: Dataset, parts: list[Samples]) -> None:
    """Check, before anything is computed, that the train and val splits are extracted."""
    extracted = [part.split for part in parts]
    for split in ("train", "val"):
        if dataset.samples(split).split not in extracted:
            raise ConfigurationError(
                f"probe: expected the train and val splits among those extracted, got "
                f"{', '.join(extracted)}"
            )
        samples = dataset.samples(split)
        unlabelled = (samples.labels < 0).nonzero()[0]
        if len(unlabelled):
            raise ConfigurationError(
                f"probe: expected a label of every image, got none of {len(unlabelled)} in "
                f"{samples.split}, first {samples.paths[unlabelled[0]]}"
            )


def _description(
    source: Pretrained, files: FeatureFiles, job: ExtractionJob, dataset: Dataset
) -> dict:
    region = job.loading.region
    pixels = job.table.parts[0].pixels
    return {
        "variant": source.model.architecture.name,
        "weights": source.describe(),
        "preprocessing": asdict(source.model.preprocessing),
        "region": region and asdict(region),
        "batch_size": job.batch_size,
        "layers": {
            layer: {
                **files.describe(layer),
                "shape": list(array.shape),
                "dtype": array.dtype,
                **({"pool": job.pool} if job.pool else {}),
            }
            for layer, array in job.arrays.items()
        },
        "data": {
            "name": dataset.name,
            "layout": dataset.layout,
            **({} if pixels is None else {"pixels": pixels.describe()}),
            "splits": {part.split: len(part) for part in job.table.parts},
        },
    }
