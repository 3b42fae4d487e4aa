"""Inference with the BVLC AlexNet, from a batch in memory to fc8 in memory."""

from __future__ import annotations

from collections.abc import Iterator

import click
import numpy as np

from alexnet_keras.configs.architecture import ALEXNET
from benchmarks.engines import forward_flops
from benchmarks.measure import (
    SGEMM,
    Candidate,
    Line,
    Options,
    ceilings,
    installed,
    interleaved,
    rotating,
)
from benchmarks.peers import (
    INFERENCE,
    Network,
    peer,
    random_images,
    random_weights,
    relative_difference,
)

BATCH_SIZES = (1, 8, 32, 128)
TARGETS = {
    1: {"ONNX Runtime": 1.0, "OpenVINO": 0.7},
    32: {"PyTorch": 1.8, "ONNX Runtime": 1.3, "stock Keras": 1.2, "OpenVINO": 0.9},
    128: {"PyTorch": 1.8, "ONNX Runtime": 1.3, "stock Keras": 1.2, "OpenVINO": 0.9, SGEMM: 0.65},
}
MAX_DIFFERENCE = 1e-4
INPUTS = 3


def lines(options: Options) -> Iterator[Line]:
    """A line for each batch size."""
    available, missing = installed(INFERENCE)
    if missing:
        click.echo(f"skipped, not installed: {', '.join(missing)}")
    weights = random_weights(ALEXNET)
    flops = _flops(weights)
    for batch_size in options.sizes(BATCH_SIZES):
        images = [random_images(batch_size, ALEXNET.input_size, seed) for seed in range(INPUTS)]
        networks = {
            name: peer(name).network(ALEXNET, weights, batch_size, options.threads)
            for name in ("ours", *available)
        }
        check_agreement(networks, images[0])
        candidates = [
            Candidate(
                name,
                rotating(network.infer, [network.convert(batch) for batch in images]),
                batch_size,
            )
            for name, network in networks.items()
        ]
        rates = interleaved(candidates + ceilings(options.threads), options.repetitions)
        yield Line(
            f"inference, batch {batch_size}",
            "ours",
            rates,
            TARGETS.get(batch_size, {}),
            flops,
            sum(array.nbytes for pair in weights.values() for array in pair) / batch_size,
        )


def check_agreement(networks: dict[str, Network], images: np.ndarray) -> None:
    """Raise ``AssertionError`` unless each peer computes the same fc8 as ours."""
    fc8 = {name: network.infer(network.convert(images)) for name, network in networks.items()}
    for name, values in fc8.items():
        difference = relative_difference(values, fc8["ours"])
        assert difference <= MAX_DIFFERENCE, (
            f"{name}: fc8: expected a difference of at most {MAX_DIFFERENCE:g}, got "
            f"{difference:.1e}"
        )


def _flops(weights) -> float:
    from benchmarks.peers.ours import model_of

    return sum(forward_flops(model_of(ALEXNET, weights)))
