"""The errors of weight files, which belong to the family of :mod:`alexnet_keras.errors`."""


class AlexNetError(Exception):
    """Root of every expected failure: one line with what is wrong, where, what was expected and
    what came.
    """


class WeightsError(AlexNetError):
    """A weight file that cannot be found, read, trusted or fitted to the network."""
