"""How a command runs, and how an error leaves the program: one line and an exit code."""

from __future__ import annotations

import functools
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from alexnet_keras.errors import AlexNetError, TerminatedError, WorkerLostError

BAD_INPUT, WORKER_LOST, INTERRUPTED, TERMINATED = 2, 75, 130, 143


class _WarningLines(logging.Handler):
    """The library's warnings as lines on stderr."""

    def emit(self, record):
        print(f"warning: {_printable(record.getMessage())}", file=sys.stderr)


_WARNING_LINES = _WarningLines(logging.WARNING)


class _Terminated(BaseException):
    """SIGTERM arrived; half-written files are removed on the way out."""


def command(group: click.Group, tensorflow: bool = True, **settings) -> Callable:
    """``group.command`` whose expected failures are one line on stderr and exit code 2, never a
    traceback.

    ``tensorflow``: whether it is needed, and so imported before anything else can import it with
    its chatter.
    """

    def decorate(function):
        @functools.wraps(function)
        def run(**options):
            for package in ("alexnet_keras", "weights", "modes"):
                logging.getLogger(package).addHandler(_WARNING_LINES)
            try:
                with _termination_as_error():
                    if tensorflow:
                        prepare()
                    function(**options)
            except AlexNetError as error:
                _exit(f"error: {error}", exit_code_of(error))
            except _out_of_memory() as error:
                # TensorFlow's reason, without its graph nodes
                reason = str(error).split("}} ")[-1].split(" on /job")[0]
                _exit(f"error: not enough memory for this network or batch: {reason}", BAD_INPUT)
            except KeyboardInterrupt:
                _exit("interrupted", INTERRUPTED)
            except _Terminated:
                _exit("terminated", TERMINATED)

        return group.command(context_settings={"show_default": True}, **settings)(run)

    return decorate


def exit_code_of(error: AlexNetError) -> int:
    """Bad input; or a run that can be resumed, after a lost worker or SIGTERM."""
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
    """SIGTERM leaves the block by an exception; training, while it runs, answers it itself."""

    def terminate(number, frame):
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _out_of_memory() -> tuple[type[Exception], ...]:
    tensorflow = sys.modules.get("tensorflow")
    return (
        (MemoryError, tensorflow.errors.ResourceExhaustedError) if tensorflow else (MemoryError,)
    )


def prepare() -> None:
    """Import TensorFlow without its chatter, and with its oneDNN kernels, which are faster on
    every CPU that has AVX2.
    """
    # Whatever keras.json says: the layers of this network are TensorFlow's.
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    stderr = os.dup(2)
    # Some of it is written before any log level is looked at.
    with open(os.devnull, "w") as silence:
        os.dup2(silence.fileno(), 2)
    try:
        import tensorflow  # noqa: F401
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
