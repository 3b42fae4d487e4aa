"""How images are read for a network, as data: nothing here changes what an image holds."""

from __future__ import annotations

from dataclasses import dataclass

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
class Share:
    """The contiguous part of each batch that worker ``index`` of ``count`` reads."""

    index: int = 0
    count: int = 1

    def position(self, turn, size: int):
        """Where in the stream the sample stands that this worker reads as number ``turn`` of its
        own, ``size`` a batch.
        """
        if self.count == 1:  # the same, by no operation
            return turn
        return (turn // size * self.count + self.index) * size + turn % size


@dataclass(frozen=True)
class Loading:
    """The keywords of :class:`~alexnet_keras.data.batches.Batches` that a run passes on.

    ``region``: how COCO's boxes are cut out, None for whole images; ``num_threads``: of the
    loader; ``share``: this worker's part of each batch; ``bad``: what an unreadable file does.
    """

    region: BoxRegion | None = None
    num_threads: int = 2
    share: Share = Share()
    bad: str = "skip"
