"""Recognize TensorFlow's errors that mean a lost worker, and name that worker."""

from __future__ import annotations

import re

import tensorflow as tf

from alexnet_keras.distribute.cluster import Cluster

LOST_ERRORS = (
    tf.errors.UnavailableError,
    tf.errors.DeadlineExceededError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)
PEER = re.compile(r"/job:worker(?:/replica:0)?/task:(\d+)")


def is_lost_worker_error(error: tf.errors.OpError) -> bool:
    """Whether an error of ``LOST_ERRORS`` was raised by a collective operation."""
    return not isinstance(error, tf.errors.InternalError) or "ollective" in str(error)


def describe_lost_worker(message: str, cluster: Cluster) -> str:
    """Index and address of the worker that an error message names, or ``another worker``."""
    found = [index for index in map(int, PEER.findall(message)) if index in cluster.others]
    if not found and len(cluster.addresses) == 2:
        found = list(cluster.others)
    return f"worker {found[0]} at {cluster.addresses[found[0]]}" if found else "another worker"
