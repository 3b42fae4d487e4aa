"""Finding, checking and keeping weight files."""

from __future__ import annotations

import errno
import hashlib
import os

import pytest

from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.catalog import PUBLISHED
from tests.weights.mirror import BODY, FILE, NPY, Answer, fetch_by_name, isolated_mirror
from weights import store
from weights.store import cache_folder, digest_of, verify_digest


@pytest.fixture(autouse=True)
def publish(monkeypatch, tmp_path):
    with isolated_mirror(monkeypatch, tmp_path) as publisher:
        yield publisher


@pytest.fixture
def mirror(publish):
    return publish.mirror


def failure(name="caffe", **kwargs):
    with pytest.raises(WeightsError) as error:
        fetch_by_name(name, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


# Where it looks


def test_the_package_folder_goes_before_cache_and_network(publish, mirror, tmp_path):
    publish()
    packaged = tmp_path / "package" / FILE
    packaged.write_bytes(BODY)
    assert fetch_by_name("caffe") == packaged
    assert mirror.asked == []


def test_a_wrong_file_in_the_package_folder_is_left_there_and_not_used(publish, tmp_path, caplog):
    publish()
    packaged = tmp_path / "package" / FILE
    packaged.write_bytes(b"other")
    assert fetch_by_name("caffe") == cache_folder() / FILE
    assert packaged.read_bytes() == b"other"
    assert "wrong digest" in caplog.text


def test_the_cache_is_under_keras_home(monkeypatch, keras_home, tmp_path):
    assert cache_folder() == keras_home / "models" / "alexnet_keras"
    monkeypatch.delenv("KERAS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".keras" / "models" / "alexnet_keras"


def test_the_demo_without_its_file_cannot_be_downloaded():
    message = failure("demo")
    assert "demo.keras is neither in" in message
    assert "and it cannot be downloaded: put it at" in message


# Offline


@pytest.mark.parametrize("by_environment", [True, False])
def test_offline_with_a_cache_never_asks(publish, mirror, monkeypatch, by_environment):
    publish()
    path = fetch_by_name("caffe")
    if by_environment:
        monkeypatch.setenv("ALEXNET_KERAS_OFFLINE", "1")
    assert fetch_by_name("caffe", offline=not by_environment) == path
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
    assert fetch_by_name("caffe").exists()


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
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert (cache_folder() / f"{FILE}.rejected").read_bytes() == b"wrong"


def test_a_file_put_there_by_hand_is_used(publish, mirror):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / FILE).write_bytes(BODY)
    assert fetch_by_name("caffe") == cache_folder() / FILE
    assert mirror.asked == []


def test_the_digest_is_computed_once_and_again_after_a_change(publish, monkeypatch):
    publish()
    path = fetch_by_name("caffe")
    hashed = []
    monkeypatch.setattr(store, "digest_of", lambda *args: hashed.append(args) or digest_of(*args))
    fetch_by_name("caffe")
    assert hashed == []
    os.utime(path, (1, 1))
    fetch_by_name("caffe")
    fetch_by_name("caffe")
    assert len(hashed) == 1


def test_a_file_changed_later_is_noticed(publish, mirror):
    publish()
    path = fetch_by_name("caffe")
    path.write_bytes(BODY[:-1] + b"\0")
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert len(mirror.asked) == 2


@pytest.mark.parametrize("memory", [b"", b"[]", b"\xff", b'{"digest": 1}'])
def test_a_spoilt_memory_only_costs_a_look(publish, memory):
    publish()
    path = fetch_by_name("caffe")
    (cache_folder() / f"{FILE}.verified").write_bytes(memory)
    assert fetch_by_name("caffe") == path


def test_without_a_digest_the_first_use_is_recorded_and_held_to(publish, mirror):
    publish.without_digest(Answer(NPY), size=len(NPY))
    path = fetch_by_name("tensorflow")
    record = path.with_name("bvlc_alexnet.npy.sha256")
    assert record.read_text() == f"{hashlib.sha256(NPY).hexdigest()}  bvlc_alexnet.npy\n"
    path.write_bytes(NPY[:-1] + b"\1")
    assert fetch_by_name("tensorflow").read_bytes() == NPY
    assert len(mirror.asked) == 2


def test_a_published_file_that_changed_since_the_first_use_is_refused(publish):
    publish.without_digest(Answer(NPY), Answer(NPY[:-1] + b"\1"), size=len(NPY))
    fetch_by_name("tensorflow").unlink()
    assert f"expected {hashlib.sha256(NPY).hexdigest()}" in failure("tensorflow")


def test_a_file_without_a_digest_put_there_by_hand_is_recorded(publish):
    publish.without_digest(Answer(NPY), size=len(NPY))
    cache_folder().mkdir(parents=True)
    (cache_folder() / "bvlc_alexnet.npy").write_bytes(NPY)
    fetch_by_name("tensorflow")
    assert (cache_folder() / "bvlc_alexnet.npy.sha256").exists()


@pytest.mark.parametrize(
    ("content", "size", "reason"),
    [
        (NPY[:-1], len(NPY), "short body: 1,007 bytes announced, 1,008 expected"),
        (bytes(500), None, "expected a weight file, got unknown content"),
        (b"", None, "expected a weight file, got an empty file"),
    ],
)
def test_without_a_digest_size_and_content_decide(publish, content, size, reason):
    publish.without_digest(Answer(content), size=size)
    message = failure("tensorflow")
    assert reason in message
    assert "no published digest" in message


def test_a_spoilt_record_says_what_to_delete(publish):
    publish.without_digest(Answer(NPY), size=len(NPY))
    fetch_by_name("tensorflow")
    (cache_folder() / "bvlc_alexnet.npy.sha256").write_bytes(b"\xff\n")
    assert "bvlc_alexnet.npy.sha256: expected 64 hexadecimal digits" in failure("tensorflow")


def test_disk_full(publish, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    publish()
    monkeypatch.setattr(os, "fsync", full)
    message = failure()
    assert (
        f"{cache_folder() / FILE}: cannot be written: No space left on device; free some space"
        in message
    )


def test_a_cache_that_cannot_be_made(publish, monkeypatch, tmp_path):
    publish()
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "file"))
    assert "cannot be written: Not a directory; make it writable or set KERAS_HOME" in failure()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_cache(publish):
    publish()
    cache_folder().mkdir(parents=True)
    cache_folder().chmod(0o500)
    assert "Permission denied" in failure()
    cache_folder().chmod(0o700)
    (cache_folder() / FILE).write_bytes(BODY)
    cache_folder().chmod(0o500)
    assert fetch_by_name("caffe").read_bytes() == BODY
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
    assert verify_digest(path, PUBLISHED["caffe"].file) == hashlib.sha1(BODY).hexdigest()
    path.write_bytes(b"other")
    with pytest.raises(
        WeightsError, match=r"mine\.caffemodel: expected sha1 [0-9a-f]{40}, got [0-9a-f]{40}"
    ):
        verify_digest(path, PUBLISHED["caffe"].file)
    assert (
        verify_digest(path, PUBLISHED["tensorflow"].file) == hashlib.sha256(b"other").hexdigest()
    )
