"""The private names of TensorFlow that this project uses, all in this file.

Tested with TensorFlow 2.18 to 2.21; a test names the first one that is missing.
"""

from __future__ import annotations

from tensorflow.python.distribute.collective_all_reduce_strategy import (
    CollectiveAllReduceExtended,
)
from tensorflow.python.eager import context
from tensorflow.python.saved_model.save_context import in_save_context

__all__ = [
    "HEALTH_CHECK_FIELDS",
    "check_workers_health",
    "context_is_initialized",
    "in_save_context",
]

HEALTH_CHECK_FIELDS = (
    "_check_health_initial_timeout",
    "_check_health_interval",
    "_check_health_timeout",
    "_check_health_retry_limit",
)


def context_is_initialized() -> bool:
    """Whether an operation has already run, after which this process can join no cluster."""
    return context.context()._context_handle is not None


def check_workers_health(timeout_seconds: float) -> None:
    """Make the strategies of several workers check one another's health.

    A worker that does not answer ends every collective operation, even one without a timeout.
    TensorFlow's coordination service is turned off: it waits for absent workers forever, and
    handles SIGTERM itself.
    """
    context.context().configure_coordination_service(service_type="")
    seconds = (
        timeout_seconds,
        min(30, timeout_seconds / 4),
        max(1, int(timeout_seconds / 2)),
    )
    for name, value in zip(HEALTH_CHECK_FIELDS, (*seconds, 1), strict=True):
        setattr(CollectiveAllReduceExtended, name, value)
