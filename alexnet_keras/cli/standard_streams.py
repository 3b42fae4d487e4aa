"""Standard input, output and error, where they are closed or nobody reads them."""

from __future__ import annotations

import os
import sys


def close_stdout() -> None:
    """Write nothing more to it, at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def open_standard_streams() -> None:
    """Those that are closed become the null device: else a file that is opened later, such as the
    output, would be taken for one of them.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))
