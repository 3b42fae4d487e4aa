"""How a command runs, and how its errors are reported: one line on stderr and an exit code."""

from __future__ import annotations

import errno
import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from alexnet_keras.cli.standard_streams import close_stdout, open_standard_streams
from alexnet_keras.errors import AlexNetError, TerminatedError, WorkerLostError

BAD_INPUT = 2
WORKER_LOST = 75
INTERRUPTED = 130
TERMINATED = 143
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _WarningLines(logging.Handler):
    """Prints the library's warnings on stderr, one line each."""

    def emit(self, record):
        print(f"warning: {_printable(record.getMessage())}", file=sys.stderr)


_WARNING_LINES = _WarningLines(logging.WARNING)


class _Terminated(BaseException):
    """SIGTERM was received; temporary files are removed as it propagates."""


def command(group: click.Group, tensorflow: bool = True, **settings) -> Callable:
    """``group.command``, reporting expected failures as one line on stderr and an exit code,
    without a traceback.

    ``tensorflow``: whether the command needs TensorFlow. It is then imported first, silently.
    """

    def decorate(function):
        @functools.wraps(function)
        def run(**options):
            for package in ("alexnet_keras", "weights", "modes"):
                logging.getLogger(package).addHandler(_WARNING_LINES)
            open_standard_streams()
            try:
                with _termination_as_error():
                    if tensorflow:
                        import_tensorflow()
                    function(**options)
            except AlexNetError as error:
                _exit(f"error: {error}", exit_code_of(error))
            except _out_of_memory() as error:
                # TensorFlow's message without the names of graph nodes
                reason = str(error).split("}} ")[-1].split(" on /job")[0]
                _exit(f"error: not enough memory for this network or batch: {reason}", BAD_INPUT)
            except KeyboardInterrupt:
                _exit("interrupted", INTERRUPTED)
            except BrokenPipeError:
                close_stdout()
                sys.exit(0)  # who read our output, such as head, wants no more
            except OSError as error:
                if error.errno not in _NO_ROOM:
                    raise
                close_stdout()
                place = error.filename or "standard output"
                _exit(f"error: {place}: cannot be written: {error.strerror}", BAD_INPUT)
            except _Terminated:
                _exit("terminated", TERMINATED)

        return group.command(context_settings={"show_default": True}, **settings)(run)

    return decorate


def exit_code_of(error: AlexNetError) -> int:
    """The exit code for ``error``: after a lost worker or SIGTERM, one that says the run can be
    resumed.
    """
    codes = {WorkerLostError: WORKER_LOST, TerminatedError: TERMINATED}
    return codes.get(type(error), BAD_INPUT)


def _exit(line: str, code: int) -> None:
    click.echo(_printable(line), err=True)
    sys.exit(code)


def _printable(text: str) -> str:
    from alexnet_keras.progress import printable

    return printable(text)


@contextmanager
def _termination_as_error() -> Iterator[None]:
    """Raise an exception on SIGTERM inside the block. Training installs its own handler while it
    runs.
    """

    def terminate(signal_number, frame):
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _out_of_memory() -> tuple[type[Exception], ...]:
    tensorflow = sys.modules.get("tensorflow")
    return (
        (MemoryError, tensorflow.errors.ResourceExhaustedError) if tensorflow else (MemoryError,)
    )


def import_tensorflow() -> None:
    """Import TensorFlow without its log output, and with its oneDNN kernels, which are faster on
    every CPU with AVX2.
    """
    # Regardless of keras.json: training needs TensorFlow.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    stderr = os.dup(2)
    # Some messages are written before TensorFlow reads its log level.
    with open(os.devnull, "w") as silence:
        os.dup2(silence.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
