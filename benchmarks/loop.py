"""Our training loop, on batches that are there already, against nothing but a compiled step."""

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
TINY, TINY_WIDTH, TINY_BATCH_SIZES = ALEXNET.with_width(0.03), 0.03, (1, 8)
TINY_TARGETS = {"bare step": 1 / 1.15}
"""With next to nothing to compute, what is left is the loop's own cost."""
CLASSES, ENDLESS_STEPS = 1000, 1_000_000
STEPS_A_CALL = 20
"""Of the tiny network: handing over to another thread and back costs as much as a step."""


def lines(options: Options) -> Iterator[Line]:
    """A line for each batch size, of AlexNet and of a tiny network."""
    for batch_size in TINY_BATCH_SIZES:
        yield _line(TINY, batch_size, STEPS_A_CALL, options.repetitions, TINY_TARGETS)
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
    """``alexnet_keras.training.loop.train`` in a thread, whose batches let so many steps pass at
    each call of ``run``.
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
        self.asked = threading.Semaphore(0)
        self.allowed = threading.Semaphore(0)
        self.open = True
        self.training = ThreadPoolExecutor(1).submit(self._train)
        self.training.add_done_callback(lambda training: self.asked.release())
        self._wait()

    def run(self) -> None:
        """Let the steps pass and wait until the loop asks for the batch after them; raises what
        ended the loop.
        """
        self.allowed.release()
        self._wait()

    def _wait(self) -> None:
        self.asked.acquire()
        if self.training.done():
            self.training.result()

    def close(self) -> None:
        """End the loop."""
        self.open = False
        self.allowed.release()
        self.training.result()

    def first_step_of(self, epoch: int) -> int:
        return epoch * ENDLESS_STEPS

    def iterate(self, first: int, end: int) -> Iterator:
        import tensorflow as tf

        from alexnet_keras.data.batches import Batch

        batch = Batch(
            tf.constant(self.images),
            tf.constant(self.labels),
            tf.ones(self.batch_size),
            tf.range(self.batch_size, dtype=tf.int64),
        )
        while True:
            self.asked.release()
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
    x, labels = tf.constant(images), tf.constant(labels)
    return lambda: engine.train(x, labels).numpy()
