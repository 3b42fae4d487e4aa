"""Workers: strategies, agreement and lost peers, in processes of their own (a strategy a
process).
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import pytest

from alexnet_keras.distribute.workers import open_workers
from alexnet_keras.errors import ConfigurationError
from tests.conftest import ROOT

START = """
import os, sys, time
import numpy as np, tensorflow as tf
from alexnet_keras.errors import AlexNetError, ConfigurationError, WorkerLostError
from alexnet_keras.distribute.workers import open_workers

def steps(workers, count=10**9):
    with workers.strategy.scope():
        weight = tf.Variable(tf.ones(1000))
    def replica(value):
        return tf.distribute.get_replica_context().all_reduce("SUM", tf.identity(value))
    step = tf.function(lambda: workers.strategy.run(replica, args=(weight,)))
    for number in range(count):
        with workers.detect_lost_worker():
            step()
        print("step", number, flush=True)
        time.sleep(0.02)
"""
TRY = """
try:
    {}
except AlexNetError as error:
    print(f"{{type(error).__name__}}: {{error}}", flush=True)
    sys.exit(75)
"""


def free_ports(count):
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def started(code, count=2, indices=None, ports=None):
    """Processes that run ``code`` as the workers of one cluster on this machine; they do not
    outlive the block.
    """
    ports, running = ports or free_ports(count), []
    try:
        for index in range(count) if indices is None else indices:
            config = {
                "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
                "task": {"type": "worker", "index": index},
            }
            environ = {
                **os.environ,
                "TF_CONFIG": json.dumps(config),
                "PYTHONPATH": str(ROOT),
                "KERAS_BACKEND": "tensorflow",
            }
            running.append(
                subprocess.Popen(
                    [sys.executable, "-c", START + code],
                    stdout=subprocess.PIPE,
                    cwd=ROOT,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environ,
                )
            )
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def outputs(running, seconds=180):
    """What each has printed, after all ended well."""
    results = [process.communicate(timeout=seconds) for process in running]
    assert [process.returncode for process in running] == [0] * len(running), [
        error[-2000:] for _, error in results
    ]
    return [output for output, _ in results]


def chatter(errors):
    """Lines on stderr that TensorFlow did not write before any log level is looked at."""
    early = re.compile(
        r"WARNING: All log messages before absl|cuda|oneDNN|Unable to register|computation "
        r"placer|TF-TRT"
    )
    return [line for line in errors.splitlines() if not early.search(line)]


@pytest.mark.slow
def test_workers_exchange_agree_and_receive_every_bit():
    code = """
workers = open_workers("auto", 120)
print(workers.index, workers.count, workers.is_chief, workers.strategy.num_replicas_in_sync)
facts = workers.all_gather({"index": workers.index, "name": "é" * (1 + 3000 * workers.index)})
print([(fact["index"], len(fact["name"])) for fact in facts])
workers.check_equal({"tensorflow": "2.21.0", "seed": 3})
bits = np.arange(2**16, dtype=np.uint16)
floats = (bits.astype(np.uint32) << 16 | 1).view(np.float32).reshape(256, 256)
sent = {"half": bits.view(np.float16), "float": floats, "int": np.array(-2**62),
        "none": np.zeros((0, 3), np.float32), "large": np.arange(5 * 2**20, dtype=np.float32)}
arrays, state = workers.broadcast(*((sent, {"step": 7}) if workers.is_chief else (None, None)))
same = {name: arrays[name].tobytes() == sent[name].tobytes() for name in sent}
print(state, [same[name] and arrays[name].shape == sent[name].shape
              and arrays[name].dtype == sent[name].dtype for name in sent])
try:
    workers.check_equal({"data": "abc", "tensorflow": f"2.2{1 - workers.index}.0"})
except ConfigurationError as error:
    print(error)
"""
    with started(code) as running:
        for index, output in enumerate(outputs(running)):
            assert output.splitlines() == [
                f"{index} 2 {index == 0} 2",
                "[(0, 1), (1, 3001)]",
                "{'step': 7} [True, True, True, True, True]",
                "worker 1: tensorflow: expected 2.21.0 as on worker 0, got 2.20.0",
            ]


@pytest.mark.slow
def test_exchanges_of_every_length_are_traced_once():
    """Else TensorFlow warns of retracing in the log of every worker."""
    code = """
workers = open_workers("auto", 120)
for length in range(12):
    workers.all_gather({"text": "a" * 10 * length})
workers.all_reduce_sum([np.arange(3.0), np.arange(2), np.ones((2, 2), np.int32)])
print(workers.all_reduce_sum([np.arange(3.0)])[0].tolist())
"""
    with started(code) as running:
        for process in running:
            output, errors = process.communicate(timeout=180)
            assert (process.returncode, output) == (0, "[0.0, 2.0, 4.0]\n"), errors
            assert chatter(errors) == []


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_a_lost_worker_is_an_error_in_time(victim, blow):
    code = """
workers = open_workers("auto", 12)
with workers.strategy.scope():
    kept = tf.Variable(tf.ones(5))
try:
    steps(workers)
except WorkerLostError as error:
    print(error, flush=True)
print("kept", kept.numpy().sum(), flush=True)
sys.exit(75)
"""
    with started(code) as running:
        other = running[1 - victim]
        assert any("step 20" in line for line in other.stdout), other.stderr.read()
        running[victim].send_signal(blow)
        began = time.monotonic()
        output, errors = other.communicate(timeout=60)
        seconds = time.monotonic() - began
    lines = [line for line in output.splitlines() if not line.startswith("step")]
    assert re.fullmatch(
        rf"worker {victim} at 127.0.0.1:\d+ was lost: no answer, waited [\d.]+ seconds; "
        "the run can be resumed",
        lines[0],
    )
    assert lines[1:] == ["kept 5.0"]
    assert other.returncode == 75
    assert seconds < 12 + 8, seconds
    assert chatter(errors) == []


@pytest.mark.slow
@pytest.mark.parametrize("absent", [0, 1])
def test_a_worker_that_never_comes(absent):
    with started(TRY.format("open_workers('auto', 3)"), indices=[1 - absent]) as (waiting,):
        output, errors = waiting.communicate(timeout=120)
    assert re.fullmatch(
        rf"WorkerLostError: worker {absent} at 127.0.0.1:\d+ does not answer after 3 seconds: "
        r"Connection refused\n",
        output,
    )
    assert (waiting.returncode, chatter(errors)) == (75, [])


@pytest.mark.slow
def test_something_else_answers_in_the_place_of_a_worker():
    """It listens and never speaks: the wait is bounded all the same."""
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        ports = [*free_ports(1), stranger.getsockname()[1]]
        with started(TRY.format("open_workers('auto', 4)"), indices=[0], ports=ports) as (
            waiting,
        ):
            output, errors = waiting.communicate(timeout=120)
    assert (
        output
        == f"WorkerLostError: the workers 127.0.0.1:{ports[1]} answered but did not join within "
        "4 seconds\n"
    )
    assert (waiting.returncode, chatter(errors)) == (75, [])


@pytest.mark.slow
def test_too_late_and_sigterm_is_left_alone():
    code = (
        """
import signal
signal.signal(signal.SIGTERM, lambda *_: print("heard", flush=True))
"""
        + TRY.format("workers = open_workers('multiworker', 60)")
        + """
os.kill(os.getpid(), signal.SIGTERM)
workers.all_gather({})
"""
    )
    with started(code) as running:
        assert outputs(running) == ["heard\n"] * 2
    with started("tf.zeros(3)" + TRY.format("open_workers('multiworker', 60)"), indices=[0]) as (
        late,
    ):
        output, _ = late.communicate(timeout=120)
    assert output == (
        "ConfigurationError: strategy: expected multiworker to be opened before any other "
        "TensorFlow operation, got an earlier operation\n"
    )


@pytest.mark.slow
def test_mirrored_over_two_devices_of_one_process():
    code = (
        START
        + """
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
workers = open_workers("mirrored")
strategy = workers.strategy
print(type(strategy).__name__, strategy.num_replicas_in_sync, workers.all_gather({"a": 1}))
steps(workers, 2)
"""
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines() == ["MirroredStrategy 2 [{'a': 1}]", "step 0", "step 1"], (
        done.stderr
    )
    assert chatter(done.stderr) == []


def test_one_worker_needs_no_other(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    for name in ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    workers = open_workers()
    assert (workers.index, workers.count, workers.is_chief) == (0, 1, True)
    assert workers.all_gather({"a": [1, "é"]}) == [{"a": [1, "é"]}]
    workers.check_equal({"a": 1})
    assert workers.broadcast({"w": [1.0]}, {"step": 3}) == ({"w": [1.0]}, {"step": 3})
    with pytest.raises(ZeroDivisionError), workers.detect_lost_worker():
        _ = 1 / 0


def test_a_tf_config_of_one_worker_is_one_worker(monkeypatch):
    monkeypatch.setenv(
        "TF_CONFIG",
        json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}),
    )
    assert open_workers("multiworker").count == 1


@pytest.mark.parametrize(
    ("strategy", "timeout", "says"),
    [
        ("ring", 300, "strategy: expected auto, one, mirrored, multiworker, got 'ring'"),
        ("one", 0, "worker_timeout: expected 1 to 86400 seconds, got 0"),
        ("one", float("nan"), "worker_timeout: expected 1 to 86400 seconds, got nan"),
        (
            "multiworker",
            300,
            "strategy: expected workers in TF_CONFIG or Slurm's variables for multiworker, got "
            "neither",
        ),
    ],
)
def test_arguments_that_cannot_be_used(monkeypatch, strategy, timeout, says):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    monkeypatch.delenv("SLURM_PROCID", raising=False)
    with pytest.raises(ConfigurationError) as raised:
        open_workers(strategy, timeout)
    assert str(raised.value) == says


def test_a_bad_tf_config_never_reaches_tensorflow(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ConfigurationError, match=r"^TF_CONFIG: expected JSON, got '\{': "):
        open_workers()
