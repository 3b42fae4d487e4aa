"""``run.log``: what the library logged during a run, also before its folder was there."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alexnet_keras.errors import AlexNetError, RunError, error_reason

PACKAGES = ("alexnet_keras", "weights", "modes")


class RunLog(logging.Handler):
    """Keeps the library's warnings until :meth:`write_to` names the file that they go into."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @contextmanager
    def write_to(self, path: Path) -> Iterator[None]:
        """Write what was kept to ``path``, and in the block the whole log and the error that ends
        it. Raises ``RunError`` if there can be no such file.
        """
        try:
            handler = _LogFile(path, encoding="utf-8")
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error_reason(error)}") from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        for record in self.records:
            handler.handle(record)
        try:
            with _added(handler, logging.INFO):
                yield
        except AlexNetError as error:
            handler.emit(logging.makeLogRecord({"levelname": "ERROR", "msg": str(error)}))
            raise
        finally:
            handler.close()


@contextmanager
def keep_warnings() -> Iterator[RunLog]:
    """A :class:`RunLog` that hears the library until the block ends."""
    log = RunLog()
    with _added(log):
        yield log


@contextmanager
def _added(handler: logging.Handler, level: int | None = None) -> Iterator[None]:
    """The library's loggers with one handler more, at ``level`` where that is lower."""
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
    """A log that cannot be written, on a full disk, stops nothing; what matters fails by
    itself.
    """

    def handleError(self, record):  # noqa: N802  logging's own name
        pass

    def close(self):
        with suppress(OSError):
            super().close()
