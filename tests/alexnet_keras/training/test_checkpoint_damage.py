"""Damaged checkpoints are detected, reported in one line and skipped."""

import hashlib
import os
import random
import shutil
import zipfile

import numpy as np
import pytest

from alexnet_keras.errors import RunError
from alexnet_keras.training import checkpoint_files
from alexnet_keras.training.checkpoints import Checkpoints
from tests.alexnet_keras.training.test_checkpoints import FILES, arrays_of, same, save


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_two_hundred_flipped_bits(folder, caplog):
    """Of any of the three files, and the checkpoint before is used each time."""
    save(folder, 1, 2)
    picks, path = random.Random(0), folder / "000002-step-2"
    for flip in range(200):
        file = path / FILES[flip % 3]
        whole = file.read_bytes()
        bit = picks.randrange(len(whole) * 8)
        file.write_bytes(
            whole[: bit // 8] + bytes([whole[bit // 8] ^ 1 << bit % 8]) + whole[bit // 8 + 1 :]
        )
        found = Checkpoints(folder).newest()
        assert (found.number, found.state["step"]) == (1, 1), f"bit {bit} of {file.name}"
        file.write_bytes(whole)
    assert len(caplog.messages) == 200
    assert all("\n" not in message for message in caplog.messages)
    for name, messages in (
        (FILES[0], caplog.messages[::3]),
        (FILES[1], caplog.messages[1::3]),
        ("", caplog.messages[2::3]),
    ):
        assert all(message.startswith(f"{path}{os.sep}{name}") for message in messages)
    same(Checkpoints(folder).newest().arrays, arrays_of(2))


def rewrite_sums(path):
    """As somebody would who knows how."""
    lines = [
        f"{hashlib.sha256((path / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES[:2]
    ]
    (path / "SHA256SUMS").write_text("".join(lines))


def with_state(text):
    def damage(path):
        (path / "state.json").write_bytes(text)
        rewrite_sums(path)

    return damage


def with_variables(write):
    def damage(path):
        write(path / "variables.npz")
        rewrite_sums(path)

    return damage


def huge_header(path):
    header = str({"descr": "<f4", "fortran_order": False, "shape": (2**70,)}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(
            "a.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
        )


SUMS_DAMAGES = {
    "one more line": lambda text: text + text[:66] + "more\n",
    "an empty line": lambda text: text + "\n",
    "lines in another order": lambda text: "".join(text.splitlines(keepends=True)[::-1]),
    "no last line end": lambda text: text[:-1],
    "other line ends": lambda text: text.replace("\n", "\r\n"),
    "capitals": lambda text: text.upper(),
    "nothing": lambda text: "",
}
DAMAGES = {
    **{f"without {name}": lambda path, name=name: (path / name).unlink() for name in FILES},
    **{
        f"{name} cut short": lambda path, name=name: os.truncate(path / name, 20) for name in FILES
    },
    **{
        f"{name} is a folder": lambda path, name=name: (
            (path / name).unlink(),
            (path / name).mkdir(),
        )
        for name in FILES
    },
    **{
        f"SHA256SUMS: {what}": lambda path, change=change: (path / "SHA256SUMS").write_bytes(
            change((path / "SHA256SUMS").read_text()).encode()
        )
        for what, change in SUMS_DAMAGES.items()
    },
    "empty folder": lambda path: [(path / name).unlink() for name in FILES],
    "state of another step": with_state(b'{"step": 3}'),
    "state without a step": with_state(b'{"best": null}'),
    "a step that is a bool": with_state(b'{"step": true}'),
    "a step that is a float": with_state(b'{"step": 2.0}'),
    "a state that is a list": with_state(b"[2]"),
    "a state that is no JSON": with_state(b"{"),
    "a state in another encoding": with_state(b'{"step": 2, "\xff": 1}'),
    "a deep state": with_state(b"[" * 100_000),
    "variables that are no zip": with_variables(lambda path: path.write_bytes(b"PK")),
    "objects": with_variables(lambda path: np.savez(path, a=np.array([{}], dtype=object))),
    "a member that is no array": with_variables(
        lambda path: (
            shutil.make_archive(path, "zip", path.parent, "state.json")
            and os.replace(f"{path}.zip", path)
        )
    ),
    "an array of more than there is": with_variables(huge_header),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage(folder, caplog, damage):
    save(folder, 7, 2)
    DAMAGES[damage](folder / "000002-step-2")
    same(Checkpoints(folder).newest().arrays, arrays_of(7))
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(str(folder / "000002-step-2"))
    assert "\n" not in caplog.messages[0]


def test_the_warning_names_file_and_misfit(folder, caplog):
    save(folder, 1)
    with_state(b'{"step": 3}')(folder / "000001-step-1")
    assert Checkpoints(folder).newest() is None
    assert caplog.messages == [
        f"{folder / '000001-step-1' / 'state.json'}: step: expected 1, as in the "
        "folder's name, got 3; skipping this checkpoint"
    ]


def test_too_large_for_memory_is_not_damage(folder, monkeypatch):
    save(folder, 1, 2)

    def read_array(*_, **__):
        raise MemoryError

    monkeypatch.setattr(checkpoint_files.npy, "read_array", read_array)
    saved = Checkpoints(folder)
    with pytest.raises(RunError, match=f"^{folder / '000002-step-2'}: does not fit into memory$"):
        saved.newest()
    monkeypatch.undo()
    assert saved.newest().number == 2
