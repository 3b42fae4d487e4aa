"""``run.log``: what the library logged during a run, including before its folder existed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alexnet_keras.errors import AlexNetError, RunError, error_reason

PACKAGES = ("alexnet_keras", "weights", "modes")


class RunLog(logging.Handler):
    """Collects the library's warnings until :meth:`write_to` opens the file for them."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @contextmanager
    def write_to(self, path: Path) -> Iterator[None]:
        """Write the collected warnings to ``path``, then everything logged in the block, and the
        error that ends it. Raises ``RunError`` if the file cannot be written.
        """
        try:
            handler = _LogFile(path, encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error_reason(error)}") from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        for record in self.records:
            handler.handle(record)
        try:
            with _handler_added(handler, logging.INFO):
                yield
        except AlexNetError as error:
            handler.emit(logging.makeLogRecord({"levelname": "ERROR", "msg": str(error)}))
            raise
        finally:
            handler.close()


@contextmanager
def collect_warnings() -> Iterator[RunLog]:
    """A :class:`RunLog` that collects the library's warnings until the block ends."""
    log = RunLog()
    with _handler_added(log):
        yield log


@contextmanager
def _handler_added(handler: logging.Handler, level: int | None = None) -> Iterator[None]:
    """Add a handler to the library's loggers, and lower their level to at most ``level``."""
    loggers = [logging.getLogger(name) for name in PACKAGES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        if level is not None and logger.getEffectiveLevel() > level:
            logger.setLevel(level)
    try:
        yield
    finally:
        for logger, before in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(before)


class _LogFile(logging.FileHandler):
    """Ignores write errors: a full disk must not end the run because of its log."""

    def handleError(self, record):  # noqa: N802  logging's own name
        pass

    def close(self):
        with suppress(OSError):
            super().close()
