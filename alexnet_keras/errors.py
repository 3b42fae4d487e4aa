"""The one family of errors that this library raises for what a user can mend: data, weights, arguments, run folders."""


class AlexNetError(Exception):
    """Root of every expected failure. Its text is one line: what is wrong, where, what was expected and what came."""


class DataError(AlexNetError):
    """A data set, an annotation file or an image that cannot be used."""


class WeightsError(AlexNetError):
    """A weight file that cannot be found, read, trusted or fitted to the network."""


class ConfigurationError(AlexNetError, ValueError):
    """An argument that is out of range, contradicts another or would have no effect."""


class RunError(AlexNetError):
    """A run folder that cannot be written, read or continued."""


class TerminatedError(RunError):
    """SIGTERM ended a run, which was saved and can be resumed."""


class WorkerLostError(RunError):
    """Another worker of this run went away; the run can be resumed."""
