"""Finding, checking and keeping weight files."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.catalog import source
from tests.weights.mirror import BODY, FILE, NPY, Answer, isolated_mirror
from weights import store
from weights.store import cache_folder, digest_of, locate, verify_digest


@pytest.fixture(autouse=True)
def publish(monkeypatch, tmp_path):
    with isolated_mirror(monkeypatch, tmp_path) as publisher:
        yield publisher


@pytest.fixture
def mirror(publish):
    return publish.mirror


def failure(name="caffe", **kwargs):
    with pytest.raises(WeightsError) as error:
        locate(name, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# Where it looks


def test_a_path_that_exists_is_returned(tmp_path):
    path = tmp_path / "mine.caffemodel"
    path.write_bytes(BODY)
    assert locate(path) == locate(str(path)) == path
    assert locate(tmp_path) == tmp_path


def test_a_catalogue_name_goes_before_a_path_of_the_same_spelling(tmp_path, monkeypatch, publish):
    publish()
    (tmp_path / "caffe").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("caffe").name == FILE
    assert locate("./caffe") == Path("caffe")


@pytest.mark.parametrize("name", ["nowhere.npy", "x" * 5000, "nul\0byte", ""])
def test_neither_a_path_nor_a_name(name):
    assert "neither an existing file nor one of caffe, caffenet, tensorflow" in failure(name)


def test_the_package_folder_goes_before_cache_and_network(publish, mirror, tmp_path):
    publish()
    packaged = tmp_path / "package" / FILE
    packaged.write_bytes(BODY)
    assert locate("caffe") == packaged
    assert mirror.asked == []


def test_a_wrong_file_in_the_package_folder_is_left_there_and_not_used(publish, tmp_path, caplog):
    publish()
    packaged = tmp_path / "package" / FILE
    packaged.write_bytes(b"other")
    assert locate("caffe") == cache_folder() / FILE
    assert packaged.read_bytes() == b"other"
    assert "wrong digest" in caplog.text


def test_the_cache_is_under_keras_home(monkeypatch, keras_home, tmp_path):
    assert cache_folder() == keras_home / "models" / "alexnet_keras"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".keras" / "models" / "alexnet_keras"


def test_the_demo_without_its_file_says_that_no_mirror_has_it():
    message = failure("demo")
    assert "demo.keras is neither in" in message
    assert "no mirror has it" in message


# Offline


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline_with_a_cache_never_asks(publish, mirror, monkeypatch, by_environment):
    publish()
    path = locate("caffe")
    if by_environment:
        monkeypatch.setenv("ALEXNET_KERAS_OFFLINE", "1")
    assert locate("caffe", offline=not by_environment) == path
    assert len(mirror.asked) == 1


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline_without_a_cache_says_what_to_fetch(publish, mirror, monkeypatch, by_environment):
    url = publish(size=len(BODY))
    if by_environment:
        monkeypatch.setenv("ALEXNET_KERAS_OFFLINE", "1")
    message = failure(offline=not by_environment)
    for part in (
        FILE,
        url,
        f"sha1 {hashlib.sha1(BODY).hexdigest()}",
        "100,010 bytes",
        str(cache_folder() / FILE),
    ):
        assert part in message
    assert mirror.asked == []


@pytest.mark.parametrize("value", ["0", "", "false"])
def test_not_offline(publish, monkeypatch, value):
    publish()
    monkeypatch.setenv("ALEXNET_KERAS_OFFLINE", value)
    assert locate("caffe").exists()


def test_offline_with_a_wrong_file_names_it(publish):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / FILE).write_bytes(b"wrong")
    message = failure(offline=True)
    assert (
        f"{cache_folder() / FILE}: wrong digest: sha1 {hashlib.sha1(b'wrong').hexdigest()}"
        in message
    )
    assert (cache_folder() / FILE).read_bytes() == b"wrong"


# Keeping


def test_a_wrong_cached_file_is_moved_aside_and_fetched_again(publish):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / FILE).write_bytes(b"wrong")
    assert locate("caffe").read_bytes() == BODY
    assert (cache_folder() / f"{FILE}.rejected").read_bytes() == b"wrong"


def test_a_file_put_there_by_hand_is_used(publish, mirror):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / FILE).write_bytes(BODY)
    assert locate("caffe") == cache_folder() / FILE
    assert mirror.asked == []


def test_the_digest_is_computed_once_and_again_after_a_change(publish, monkeypatch):
    publish()
    path = locate("caffe")
    hashed = []
    monkeypatch.setattr(store, "digest_of", lambda *args: hashed.append(args) or digest_of(*args))
    locate("caffe")
    assert hashed == []
    os.utime(path, (1, 1))
    locate("caffe")
    locate("caffe")
    assert len(hashed) == 1


def test_a_file_changed_later_is_noticed(publish, mirror):
    publish()
    path = locate("caffe")
    path.write_bytes(BODY[:-1] + b"\0")
    assert locate("caffe").read_bytes() == BODY
    assert len(mirror.asked) == 2


@pytest.mark.parametrize("memory", [b"", b"[]", b"\xff", b'{"digest": 1}'])
def test_a_spoilt_memory_only_costs_a_look(publish, memory):
    publish()
    path = locate("caffe")
    (cache_folder() / f"{FILE}.verified").write_bytes(memory)
    assert locate("caffe") == path


def test_without_a_digest_the_first_use_is_recorded_and_held_to(publish, mirror):
    publish.without_digest(Answer(NPY), size=len(NPY))
    path = locate("tensorflow")
    record = path.with_name("bvlc_alexnet.npy.sha256")
    assert record.read_text() == f"{hashlib.sha256(NPY).hexdigest()}  bvlc_alexnet.npy\n"
    path.write_bytes(NPY[:-1] + b"\1")
    assert locate("tensorflow").read_bytes() == NPY
    assert len(mirror.asked) == 2


def test_a_published_file_that_changed_since_the_first_use_is_refused(publish):
    publish.without_digest(Answer(NPY), Answer(NPY[:-1] + b"\1"), size=len(NPY))
    locate("tensorflow").unlink()
    assert f"expected {hashlib.sha256(NPY).hexdigest()}" in failure("tensorflow")


def test_a_file_without_a_digest_put_there_by_hand_is_recorded(publish):
    publish.without_digest(Answer(NPY), size=len(NPY))
    cache_folder().mkdir(parents=True)
    (cache_folder() / "bvlc_alexnet.npy").write_bytes(NPY)
    locate("tensorflow")
    assert (cache_folder() / "bvlc_alexnet.npy.sha256").exists()


@pytest.mark.parametrize(
    ("content", "size", "reason"),
    [
        (NPY[:-1], len(NPY), "short body: 1,007 bytes announced, 1,008 expected"),
        (bytes(500), None, "expected a file of weights, got unknown content"),
        (b"", None, "expected a file of weights, got an empty file"),
    ],
)
def test_without_a_digest_size_and_content_decide(publish, content, size, reason):
    publish.without_digest(Answer(content), size=size)
    message = failure("tensorflow")
    assert reason in message
    assert "no published digest" in message


def test_a_spoilt_record_says_what_to_delete(publish):
    publish.without_digest(Answer(NPY), size=len(NPY))
    locate("tensorflow")
    (cache_folder() / "bvlc_alexnet.npy.sha256").write_bytes(b"\xff\n")
    assert "bvlc_alexnet.npy.sha256: expected 64 hexadecimal digits" in failure("tensorflow")


def test_disk_full(publish, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish()
    monkeypatch.setattr(os, "fsync", full)
    message = failure()
    assert (
        f"{cache_folder() / FILE}: cannot be kept there: No space left on device; free some space"
        in message
    )


def test_a_cache_that_cannot_be_made(publish, monkeypatch, tmp_path):
    publish()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    assert "cannot be kept there: Not a directory; make it writable or set KERAS_HOME" in failure()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache(publish):
    publish()
    cache_folder().mkdir(parents=True)
    cache_folder().chmod(0o500)
    assert "Permission denied" in failure()
    cache_folder().chmod(0o700)
    (cache_folder() / FILE).write_bytes(BODY)
    cache_folder().chmod(0o500)
    assert locate("caffe").read_bytes() == BODY
    cache_folder().chmod(0o700)


# Digests


def test_digest_of(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180's own examples
    assert digest_of(path, "sha1") == "a9993e364706816aba3e25717850c26c9cd0d89d"
    assert digest_of(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.mark.parametrize("name", ["missing", ".", "nul\0"])
def test_digest_of_what_cannot_be_read(tmp_path, name):
    with pytest.raises(WeightsError, match="cannot be read"):
        digest_of(tmp_path / name)


def test_verify_digest(publish, tmp_path):
    publish()
    path = tmp_path / "mine.caffemodel"
    path.write_bytes(BODY)
    assert verify_digest(path, source("caffe")) == hashlib.sha1(BODY).hexdigest()
    path.write_bytes(b"other")
    with pytest.raises(
        WeightsError, match=r"mine\.caffemodel: expected sha1 [0-9a-f]{40}, got [0-9a-f]{40}"
    ):
        verify_digest(path, source("caffe"))
    assert verify_digest(path, source("tensorflow")) == hashlib.sha256(b"other").hexdigest()
