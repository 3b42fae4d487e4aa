"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"


def pytest_make_parametrize_id(config, val, argname):
    """Bytes are named by their argument: older pytest writes them out, and a time within them (a
    zip archive has one) makes the two processes of ``-n 2`` collect different tests.
    """
    return argname if isinstance(val, bytes) else None


@pytest.fixture(autouse=True)
def keras_home(tmp_path_factory, monkeypatch):
    """Every test has a cache of its own, so that none reads or fills the user's."""
    home = tmp_path_factory.mktemp("keras_home")
    monkeypatch.setenv("KERAS_HOME", str(home))
    return home


@pytest.fixture
def shared_data():
    """The folder of real images and weights beside the checkout; a user's machine does not have
    it.
    """
    if not SHARED.is_dir():
        pytest.skip("the real data beside the checkout (../shared/data) is absent")
    return SHARED
