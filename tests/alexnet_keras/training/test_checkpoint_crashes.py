"""Saves that are killed at any moment, and disks that refuse."""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import sys

import pytest

from alexnet_keras.training.checkpoints import Checkpoints
from tests.alexnet_keras.training.test_checkpoints import arrays_of, names, same, save

resource = pytest.importorskip("resource", reason="limits of a process are POSIX")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__])
FILE_EVENTS = {
    "open",
    "os.mkdir",
    "os.rename",
    "os.remove",
    "os.rmdir",
    "os.scandir",
    "os.listdir",
    "shutil.rmtree",
}


def kill_me(*_):
    os.kill(os.getpid(), signal.SIGKILL)


class Killer:
    """Kills this process before its ``after + 1``-th file operation."""

    def __init__(self, after):
        self.left = after

    def __call__(self, event, arguments):
        if event in FILE_EVENTS:
            self.left -= 1
            if self.left < 0:
                kill_me()


def save_until(folder, after):
    """Save step 3 over steps 1 and 2, of which 1 is then pruned, and die at a file operation on
    the way.
    """
    killer, fsync = Killer(after), os.fsync

    def watched_fsync(descriptor):
        killer("open", ())
        fsync(descriptor)

    os.fsync = watched_fsync
    sys.addaudithook(killer)
    save(folder, 3)
    os._exit(0)


def save_within(folder, limit, on_excess):
    """Save with no file over ``limit`` bytes; the exit code says whether it became whole."""
    signal.signal(signal.SIGXFSZ, on_excess)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    saved = Checkpoints(folder)
    saved.save(arrays_of(3), {"step": 3, "best": None})
    os._exit(0 if saved.wait() else 9)


def in_a_process(function, *arguments):
    process = PROCESSES.Process(target=function, args=arguments)
    process.start()
    process.join(30)
    code = process.exitcode
    process.close()
    return code


def check_what_a_kill_left(folder, before):
    """The state before or after, bit for bit, and the next save goes on from there with nothing
    left over.
    """
    left = Checkpoints(folder).newest()
    step = left.state["step"] if left else None
    assert step in (before, 3)
    if left:
        same(left.arrays, arrays_of(step))
    save(folder, 4)
    same(Checkpoints(folder).newest().arrays, arrays_of(4))
    kept = [before, 4] if step != 3 else [3, 4]
    assert [int(name[12:]) for name in names(folder)] == [number for number in kept if number]
    return step


@pytest.mark.slow
@pytest.mark.parametrize("steps", [(), (1, 2)])
def test_killed_at_every_file_operation(tmp_path, caplog, steps):
    found = []
    for after in range(200):
        folder = tmp_path / str(after)
        save(folder, *steps)
        if code := in_a_process(save_until, folder, after):
            assert code == -signal.SIGKILL
        found.append(check_what_a_kill_left(folder, steps[-1] if steps else None))
        if not code:
            break
    assert code == 0
    assert len(found) > 15
    assert found.index(3) > 10, "the operations before the rename"
    assert found == sorted(found, key=lambda step: step == 3)
    assert caplog.messages == []


@pytest.mark.slow
def test_killed_in_the_middle_of_a_write(tmp_path):
    size = bytes_of_variables(tmp_path / "size")
    for limit in (0, 1, size // 3, size // 2, size - 1):
        save(tmp_path / str(limit), 1, 2)
        assert (
            in_a_process(save_within, tmp_path / str(limit), limit, signal.SIG_DFL)
            == -signal.SIGXFSZ
        )
        assert check_what_a_kill_left(tmp_path / str(limit), 2) == 2
    save(tmp_path / "whole", 1, 2)
    assert in_a_process(save_within, tmp_path / "whole", size, signal.SIG_DFL) == 0
    assert check_what_a_kill_left(tmp_path / "whole", 2) == 3


def bytes_of_variables(folder):
    save(folder, 3)
    return (folder / "000001-step-3" / "variables.npz").stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("limit", [0, 1, 500, 900])
def test_a_disk_that_is_full(tmp_path, limit):
    save(tmp_path / "checkpoints", 1, 2)
    assert in_a_process(save_within, tmp_path / "checkpoints", limit, signal.SIG_IGN) == 9
    assert names(tmp_path / "checkpoints") == ["000001-step-1", "000002-step-2"]
    assert check_what_a_kill_left(tmp_path / "checkpoints", 2) == 2


WARNING = "{}: step 3 cannot be saved: {}; training continues, the next save will retry"
REFUSING = [
    (function, nth)
    for function, calls in (("os.fsync", 5), ("os.mkdir", 1), ("os.rename", 1), ("os.scandir", 2))
    for nth in range(calls)
]


@pytest.mark.parametrize(("function", "nth"), REFUSING)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_file_system_that_refuses(folder, monkeypatch, caplog, function, nth, code):
    saved, calls, works = save(folder, 1, 2), [], getattr(os, function[3:])

    def refusing(*arguments, **options):
        calls.append(arguments)
        if len(calls) > nth:  # and from then on
            raise OSError(code, os.strerror(code))
        return works(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(function, refusing)
        assert saved.save(arrays_of(3), {"step": 3, "best": None})
        whole = saved.wait()
    assert not whole
    assert caplog.messages == [WARNING.format(folder, os.strerror(code))]
    check_what_a_kill_left(folder, 2)


def test_a_folder_that_may_only_be_read(folder, caplog):
    saved = save(folder, 1)
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write anywhere")
    saved.save(arrays_of(3), {"step": 3, "best": None})
    assert not saved.wait()
    folder.chmod(0o700)
    assert caplog.messages == [WARNING.format(folder, "Permission denied")]
    assert check_what_a_kill_left(folder, 1) == 1


def test_a_folder_that_is_not_there_and_one_that_is_a_file(tmp_path, caplog):
    for saved in (Checkpoints(tmp_path / "run" / "checkpoints"), Checkpoints(tmp_path / "file")):
        (tmp_path / "file").touch()
        assert saved.save(arrays_of(3), {"step": 3})
        assert not saved.wait()
    assert caplog.messages == [
        WARNING.format(tmp_path / "run" / "checkpoints", "No such file or directory"),
        WARNING.format(tmp_path / "file", "File exists"),
    ]
    (tmp_path / "run").mkdir()
    save(tmp_path / "run" / "checkpoints", 3)


def test_a_folder_that_vanishes(folder, monkeypatch, caplog):
    saved, rename = save(folder, 1), os.rename

    def late_rename(*paths):
        shutil.rmtree(folder)
        rename(*paths)

    monkeypatch.setattr(os, "rename", late_rename)
    saved.save(arrays_of(3), {"step": 3})
    assert not saved.wait()
    assert caplog.messages == [WARNING.format(folder, "No such file or directory")]
    monkeypatch.undo()
    saved.save(arrays_of(4), {"step": 4})
    assert saved.wait()
    same(saved.newest().arrays, arrays_of(4))


def test_an_old_one_that_cannot_be_removed_is_only_a_warning(folder, monkeypatch, caplog):
    saved = save(folder, 1, 2)

    def rmtree(path, **options):
        if not options:
            raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", rmtree)
        for step in (3, 4):
            saved.save(arrays_of(step), {"step": step})
            assert saved.wait()
    assert (
        caplog.messages
        == [f"{folder}: an old checkpoint cannot be removed: Permission denied"] * 2
    )
    assert saved.newest().number == 4
    save(folder, 5)
    assert names(folder) == ["000004-step-4", "000005-step-5"]


def test_network_file_systems_that_cannot_sync_a_folder(folder, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if os.path.isdir(f"/dev/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    save(folder, 1)
    monkeypatch.delattr(os, "O_DIRECTORY")  # as on Windows
    save(folder, 2)


@pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"), reason="the names of open files are in /proc on Linux only"
)
def test_what_is_on_the_disk_when(tmp_path, monkeypatch):
    """A power cut loses what is not synced: files before their folder, all before the name, the
    name before a removal.
    """
    events, folder = [], tmp_path / "run" / "checkpoints"
    folder.parent.mkdir()

    def watch(name, place):
        works = getattr(os, name)

        def watched(*arguments, **options):
            path = os.path.basename(place(arguments[0]))
            events.append((name, re.sub("^[.]part-[0-9a-f]{32}-", ".part-*-", path)))
            return works(*arguments, **options)

        monkeypatch.setattr(os, name, watched)

    watch("fsync", lambda descriptor: os.readlink(f"/proc/self/fd/{descriptor}"))
    watch("rename", str)
    save(folder, 1, keep=1)
    part = ".part-*-00000"
    one = [("fsync", "variables.npz"), ("fsync", "state.json"), ("fsync", "SHA256SUMS")]
    assert events == [
        ("fsync", "run"),
        *one,
        ("fsync", f"{part}1-step-1"),
        ("rename", f"{part}1-step-1"),
        ("fsync", "checkpoints"),
    ]
    events.clear()
    save(folder, 2, keep=1)
    assert events == [
        *one,
        ("fsync", f"{part}2-step-2"),
        ("rename", f"{part}2-step-2"),
        ("fsync", "checkpoints"),
        ("rename", "000001-step-1"),
    ]
