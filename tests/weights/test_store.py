"""Finding, fetching, checking and keeping weight files, against a mirror that misbehaves."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import weights
from alexnet_keras.errors import WeightsError
from tests.weights.mirror import LOGIN_PAGE, Answer, Mirror, catalogue_of
from weights import download, store
from weights.catalog import source
from weights.store import cache_folder, digest_of, locate, verify_digest

BODY = b"\x0a\x07AlexNet\x12" + random.Random(0).randbytes(100_000)  # 100,010 bytes that may be a caffemodel
FILE = "bvlc_alexnet.caffemodel"
ROOT = Path(__file__).resolve().parents[2]
NPY = b"\x93NUMPY\x01\x00" + bytes(1000)


@pytest.fixture(autouse=True)
def isolated(monkeypatch, tmp_path):
    """Neither a proxy, nor weights that lie in the checkout, nor the environment's wishes."""
    for variable in ("ALEXNET_KERAS_OFFLINE", "ALEXNET_KERAS_CATALOG", "http_proxy", "https_proxy", "all_proxy",
                     "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(weights, "__path__", [str(tmp_path / "package")])
    monkeypatch.setattr(download, "TIMEOUT_S", 0.3)


@pytest.fixture
def mirror():
    with Mirror() as server:
        yield server


@pytest.fixture
def publish(monkeypatch, tmp_path, mirror):
    """Answers -> the URL where ``caffe`` is published from now on, with the digest of ``content``."""
    def lay(*answers, content=BODY, name="caffe", **fields):
        url = mirror.serve("/file", *(answers or [Answer(content)]))
        path = catalogue_of(tmp_path, **{name: {"mirrors": [url], "content": content, **fields}})
        monkeypatch.setenv("ALEXNET_KERAS_CATALOG", str(path))
        return url
    return lay


@pytest.fixture
def publish_without_digest(monkeypatch, tmp_path, mirror):
    def lay(*answers, size=None):
        url = mirror.serve("/npy", *answers)
        path = catalogue_of(tmp_path, tensorflow={"mirrors": [url], "size": size})
        monkeypatch.setenv("ALEXNET_KERAS_CATALOG", str(path))
        return url
    return lay


def failure(name="caffe", **kwargs):
    with pytest.raises(WeightsError) as error:
        locate(name, **kwargs)
    assert "\n" not in str(error.value)
    return str(error.value)


def ranges(mirror):
    return [asked.range for asked in mirror.asked]


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
    assert "found no demo.npz" in message
    assert "no mirror has it" in message


# Fetching

def test_a_file_is_fetched_once(publish, mirror):
    publish()
    path = locate("caffe")
    assert path.read_bytes() == BODY
    assert locate("caffe") == path
    assert len(mirror.asked) == 1
    assert not list(path.parent.glob("*.part*"))


def test_progress_counts_to_the_total(publish):
    publish()
    calls = []
    locate("caffe", progress=lambda *call: calls.append(call))
    assert {(label, total) for label, _, total in calls} == {(FILE, len(BODY))}
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert calls[-1][1] == len(BODY)


def test_progress_without_a_length(publish):
    publish(Answer(BODY, announces_length=False))
    calls = []
    assert locate("caffe", progress=lambda *call: calls.append(call)).read_bytes() == BODY
    assert calls[-1] == (FILE, len(BODY), None)


def test_a_redirect_to_the_file_is_followed(publish, mirror):
    mirror.serve("/real", Answer(BODY))
    publish(Answer(redirect="/real"))
    assert locate("caffe").read_bytes() == BODY


def test_mirrors_are_tried_in_order(publish, mirror):
    bad = mirror.serve("/bad", Answer(status=404))
    good = mirror.serve("/good", Answer(BODY))
    never = mirror.serve("/never", Answer(BODY))
    publish(mirrors=[bad, good, never])
    assert locate("caffe").read_bytes() == BODY
    assert [asked.path for asked in mirror.asked] == ["/bad", "/good"]


def test_a_digest_prefix_is_enough(publish):
    publish(digest=hashlib.sha256(BODY).hexdigest()[:8], digest_algorithm="sha256", size=len(BODY))
    assert locate("caffe").read_bytes() == BODY


# Continuing

def test_a_cut_is_continued_with_range_and_if_range(publish, mirror):
    publish(Answer(BODY, cut_after=30_000), Answer(BODY, cut_after=20_000), Answer(BODY))
    assert locate("caffe").read_bytes() == BODY
    assert [(asked.range, asked.if_range) for asked in mirror.asked] == [
        (None, None), ("bytes=30000-", '"v1"'), ("bytes=50000-", '"v1"')]


def test_last_modified_serves_where_there_is_no_strong_tag(publish, mirror):
    date = "Sat, 01 Nov 2014 00:00:00 GMT"
    publish(Answer(BODY, etag='W/"weak"', last_modified=date, cut_after=30_000), Answer(BODY, last_modified=date))
    assert locate("caffe").read_bytes() == BODY
    assert mirror.asked[1].if_range == date


def test_a_server_that_ignores_ranges_restarts(publish, mirror):
    publish(Answer(BODY, cut_after=30_000), Answer(BODY, accepts_ranges=False))
    assert locate("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-"]


def test_a_file_that_changed_between_two_answers_is_not_glued_together(publish, mirror):
    publish(Answer(b"old" * 40_000, etag='"old"', cut_after=30_000), Answer(BODY, etag='"new"'))
    assert locate("caffe").read_bytes() == BODY


def test_without_validators_the_digest_vouches_for_the_joint(publish, mirror):
    publish(Answer(BODY, etag=None, cut_after=30_000), Answer(BODY, etag=None))
    assert locate("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-"]


def test_a_bad_joint_is_fetched_once_more_from_the_start(publish, mirror):
    publish(Answer(b"\x0aold" * 40_000, etag=None, cut_after=30_000), Answer(BODY, etag=None))
    assert locate("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-", None]


def test_the_next_mirror_continues_what_the_first_began(publish, mirror):
    first = mirror.serve("/first", Answer(BODY, cut_after=30_000), Answer(status=503))
    second = mirror.serve("/second", Answer(BODY))
    publish(mirrors=[first, second])
    assert locate("caffe").read_bytes() == BODY
    assert mirror.asked[-1] == ("/second", "bytes=30000-", None)


def test_the_next_call_continues(publish, mirror):
    publish(Answer(BODY, cut_after=30_000), Answer(status=503), Answer(BODY))
    assert "HTTP 503" in failure()
    assert locate("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-", "bytes=30000-"]


def test_a_part_that_is_whole_already_is_used(publish, mirror):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{FILE}.part").write_bytes(BODY)
    assert locate("caffe").read_bytes() == BODY
    assert ranges(mirror) == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("left", [b"garbage", BODY + b"more", BODY[:50] + b"\0" * 50])
def test_a_spoilt_part_is_mended(publish, left):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{FILE}.part").write_bytes(left)
    assert locate("caffe").read_bytes() == BODY


def test_without_digest_and_validator_it_starts_over(publish_without_digest, mirror):
    publish_without_digest(Answer(NPY, etag=None, cut_after=500), Answer(NPY, etag=None), size=len(NPY))
    assert locate("tensorflow").read_bytes() == NPY
    assert ranges(mirror) == [None, None]


def _in_a_process(code="from weights.store import locate; print(locate('caffe'))"):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_killed_in_the_middle_and_continued(publish, mirror):
    publish(Answer(BODY, pause_s=0.05), Answer(BODY))
    part = cache_folder() / f"{FILE}.part"
    with _in_a_process() as process:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size > 8192):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    there = part.stat().st_size
    assert 8192 < there < len(BODY)
    assert locate("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, f"bytes={there}-"]


def test_two_processes_fetch_once(publish, mirror):
    publish(Answer(BODY, pause_s=0.02))
    with _in_a_process() as one, _in_a_process() as two:
        paths = {process.communicate()[0].strip() for process in (one, two)}
    assert paths == {str(cache_folder() / FILE)}
    assert len(mirror.asked) == 1


def test_threads_fetch_once(publish, mirror):
    publish(Answer(BODY, pause_s=0.005))
    threads = [threading.Thread(target=locate, args=("caffe",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mirror.asked) == 1


# Failing, each kind told apart

@pytest.mark.parametrize(("answer", "reason"), [
    (Answer(status=404), "HTTP 404 Not Found"),
    (Answer(status=503), "HTTP 503 Service Unavailable"),
    (Answer(status=403, body=LOGIN_PAGE, content_type="text/html"), "HTTP 403 Forbidden"),
    (Answer(status=204), "HTTP 204 instead of a file"),
    (Answer(LOGIN_PAGE, content_type="text/html"), "sent an HTML page (a login"),
    (Answer(LOGIN_PAGE), "sent an HTML page (a login"),
    (Answer(b"moved", content_type="text/html; charset=utf-8"), "sent an HTML page (a login"),
    (Answer(b"version https://git-lfs.github.com/spec/v1\n"), "sent a Git-LFS pointer"),
    (Answer(BODY, cut_after=0), f"short body: the connection ended after 0 of {len(BODY):,} bytes"),
    (Answer(BODY, cut_after=500, accepts_ranges=False), f"ended after 500 of {len(BODY):,} bytes"),
    (Answer(BODY[::-1]), f"wrong digest: sha1 {hashlib.sha1(BODY[::-1]).hexdigest()}, expected"),
    (Answer(b""), "wrong digest"),
    (Answer(BODY, silence_s=1), "timed out (nothing came for 0.3 s)"),
    (Answer(BODY, cut_after=0, stall_s=1), "timed out (nothing came for 0.3 s) in the middle of the file")])
def test_reasons(publish, answer, reason):
    url = publish(answer)
    message = failure()
    assert f"{url}: {reason}" in message or (url in message and reason in message)
    assert f"expected sha1 {hashlib.sha1(BODY).hexdigest()}" in message
    assert f"put the file at {cache_folder() / FILE}" in message
    assert not (cache_folder() / FILE).exists()


def test_a_redirect_to_a_login_page_names_the_page(publish, mirror):
    login = mirror.serve("/login?next=file", Answer(LOGIN_PAGE, content_type="text/html"))
    publish(Answer(redirect="/login?next=file"))
    assert f"redirected to {login}, which sent an HTML page" in failure()


def test_a_redirect_that_never_ends(publish):
    publish(Answer(redirect="/file"))
    assert "HTTP 302" in failure()


def test_a_redirect_to_a_local_file_is_not_followed(publish, tmp_path):
    (tmp_path / "secret").write_bytes(BODY)
    publish(Answer(redirect=f"file://{tmp_path}/secret"))
    assert "HTTP 302" in failure()


@pytest.mark.parametrize(("body", "announces", "reason"), [
    (BODY[:-1], True, "short body: 100,009 bytes announced, 100,010 expected"),
    (BODY + b"x", True, "long body: 100,011 bytes announced, 100,010 expected"),
    (BODY[:-1], False, "short body: 100,009 bytes announced, 100,010 expected"),
    (BODY[:1], False, "short body: 1 bytes announced, 100,010 expected"),
    (BODY * 10, False, "long body: more than the 100,010 bytes expected")])
def test_a_known_size_is_held_to(publish, body, announces, reason):
    assert len(BODY) == 100_010
    publish(Answer(body, announces_length=announces), size=len(BODY))
    assert reason in failure()


def test_connection_refused(publish):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        publish(mirrors=[f"http://127.0.0.1:{unused.getsockname()[1]}/file"])
        assert "connection refused" in failure()


def test_host_name_not_found(publish, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    publish(mirrors=["http://nowhere.invalid/file"])
    assert "http://nowhere.invalid/file: host name not found" in failure()


def test_tls_failure(publish, mirror):
    publish(mirrors=[mirror.url("/file").replace("http:", "https:")])
    assert "TLS failure" in failure()


def test_what_is_no_http(publish):
    def answer_once():
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"220 ftp ready\r\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_once, daemon=True).start()
        publish(mirrors=[f"http://127.0.0.1:{server.getsockname()[1]}/file"])
        assert "connection failed (220 ftp ready)" in failure()


def test_all_mirrors_are_named_with_their_reasons(publish, mirror):
    missing = mirror.serve("/missing", Answer(status=404))
    login = mirror.serve("/login", Answer(LOGIN_PAGE, content_type="text/html"))
    publish(mirrors=[missing, login])
    message = failure()
    assert f"caffe: no mirror gave {FILE}: {missing}: HTTP 404 Not Found; {login}: sent an HTML page" in message


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
    for part in (FILE, url, f"sha1 {hashlib.sha1(BODY).hexdigest()}", "100,010 bytes", str(cache_folder() / FILE)):
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
    assert f"{cache_folder() / FILE}: wrong digest: sha1 {hashlib.sha1(b'wrong').hexdigest()}" in message
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


def test_without_a_digest_the_first_use_is_recorded_and_held_to(publish_without_digest, mirror):
    publish_without_digest(Answer(NPY), size=len(NPY))
    path = locate("tensorflow")
    record = path.with_name("bvlc_alexnet.npy.sha256")
    assert record.read_text() == f"{hashlib.sha256(NPY).hexdigest()}  bvlc_alexnet.npy\n"
    path.write_bytes(NPY[:-1] + b"\1")
    assert locate("tensorflow").read_bytes() == NPY
    assert len(mirror.asked) == 2


def test_a_published_file_that_changed_since_the_first_use_is_refused(publish_without_digest):
    publish_without_digest(Answer(NPY), Answer(NPY[:-1] + b"\1"), size=len(NPY))
    locate("tensorflow").unlink()
    assert f"expected {hashlib.sha256(NPY).hexdigest()}" in failure("tensorflow")


def test_a_file_without_a_digest_put_there_by_hand_is_recorded(publish_without_digest):
    publish_without_digest(Answer(NPY), size=len(NPY))
    cache_folder().mkdir(parents=True)
    (cache_folder() / "bvlc_alexnet.npy").write_bytes(NPY)
    locate("tensorflow")
    assert (cache_folder() / "bvlc_alexnet.npy.sha256").exists()


@pytest.mark.parametrize(("content", "size", "reason"), [
    (NPY[:-1], len(NPY), "short body: 1,007 bytes announced, 1,008 expected"),
    (bytes(500), None, "expected a file of weights, found unknown content"),
    (b"", None, "expected a file of weights, found an empty file")])
def test_without_a_digest_size_and_content_decide(publish_without_digest, content, size, reason):
    publish_without_digest(Answer(content), size=size)
    message = failure("tensorflow")
    assert reason in message
    assert "no published digest" in message


def test_a_spoilt_record_says_what_to_delete(publish_without_digest):
    publish_without_digest(Answer(NPY), size=len(NPY))
    locate("tensorflow")
    (cache_folder() / "bvlc_alexnet.npy.sha256").write_bytes(b"\xff\n")
    assert "bvlc_alexnet.npy.sha256: expected 64 hexadecimal digits" in failure("tensorflow")


def test_disk_full(publish, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    publish()
    monkeypatch.setattr(os, "fsync", full)
    message = failure()
    assert f"{cache_folder() / FILE}: cannot be kept there: No space left on device; free some space" in message


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
    with pytest.raises(WeightsError, match=r"mine\.caffemodel: expected sha1 [0-9a-f]{40}, found [0-9a-f]{40}"):
        verify_digest(path, source("caffe"))
    assert verify_digest(path, source("tensorflow")) == hashlib.sha256(b"other").hexdigest()
