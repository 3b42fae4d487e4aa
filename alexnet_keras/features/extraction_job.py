"""One extraction: what is computed of which samples, and its rows on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import keras

from alexnet_keras.configs.loading import Loading
from alexnet_keras.configs.preprocessing import Preprocessing
from alexnet_keras.data.batches import EvaluationBatches
from alexnet_keras.data.samples import Samples
from alexnet_keras.features.array_files import RowArray
from alexnet_keras.features.extraction import extract_rows
from alexnet_keras.features.feature_files import FeatureFiles, create_files, sinks_of
from alexnet_keras.features.projection import Projection
from alexnet_keras.features.projection_from_options import (
    ProjectionPlan,
    open_projections,
    saved_or_fitted,
)
from alexnet_keras.features.row_table import RowTable, digest_of_samples
from alexnet_keras.features.unfinished import Unfinished
from alexnet_keras.progress import Progress
from weights.store import digest_of


@dataclass(frozen=True, eq=False)
class ExtractionJob:
    """The outputs of ``extractor`` for ``rows`` of the ``table``.

    ``network``: as :func:`~alexnet_keras.features.projection_from_options.identify_network` tells.
    """

    extractor: keras.Model
    preprocessing: Preprocessing
    network: Mapping
    pool: str | None
    dtype: str
    table: RowTable
    rows: range
    batch_size: int
    loading: Loading
    projection: ProjectionPlan
    progress: Progress

    @cached_property
    def arrays(self) -> dict[str, RowArray]:
        """The array of each layer."""
        shapes = {
            layer: tuple(output.shape[1:]) for layer, output in self.extractor.output.items()
        }
        if self.projection.is_fitted:
            shapes = dict.fromkeys(shapes, (self.projection.components,))
        shapes |= {layer: (basis.components,) for layer, basis in self._saved_bases.items()}
        return {
            layer: RowArray((len(self.rows), *shape), self.dtype)
            for layer, shape in shapes.items()
        }

    def identify(self) -> dict:
        """What determines the rows, JSON-ready."""
        region = self.loading.region
        return {
            "network": dict(self.network),
            "pool": self.pool,
            "region": region and asdict(region),
            "layers": {name: [*each.shape[1:], each.dtype] for name, each in self.arrays.items()},
            "batch_size": self.batch_size,
            "projection": {
                "kind": self.projection.kind,
                "components": self.projection.components,
                "seed": self.projection.seed,
                "bases": [digest_of(path) for path in self.projection.bases],
                **self.projection.describe_data(),
            },
            "splits": {part.split: len(part) for part in self.table.parts},
            "samples": digest_of_samples(self.table.parts),
        }

    def write(
        self,
        work: Unfinished,
        files: FeatureFiles,
        fitted: Mapping[str, Path],
        on_batch: Callable[[int], None],
    ) -> dict[str, Projection]:
        """Write the files of features and their table where ``work`` has its files. Returns the
        bases, of which those of ``fitted`` are saved there too.
        """
        bases = self._saved_bases
        if fitted:
            places = {layer: work.place(path) for layer, path in fitted.items()}
            bases = saved_or_fitted(places, partial(self._open_bases, self.projection, fitted))
        writer = create_files(files.moved(work.place), self.arrays, self.table, self.rows)
        work.begin(writer)
        batches = [
            (start, self._make_batches(part, only=only))
            for start, part, only in self.table.parts_of(self.rows[work.done :])
        ]
        with self.progress.track("extract", len(self.rows), done=work.done) as advance:
            extract_rows(
                self.extractor,
                batches,
                sinks_of(writer),
                work,
                lambda rows: (advance(rows), on_batch(rows)),
                dtype=self.dtype,
                transform={layer: basis.apply for layer, basis in bases.items()},
            )
        if files.has_own_table:
            self.table.write(work.place(files.table), self.rows)
        return bases

    @cached_property
    def _saved_bases(self) -> dict[str, Projection]:
        return {} if self.projection.is_fitted else self._open_bases(self.projection, {})

    def _open_bases(self, plan: ProjectionPlan, files: Mapping[str, Path]) -> dict:
        return open_projections(
            plan,
            self.extractor,
            self.network,
            files,
            make_batches=self._make_batches,
            progress=self.progress,
        )

    def _make_batches(
        self, part: Samples, loading: Loading | None = None, only: range | None = None
    ) -> EvaluationBatches:
        loading = replace(loading or self.loading, input_size=self.loading.input_size)
        return EvaluationBatches(
            part, self.preprocessing, self.batch_size, only=only, **vars(loading)
        )
