"""Numbers of steps, and sizes of batches."""

from __future__ import annotations

from alexnet_keras.errors import ConfigurationError


def epoch_start(epoch: int, num_samples: int, batch_size: int) -> int:
    """The first step without a sample of an earlier epoch: ceil(epoch * num_samples /
    batch_size).
    """
    return -(-epoch * num_samples // batch_size)


def check_batch_size(batch_size: int, divisor: int) -> None:
    """Raise ``ConfigurationError`` for a batch that is empty or not divisible by ``divisor``."""
    if batch_size < 1:
        raise ConfigurationError(f"batch_size: expected at least 1, got {batch_size}")
    if batch_size % divisor:
        raise ConfigurationError(
            f"batch_size: expected a multiple of {divisor} (devices x accumulate), "
            f"got {batch_size}"
        )
