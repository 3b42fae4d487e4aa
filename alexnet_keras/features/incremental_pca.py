"""Principal components of rows that arrive in blocks, by scikit-learn, never holding all rows."""

from __future__ import annotations

import numpy as np

from alexnet_keras.errors import DataError
from alexnet_keras.features.projection import Projection

# Of a batch, unless as many rows as components are larger.
_BATCH_BYTES = 1 << 26
_FEWEST_ROWS = 256


class IncrementalFit:
    """``IncrementalPCA(components).partial_fit`` on batches that do not depend on the blocks.

    A batch has ``rows_per_batch`` rows: twice the components, at least 256, but no more than
    64 MiB, and never fewer than the components. The last batch has all rows that are left once
    fewer than ``components`` would follow another full batch, so that no row is lost. This is
    ``IncrementalPCA(components, batch_size=rows_per_batch).fit`` on all rows in order.

    Attributes:
        rows: the number of rows so far. Rows with NaN or infinity are left out.
    """

    def __init__(self, components: int, width: int, layer: str):
        from sklearn.decomposition import IncrementalPCA  # slow to import, and rarely needed

        self.components = components
        self.layer = layer
        self.rows = 0
        self.rows_per_batch = rows_per_batch(components, width)
        self._pca = IncrementalPCA(components, copy=False)
        self._buffer = np.empty((self.rows_per_batch + components, width), np.float32)
        self._buffered = 0

    def append(self, block: np.ndarray) -> None:
        """Add the rows of ``block``, (n, ...)."""
        rows = block.reshape(len(block), -1)
        rows = rows[np.isfinite(rows).all(axis=1)]
        self.rows += len(rows)
        while len(rows):
            room = self._buffer[self._buffered :][: len(rows)]
            room[:] = rows[: len(room)]
            rows = rows[len(room) :]
            self._buffered += len(room)
            if self._buffered == len(self._buffer):
                self._fit(self.rows_per_batch)

    def finish(self) -> Projection:
        """The projection to the principal components of all rows. Raises ``DataError`` for fewer
        rows than components and for rows that are all the same.
        """
        check_rows(self.rows, self.components, self.layer)
        if self._buffered:
            self._fit(self._buffered)
        pca = self._pca
        if not pca.var_.any():
            raise DataError(
                f"{self.layer}: expected features that vary, got {self.rows} equal rows"
            )
        return Projection(
            self.layer,
            "pca",
            np.ascontiguousarray(pca.components_, np.float32),
            pca.mean_.astype(np.float32),
            pca.explained_variance_.astype(np.float64),
            pca.explained_variance_ratio_.astype(np.float64),
            fitted_on={"rows": self.rows, "rows_per_batch": self.rows_per_batch},
        )

    def _fit(self, rows: int) -> None:
        with np.errstate(invalid="ignore"):  # no variance so far
            self._pca.partial_fit(self._buffer[:rows])
        rest = self._buffer[rows : self._buffered].copy()
        self._buffer[: len(rest)] = rest
        self._buffered = len(rest)


def rows_per_batch(components: int, width: int) -> int:
    """The rows of a batch, as :class:`IncrementalFit` describes."""
    within_memory = _BATCH_BYTES // (4 * width)
    return max(components, min(max(2 * components, _FEWEST_ROWS), within_memory))


def check_rows(rows: int, components: int, layer: str) -> None:
    """Raise ``DataError`` for fewer rows than components."""
    if rows < components:
        raise DataError(
            f"{layer}: expected at least {components} readable rows to fit {components} "
            f"components, got {rows}"
        )
