"""The network of 2012 against Caffe's replica of it, in this project: inference and a training
step.
"""

from __future__ import annotations

from collections.abc import Iterator

from alexnet_keras.configs.architecture import ALEXNET, KRIZHEVSKY, Architecture
from benchmarks.measure import Candidate, Line, Options, interleaved, rotating
from benchmarks.peers import ours, random_images, random_weights
from benchmarks.training_step import BATCH_SIZES, INPUTS, make_labels

TARGETS = {"inference": 0.8, "training step": 0.7}
"""Of the speed of ``alexnet``."""


def lines(options: Options) -> Iterator[Line]:
    """Each kind of work at each batch size."""
    for batch_size in options.sizes(BATCH_SIZES):
        for work, make in (("inference", _inference), ("training step", _training)):
            candidates = [
                make(architecture, batch_size, options.threads)
                for architecture in (KRIZHEVSKY, ALEXNET)
            ]
            rates = interleaved(candidates, options.repetitions)
            target = {ALEXNET.name: TARGETS[work]}
            yield Line(f"{work} of krizhevsky, batch {batch_size}", KRIZHEVSKY.name, rates, target)


def _inference(architecture: Architecture, batch_size: int, threads: int) -> Candidate:
    network = ours.network(architecture, random_weights(ALEXNET), batch_size, threads)
    inputs = [network.convert(images) for images in _images(architecture, batch_size)]
    return Candidate(architecture.name, rotating(network.infer, inputs), batch_size)


def _training(architecture: Architecture, batch_size: int, threads: int) -> Candidate:
    trainer = ours.trainer(architecture, random_weights(ALEXNET), batch_size, threads)
    labels = make_labels(batch_size)
    batches = [trainer.convert(each, labels) for each in _images(architecture, batch_size)]
    return Candidate(architecture.name, rotating(trainer.step, batches), batch_size)


def _images(architecture: Architecture, batch_size: int) -> list:
    return [random_images(batch_size, architecture.input_size, seed) for seed in range(INPUTS)]
