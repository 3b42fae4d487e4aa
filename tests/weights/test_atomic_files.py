"""Files that are complete or not there, whoever else writes beside them, and whoever dies."""

import os
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from weights import atomic_files
from weights.atomic_files import atomic_write, is_partial, partial_name
from weights.errors import AlexNetError, WeightsError

pytestmark = pytest.mark.skipif(atomic_files.fcntl is None, reason="needs locks of files")
WRITER = """
import os, sys, time
from pathlib import Path
from weights.atomic_files import atomic_write
with atomic_write(Path(sys.argv[1], "f.npy"), Path(sys.argv[1], "f.csv")) as partial:
    for path in partial:
        path.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path):
    """Another process that is in the middle of writing ``f.npy`` and ``f.csv``; it ends when its
    input does.
    """
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write(path, text="whole"):
    with atomic_write(path) as (partial,):
        partial.write_text(text)


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path, writer):
    assert len(names(tmp_path)) == 3
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(names(tmp_path)) == 3
    write(tmp_path / "other.txt")
    assert names(tmp_path) == ["other.txt"]


def test_what_a_living_writer_has_is_left_alone(tmp_path, writer):
    before = names(tmp_path)
    write(tmp_path / "f.npy", "ours")
    assert names(tmp_path) == sorted([*before, "f.npy"])
    writer.stdin.close()
    assert writer.wait() == 0, writer.stderr.read()
    assert names(tmp_path) == ["f.csv", "f.npy"]
    assert (tmp_path / "f.npy").read_text() == "half"


def test_two_writers_of_one_process_id_never_share_a_name(tmp_path, monkeypatch):
    """As in two containers that share a folder."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with atomic_write(tmp_path / "a") as (one,), atomic_write(tmp_path / "a") as (other,):
        assert one != other
        one.write_text("one")
        other.write_text("other")
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "one"
    assert partial_name(tmp_path / "a") != partial_name(tmp_path / "a")


def test_what_is_nobodys_is_left_alone(tmp_path):
    """Without its lock nothing tells whether its writer lives."""
    for name in (".part-123-f.npy", ".part-notes", ".part-x"):
        (tmp_path / name).touch()
    (tmp_path / ".part-folder.lock").mkdir()
    before = names(tmp_path)
    write(tmp_path / "a")
    assert names(tmp_path) == sorted([*before, "a"])
    assert all(map(is_partial, before))


def test_a_lock_that_another_writer_removed_is_made_anew(tmp_path, monkeypatch):
    """Between its making and its holding it looks like a dead one's."""
    hold, removed = atomic_files._hold, []

    def held_too_late(descriptor):
        if not removed:
            (path,) = tmp_path.iterdir()
            path.unlink()
            removed.append(path)
        return hold(descriptor)

    monkeypatch.setattr(atomic_files, "_hold", held_too_late)
    with atomic_write(tmp_path / "a") as (partial,):
        partial.write_text("whole")
        assert [path.suffix for path in tmp_path.iterdir() if path != partial] == [".lock"]
    assert removed
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "error", [OSError(95, "Operation not supported"), OSError(37, "No locks")]
)
def test_a_file_system_without_locks(tmp_path, monkeypatch, error):
    def refuse(descriptor, operation):
        raise error

    monkeypatch.setattr(atomic_files.fcntl, "flock", refuse)
    write(tmp_path / "a")
    write(tmp_path / "b")
    assert names(tmp_path) == ["a", "b"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (ValueError("bad"), ValueError),
        (OSError(28, "No space left on device"), WeightsError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_a_failure_leaves_what_was_there(tmp_path, error, raised):
    (tmp_path / "a").write_text("before")

    def fail():
        with atomic_write(tmp_path / "a", tmp_path / "b") as (partial, _):
            partial.write_text("after")
            raise error

    with pytest.raises(raised):
        fail()
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_text() == "before"


def test_a_folder_that_is_made_in_the_block(tmp_path):
    with atomic_write(tmp_path / "new" / "a") as (partial,):
        partial.parent.mkdir()
        partial.write_text("whole")
    assert names(tmp_path / "new") == ["a"]


def test_no_folder(tmp_path):
    with (
        pytest.raises(AlexNetError, match="a: cannot be written: No such file or directory$"),
        atomic_write(tmp_path / "none" / "a") as (partial,),
    ):
        partial.write_text("whole")
