"""Which workers train together: the cluster that TF_CONFIG or Slurm describes. No TensorFlow."""

from __future__ import annotations

import itertools
import json
import os
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass

from alexnet_keras.errors import ConfigurationError, WorkerLostError, error_reason

TF_CONFIG_KEYS = ("cluster", "task", "rpc_layer", "environment")
# "master" is the chief's name until TensorFlow 1.11.
TASK_TYPES = ("chief", "master", "worker")
BASE_PORT = 16_384
PORTS_PER_JOB = 64
PORT_SLOTS = 256
MAX_NODES = 65_536
RETRY_SECONDS = 0.2


@dataclass(frozen=True)
class Cluster:
    """``addresses`` (``host:port``) of every worker by index, the chief first, and the ``index``
    of this one.
    """

    addresses: tuple[str, ...]
    index: int

    @property
    def others(self) -> dict[int, str]:
        """The addresses of the other workers, by index."""
        return {
            index: address for index, address in enumerate(self.addresses) if index != self.index
        }


def find_cluster(environ: Mapping[str, str]) -> Cluster | None:
    """The cluster that ``TF_CONFIG`` names, else Slurm; None where neither does. Raises
    ``ConfigurationError``.
    """
    text = environ.get("TF_CONFIG", "").strip()
    try:
        config = json.loads(text) if text else slurm_tf_config(environ)
    except ConfigurationError:
        raise
    except (ValueError, RecursionError) as error:
        # Not only JSONDecodeError: a number of thousands of digits is a plain ValueError.
        raise ConfigurationError(
            f"TF_CONFIG: expected JSON, got {_short(text)}: {error}"
        ) from None
    return parse_tf_config(config) if text or config else None


def parse_tf_config(config: object) -> Cluster | None:
    """The cluster of a decoded TF_CONFIG: ``worker`` tasks, and at most one ``chief`` or
    ``master`` before them; None if it names none.

    Fields that managed services add (``job``, ``environment``, ``task.trial``) are ignored. Raises
    ``ConfigurationError``, also for parameter servers and evaluators.
    """
    _check_mapping("", config, TF_CONFIG_KEYS)
    if "cluster" not in config:
        _check_keys("", config, TF_CONFIG_KEYS)
    if not config.get("cluster") and not config.get("task"):
        return None
    cluster = config.get("cluster")
    _check_mapping("cluster", cluster, TASK_TYPES)
    named = {task_type: tasks for task_type, tasks in cluster.items() if tasks}
    _check_keys("cluster", named, TASK_TYPES)
    tasks = {
        (task_type, index): address
        for task_type in TASK_TYPES
        for index, address in enumerate(_addresses(cluster, task_type))
    }
    addresses = tuple(tasks.values())
    _require(addresses, "cluster.worker", "at least one address", cluster)
    chiefs = [address for (task_type, _), address in tasks.items() if task_type != "worker"]
    chief = "chief" if cluster.get("chief") else "master"
    _require(len(chiefs) < 2, f"cluster.{chief}", "one address", chiefs)
    for (task_type, index), address in tasks.items():
        _require(
            addresses.count(address) == 1,
            f"cluster.{task_type}[{index}]",
            "an address that no other task has",
            address,
        )
    return Cluster(addresses, list(tasks).index(_own_task(config, list(tasks))))


def _own_task(config: dict, tasks: list[tuple[str, int]]) -> tuple[str, int]:
    task = config.get("task")
    _check_mapping("task", task, ("type", "index"))
    task_type = task.get("type")
    index = task.get("index")
    types = sorted({each for each, _ in tasks})
    _require(task_type in types, "task.type", " or ".join(types), task_type)
    # Templates often quote the index.
    if isinstance(index, str) and index.isascii() and index.isdigit() and len(index) < 10:
        index = int(index)
    last = sum(each == task_type for each, _ in tasks) - 1
    _require(type(index) is int and 0 <= index <= last, "task.index", f"0 to {last}", index)
    return task_type, index


def _addresses(cluster: dict, task_type: str) -> list[str]:
    addresses = cluster.get(task_type, [])
    _require(isinstance(addresses, list), f"cluster.{task_type}", "a list of host:port", addresses)
    for index, address in enumerate(addresses):
        good = isinstance(address, str) and re.fullmatch(
            r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\]]+):[0-9]{1,5}", address
        )
        _require(
            good and 0 < split_address(address)[1] < 65_536,
            f"cluster.{task_type}[{index}]",
            "host:port",
            address,
        )
    return addresses


def _check_mapping(field: str, value: object, keys: tuple[str, ...]) -> None:
    _require(isinstance(value, dict), field, f"an object of {', '.join(keys)}", value)


def _check_keys(field: str, value: dict, keys: tuple[str, ...]) -> None:
    for key in value:
        name = f"{field}.{key}" if field else key
        _require(key in keys, name, f"only {', '.join(keys)}", value[key])


def _require(good: object, field: str, expected: str, value: object) -> None:
    if not good:
        raise ConfigurationError(
            f"TF_CONFIG: {field + ': ' if field else ''}expected {expected}, got {_short(value)}"
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def split_address(address: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[IPv6]:port`` into host and port."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def slurm_tf_config(environ: Mapping[str, str]) -> dict | None:
    """The TF_CONFIG of a task that ``srun`` started; None outside a Slurm step and for a step of
    one task.

    A job's workers listen on port ``16384 + 64 * (job id % 256)`` and, where several tasks share a
    node, on the ports after it. Tasks must be distributed by blocks, which is Slurm's default.
    Raises ``ConfigurationError``.
    """
    names = (
        "SLURM_PROCID",
        "SLURM_NTASKS",
        "SLURM_STEP_NODELIST",
        "SLURM_STEP_TASKS_PER_NODE",
        "SLURM_JOB_ID",
    )
    if not all(environ.get(name) for name in names[:3]) or _number(environ, "SLURM_NTASKS") < 2:
        return None
    index, count, job = (_number(environ, name) for name in (names[0], names[1], names[4]))
    nodes = expand_hostlist(environ[names[2]])
    sizes = _tasks_per_node(environ.get(names[3], ""))
    if len(nodes) != len(sizes) or sum(sizes) != count or index >= count:
        raise ConfigurationError(
            f"SLURM_STEP_TASKS_PER_NODE: expected {count} tasks on {len(nodes)} nodes, including "
            f"task {index}, got {environ.get(names[3])!r}"
        )
    first = BASE_PORT + PORTS_PER_JOB * (job % PORT_SLOTS)
    hosts = [
        (node, local) for node, size in zip(nodes, sizes, strict=True) for local in range(size)
    ]
    expected = hosts[index][0]
    this_node = environ.get("SLURMD_NODENAME", expected)
    if this_node != expected:
        raise ConfigurationError(
            f"SLURM_PROCID: expected task {index} on node {expected}, got {this_node}; start with "
            "srun --distribution=block"
        )
    return {
        "cluster": {"worker": [f"{node}:{first + local}" for node, local in hosts]},
        "task": {"type": "worker", "index": index},
    }


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    if not re.fullmatch(r"[0-9]{1,10}", text):
        raise ConfigurationError(f"{name}: expected a number, got {_short(text)}")
    return int(text)


def _tasks_per_node(text: str) -> list[int]:
    """``2(x3),1`` is 2, 2, 2, 1."""
    sizes = []
    for part in text.split(","):
        found = re.fullmatch(r"([0-9]{1,5})(?:\(x([0-9]{1,5})\))?", part)
        if not found:
            raise ConfigurationError(
                f"SLURM_STEP_TASKS_PER_NODE: expected a list such as 2(x3),1, got {_short(text)}"
            )
        sizes += [int(found[1])] * int(found[2] or 1)
    return sizes


def expand_hostlist(text: str) -> list[str]:
    """The names of a Slurm hostlist, in order: ``node[01-03,7],other`` is node01, node02, node03,
    node7, other.
    """
    if not re.fullmatch(r"(?:[\w.-]|\[[0-9,-]+\])+(?:,(?:[\w.-]|\[[0-9,-]+\])+)*", text, re.ASCII):
        raise ConfigurationError(
            f"SLURM_STEP_NODELIST: expected a list such as node[01-03,7],other, got {_short(text)}"
        )
    names = itertools.chain.from_iterable(
        _expand(part) for part in re.split(r",(?![^\[]*\])", text)
    )
    found = list(itertools.islice(names, MAX_NODES + 1))
    if len(found) > MAX_NODES:
        raise ConfigurationError(
            f"SLURM_STEP_NODELIST: expected at most {MAX_NODES} nodes, got {_short(text)}"
        )
    return found


def _expand(part: str) -> Iterator[str]:
    before, bracket, after = part.partition("[")
    if not bracket:
        yield before
        return
    ranges, _, rest = after.partition("]")
    for item in ranges.split(","):
        found = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", item)
        if not found or int(found[2] or found[1]) < int(found[1]):
            raise ConfigurationError(
                f"SLURM_STEP_NODELIST: expected a range such as 01-03, got {_short(item)}"
            )
        for number in range(int(found[1]), int(found[2] or found[1]) + 1):
            yield from (f"{before}{number:0{len(found[1])}}{tail}" for tail in _expand(rest))


def wait_for_peers(cluster: Cluster, timeout: float) -> None:
    """Listen on this worker's port until every other worker has answered on its own.

    Raises ``ConfigurationError`` if the port is taken, ``WorkerLostError`` for the first worker
    that does not answer within ``timeout`` seconds of the call. Call it before TensorFlow's server
    is started, which would wait forever.
    """
    with closing(_listener(cluster)):
        began = time.monotonic()
        for index, address in cluster.others.items():
            while reason := _connection_error(
                address, max(0.1, began + timeout - time.monotonic())
            ):
                if time.monotonic() - began >= timeout:
                    raise WorkerLostError(
                        f"worker {index} at {address} does not answer after {timeout:g} seconds: "
                        f"{reason}"
                    )
                time.sleep(RETRY_SECONDS)


def _listener(cluster: Cluster) -> socket.socket:
    own = cluster.addresses[cluster.index]
    try:
        return socket.create_server(
            ("", split_address(own)[1]), backlog=len(cluster.addresses) + 8
        )
    except OSError as error:
        raise ConfigurationError(
            f"worker {cluster.index} at {own}: cannot listen on this port: "
            f"{os.strerror(error.errno)}"
        ) from None


def _connection_error(address: str, seconds: float) -> str:
    """Why no connection to ``address`` can be made; empty if one can."""
    try:
        socket.create_connection(split_address(address), timeout=min(seconds, 5.0)).close()
        return ""
    except (OSError, UnicodeError) as error:
        # UnicodeError: a label of the host name is too long.
        return error_reason(error)
