"""How far the values of a kernel are from being in random order.

Initial values are independent draws, so they are as likely in any other order; so are weights that
were shuffled. Training leaves order, of which five statistics are computed. All of them see only
the ranks of the values, as normal scores: then the order of random values is the only chance
there is, and each statistic has one null distribution for every initializer. Its ``z`` is on the
scale of a standard normal deviate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

_MAX_VALUES = 1 << 19
_MAX_DENSE_OUTPUTS = 512
_MIN_MATRIX_SIDE = 5
_GRID = np.linspace(0, 1, 4097)[1:-1]
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf(p) for p in _GRID])
_TRUNCATION = 2.0
_DRIFT = 0.03
_COLOURS = 3
_COLOUR_POWER = 0.1
SMOOTHNESS = "correlation of neighbouring pixels"
"""The statistic that kernels of images must show."""


@dataclass(frozen=True)
class Evidence:
    """One statistic of a kernel.

    Args:
        statistic: what it measures, in words.
        effect: its size: a correlation, or a ratio to what random order gives.
        z: how improbable that is in random order, as a standard normal deviate.
    """

    statistic: str
    effect: float
    z: float


def kernel_evidence(kernel: np.ndarray, directions: np.ndarray | None = None) -> list[Evidence]:
    """The statistics of a kernel, HWIO or (in, out), that are defined for its shape.

    ``directions``: of its outputs, (out, n), as ``weights.gradient_span`` computes them from later
    layers. Of large kernels half a million values are looked at, always the same ones.
    """
    kernel, directions = _sample(kernel, directions)
    scores = _normal_scores(kernel)
    matrix = scores.reshape(-1, kernel.shape[-1])
    sizes = _normal_scores(np.abs(kernel)).reshape(matrix.shape)
    found = [
        _spread("spread of the outputs' norms", sizes),
        _spread("spread of the inputs' norms", sizes.T),
    ]
    if min(kernel.shape[:-2], default=1) > 1:
        found.insert(0, _smoothness(scores))
    if min(matrix.shape) >= _MIN_MATRIX_SIDE:
        found.append(_largest_singular_value(matrix))
    if directions is not None and np.any(directions):
        found.append(_agreement(scores, directions))
    return found


def fits_initializer(kernel: np.ndarray) -> bool:
    """Whether the values are distributed as initializers draw them: normal, normal truncated at
    two deviations, or uniform.

    A Kolmogorov-Smirnov test: initial values fail with a probability below 1e-9, and a drift of
    3% of the distribution, as brief training makes it, passes too.
    """
    values = np.sort(_sample(kernel)[0], axis=None).astype(np.float64)
    limit = np.abs(values[[0, -1]]).max()
    inside = NormalDist().cdf(_TRUNCATION)
    truncated = [NormalDist().inv_cdf(1 - inside + p * (2 * inside - 1)) for p in _GRID[::16]]
    quantiles = (
        _NORMAL_QUANTILES[::16] * math.sqrt(np.square(values).mean()),
        np.array(truncated) * limit / _TRUNCATION,
        (2 * _GRID[::16] - 1) * limit,
    )
    distances = (
        np.abs(np.searchsorted(values, q, side="right") / values.size - _GRID[::16]).max()
        for q in quantiles
    )
    chance = 3.3 / math.sqrt(values.size)  # 2 exp(-2 x 3.3^2) is 7e-10
    return min(distances) < _DRIFT + chance


def _sample(kernel: np.ndarray, directions: np.ndarray | None = None):
    """The kernel with at most half a million values: whole filters of a convolution, rows and
    columns of a matrix, drawn with a fixed seed.
    """
    generator = np.random.default_rng(0)
    if kernel.ndim == 2:
        kernel, directions = _keep_outputs(kernel, directions, _MAX_DENSE_OUTPUTS, generator)
        rows = max(1, _MAX_VALUES // kernel.shape[1])
        return kernel[_drawn(len(kernel), rows, generator)], directions
    filters = max(1, _MAX_VALUES // math.prod(kernel.shape[:-1]))
    return _keep_outputs(kernel, directions, filters, generator)


def _keep_outputs(kernel, directions, count: int, generator: np.random.Generator):
    kept = _drawn(kernel.shape[-1], count, generator)
    return kernel[..., kept], directions if directions is None else directions[kept]


def _drawn(size: int, count: int, generator: np.random.Generator) -> np.ndarray | slice:
    if size <= count:
        return slice(None)
    return np.sort(generator.choice(size, count, replace=False))


def _normal_scores(values: np.ndarray) -> np.ndarray:
    """The normal quantile of each value's rank, standardized; equal values have equal scores."""
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / values.size
    scores = np.interp(ranks, _GRID, _NORMAL_QUANTILES)
    mean = (counts * scores).sum() / values.size
    deviation = math.sqrt((counts * np.square(scores - mean)).sum() / values.size)
    return ((scores - mean) / (deviation or 1))[index.reshape(values.shape)]


def _smoothness(scores: np.ndarray) -> Evidence:
    """Energy at low spatial frequencies, with weights 1/f^2, the power spectrum of natural images:
    the score test for updates that are sums of image patches. Their colours have about a tenth of
    the power of their luminance.
    """
    neighbours = (scores[1:] * scores[:-1]).mean() + (scores[:, 1:] * scores[:, :-1]).mean()
    height, width, inputs, outputs = scores.shape
    power = np.ones(inputs)
    if inputs == _COLOURS:
        scores = np.einsum("ci,hwio->hwco", _cosines(_COLOURS), scores)  # luminance comes first
        power[1:] = _COLOUR_POWER
    spectrum = np.einsum(
        "ah,bw,hwio->abio", _cosines(height), _cosines(width), scores, optimize=True
    )
    squares = np.add.outer(np.arange(height) ** 2, np.arange(width) ** 2).astype(np.float64)
    squares[0, 0] = 0.5
    weights = power / squares[..., np.newaxis]
    energy = (np.square(spectrum).sum(axis=-1) * weights).sum()
    z = _quadratic_form_z(energy, weights.ravel(), outputs)
    return Evidence(SMOOTHNESS, float(neighbours / 2), z)


def _cosines(size: int) -> np.ndarray:
    """The orthonormal discrete cosine transform, a frequency in each row."""
    positions = np.arange(size)
    waves = np.cos(np.pi / size * np.outer(positions, positions + 0.5))
    return waves / np.linalg.norm(waves, axis=1, keepdims=True)


def _spread(statistic: str, scores: np.ndarray) -> Evidence:
    """Variance of the columns' means, over that of random order (a Kruskal-Wallis test)."""
    rows, columns = scores.shape
    freedom = columns - 1
    if not freedom:
        return Evidence(statistic, 1.0, 0.0)
    between = float(rows * np.square(scores.mean(axis=0)).sum())
    return Evidence(statistic, between / freedom, _quadratic_form_z(between, np.ones(1), freedom))


def _largest_singular_value(matrix: np.ndarray) -> Evidence:
    """Against the Tracy-Widom law of random matrices (Johnstone, 2001), whose tail is
    exp(-2/3 t^1.5).
    """
    wide = matrix.shape[0] < matrix.shape[1]
    gram = matrix @ matrix.T if wide else matrix.T @ matrix
    largest = np.linalg.eigvalsh(gram)[-1]
    long = math.sqrt(max(matrix.shape) - 1)
    short = math.sqrt(min(matrix.shape))
    edge = (long + short) ** 2
    excess = (largest - edge) / ((long + short) * (1 / long + 1 / short) ** (1 / 3))
    z = math.sqrt(4 / 3 * max(excess, 0.0) ** 1.5)
    return Evidence("largest singular value", math.sqrt(largest / edge), z)


def _agreement(scores: np.ndarray, directions: np.ndarray) -> Evidence:
    """Energy of the kernel along the output directions of later layers: the score test for
    updates along them.
    """
    if scores.ndim == 4:
        scores = scores.sum(axis=(0, 1)) / math.sqrt(math.prod(scores.shape[:2]))
    directions = directions.astype(np.float64)
    energy = np.square(scores @ directions).sum()
    weights = np.linalg.eigvalsh(directions.T @ directions)
    weights = weights[weights > 1e-6 * weights[-1]]
    rows = len(scores)
    z = _quadratic_form_z(energy, weights, rows)
    return Evidence("agreement with later layers", float(energy / (rows * weights.sum())), z)


def _quadratic_form_z(value: float, weights: np.ndarray, count: int) -> float:
    """The deviate of a sum of ``weights`` times chi-squared variables of ``count`` degrees of
    freedom each.

    The signed root of the large-deviation rate (Lugannani and Rice, 1980, to first order): it
    keeps the heavy right tail, which a mean and a variance do not.
    """
    if value <= count * weights.sum():
        return 0.0
    low, high = 0.0, 0.5 / weights.max()
    for _ in range(60):
        tilt = (low + high) / 2
        mean = count * (weights / (1 - 2 * tilt * weights)).sum()
        low, high = (tilt, high) if mean < value else (low, tilt)
    cumulant = -count / 2 * np.log1p(-2 * low * weights).sum()
    return math.sqrt(max(0.0, 2 * (low * value - cumulant)))
