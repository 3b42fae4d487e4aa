"""The errors that this library raises for what a user can mend: data, weights, arguments, run
folders.
"""

from weights.errors import AlexNetError, WeightsError

__all__ = [
    "AlexNetError",
    "ConfigurationError",
    "DataError",
    "RunError",
    "TerminatedError",
    "WeightsError",
    "WorkerLostError",
]


class DataError(AlexNetError):
    """A data set, an annotation file or an image that cannot be used."""


class ConfigurationError(AlexNetError, ValueError):
    """An argument that is out of range, contradicts another or would have no effect."""


class RunError(AlexNetError):
    """A run folder that cannot be written, read or continued."""


class TerminatedError(RunError):
    """SIGTERM ended a run, which was saved and can be resumed."""


class WorkerLostError(RunError):
    """Another worker of this run went away; the run can be resumed."""
