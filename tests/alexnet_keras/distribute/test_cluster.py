"""Clusters from TF_CONFIG and Slurm's variables, and the meeting of their workers."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alexnet_keras.distribute.cluster import (
    Cluster,
    expand_hostlist,
    find_cluster,
    slurm_tf_config,
    split_address,
    wait_for_peers,
)
from alexnet_keras.errors import ConfigurationError, WorkerLostError


def tf_config(cluster, task):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


TWO = {"worker": ["a:1", "b:2"]}
FIRST = {"type": "worker", "index": 0}


@pytest.mark.parametrize(
    ("cluster", "task", "addresses", "index"),
    [
        (TWO, {"type": "worker", "index": 1}, ("a:1", "b:2"), 1),
        (TWO, {"type": "worker", "index": "1"}, ("a:1", "b:2"), 1),
        ({"worker": ["a:1"], "chief": ["[::1]:2"]}, FIRST, ("[::1]:2", "a:1"), 1),
        ({"worker": ["a:1"], "chief": ["c:2"]}, {"type": "chief", "index": 0}, ("c:2", "a:1"), 0),
    ],
)
def test_tf_config(cluster, task, addresses, index):
    assert find_cluster(tf_config(cluster, task)) == Cluster(addresses, index)


VERTEX_JOB = json.dumps({"worker_pool_specs": [{"replica_count": 1}], "scheduling": {}})
MANAGED = {
    "Vertex AI, one node": (
        {
            "cluster": {"chief": ["training-workerpool0-0a1b2c-0:2222"]},
            "environment": "cloud",
            "task": {"type": "chief", "index": 0},
            "job": VERTEX_JOB,
        },
        ("training-workerpool0-0a1b2c-0:2222",),
        0,
    ),
    "Vertex AI, a trial of hyperparameter tuning on two nodes": (
        {
            "cluster": {
                "chief": ["training-workerpool0-0a1b2c-0:2222"],
                "worker": ["training-workerpool1-0a1b2c-0:2222"],
            },
            "environment": "cloud",
            "task": {"type": "worker", "index": 0, "trial": "3"},
            "job": VERTEX_JOB,
        },
        ("training-workerpool0-0a1b2c-0:2222", "training-workerpool1-0a1b2c-0:2222"),
        1,
    ),
    "AI Platform Training": (
        {
            "cluster": {"master": ["cmle-master-0:2222"], "worker": ["cmle-worker-0:2222"]},
            "environment": "cloud",
            "task": {"type": "master", "index": 0, "trial": "1", "cloud": "w93a1503672d4dd09-ml"},
            "job": {"scale_tier": "CUSTOM", "region": "us-central1"},
        },
        ("cmle-master-0:2222", "cmle-worker-0:2222"),
        0,
    ),
    "SageMaker, one node": (
        {
            "cluster": {"master": ["algo-1:2222"]},
            "environment": "cloud",
            "task": {"index": 0, "type": "master"},
        },
        ("algo-1:2222",),
        0,
    ),
    "SageMaker, two nodes": (
        {
            "cluster": {"worker": ["algo-1:8890", "algo-2:8890"]},
            "task": {"index": 1, "type": "worker"},
            "rpc_layer": "grpc",
        },
        ("algo-1:8890", "algo-2:8890"),
        1,
    ),
    "Kubeflow, TFJob of workers": (
        {
            "cluster": {
                "worker": [
                    "alexnet-worker-0.team.svc:2222",
                    "alexnet-worker-1.team.svc:2222",
                ]
            },
            "task": {"type": "worker", "index": 1},
            "environment": "cloud",
        },
        ("alexnet-worker-0.team.svc:2222", "alexnet-worker-1.team.svc:2222"),
        1,
    ),
    "Kubeflow, TFJob with a chief and no parameter servers": (
        {
            "cluster": {
                "chief": ["alexnet-chief-0.team.svc:2222"],
                "ps": [],
                "worker": ["alexnet-worker-0.team.svc:2222"],
            },
            "task": {"type": "chief", "index": 0},
            "environment": "cloud",
        },
        ("alexnet-chief-0.team.svc:2222", "alexnet-worker-0.team.svc:2222"),
        0,
    ),
}


@pytest.mark.parametrize("service", MANAGED)
def test_what_managed_services_write(service):
    config, addresses, index = MANAGED[service]
    assert find_cluster({"TF_CONFIG": json.dumps(config)}) == Cluster(addresses, index)


@pytest.mark.parametrize(
    "environ", [{}, {"TF_CONFIG": ""}, {"TF_CONFIG": "{}"}, {"TF_CONFIG": '{"cluster": {}}'}]
)
def test_no_cluster(environ):
    assert find_cluster(environ) is None


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        (
            {"TF_CONFIG": "worker=a:1"},
            "expected JSON, got 'worker=a:1': Expecting value: line 1 column 1 (char 0)",
        ),
        (
            {"TF_CONFIG": "[1]"},
            "expected an object of cluster, task, rpc_layer, environment, got [1]",
        ),
        ({"TF_CONFIG": '{"clusters": {}}'}, None),
        (
            {"TF_CONFIG": json.dumps({"cluster": TWO})},
            "task: expected an object of type, index, got None",
        ),
        (
            {"TF_CONFIG": json.dumps({"task": FIRST})},
            "cluster: expected an object of chief, master, worker, got None",
        ),
        (
            tf_config({"worker": []}, FIRST),
            "cluster.worker: expected at least one address, got {'worker': []}",
        ),
        (tf_config(TWO, {"type": "worker", "index": 2}), "task.index: expected 0 to 1, got 2"),
        (tf_config(TWO, {"type": "worker", "index": -1}), "task.index: expected 0 to 1, got -1"),
        (
            tf_config(TWO, {"type": "worker", "index": True}),
            "task.index: expected 0 to 1, got True",
        ),
        (tf_config(TWO, {"type": "worker", "index": 1.0}), "task.index: expected 0 to 1, got 1.0"),
        (tf_config(TWO, {"type": "worker"}), "task.index: expected 0 to 1, got None"),
        (tf_config(TWO, {"type": "chief", "index": 0}), "task.type: expected worker, got 'chief'"),
        (
            tf_config(TWO, {"type": ["worker"], "index": 0}),
            "task.type: expected worker, got ['worker']",
        ),
        (
            tf_config({**TWO, "ps": ["c:1"]}, FIRST),
            "cluster.ps: expected only chief, master, worker, got ['c:1']",
        ),
        (
            tf_config({**TWO, "evaluator": ["c:1"]}, FIRST),
            "cluster.evaluator: expected only chief, master, worker, got ['c:1']",
        ),
        (
            tf_config({**TWO, "chief": ["c:1", "d:1"]}, FIRST),
            "cluster.chief: expected one address, got ['c:1', 'd:1']",
        ),
        (
            tf_config({**TWO, "chief": ["c:1"], "master": ["d:1"]}, FIRST),
            "cluster.chief: expected one address, got ['c:1', 'd:1']",
        ),
        (
            tf_config({"worker": "a:1"}, FIRST),
            "cluster.worker: expected a list of host:port, got 'a:1'",
        ),
        (tf_config({"worker": ["a:1", 7]}, FIRST), "cluster.worker[1]: expected host:port, got 7"),
        (
            tf_config({"worker": ["a:1", "b"]}, FIRST),
            "cluster.worker[1]: expected host:port, got 'b'",
        ),
        (
            tf_config({"worker": ["a:x"]}, FIRST),
            "cluster.worker[0]: expected host:port, got 'a:x'",
        ),
        (
            tf_config({"worker": ["a:65536"]}, FIRST),
            "cluster.worker[0]: expected host:port, got 'a:65536'",
        ),
        (
            tf_config({"worker": ["a:0"]}, FIRST),
            "cluster.worker[0]: expected host:port, got 'a:0'",
        ),
        (
            tf_config({"worker": ["http://a:1"]}, FIRST),
            "cluster.worker[0]: expected host:port, got 'http://a:1'",
        ),
        (
            tf_config({"worker": ["a:1", "b:1", "a:1"]}, FIRST),
            "cluster.worker[0]: expected an address that no other task has, got 'a:1'",
        ),
    ],
)
def test_tf_config_that_cannot_be_used(environ, says):
    with pytest.raises(ConfigurationError) as raised:
        find_cluster(environ)
    says = says or "clusters: expected only cluster, task, rpc_layer, environment, got {}"
    assert str(raised.value) == f"TF_CONFIG: {says}"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["cluster", "task", "worker", "chief", "type", "index"]),
            inner,
            max_size=3,
        )
    ),
)


@given(JSON | st.text(max_size=30))
def test_any_tf_config_is_a_cluster_or_one_line(value):
    text = value if isinstance(value, str) else json.dumps(value)
    said = ""
    try:
        found = find_cluster({"TF_CONFIG": text})
    except ConfigurationError as error:
        said = str(error)
    assert "\n" not in said
    assert said or found is None or found.addresses


@pytest.mark.parametrize("text", ["[" * 100_000, "7" * 10_000], ids=["deep", "long number"])
def test_what_no_json_reader_takes_is_one_line(text):
    with pytest.raises(
        ConfigurationError, match=r"^TF_CONFIG: expected JSON, got .{0,80}: [^\n]*$"
    ):
        find_cluster({"TF_CONFIG": text})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n1", ["n1"]),
        ("node[01-03,7],other", ["node01", "node02", "node03", "node7", "other"]),
        ("r[1-2]n[08-10].x", ["r1n08.x", "r1n09.x", "r1n10.x", "r2n08.x", "r2n09.x", "r2n10.x"]),
        ("a-1,b_2[9-10]", ["a-1", "b_29", "b_210"]),
    ],
)
def test_hostlists(text, names):
    assert expand_hostlist(text) == names


@pytest.mark.parametrize(
    "text",
    ["", "a,", "a[1", "a]1[", "a[1-]", "a[3-1]", "a[]", "a[1,,2]", "a b", "a[0-999999999]", "é"],
)
def test_hostlists_that_cannot_be_used(text):
    with pytest.raises(ConfigurationError, match=r"^SLURM_STEP_NODELIST: expected ") as raised:
        expand_hostlist(text)
    assert "\n" not in str(raised.value)


SLURM = {
    "SLURM_PROCID": "2",
    "SLURM_NTASKS": "3",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_JOB_ID": "259",
}


def test_slurm():
    ports = 16_384 + 64 * 3
    expected = {
        "cluster": {"worker": [f"n1:{ports}", f"n1:{ports + 1}", f"n2:{ports}"]},
        "task": {"type": "worker", "index": 2},
    }
    assert slurm_tf_config(SLURM) == expected
    assert slurm_tf_config({**SLURM, "SLURMD_NODENAME": "n2"}) == expected
    assert find_cluster(SLURM) == Cluster(tuple(expected["cluster"]["worker"]), 2)
    seven = {
        **SLURM,
        "SLURM_NTASKS": "7",
        "SLURM_STEP_NODELIST": "n[1-4]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x3),1",
    }
    hosts = [split_address(address)[0] for address in slurm_tf_config(seven)["cluster"]["worker"]]
    assert hosts == ["n1", "n1", "n2", "n2", "n3", "n3", "n4"]


def test_tf_config_goes_before_slurm():
    assert find_cluster({**SLURM, **tf_config(TWO, FIRST)}).addresses == ("a:1", "b:2")


@pytest.mark.parametrize(
    "change", [{"SLURM_NTASKS": "1"}, {"SLURM_PROCID": ""}, {"SLURM_STEP_NODELIST": ""}]
)
def test_not_a_slurm_step_of_several_tasks(change):
    """A batch script and an allocation's shell see SLURM_NTASKS too, but run no step."""
    assert slurm_tf_config({**SLURM, **change}) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"SLURM_NTASKS": "two"}, "SLURM_NTASKS: expected a number, got 'two'"),
        ({"SLURM_JOB_ID": ""}, "SLURM_JOB_ID: expected a number, got ''"),
        (
            {"SLURM_PROCID": "3"},
            "SLURM_STEP_TASKS_PER_NODE: expected 3 tasks on 2 nodes, including task 3, got '2,1'",
        ),
        (
            {"SLURM_STEP_TASKS_PER_NODE": "3"},
            "SLURM_STEP_TASKS_PER_NODE: expected 3 tasks on 2 nodes, including task 2, got '3'",
        ),
        (
            {"SLURM_STEP_TASKS_PER_NODE": "2x"},
            "SLURM_STEP_TASKS_PER_NODE: expected a list such as 2(x3),1, got '2x'",
        ),
        (
            {"SLURMD_NODENAME": "n1"},
            "SLURM_PROCID: expected task 2 on node n2, got n1; start with srun "
            "--distribution=block",
        ),
    ],
)
def test_slurm_that_cannot_be_used(change, says):
    with pytest.raises(ConfigurationError) as raised:
        slurm_tf_config({**SLURM, **change})
    assert str(raised.value) == says


def free_cluster(count=2):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = tuple(f"127.0.0.1:{one.getsockname()[1]}" for one in sockets)
    for one in sockets:
        one.close()
    return [Cluster(addresses, index) for index in range(count)]


def test_workers_meet_whoever_comes_last():
    first, second = free_cluster()
    waiting = threading.Thread(target=wait_for_peers, args=(first, 30))
    waiting.start()
    time.sleep(0.5)
    with socket.create_server(("127.0.0.1", split_address(second.addresses[1])[1])):
        waiting.join(30)
    assert not waiting.is_alive()


def test_a_worker_that_does_not_answer_is_named():
    first, _ = free_cluster()
    began = time.monotonic()
    with pytest.raises(WorkerLostError) as raised:
        wait_for_peers(first, 0.5)
    assert (
        str(raised.value)
        == f"worker 1 at {first.addresses[1]} does not answer after 0.5 seconds: Connection "
        "refused"
    )
    assert 0.5 <= time.monotonic() - began < 5


def test_a_name_that_nobody_has():
    first, _ = free_cluster()
    with pytest.raises(
        WorkerLostError, match=r"^worker 1 at .*:1 does not answer after 0.2 seconds: "
    ):
        wait_for_peers(Cluster((first.addresses[0], f"{'x' * 70}.invalid:1"), 0), 0.2)


def test_a_port_in_use():
    first, _ = free_cluster()
    taken = socket.create_server(("127.0.0.1", split_address(first.addresses[0])[1]))
    with taken, pytest.raises(ConfigurationError) as raised:
        wait_for_peers(first, 5)
    assert (
        str(raised.value)
        == f"worker 0 at {first.addresses[0]}: cannot listen on this port: Address already in use"
    )
