"""Fixtures of the tests of the commands."""

import pytest


@pytest.fixture
def empty_folder(tmp_path, monkeypatch):
    """The current folder is an empty one, in which a refused command leaves nothing."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert [str(path) for path in folder.rglob("*")] == []
