"""A local HTTP server that can misbehave in every way in which a mirror of weights has been seen
to.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest

from alexnet_keras.pretrained.catalog import PUBLISHED
from weights import store
from weights.store import fetch

FILE = "bvlc_alexnet.caffemodel"
BODY = b"\x0a\x07AlexNet\x12" + random.Random(0).randbytes(
    100_000
)  # 100,010 bytes that may be a caffemodel
NPY = b"\x93NUMPY\x01\x00" + bytes(1000)
LOGIN_PAGE = (
    b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in</body></html>"
)


@dataclass
class Answer:
    """What one request gets. ``cut_after``: bytes of the body after which the connection ends."""

    body: bytes = b""
    status: int = 200
    content_type: str = "application/octet-stream"
    etag: str | None = '"v1"'
    last_modified: str | None = None
    accepts_ranges: bool = True
    range_shift: int = 0  # sends a range that begins so much later than the one asked for
    cut_after: int | None = None
    announces_length: bool = True
    redirect: str | None = None
    pause_s: float = 0.0  # between pieces of 4 KiB
    silence_s: float = 0.0  # before the first byte
    stall_s: float = 0.0  # before the connection ends


class Asked(NamedTuple):
    """One request as it came."""

    path: str
    range: str | None
    if_range: str | None


class Mirror:
    """``with Mirror() as mirror: mirror.answers["/file"] = [Answer(...), ...]``; the last answer
    is given again.
    """

    def __init__(self):
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self._server.handle_error = lambda *_: None
        self._server.daemon_threads = True

    def __enter__(self) -> Mirror:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def serve(self, path: str, *answers: Answer) -> str:
        """Lay answers under a path, to be given in turn; its URL."""
        self.answers[path] = list(answers)
        return self.url(path)

    def answer(self, asked: Asked) -> Answer:
        with self._lock:
            self.asked.append(asked)
            answers = self.answers.get(asked.path, [Answer(status=404)])
            return answers.pop(0) if len(answers) > 1 else answers[0]


def fetch_by_name(name: str, **options) -> Path:
    """The path of a name of the catalogue, as :class:`Publisher` has changed it."""
    return fetch(PUBLISHED[name].file, **options)


class Publisher:
    """Lays files on a mirror and makes the catalogue point there."""

    def __init__(self, mirror: Mirror, monkeypatch: pytest.MonkeyPatch):
        self.mirror = mirror
        self._monkeypatch = monkeypatch

    def __call__(self, *answers: Answer, content: bytes = BODY, **fields) -> str:
        """Publish ``caffe``, with the sha1 of ``content``; its URL."""
        url = self.mirror.serve("/file", *(answers or [Answer(content)]))
        self.change("caffe", **{"mirrors": (url,), **sha1(content), **fields})
        return url

    def without_digest(self, *answers: Answer, size: int | None = None) -> str:
        """Publish ``tensorflow``; its URL."""
        url = self.mirror.serve("/npy", *answers)
        self.change("tensorflow", mirrors=(url,), size=size)
        return url

    def change(self, name: str, **fields) -> None:
        """Give the file of a catalogue name other fields."""
        entry = PUBLISHED[name]
        changed = replace(entry, file=replace(entry.file, **fields))
        self._monkeypatch.setitem(PUBLISHED, name, changed)


def sha1(content: bytes) -> dict:
    """The fields of a published file that go with these bytes."""
    digest = hashlib.sha1(content).hexdigest()
    return {"digest_algorithm": "sha1", "digest": digest, "size": None}


@contextlib.contextmanager
def isolated_mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Publisher]:
    """Without proxies, the environment's wishes and the weights that lie in the checkout."""
    for variable in (
        "ALEXNET_KERAS_OFFLINE",
        "ALEXNET_KERAS_MIRROR",
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "package").mkdir()
    monkeypatch.setattr(store, "PACKAGE_FOLDER", tmp_path / "package")
    with Mirror() as mirror:
        yield Publisher(mirror, monkeypatch)


def _handler_of(mirror: Mirror) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):  # noqa: N802
            asked = Asked(self.path, self.headers.get("Range"), self.headers.get("If-Range"))
            _give(self, mirror.answer(asked), asked)

        def log_message(self, *_):
            pass

    return Handler


def _give(handler: BaseHTTPRequestHandler, answer: Answer, asked: Asked) -> None:
    time.sleep(answer.silence_s)
    if answer.redirect:
        handler.send_response(302)
        handler.send_header("Location", answer.redirect)
        handler.end_headers()
        return
    start = _start_of(answer, asked)
    start = start and start + answer.range_shift
    status = answer.status
    if start is not None and start >= len(answer.body):
        status, body = 416, b""
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(answer.body)}")
    else:
        body = answer.body[start or 0 :]
        status = 206 if start is not None else status
        handler.send_response(status)
    if status == 206:
        handler.send_header(
            "Content-Range", f"bytes {start}-{len(answer.body) - 1}/{len(answer.body)}"
        )
    for header, value in (
        ("Content-Type", answer.content_type),
        ("ETag", answer.etag),
        ("Last-Modified", answer.last_modified),
        ("Content-Length", str(len(body)) if answer.announces_length else None),
    ):
        if value is not None:
            handler.send_header(header, value)
    handler.end_headers()
    for position in range(0, len(body[: answer.cut_after]), 4096):
        handler.wfile.write(body[: answer.cut_after][position : position + 4096])
        time.sleep(answer.pause_s)
    time.sleep(answer.stall_s)


def _start_of(answer: Answer, asked: Asked) -> int | None:
    """First byte of the range to send, None for the whole body."""
    match = re.fullmatch(r"bytes=(\d+)-", asked.range or "")
    if not match or not answer.accepts_ranges or answer.status != 200:
        return None
    return (
        None if asked.if_range not in (None, answer.etag, answer.last_modified) else int(match[1])
    )
