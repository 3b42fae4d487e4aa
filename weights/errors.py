"""The errors of weight files, which belong to the family of :mod:`alexnet_keras.errors`."""


class AlexNetError(Exception):
    """Base class of all errors raised on purpose: one line that says where, what was expected and
    what was found.
    """


class WeightsError(AlexNetError):
    """A weight file that cannot be found, read, trusted or fitted to the network."""


class NonFiniteError(WeightsError):
    """Weights among which are NaN or infinity."""


def error_reason(error: BaseException) -> str:
    """The text of ``error`` in one line; of an ``OSError``, without its number and path."""
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__
