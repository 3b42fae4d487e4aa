"""Ctrl-C and SIGTERM as requests to stop, which training honours between two steps, when
everything can be saved.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """``signal``: the number of the signal that was received, or None."""

    signal: int | None = None

    def __call__(self, number: int, frame) -> None:
        if self.signal is not None and number == signal.SIGINT:
            # A second Ctrl-C does not wait for the end of the step.
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def catch_stop_signals() -> Iterator[StopRequest]:
    """Catch the signals in the block. Outside the main thread this is impossible, and no signal is
    caught.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
