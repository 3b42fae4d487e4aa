"""Every way in which a mirror can fail has a reason of its own, and all of them are told in one
line.
"""

from __future__ import annotations

import hashlib
import socket
import threading

import pytest

from alexnet_keras.errors import WeightsError
from tests.weights.mirror import BODY, FILE, LOGIN_PAGE, Answer, fetch_by_name, isolated_mirror
from weights import download
from weights.store import cache_folder


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


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Answer(status=404), "HTTP 404 Not Found"),
        (Answer(status=503), "HTTP 503 Service Unavailable"),
        (Answer(status=403, body=LOGIN_PAGE, content_type="text/html"), "HTTP 403 Forbidden"),
        (Answer(status=204), "HTTP 204 instead of a file"),
        (Answer(status=416), "HTTP 416 instead of a file"),
        (Answer(LOGIN_PAGE, content_type="text/html"), "sent an HTML page (a login"),
        (Answer(LOGIN_PAGE), "sent an HTML page (a login"),
        (Answer(b"moved", content_type="text/html; charset=utf-8"), "sent an HTML page (a login"),
        (Answer(b"version https://git-lfs.github.com/spec/v1\n"), "sent a Git-LFS pointer"),
        (
            Answer(BODY, cut_after=0),
            f"short body: the connection ended after 0 of {len(BODY):,} bytes",
        ),
        (
            Answer(BODY, cut_after=500, accepts_ranges=False),
            f"ended after 500 of {len(BODY):,} bytes",
        ),
        (
            Answer(BODY[::-1]),
            f"wrong digest: sha1 {hashlib.sha1(BODY[::-1]).hexdigest()}, expected",
        ),
        (Answer(b""), "wrong digest"),
        (Answer(BODY, silence_s=1), "timed out (no data for 0.3 s)"),
        (
            Answer(BODY, cut_after=0, stall_s=1),
            "timed out (no data for 0.3 s) in the middle of the file",
        ),
    ],
)
def test_reasons(publish, monkeypatch, answer, reason):
    if answer.silence_s or answer.stall_s:
        monkeypatch.setattr(download, "TIMEOUT_S", 0.3)
    url = publish(answer)
    message = failure()
    assert f"{url}: {reason}" in message or (url in message and reason in message)
    assert f"expected sha1 {hashlib.sha1(BODY).hexdigest()}" in message
    assert f"put the file at {cache_folder() / FILE} yourself" in message
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


@pytest.mark.parametrize(
    ("body", "announces", "reason"),
    [
        (BODY[:-1], True, "short body: 100,009 bytes announced, 100,010 expected"),
        (BODY + b"x", True, "long body: 100,011 bytes announced, 100,010 expected"),
        (BODY[:-1], False, "short body: 100,009 bytes announced, 100,010 expected"),
        (BODY[:1], False, "short body: 1 bytes announced, 100,010 expected"),
        (BODY * 10, False, "long body: more than the 100,010 bytes expected"),
    ],
)
def test_a_known_size_is_held_to(publish, body, announces, reason):
    assert len(BODY) == 100_010
    publish(Answer(body, announces_length=announces), size=len(BODY))
    assert reason in failure()


def test_connection_refused(publish):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        publish(mirrors=(f"http://127.0.0.1:{unused.getsockname()[1]}/file",))
        assert "connection refused" in failure()


def test_host_name_not_found(publish, monkeypatch):
    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    publish(mirrors=("http://nowhere.invalid/file",))
    assert "http://nowhere.invalid/file: host name not found" in failure()


def test_tls_failure(publish, mirror):
    publish(mirrors=(mirror.url("/file").replace("http:", "https:"),))
    assert "TLS failure" in failure()


def test_what_is_no_http(publish):
    def answer_once():
        with server.accept()[0] as connection:
            connection.recv(4096)
            connection.sendall(b"220 ftp ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=answer_once, daemon=True).start()
        publish(mirrors=(f"http://127.0.0.1:{server.getsockname()[1]}/file",))
        assert "connection failed (220 ftp ready)" in failure()


def test_all_mirrors_are_named_with_their_reasons(publish, mirror):
    missing = mirror.serve("/missing", Answer(status=404))
    login = mirror.serve("/login", Answer(LOGIN_PAGE, content_type="text/html"))
    publish(
        mirrors=(
            missing,
            login,
        )
    )
    message = failure()
    assert (
        f"{FILE} could not be downloaded: {missing}: HTTP 404 Not Found; {login}: sent an HTML "
        in message
    )
