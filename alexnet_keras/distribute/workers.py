"""The workers of a run: opening the tf.distribute strategy, agreeing before the first step, and
exchanging what each of them has.
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
from alexnet_keras.distribute.cluster import Cluster, find_cluster, meet
from alexnet_keras.distribute.lost_workers import LOST_ERRORS, describe_lost_worker, is_loss
from alexnet_keras.errors import ConfigurationError, WorkerLostError

STRATEGIES = ("auto", "one", "mirrored", "multiworker")
PIECE = 2**22  # int32 values of one collective: 16 MiB


class Workers:
    """The processes that train together, as one of them sees them.

    ``strategy``: create variables under its scope. ``index`` of this process among ``count``;
    ``is_chief``: it alone writes. Every method that is a collective must be called by every
    worker, in the same order.
    """

    def __init__(self, strategy: tf.distribute.Strategy, cluster: Cluster | None = None):
        self.strategy = strategy
        self.cluster = cluster or Cluster(("localhost:0",), 0)
        self.index = self.cluster.index
        self.count = len(self.cluster.addresses)
        self.is_chief = self.index == 0

    @property
    def replicas(self) -> int:
        """How many devices this worker has."""
        return self.strategy.num_replicas_in_sync // self.count

    def per_replica(self, pieces: list):
        """``pieces`` (nested tensors), one for each device of this worker, as an argument of a
        function of the strategy.
        """
        if len(pieces) == 1:
            return pieces[0]
        place = iter(pieces)
        return self.strategy.experimental_distribute_values_from_function(
            lambda context: next(place)
        )

    def local_values(self, value) -> tuple:
        """A value that a function of the strategy returned, as each device of this worker has
        it.
        """
        return self.strategy.experimental_local_results(value)

    def exchange(self, facts: dict) -> list[dict]:
        """The JSON-able ``facts`` of every worker, by index. A collective; raises
        ``WorkerLostError``.
        """
        if self.count == 1:
            return [facts]
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8).astype(np.int32)
        lengths = self._sum(_in_row(np.array([text.size], np.int32), self.index, self.count, 1))
        width = int(lengths.max())
        rows = (
            self._sum(_in_row(text, self.index, self.count, width))
            .reshape(self.count, width)
            .astype(np.uint8)
        )
        return [
            json.loads(row[:length].tobytes()) for row, length in zip(rows, lengths, strict=True)
        ]

    def require_equal(self, facts: dict) -> None:
        """Raise the same ``ConfigurationError`` on every worker if a field of ``facts`` is not the
        chief's everywhere.

        A collective. Its text is such as ``worker 1: tensorflow 2.20.0, expected 2.21.0 as on
        worker 0``.
        """
        chief, *others = self.exchange(facts)
        for index, other in enumerate(others, 1):
            for field in [*chief, *(field for field in other if field not in chief)]:
                found = other.get(field, "absent")
                expected = chief.get(field, "absent")
                if found != expected:
                    raise ConfigurationError(
                        f"worker {index}: {field} {found}, expected {expected} as on worker 0"
                    )

    def total(self, values: list) -> list[np.ndarray]:
        """The sums over all workers of each of their arrays (int32, int64 or floating). A
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

        A collective; what the others pass is not looked at. It needs 16 MiB beside the arrays.
        Raises ``WorkerLostError``.
        """
        if self.count == 1:
            return dict(arrays), state
        arrays = (
            {name: np.asarray(array, order="C") for name, array in arrays.items()}
            if self.is_chief
            else {}
        )
        shapes = {name: (array.dtype.str, array.shape) for name, array in arrays.items()}
        sent = self.exchange({"arrays": shapes, "state": state} if self.is_chief else {})[0]
        received = {
            name: self._receive(arrays.get(name), np.dtype(dtype), tuple(shape))
            for name, (dtype, shape) in sent["arrays"].items()
        }
        return received, sent["state"]

    def _receive(
        self, array: np.ndarray | None, dtype: np.dtype, shape: tuple[int, ...]
    ) -> np.ndarray:
        """A sum in which only the chief's bits are not zero, as int32: a float's sign of zero or
        NaN would not survive.
        """
        found = np.zeros(shape, dtype) if array is None else array.copy()
        data = found.reshape(-1).view(np.uint8)
        for first in range(0, data.size, 4 * PIECE):
            part = data[first : first + 4 * PIECE]
            padded = np.pad(part, (0, -part.size % 4)).view(np.int32)
            part[:] = self._sum(padded).view(np.uint8)[: part.size]
        return found

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """The sum over workers of equally long vectors."""
        with self.detect_lost_worker():
            total = self._summing_function(values.dtype.name)(tf.constant(values))
            return self.local_values(total)[0].numpy()

    @functools.lru_cache  # noqa: B019  as many as there are dtypes
    def _summing_function(self, dtype: str) -> tf.types.experimental.GenericFunction:
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
        """Around each step or collective: TensorFlow's errors of a lost worker become one
        ``WorkerLostError``.

        Variables can still be read after it, and the process can exit; no other collective can
        run.
        """
        began = time.monotonic()
        try:
            yield
        except LOST_ERRORS as error:
            if self.count == 1 or not is_loss(error):
                raise
            raise WorkerLostError(
                f"{describe_lost_worker(str(error), self.cluster)} was lost: no answer, waited "
                f"{time.monotonic() - began:.1f} seconds; the run can be resumed"
            ) from error


def _in_row(values: np.ndarray, row: int, rows: int, width: int) -> np.ndarray:
    """A (rows, width) int32 table, flat, that is zero but for ``values`` at the beginning of
    ``row``.
    """
    table = np.zeros((rows, width), np.int32)
    table[row, : values.size] = values
    return table.reshape(-1)


def open_workers(strategy: str = "auto", worker_timeout: float = 300.0) -> Workers:
    """The workers of this run. Call it before any other TensorFlow operation, and once a process.

    ``strategy``: ``one`` device; ``mirrored`` over the GPUs of this machine (over the CPU where it
    has none); ``multiworker``, the processes that TF_CONFIG or Slurm names; ``auto``, the last one
    that applies. A worker that does not answer within ``worker_timeout`` seconds is lost. Raises
    ``ConfigurationError``, ``WorkerLostError``.
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
            "strategy multiworker: expected workers in TF_CONFIG or Slurm's variables, got neither"
        )
    with _quiet():
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
            "strategy multiworker: expected to be opened before any other TensorFlow operation, "
            "got it after one"
        )
    meet(cluster, timeout)
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
            "join: "
            f"{str(error).splitlines()[0]}"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what TensorFlow writes to its log about strategies, and for good what its health
    check writes.
    """
    logger = tf.get_logger()
    logger.addFilter(_not_health)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _not_health(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(
        ("Cluster check alive failed", "Unexpected exception in check alive")
    )
