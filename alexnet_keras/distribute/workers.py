"""The workers of a run: they open the ``tf.distribute`` strategy, check that they agree before the
first step, and exchange values.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import tensorflow as tf

from alexnet_keras import tensorflow_internals
from alexnet_keras.distribute.cluster import Cluster, find_cluster, wait_for_peers
from alexnet_keras.distribute.lost_workers import (
    LOST_ERRORS,
    describe_lost_worker,
    is_lost_worker_error,
)
from alexnet_keras.errors import ConfigurationError, WorkerLostError

STRATEGIES = ("auto", "one", "mirrored", "multiworker")
# int32 values per collective operation: 16 MiB.
CHUNK_VALUES = 2**22


class Workers:
    """The processes that train together, seen from one of them.

    ``strategy``: create variables under its scope. ``index``: of this process among ``count``.
    ``is_chief``: whether it is worker 0, the only one that writes files. All workers must call the
    methods that are collectives, in the same order.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None):
        self.strategy = strategy
        self.cluster = cluster or Cluster(("localhost:0",), 0)
        self.index = self.cluster.index
        self.count = len(self.cluster.addresses)
        self.is_chief = self.index == 0

    @property
    def replicas(self) -> int:
        """Number of devices of this worker."""
        return self.strategy.num_replicas_in_sync // self.count

    def per_replica(self, pieces: list):
        """``pieces`` (nested tensors), one for each device of this worker, as an argument of a
        function of the strategy.
        """
        if len(pieces) == 1:
            return pieces[0]
        remaining = iter(pieces)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: next(remaining)
        )

    def local_values(self, value) -> tuple:
        """What a function of the strategy returned on each device of this worker."""
        return self.strategy.experimental_local_results(value)

    def all_gather(self, value: dict) -> list[dict]:
        """The JSON-able ``value`` of every worker, by index. A collective; raises
        ``WorkerLostError``.
        """
        if self.count == 1:
            return [value]
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).astype(np.int32)
        lengths = self._sum(_one_row(np.array([text.size], np.int32), self.index, self.count, 1))
        width = int(lengths.max())
        rows = (
            self._sum(_one_row(text, self.index, self.count, width))
            .reshape(self.count, width)
            .astype(np.uint8)
        )
        return [
            json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)
        ]

    def check_equal(self, value: dict) -> None:
        """Raise the same ``ConfigurationError`` on every worker if a field of ``value`` differs
        from the chief's on any worker.

        A collective. The message is, for example, ``worker 1: tensorflow: expected 2.21.0 as on
        worker 0, got 2.20.0``.
        """
        chief, *others = self.all_gather(value)
        for index, other in enumerate(others, 1):
            for field in [*chief, *(field for field in other if field not in chief)]:
                found = other.get(field, "absent")
                expected = chief.get(field, "absent")
                if found != expected:
                    raise ConfigurationError(
                        f"worker {index}: {field}: expected {expected} as on worker 0, got {found}"
                    )

    def all_reduce_sum(self, values: list) -> list[np.ndarray]:
        """Sum each array of ``values`` (int32, int64 or floating) over all workers. A
        collective.
        """
        if self.count == 1:
            return values
        arrays = [np.asarray(value) for value in values]
        return [self._sum(array.reshape(-1)).reshape(array.shape) for array in arrays]

    def broadcast(
        self, arrays: dict[str, np.ndarray] | None, state: dict | None
    ) -> tuple[dict[str, np.ndarray], dict]:
        """The chief's ``arrays`` (any numeric dtype and shape) and JSON-able ``state``, bit for
        bit, on every worker.

        A collective; the arguments of the other workers are ignored. It needs 16 MiB besides the
        arrays. Raises ``WorkerLostError``.
        """
        if self.count == 1:
            return dict(arrays), state
        arrays = (
            {name: np.asarray(array, order="C") for name, array in arrays.items()}
            if self.is_chief
            else {}
        )
        shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        sent = self.all_gather({"arrays": shapes, "state": state} if self.is_chief else {})[0]
        received = {
            name: self._receive(arrays.get(name), np.dtype(dtype), tuple(shape))
            for name, (dtype, shape) in sent["arrays"].items()
        }
        return received, sent["state"]

    def _receive(
        self, array: np.ndarray | None, dtype: np.dtype, shape: tuple[int, ...]
    ) -> np.ndarray:
        """The chief's ``array``, from a sum to which the other workers add zeros.

        The bits are summed as int32: as floats, the sign of a zero and NaNs would not survive.
        """
        received = np.zeros(shape, dtype) if array is None else array.copy()
        data = received.reshape(-1).view(np.uint8)
        for first in range(0, data.size, 4 * CHUNK_VALUES):
            part = data[first : first + 4 * CHUNK_VALUES]
            padded = np.pad(part, (0, -part.size % 4)).view(np.int32)
            part[:] = self._sum(padded).view(np.uint8)[: part.size]
        return received

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Sum a vector, of the same length on each worker, over all workers."""
        with self.detect_lost_worker():
            total = self._make_all_reduce(values.dtype.name)(tf.constant(values))
            return self.local_values(total)[0].numpy()

    @functools.lru_cache  # noqa: B019  one entry per dtype
    def _make_all_reduce(self, dtype: str) -> tf.types.experimental.GenericFunction:
        """Traced once for vectors of any length."""
        local = self.replicas

        def replica(values):
            replica = tf.distribute.get_replica_context()
            # One of a worker's devices contributes.
            first = tf.equal(replica.replica_id_in_sync_group % local, 0)
            return replica.all_reduce(
                tf.distribute.ReduceOp.SUM, tf.where(first, values, tf.zeros_like(values))
            )

        return tf.function(
            lambda values: self.strategy.run(replica, args=(values,)),
            input_signature=[tf.TensorSpec([None], dtype)],
            autograph=False,
        )

    @contextmanager
    def detect_lost_worker(self) -> Iterator[None]:
        """Turn TensorFlow's errors about a lost worker into a ``WorkerLostError``; wraps each step
        and each collective.

        Afterwards variables can still be read and the process can exit, but no other collective
        can run.
        """
        began = time.monotonic()
        try:
            yield
        except LOST_ERRORS as error:
            if self.count == 1 or not is_lost_worker_error(error):
                raise
            raise WorkerLostError(
                f"{describe_lost_worker(str(error), self.cluster)} was lost: no answer, waited "
                f"{time.monotonic() - began:.1f} seconds; the run can be resumed"
            ) from error


def _one_row(values: np.ndarray, row: int, rows: int, width: int) -> np.ndarray:
    """A flattened (rows, width) int32 table of zeros, but for ``values`` at the start of
    ``row``.
    """
    table = np.zeros((rows, width), np.int32)
    table[row, : values.size] = values
    return table.reshape(-1)


def open_workers(strategy: str = "auto", worker_timeout: float = 300.0) -> Workers:
    """The workers of this run. Call it before any other TensorFlow operation, only once per
    process.

    ``strategy``: ``one`` device; ``mirrored`` over the GPUs of this machine (over the CPU if it
    has none); ``multiworker``, the processes that TF_CONFIG or Slurm names; ``auto``, the last of
    these that applies. A worker that does not answer within ``worker_timeout`` seconds is lost.
    Raises ``ConfigurationError``, ``WorkerLostError``.
    """
    if strategy not in STRATEGIES:
        raise ConfigurationError(f"strategy: expected {', '.join(STRATEGIES)}, got {strategy!r}")
    if not 1 <= worker_timeout <= 86_400:
        raise ConfigurationError(
            f"worker_timeout: expected 1 to 86400 seconds, got {worker_timeout:g}"
        )
    cluster = find_cluster(os.environ) if strategy in ("auto", "multiworker") else None
    if strategy == "multiworker" and cluster is None:
        raise ConfigurationError(
            "strategy: expected workers in TF_CONFIG or Slurm's variables for multiworker, got "
            "neither"
        )
    with _quiet_tensorflow_log():
        if cluster is not None and len(cluster.addresses) > 1:
            return _open_multiworker(cluster, worker_timeout)
        gpus = tf.config.get_visible_devices("GPU")
        if strategy == "mirrored" or (strategy != "one" and len(gpus) > 1):
            devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices(
                "CPU"
            )
            return Workers(tf.distribute.MirroredStrategy([device.name for device in devices]))
    return Workers(tf.distribute.get_strategy())


def _open_multiworker(cluster: Cluster, timeout: float) -> Workers:
    if tensorflow_internals.context_is_initialized():
        raise ConfigurationError(
            "strategy: expected multiworker to be opened before any other TensorFlow operation, "
            "got an earlier operation"
        )
    wait_for_peers(cluster, timeout)
    tensorflow_internals.check_workers_health(timeout)
    gpus = len(tf.config.get_visible_devices("GPU"))
    communication = tf.distribute.experimental.CommunicationImplementation
    try:
        return Workers(
            tf.distribute.MultiWorkerMirroredStrategy(
                tf.distribute.cluster_resolver.SimpleClusterResolver(
                    tf.train.ClusterSpec({"worker": list(cluster.addresses)}),
                    task_type="worker",
                    task_id=cluster.index,
                    num_accelerators={"GPU": gpus} if gpus else {},
                    rpc_layer="grpc",
                ),
                tf.distribute.experimental.CommunicationOptions(
                    implementation=communication.AUTO if gpus else communication.RING,
                    timeout_seconds=timeout,
                ),
            ),
            cluster,
        )
    except (RuntimeError, tf.errors.OpError) as error:
        if "Timeout waiting" in str(error) or isinstance(error, LOST_ERRORS):
            raise WorkerLostError(
                f"the workers {', '.join(cluster.others.values())} answered but did not join "
                f"within {timeout:g} seconds"
            ) from error
        raise ConfigurationError(
            f"worker {cluster.index} at {cluster.addresses[cluster.index]}: TensorFlow cannot "
            f"join: {str(error).splitlines()[0]}"
        ) from error


@contextmanager
def _quiet_tensorflow_log() -> Iterator[None]:
    """Suppress TensorFlow's log messages about strategies in the block, and permanently those of
    its health check.
    """
    logger = tf.get_logger()
    logger.addFilter(_drop_health_messages)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _drop_health_messages(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(
        ("Cluster check alive failed", "Unexpected exception in check alive")
    )
