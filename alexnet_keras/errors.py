"""The errors that this library raises for problems that a user can fix: data, weights, arguments
and run folders.
"""

from weights.errors import AlexNetError, WeightsError, error_reason

__all__ = [
    "AlexNetError",
    "ConfigurationError",
    "DataError",
    "RunError",
    "TerminatedError",
    "WeightsError",
    "WorkerLostError",
    "error_reason",
]


class DataError(AlexNetError):
    """A data set, an annotation file or an image that cannot be used."""


class ConfigurationError(AlexNetError, ValueError):
    """An argument that is out of range, contradicts another or would have no effect."""


class RunError(AlexNetError):
    """A run folder that cannot be written, read or resumed."""


class TerminatedError(RunError):
    """SIGTERM ended the run, which was saved and can be resumed."""


class WorkerLostError(RunError):
    """Another worker of this run stopped responding; the run can be resumed."""
