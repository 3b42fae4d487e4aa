"""Whether weights are trained: statistics of their kernels against those of random values."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alexnet_keras.pretrained.loading import resolve_weights
from weights.arrays import first_non_finite
from weights.canonical import Layers
from weights.errors import NonFiniteError
from weights.filters import colourfulness, dead_filters
from weights.gradient_span import output_directions
from weights.structure import (
    SMOOTHNESS,
    Evidence,
    fits_initializer,
    kernel_evidence,
)

MIN_Z = 5.1
"""A statistic of random values exceeds it with a probability of 1.7e-7: any of a layer's five,
less than once in a million. Weights are trained if every layer is: one random layer decides."""
TRAINED = "trained"
PARTLY_TRAINED = "partly trained"
INITIAL_VALUES = "initial values"
SHUFFLED = "shuffled"
DAMAGED = "damaged"
UNCLEAR = "unclear"
VERDICTS = (TRAINED, PARTLY_TRAINED, INITIAL_VALUES, SHUFFLED, DAMAGED, UNCLEAR)


@dataclass(frozen=True)
class LayerCheck:
    """What was found of one layer.

    Args:
        layer: its name.
        state: ``trained``, ``initial values``, ``shuffled``, ``damaged`` or ``unclear``.
        reason: why, in a sentence.
        evidence: statistics of its kernel; none of a damaged one.
        dead_filters: outputs with a norm below a thousandth of the median one.
    """

    layer: str
    state: str
    reason: str
    evidence: tuple[Evidence, ...] = ()
    dead_filters: int = 0


@dataclass(frozen=True)
class TrainedCheck:
    """Whether a file holds trained weights.

    Args:
        path: the file.
        verdict: one of ``VERDICTS``; ``partly trained`` where some layers are at initial values.
        reasons: sentences that the verdict follows from.
        layers: what was found of each layer, in order.
        colourfulness: the mean share of colour in the first kernels of each tower, 0 (grey) to 1,
            2/3 for random values; of networks without towers, one number; None without conv1.
    """

    path: Path
    verdict: str
    reasons: tuple[str, ...]
    layers: tuple[LayerCheck, ...] = ()
    colourfulness: tuple[float, ...] | None = None

    @property
    def trained(self) -> bool:
        return self.verdict == TRAINED


def check_trained(
    name_or_path: str | os.PathLike, progress: Callable | None = None
) -> TrainedCheck:
    """Find out from the values alone whether weights are trained.

    ``name_or_path``: a name of the catalogue, a weight file, a ``.keras`` file or a run folder;
    it may lack layers. ``progress``: of a download, called with (file name, bytes downloaded,
    total or None). Raises ``WeightsError`` where there are no weights to check; NaN and infinity
    are a verdict.

    Example::

        check_trained("alexnet.pth").verdict  # "initial values": somebody saved it too early
    """
    try:
        weights = resolve_weights(name_or_path, progress=progress).weights
    except NonFiniteError as error:
        return TrainedCheck(Path(name_or_path), DAMAGED, (f"{error}.",))
    layers = check_layers(weights.layers)
    verdict, reasons = _verdict(layers)
    return TrainedCheck(weights.path, verdict, reasons, layers, _towers(weights.layers))


def check_layers(layers: Layers) -> tuple[LayerCheck, ...]:
    """The check of each layer, in canonical form; values may be NaN or infinite."""
    faults = {name: _fault(*arrays) for name, arrays in layers.items()}
    sound = {name: arrays for name, arrays in layers.items() if not faults[name]}
    directions = output_directions(sound)
    return tuple(
        LayerCheck(name, DAMAGED, f"{name}: {faults[name]}.")
        if faults[name]
        else _check_layer(name, *arrays, directions.get(name))
        for name, arrays in layers.items()
    )


def _check_layer(
    name: str, kernel: np.ndarray, bias: np.ndarray, directions: np.ndarray | None
) -> LayerCheck:
    evidence = tuple(kernel_evidence(kernel, directions))
    decisive = [row for row in evidence if row.statistic == SMOOTHNESS and kernel.shape[-2] == 3]
    best = max(decisive or evidence, key=lambda row: row.z)
    state, reason = _state(kernel, bias, best)
    return LayerCheck(name, state, f"{name}: {reason}.", evidence, dead_filters(kernel))


def _state(kernel: np.ndarray, bias: np.ndarray, best: Evidence) -> tuple[str, str]:
    figures = f"z of at most {best.z:.1f} ({best.statistic}), below {MIN_Z}"
    if best.z >= MIN_Z:
        return TRAINED, (
            f"{best.statistic} is {best.effect:.3g}, at z = {best.z:.1f}; random order stays "
            f"below {MIN_Z}"
        )
    if not fits_initializer(kernel):
        return SHUFFLED, (
            f"values in random order ({figures}), distributed as no initializer draws them"
        )
    if _bias_is_initial(kernel, bias):
        return INITIAL_VALUES, (
            f"values in random order ({figures}), and both kernel and bias are as initializers "
            "draw them"
        )
    return UNCLEAR, (
        f"values in random order ({figures}), but the biases were trained: shuffled, or trained "
        "too briefly to tell"
    )


def _bias_is_initial(kernel: np.ndarray, bias: np.ndarray) -> bool:
    """Whether all biases are equal, or drawn from a kernel's own uniform distribution, as PyTorch
    does.
    """
    if np.ptp(bias) == 0:
        return True
    limit = float(np.abs(kernel).max())
    uniform = float(np.square(kernel, dtype=np.float64).mean()) > 0.9 * limit**2 / 3
    spread = float(np.square(bias, dtype=np.float64).mean()) / (limit**2 / 3)
    # the mean square of n uniform values has a relative deviation of 0.9 / sqrt(n)
    return (
        uniform
        and np.abs(bias).max() <= 1.01 * limit
        and abs(spread - 1) < 6 * 0.9 / bias.size**0.5
    )


def _fault(kernel: np.ndarray, bias: np.ndarray) -> str | None:
    for role, values in (("kernel", kernel), ("bias", bias)):
        if first_non_finite(values, order="K") is not None:
            count = values.size - int(np.isfinite(values).sum())
            return f"{count} of {values.size} values of the {role} are NaN or infinite"
    if kernel.min() == kernel.max():
        return f"all values of the kernel are {kernel.flat[0]:g}"
    dead = dead_filters(kernel)
    filters = kernel.shape[-1]
    if 2 * dead >= filters:
        return f"{dead} of {filters} filters are dead, expected less than half"
    return None


def _verdict(layers: tuple[LayerCheck, ...]) -> tuple[str, tuple[str, ...]]:
    """The gravest state of a layer; initial values beside trained layers are partial training."""
    states = {layer.state for layer in layers}
    state = next(s for s in (DAMAGED, SHUFFLED, UNCLEAR, INITIAL_VALUES, TRAINED) if s in states)
    reasons = tuple(layer.reason for layer in layers if layer.state == state)
    if state == INITIAL_VALUES and TRAINED in states:
        state = PARTLY_TRAINED
    return state, reasons


def _towers(layers: Layers) -> tuple[float, ...] | None:
    if "conv1" not in layers or layers["conv1"][0].shape[-2] != 3:
        return None
    shares = colourfulness(layers["conv1"][0])
    grouped = "conv2" in layers and 2 * layers["conv2"][0].shape[-2] == len(shares)
    halves = np.split(shares, 2) if grouped else [shares]
    return tuple(float(half.mean()) for half in halves)
