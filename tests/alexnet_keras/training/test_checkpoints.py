"""Checkpoints: bit for bit back, what is kept, and one write at a time."""

import os
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import alexnet_keras.training.checkpoint_files as checkpoint_files
import alexnet_keras.training.checkpoints as checkpoints
from alexnet_keras.errors import ConfigurationError, RunError
from alexnet_keras.training.checkpoints import Checkpoints
from tests.conftest import ROOT

FILES = ("variables.npz", "state.json", "SHA256SUMS")


def arrays_of(step):
    """Different bits for each step."""
    values = np.random.default_rng(step).standard_normal
    return {
        "conv1/kernel": values((3, 3, 2, 4)).astype(np.float32),
        "conv1/bias": values(4).astype(np.float16),
        "step": np.array(step),
    }


def save(folder, *steps, best=None, keep=2):
    """One checkpoint for each step, each whole."""
    saved = Checkpoints(folder, keep)
    for step in steps:
        assert saved.save(arrays_of(step), {"step": step, "best": best and {"step": best}})
        assert saved.wait()
    return saved


def same(arrays, expected):
    assert list(arrays) == list(expected)
    for name, array in expected.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "checkpoints"


def test_nothing_is_there_before_the_first_save(folder):
    saved = Checkpoints(folder)
    assert (saved.newest(), saved.wait(), folder.exists()) == (
        None,
        True,
        False,
    )


def test_a_generation(folder):
    saved = save(folder, 340)
    found = Checkpoints(folder).newest()
    assert (found.path, found.number) == (folder / "000001-step-340", 1)
    assert found.state == {"step": 340, "best": None}
    same(found.arrays, arrays_of(340))
    assert sorted(names(found.path)) == sorted(FILES)
    saved.save({}, {"step": 341})
    assert saved.wait()


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is absent")
def test_other_programs_read_it(folder):
    save(folder, 5)
    path = folder / "000001-step-5"
    checked = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=path, capture_output=True, text=True
    )
    assert (checked.returncode, checked.stdout) == (0, "variables.npz: OK\nstate.json: OK\n")
    with np.load(path / "variables.npz", allow_pickle=False) as loaded:
        same(dict(loaded), arrays_of(5))


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
ARRAYS = hnp.arrays(
    st.sampled_from([np.float32, np.int64, np.float16, np.uint8, np.bool_, ">f4", "<U3"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.dictionaries(NAMES, ARRAYS, max_size=4),
    st.dictionaries(st.text(), JSON, max_size=4),
    st.integers(0, 10**9),
)
def test_what_is_saved_comes_back(tmp_path, arrays, more, step):
    saved, state = Checkpoints(tmp_path / "checkpoints"), {**more, "step": step, "best": None}
    assert saved.save({**arrays, "a": np.zeros(1), "a.npy": np.ones(1)}, state)
    assert saved.wait()
    found = saved.newest()
    assert found.state == state
    same(found.arrays, {**arrays, "a": np.zeros(1), "a.npy": np.ones(1)})


def test_an_array_in_any_order_in_memory(folder):
    whole, saved = np.arange(24.0).reshape(2, 3, 4), Checkpoints(folder)
    saved.save(
        {"F": np.asfortranarray(whole), "T": whole.T, "strided": whole[:, ::2, ::-1]}, {"step": 0}
    )
    assert saved.wait()
    same(
        saved.newest().arrays,
        {"F": whole, "T": whole.T.copy(), "strided": whole[:, ::2, ::-1].copy()},
    )


@pytest.mark.parametrize(
    ("owner", "limit"),
    [(checkpoint_files, "CHUNK_BYTES"), (checkpoint_files.zipfile, "ZIP64_LIMIT")],
)
def test_arrays_over_a_limit(folder, monkeypatch, owner, limit):
    monkeypatch.setattr(owner, limit, 7)
    save(folder, 3)
    same(Checkpoints(folder).newest().arrays, arrays_of(3))


def test_damaged_ones_do_not_count_as_kept_and_go_at_the_next_prune(folder):
    save(folder, 1, 2, 3, 4, keep=4)
    for damaged in ("000003-step-3", "000004-step-4"):
        (folder / damaged / "state.json").unlink()
    saved = Checkpoints(folder, keep=2)
    assert saved.newest().number == 2
    assert names(folder) == ["000001-step-1", "000002-step-2", "000003-step-3", "000004-step-4"]
    saved.save(arrays_of(3), {"step": 3, "best": {"step": 4}})
    assert saved.wait()
    assert names(folder) == ["000002-step-2", "000005-step-3"]


@pytest.mark.parametrize(
    ("steps", "best", "keep", "kept"),
    [
        ([1], None, 1, [1]),
        ([1, 2], None, 1, [2]),
        ([1, 2, 3], None, 2, [2, 3]),
        ([1, 2, 3, 4], 2, 2, [2, 3, 4]),
        ([1, 2, 3, 4], 3, 2, [3, 4]),
        ([1, 2, 3, 4], 4, 2, [3, 4]),
        ([1, 2, 3], 1, 1, [1, 3]),
        ([1, 2, 3], 9, 1, [3]),
        ([1, 2, 3, 4], None, 9, [1, 2, 3, 4]),
    ],
)
def test_what_is_kept(folder, steps, best, keep, kept):
    save(folder, *steps, best=best, keep=keep)
    assert [int(name[12:]) for name in names(folder)] == kept
    assert [int(name[:6]) for name in names(folder)] == kept
    assert Checkpoints(folder).newest().state["step"] == steps[-1]


def test_the_newest_of_the_best_step(folder):
    """A step can be there twice after a run went on from before it."""
    save(folder, 1, 5, 2, 5, keep=4)
    save(folder, 6, best=5, keep=1)
    assert names(folder) == ["000004-step-5", "000005-step-6"]


def test_numbers_go_on_after_the_largest_and_sort_as_numbers(folder):
    save(folder, 1)
    (folder / "000001-step-1").rename(folder / "999999-step-1")
    save(folder, 2, 3)
    assert names(folder) == ["1000000-step-2", "1000001-step-3"]
    assert Checkpoints(folder).newest().number == 1000001


def test_what_others_put_there_stays(folder):
    save(folder, 1)
    mine = [
        "notes.txt",
        "000009-step-1.bak",
        "7-step-1",
        "x000009-step-1",
        ".part-x",
        ".part-1-model.keras",
        "٠٠٠٠٠٩-step-1",
    ]
    for name in mine:
        (folder / name).mkdir()
    (folder / "000009-step-9").touch()
    (folder / "000008-step-1").symlink_to(folder / "000001-step-1")
    (folder / ".part-1-000001-step-1").mkdir()
    (folder / ".part-1-000001-step-1" / "variables.npz").touch()
    save(folder, 2, 3)
    assert names(folder) == sorted(
        [*mine, "000009-step-9", "000008-step-1", "000002-step-2", "000003-step-3"]
    )
    assert Checkpoints(folder).newest().number == 3


def test_at_least_one_is_kept(folder):
    with pytest.raises(ConfigurationError, match="^keep: expected at least 1 checkpoint, got 0$"):
        Checkpoints(folder, keep=0)


@pytest.fixture
def held(monkeypatch):
    """Writes that wait until this event is set."""
    release, rename = threading.Event(), os.rename

    def waiting_rename(*paths):
        release.wait(10)
        rename(*paths)

    monkeypatch.setattr(os, "rename", waiting_rename)
    yield release
    release.set()


def test_a_save_during_a_save_does_nothing(folder, held):
    saved = Checkpoints(folder)
    assert saved.save(arrays_of(1), {"step": 1})
    assert not saved.save(arrays_of(2), {"step": 2})
    assert saved.newest() is None
    held.set()
    assert saved.wait()
    assert saved.newest().state == {"step": 1}
    assert saved.save(arrays_of(2), {"step": 2})
    assert saved.wait()
    assert saved.newest().state == {"step": 2}


def test_the_state_may_change_while_it_is_written(folder, held):
    saved, state = Checkpoints(folder), {"step": 1, "history": [1]}
    saved.save({}, state)
    state["history"].append(2)
    held.set()
    assert saved.wait()
    assert saved.newest().state == {"step": 1, "history": [1]}


@pytest.mark.parametrize(
    "array", [np.array([{}]), np.array([(1, {})], dtype=[("a", int), ("b", object)])]
)
@pytest.mark.parametrize("ask", ["save", "wait"])
def test_errors_that_are_not_the_file_system_s_are_raised_once(folder, ask, array):
    saved = save(folder, 1)
    saved.save({"a": array}, {"step": 2})
    checkpoints.futures.wait([saved._writing])
    with pytest.raises((ValueError, TypeError)):
        saved.wait() if ask == "wait" else saved.save({}, {"step": 3})
    assert not saved.wait()
    assert names(folder) == ["000001-step-1"]
    assert saved.save({}, {"step": 3})
    assert saved.wait()


def test_what_an_npz_file_cannot_hold(folder):
    bfloat16 = pytest.importorskip("ml_dtypes").bfloat16
    for name, array in (("a", np.zeros(2, bfloat16)), ("a\0b", np.zeros(2))):
        saved = Checkpoints(folder)
        saved.save({name: array}, {"step": 1})
        with pytest.raises(
            ValueError,
            match=r"^array 'a.*' of .*float\w+: an .npz file cannot hold this name or dtype$",
        ):
            saved.wait()
    assert names(folder) == []


def test_a_state_that_is_no_json(folder):
    with pytest.raises(TypeError, match="not JSON serializable"):
        Checkpoints(folder).save({}, {"step": 1, "rng": object()})
    assert not folder.exists()


def test_a_folder_that_cannot_be_listed(folder, monkeypatch):
    folder.mkdir()

    def scandir(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(RunError, match=f"^{folder}: cannot be read: Permission denied$"):
        Checkpoints(folder).newest()


def test_no_tensorflow():
    code = (
        "import alexnet_keras.training.checkpoints, sys; "
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
