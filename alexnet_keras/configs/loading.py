"""Options of the image loader: regions of boxes, shards, threads and unreadable files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from alexnet_keras.errors import ConfigurationError


@dataclass(frozen=True)
class BoxRegion:
    """How a bounding box becomes an image region: ``context`` times its size is added on each
    side; with ``square`` the region is a square, so that resizing keeps the aspect ratio.
    """

    context: float = 0.1
    square: bool = True

    def __post_init__(self):
        if not 0 <= self.context <= 10:
            raise ConfigurationError(
                f"context: expected a fraction from 0 to 10, got {self.context}"
            )


@dataclass(frozen=True)
class Shard:
    """The contiguous part of each batch that worker ``index`` of ``count`` reads."""

    index: int = 0
    count: int = 1

    def stream_position(self, index, size: int):
        """The position in the training stream of sample ``index`` of this worker, which reads
        ``size`` samples of each batch.
        """
        # No TensorFlow operation where the result is the same.
        if self.count == 1:
            return index
        return (index // size * self.count + self.index) * size + index % size


class KnownBadFiles(Protocol):
    """The part of :class:`~alexnet_keras.data.bad_files.BadFiles` that a loader uses; that module
    needs TensorFlow, and configs do not.
    """

    def mask(self, samples: Any) -> Any: ...

    def add(self, split: str, rows: Iterable[tuple[str, str, str]]) -> None: ...


@dataclass(frozen=True)
class Loading:
    """Keyword arguments of :class:`~alexnet_keras.data.batches.Batches` that are common to all
    splits of a run.

    ``region``: how COCO boxes become regions, None for full images. ``num_threads``: threads of
    the loader. ``shard``: this worker's part of each batch. ``bad``: what to do about unreadable
    files: ``"skip"`` up to 1% of them, ``"mark"`` any number, or ``"error"``. ``bad_files``: the
    files that are known to be unreadable. ``input_size``: the (height, width) of images that are
    taken whole, None for that of the first one, or where they are cropped.
    """

    region: BoxRegion | None = None
    num_threads: int = 2
    shard: Shard = Shard()
    bad: str = "skip"
    bad_files: KnownBadFiles | None = None
    input_size: tuple[int, int] | None = None
