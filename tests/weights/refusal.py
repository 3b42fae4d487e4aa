"""What the tests of all readers say about a bad file: one line that names it, nothing run, memory
in proportion.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import strategies as st

from alexnet_keras.errors import WeightsError
from tests.conftest import ROOT

EDITS = st.lists(
    st.tuples(
        st.integers(0, 2**12),
        st.integers(1, 40),
        st.integers(0, 255),
        st.sampled_from(["set", "cut", "double"]),
    ),
    min_size=1,
    max_size=6,
)
_MEASURE = """
import sys, importlib, pathlib
from alexnet_keras.errors import WeightsError
module, function, path = sys.argv[1:]
read = getattr(importlib.import_module(module), function)
def peak():
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
before = peak()
try:
    outcome = type(read(pathlib.Path(path))).__name__
except WeightsError:
    outcome = "WeightsError"
print(peak() - before, outcome)
"""


def assert_refused(read, path):
    """``read(path)`` raises ``WeightsError`` in one printable line that begins with the path; its
    text comes back.
    """
    with pytest.raises(WeightsError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert message.isprintable()
    assert len(message) < len(str(path)) + 600
    return message.removeprefix(f"{path}: ")


def read_or_refuse(read, path):
    """What ``read`` finds, or None where it refuses as it should."""
    try:
        return read(path)
    except WeightsError:
        assert_refused(read, path)
        return None


def assert_memory_in_proportion(read, path, outcome="WeightsError"):
    """Reading in a process of its own ends in ``outcome`` and peaks at 3 times the file + 64 MB
    above the start.
    """
    if not Path("/proc/self/status").is_file():
        pytest.skip("peak memory is read from /proc, which this system lacks")
    done = subprocess.run(
        [sys.executable, "-c", _MEASURE, read.__module__, read.__name__, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    kilobytes, found = done.stdout.split()
    assert found == outcome
    assert int(kilobytes) * 1024 <= 3 * path.stat().st_size + (64 << 20)
    return int(kilobytes) * 1024


def mutated(content, edits):
    """``content`` with edits ``(position, length, byte, kind)`` made one after another."""
    content = bytearray(content)
    for position, length, byte, kind in edits:
        start = position % max(1, len(content))
        if kind == "set":
            content[start : start + 1] = bytes([byte])
        elif kind == "cut":
            del content[start : start + length]
        else:
            content[start:start] = content[start : start + length]
    return bytes(content)
