"""How images are read for a network, as data: nothing here changes what an image holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alexnet_keras.errors import ConfigurationError


@dataclass(frozen=True)
class BoxRegion:
    """How a box becomes a region: ``context`` times its size is added on each side; ``square``
    keeps the aspect ratio.
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
        """The place in the stream of sample ``index`` of this worker, which reads ``size`` samples
        of each batch.
        """
        if self.count == 1:  # the same, by no operation
            return index
        return (index // size * self.count + self.index) * size + index % size


@dataclass(frozen=True)
class Loading:
    """The keywords of :class:`~alexnet_keras.data.batches.Batches` that a run passes on.

    ``region``: how COCO's boxes are cut out, None for whole images; ``num_threads``: of the
    loader; ``shard``: this worker's part of each batch; ``bad``: what an unreadable file does;
    ``bad_files``: a :class:`~alexnet_keras.data.bad_files.BadFiles`, those known to be unreadable.
    """

    region: BoxRegion | None = None
    num_threads: int = 2
    shard: Shard = Shard()
    bad: str = "skip"
    bad_files: Any = None
