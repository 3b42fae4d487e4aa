"""The training loop on batches already in memory, against a bare compiled training step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from alexnet_keras.configs.architecture import ALEXNET, Architecture
from benchmarks.measure import Candidate, Line, Options, interleaved
from benchmarks.peers import random_images

BATCH_SIZES = (32, 128)
TARGETS = {"bare step": 0.95}
TINY_WIDTH = 0.03
TINY = ALEXNET.with_width(TINY_WIDTH)
"""So small that the loop's own cost is what is measured."""
TINY_BATCH_SIZES = (1, 8)
TINY_TARGETS = {"bare step": 1 / 1.15}
TINY_STEPS_PER_CALL = 20
"""Switching to another thread and back takes as long as one step of the tiny network."""
CLASSES = 1000
ENDLESS_STEPS = 1_000_000


def lines(options: Options) -> Iterator[Line]:
    """A line for each batch size, of a tiny network and of AlexNet."""
    for batch_size in TINY_BATCH_SIZES:
        yield _line(TINY, batch_size, TINY_STEPS_PER_CALL, options.repetitions, TINY_TARGETS)
    for batch_size in options.sizes(BATCH_SIZES):
        yield _line(ALEXNET, batch_size, 1, options.repetitions, TARGETS)


def _line(
    architecture: Architecture, batch_size: int, steps: int, repetitions: int, targets: dict
) -> Line:
    images = random_images(batch_size, architecture.input_size)
    labels = np.arange(batch_size, dtype=np.int32) % CLASSES
    loop = PacedLoop(architecture, images, labels, steps)
    bare = _bare_step(architecture, images, labels)
    candidates = [
        Candidate("ours", loop.run, batch_size * steps),
        Candidate("bare step", lambda: [bare() for _ in range(steps)], batch_size * steps),
    ]
    rates = interleaved(candidates, repetitions)
    loop.close()
    width = f" of width {TINY_WIDTH:g}" if architecture is TINY else ""
    return Line(f"training loop{width}, batch {batch_size}", "ours", rates, targets)


class PacedLoop:
    """``alexnet_keras.training.loop.train`` in a thread, advanced by ``steps`` steps at each call
    of :meth:`run`.
    """

    def __init__(
        self, architecture: Architecture, images: np.ndarray, labels: np.ndarray, steps: int
    ):
        self.architecture = architecture
        self.images = images
        self.labels = labels
        self.steps = steps
        self.batch_size = len(labels)
        self.samples = range(len(labels) * ENDLESS_STEPS)
        self.seed = 0
        self.requested = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.open = True
        self.training = ThreadPoolExecutor(1).submit(self._train)
        self.training.add_done_callback(lambda training: self.requested.release())
        self._wait()

    def run(self) -> None:
        """Run the steps, then wait until the loop requests the next batch; an error that ended the
        loop is raised here.
        """
        self.allowed.release()
        self._wait()

    def _wait(self) -> None:
        self.requested.acquire()
        if self.training.done():
            self.training.result()

    def close(self) -> None:
        """Stop the loop."""
        self.open = False
        self.allowed.release()
        self.training.result()

    def first_step_of(self, epoch: int) -> int:
        return epoch * ENDLESS_STEPS

    def iterate(self, first: int, end: int) -> Iterator:
        from benchmarks.peers.ours import make_batch

        batch = make_batch(self.images, self.labels)
        while True:
            self.requested.release()
            self.allowed.acquire()
            if not self.open:
                return
            for _ in range(self.steps):
                yield batch

    def _train(self):
        import keras

        from alexnet_keras.models.alexnet import build
        from alexnet_keras.training.loop import train
        from benchmarks.peers.ours import RECIPE

        size = self.architecture.input_size
        model = build(self.architecture, keras.Input((size, size, 3)), CLASSES)
        return train(model, self, RECIPE.with_length(len(self.samples), steps=ENDLESS_STEPS))


def _bare_step(architecture: Architecture, images: np.ndarray, labels: np.ndarray):
    import tensorflow as tf

    from benchmarks.engines import TensorflowEngine

    engine = TensorflowEngine(architecture, CLASSES, "float32", compiled=False)
    inputs = (tf.constant(images), tf.constant(labels))
    return lambda: engine.train(*inputs).numpy()
