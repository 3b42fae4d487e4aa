"""Our training loop, on batches that are there already, against nothing but a compiled step."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from alexnet_keras.configs.architecture import ALEXNET
from benchmarks.measure import Candidate, Line, Options, interleaved
from benchmarks.peers import random_images

BATCH_SIZES = (32, 128)
TARGETS = {"bare step": 0.95}
CLASSES, ENDLESS_STEPS = 1000, 1_000_000


def lines(options: Options) -> Iterator[Line]:
    """A line for each batch size."""
    for batch_size in options.sizes(BATCH_SIZES):
        images = random_images(batch_size, ALEXNET.input_size)
        labels = np.arange(batch_size, dtype=np.int32) % CLASSES
        loop = PacedLoop(images, labels)
        candidates = [
            Candidate("ours", loop.step, batch_size),
            Candidate("bare step", _bare_step(images, labels), batch_size),
        ]
        rates = interleaved(candidates, options.repetitions)
        loop.close()
        yield Line(f"training loop, batch {batch_size}", "ours", rates, TARGETS)


class PacedLoop:
    """``alexnet_keras.training.loop.train`` in a thread, whose batches let one step pass at each
    call of ``step``.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray):
        self.images, self.labels = images, labels
        self.batch_size, self.samples, self.seed = (
            len(labels),
            range(len(labels) * ENDLESS_STEPS),
            0,
        )
        self.asked, self.given, self.open = threading.Semaphore(0), threading.Semaphore(0), True
        self.training = ThreadPoolExecutor(1).submit(self._train)
        self.training.add_done_callback(lambda training: self.asked.release())
        self._wait()

    def step(self) -> None:
        """Let one step pass and wait until the loop asks for the next batch; raises what ended the
        loop.
        """
        self.given.release()
        self._wait()

    def _wait(self) -> None:
        self.asked.acquire()
        if self.training.done():
            self.training.result()

    def close(self) -> None:
        """End the loop."""
        self.open = False
        self.given.release()
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
            self.given.acquire()
            if not self.open:
                return
            yield batch

    def _train(self):
        import keras

        from alexnet_keras.models.alexnet import build
        from alexnet_keras.training.loop import train
        from benchmarks.peers.ours import RECIPE

        model = build(ALEXNET, keras.Input((ALEXNET.input_size, ALEXNET.input_size, 3)), CLASSES)
        return train(model, self, RECIPE.lasting(len(self.samples), steps=ENDLESS_STEPS))


def _bare_step(images: np.ndarray, labels: np.ndarray):
    import tensorflow as tf

    from benchmarks.engines import TensorflowEngine

    engine = TensorflowEngine(ALEXNET, CLASSES, "float32", compiled=False)
    x, labels = tf.constant(images), tf.constant(labels)
    return lambda: engine.train(x, labels).numpy()
