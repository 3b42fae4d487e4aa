"""The errors of weight files, which belong to the family of :mod:`alexnet_keras.errors`."""


class AlexNetError(Exception):
    """Root of every expected failure: one line that says where, what was expected and what was
    found.
    """


class WeightsError(AlexNetError):
    """A weight file that cannot be found, read, trusted or fitted to the network."""
