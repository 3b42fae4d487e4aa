"""Two workers and one: the same run, whoever computes it; and what is left of it when a worker is
killed.
"""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests.alexnet_keras.distribute.test_workers import free_ports
from tests.alexnet_keras.test_imports import ROOT
from tests.alexnet_keras.tiny import picture_files

STEPS, SOON = 50, 240
pytestmark = pytest.mark.slow


def started(folder, name, count, *arguments, steps=STEPS, **variables):
    ports = free_ports(count)
    for index in range(count):
        config = {
            "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
            "task": {"type": "worker", "index": index},
        }
        environ = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "TF_NUM_INTRAOP_THREADS": "1",
            "TF_CONFIG": json.dumps(config),
            **variables,
        }
        yield subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.alexnet_keras.training.elastic_worker",
                name,
                str(steps),
                *map(str, arguments),
            ],
            cwd=folder,
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def run(folder, name, count, *arguments, **options):
    """Exit codes and outputs of the workers of a run, which do not outlive it."""
    running = list(started(folder, name, count, *arguments, **options))
    try:
        printed = [process.communicate(timeout=SOON)[0] for process in running]
        return [process.returncode for process in running], printed
    finally:
        for process in running:
            process.kill()


def told(folder, name, index=0):
    return json.loads((folder / f"{name}-{index}.json").read_text())


def weights(folder, name):
    with np.load(folder / f"{name}.npz") as arrays:
        return [arrays[key] for key in arrays]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run on one worker and the same run on two, side by side."""
    folder = tmp_path_factory.mktemp("elastic")
    (folder / "pictures").mkdir()
    picture_files(folder / "pictures", 40)
    for name, count in (("one", 1), ("two", 2)):
        codes, printed = run(folder, name, count)
        assert codes == [0] * count, printed
    return folder


def test_two_workers_are_one(folder):
    one, chief, other = told(folder, "one"), told(folder, "two"), told(folder, "two", 1)
    assert chief["losses"] == other["losses"]
    assert chief["figures"] == other["figures"]
    assert len(one["losses"]) == STEPS
    np.testing.assert_allclose(
        list(one["losses"].values()), list(chief["losses"].values()), rtol=0, atol=1e-5
    )
    assert one["losses"]["0"] - one["losses"]["49"] > 0.05
    for step, rows in one["rows"].items():
        assert rows == chief["rows"][step] + other["rows"][step]
    assert one["figures"]["images"] == chief["figures"]["images"] == 40
    assert chief["figures"]["loss"] == pytest.approx(one["figures"]["loss"], abs=1e-5)


def test_two_devices_of_one_worker_are_one(folder):
    codes, printed = run(folder, "devices", 1, DEVICES="2")
    assert codes == [0], printed
    one, two = told(folder, "one"), told(folder, "devices")
    np.testing.assert_allclose(
        list(two["losses"].values()), list(one["losses"].values()), rtol=0, atol=1e-5
    )
    assert two["figures"]["images"] == 40
    assert two["figures"]["loss"] == pytest.approx(one["figures"]["loss"], abs=1e-5)


def test_two_workers_are_one_for_the_network_of_2012(folder):
    for name, count in (("one-2012", 1), ("two-2012", 2)):
        codes, printed = run(folder, name, count, steps=20, VARIANT="krizhevsky")
        assert codes == [0] * count, printed
    one, two = told(folder, "one-2012"), told(folder, "two-2012")
    np.testing.assert_allclose(
        list(two["losses"].values()), list(one["losses"].values()), rtol=0, atol=1e-5
    )
    assert two["figures"]["loss"] == pytest.approx(one["figures"]["loss"], abs=1e-5)


def test_a_run_of_two_goes_on_as_one(folder):
    codes, printed = run(folder, "half", 2, steps=20)
    assert codes == [0, 0], printed
    codes, printed = run(folder, "half", 1)
    assert codes == [0], printed
    went_on, whole = told(folder, "half")["losses"], told(folder, "one")["losses"]
    assert list(went_on) == [str(step) for step in range(20, STEPS)]
    np.testing.assert_allclose(
        list(went_on.values()), [whole[step] for step in went_on], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(("name", "dies"), [("other", 1), ("chief", 0)])
def test_a_killed_worker_ends_the_other_and_nothing_is_lost(folder, name, dies):
    codes, printed = run(folder, name, 2, "--die", dies, 30)
    assert (codes[dies], codes[1 - dies]) == (-9, 75)
    assert (
        printed[1 - dies]
        .splitlines()[-1]
        .startswith(f"WorkerLostError: worker {dies} at 127.0.0.1:")
    )
    codes, printed = run(folder, name, 2)
    assert codes == [0, 0], printed
    resumed_at = min(map(int, told(folder, name)["losses"]))
    assert (resumed_at == 31) if dies == 1 else (25 <= resumed_at <= 31)
    for found, expected in zip(weights(folder, name), weights(folder, "two"), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_batch_that_the_workers_cannot_share(folder):
    shutil.copytree(folder / "pictures", folder / "three" / "pictures")
    codes, printed = run(folder / "three", "three", 3)
    assert codes == [75] * 3
    for text in printed:
        assert text.splitlines()[-1] == (
            "ConfigurationError: batch_size: expected a multiple of 3 (devices x accumulate), "
            "got 32"
        )
