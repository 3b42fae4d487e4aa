"""Which of TensorFlow's errors mean that another worker is gone, and which worker that is."""

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


def is_loss(error: tf.errors.OpError) -> bool:
    """Whether one of ``LOST_ERRORS`` comes from a collective operation."""
    return not isinstance(error, tf.errors.InternalError) or "ollective" in str(error)


def describe_lost_worker(message: str, cluster: Cluster) -> str:
    """The worker that an error's message names, with its address, where it names one."""
    found = [index for index in map(int, PEER.findall(message)) if index in cluster.others]
    if not found and len(cluster.addresses) == 2:
        found = list(cluster.others)
    return f"worker {found[0]} at {cluster.addresses[found[0]]}" if found else "another worker"
