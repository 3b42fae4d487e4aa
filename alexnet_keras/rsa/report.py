"""What ``similarity`` found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from alexnet_keras.configs.analysis_options import SimilarityOptions
from alexnet_keras.errors import ConfigurationError
from alexnet_keras.features.saved import Features
from alexnet_keras.rsa.representations import Representation, Rows
from alexnet_keras.rsa.similarities import Similarity


@dataclass(frozen=True)
class SimilarityReport:
    """The result of :func:`alexnet_keras.similarity`.

    Attributes:
        similarities: each two layers, and each layer and reference, for each comparison.
        rdms: the layers' RDMs as ``rsatoolbox.rdm.RDMs``, with the descriptors ``layer`` and,
            of the stimuli, ``name``.
        layers, references: what was compared.
        rows: the rows that were used, and the names of those left out.
    """

    similarities: tuple[Similarity, ...]
    rdms: Any
    layers: tuple[Representation, ...]
    references: tuple[Representation, ...]
    rows: Rows
    features: tuple[Features, ...]
    options: SimilarityOptions

    def between(self, first: str, second: str, compare: str | None = None) -> Similarity:
        """The similarity of two layers, or of a layer and a reference, by name. ``compare``: by
        default the first that was asked for. Raises ``ConfigurationError``.
        """
        compare = compare or self.similarities[0].compare
        for found in self.similarities:
            if found.compare == compare and {found.first, found.second} == {first, second}:
                return found
        raise ConfigurationError(
            f"similarity: expected {compare} of {first} and {second}, got none"
        )

    def matrix(self, compare: str | None = None) -> np.ndarray:
        """(layers, layers) float64: the similarities of the layers, 1 on the diagonal."""
        matrix = np.eye(len(self.layers))
        for a, first in enumerate(self.layers):
            for b, second in enumerate(self.layers[:a]):
                value = self.between(first.name, second.name, compare).value
                matrix[a, b] = matrix[b, a] = value
        return matrix
