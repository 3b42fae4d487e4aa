"""Download one published file: its mirrors in order, resumed after a cut, with a reason of its own
for every way to fail.
"""

from __future__ import annotations

import http.client
import itertools
import json
import logging
import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from weights.errors import WeightsError, error_reason
from weights.formats import describe_non_weights
from weights.published_file import PublishedFile

Progress = Callable[[str, int, int | None], None]
"""Called with the file's name, the bytes downloaded so far and the total, None where unknown."""
MIRROR_VARIABLE = "ALEXNET_KERAS_MIRROR"

TIMEOUT_S = 30.0  # without a single byte
ATTEMPTS = 5  # at one mirror, as long as each adds to the file
_CHUNK_BYTES = 1 << 18
_HEADERS = {"User-Agent": "Mozilla/5.0 (compatible; alexnet-keras)"}

logger = logging.getLogger(__name__)


class _MirrorError(Exception):
    """Why one mirror failed; its text has no URL."""


class _CutError(_MirrorError):
    """The body ended early: what was received is kept, and can be resumed."""


def download_file(
    file: PublishedFile,
    target: Path,
    check: Callable[[Path], str | None],
    progress: Progress | None = None,
) -> None:
    """Download ``file`` to ``target``, which appears only when it is complete and ``check`` finds
    nothing wrong.

    ``check``: a path -> what is wrong with that file, None where nothing is. An unfinished
    download stays at ``target`` with ``.part`` added, and the next call resumes it. The caller
    holds a lock on ``target``. Raises ``WeightsError`` naming each mirror and its reason;
    ``OSError`` where the disk, not a mirror, is at fault.
    """
    part = target.with_name(target.name + ".part")
    reasons = []
    for url in _mirrors_of(file):
        try:
            _download_from(url, file, part, check, progress or (lambda *_: None))
        except _MirrorError as error:
            logger.warning("%s: %s", url, error)
            reasons.append(f"{url}: {error}")
        else:
            os.replace(part, target)
            _discard(_origin_file(part))
            return
    raise WeightsError(
        f"{file.name} could not be downloaded: {'; '.join(reasons)}; expected "
        f"{file.describe_digest()}. You can also put the file at {target} yourself"
    )


def _mirrors_of(file: PublishedFile) -> tuple[str, ...]:
    """The user's own mirror, where one is set, before the published ones."""
    own = os.environ.get(MIRROR_VARIABLE)
    if not own:
        return file.mirrors
    if not re.fullmatch(r"https?://[!-~]+", own):
        raise WeightsError(
            f"{MIRROR_VARIABLE}: expected a URL that begins with http:// or https://, got {own!r}"
        )
    return (f"{own.rstrip('/')}/{file.name}", *file.mirrors)


def _download_from(
    url: str, file: PublishedFile, part: Path, check: Callable, progress: Progress
) -> None:
    resumed = _fill(part, url, file, progress)
    fault = check(part)
    if fault and resumed:  # the earlier bytes may be another file's: once more, from the start
        _discard(part)
        _fill(part, url, file, progress)
        fault = check(part)
    if fault:
        _discard(part)
        raise _MirrorError(fault)


def _fill(part: Path, url: str, file: PublishedFile, progress: Progress) -> bool:
    """Complete ``part`` from ``url``; True where it took more than one answer to one request."""
    for attempt in range(1, ATTEMPTS):
        before = _size(part)
        try:
            return _transfer(url, file, part, progress) or attempt > 1
        except _CutError as error:
            if _size(part) <= before:
                raise
            logger.info("%s: %s; resuming", url, error)
    _transfer(url, file, part, progress)
    return True


def _transfer(url: str, file: PublishedFile, part: Path, progress: Progress) -> bool:
    """One request and its answer; True where it resumed what ``part`` held."""
    offset, headers = _range_to_request(url, file, part)
    with _open(url, headers) as response:
        begins = _first_byte(response)
        if offset and begins not in (0, offset):  # there is no more, or another range was sent
            if response.headers.get("Content-Range", "").endswith(f"*/{offset}"):
                _check_length(offset, file.size)
                return True
            _discard(part)
            return _transfer(url, file, part, progress)
        if begins is None:
            raise _MirrorError(f"HTTP {response.status} instead of a file")
        offset = begins
        chunks = _chunks(response)
        first = next(chunks, b"")
        if not offset:
            _check_content(response, url, first)
        total = None if response.length is None else offset + len(first) + response.length
        _check_length(total, file.size)
        if not offset:
            _remember_origin(part, url, response.headers)
        total = file.size if total is None else total
        _write(
            part,
            offset,
            itertools.chain([first], chunks),
            total,
            lambda done: progress(file.name, done, total),
        )
    return offset > 0


def _range_to_request(url: str, file: PublishedFile, part: Path) -> tuple[int, dict[str, str]]:
    """The offset to resume at, and the headers that request the rest.

    A file that changed meanwhile must not be appended. The server compares If-Range; without it,
    or at another mirror, only a digest can show that the two parts belong together.
    """
    offset = _size(part)
    origin = _origin(part)
    if offset and origin.get("url") == url and isinstance(origin.get("validator"), str):
        return offset, {"Range": f"bytes={offset}-", "If-Range": origin["validator"]}
    if offset and file.digest:
        return offset, {"Range": f"bytes={offset}-"}
    return 0, {}


def _open(url: str, headers: dict[str, str]):
    request = urllib.request.Request(url, headers={**_HEADERS, **headers})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            return error
        error.close()
        raise _MirrorError(_one_line(f"HTTP {error.code} {error.reason}")) from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _MirrorError(_reason(error)) from None


def _first_byte(response: http.client.HTTPResponse) -> int | None:
    """The offset in the file at which the body begins: 0 where the server ignored the range, None
    where the body is not part of the file.
    """
    if response.status == 200:
        return 0
    sent = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(sent[1]) if response.status == 206 and sent else None


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = response.read1(_CHUNK_BYTES)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _CutError(f"{_reason(error)} in the middle of the file") from None
        if not chunk:
            return
        yield chunk


def _check_content(response: http.client.HTTPResponse, url: str, first: bytes) -> None:
    found = describe_non_weights(first)
    if found is None and response.headers.get_content_type() == "text/html":
        found = "an HTML page (a login, error or notice page, not the file)"
    if found:
        where = (
            f"redirected to {_one_line(response.url)}, which sent"
            if response.url != url
            else "sent"
        )
        raise _MirrorError(f"{where} {found}")


def _check_length(total: int | None, expected: int | None) -> None:
    if total is not None and expected is not None and total != expected:
        kind = "short" if total < expected else "long"
        raise _MirrorError(f"{kind} body: {total:,} bytes announced, {expected:,} expected")


def _write(
    part: Path,
    offset: int,
    chunks: Iterable[bytes],
    total: int | None,
    report: Callable[[int], None],
) -> None:
    done = offset
    with open(part, "ab" if offset else "wb") as file:
        for chunk in chunks:
            file.write(chunk)
            done += len(chunk)
            report(done)
            if total is not None and done > total:
                raise _MirrorError(f"long body: more than the {total:,} bytes expected")
        file.flush()
        os.fsync(file.fileno())
    if total is not None and done < total:
        raise _CutError(f"short body: the connection ended after {done:,} of {total:,} bytes")


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"timed out (no data for {TIMEOUT_S:g} s)"
    if isinstance(cause, ssl.SSLError):
        reason = getattr(cause, "verify_message", None) or cause.reason or cause
        return f"TLS failure ({_one_line(reason)})"
    if isinstance(cause, socket.gaierror):
        return "host name not found"
    if isinstance(cause, ConnectionRefusedError):
        return "connection refused"
    return f"connection failed ({_one_line(error_reason(cause))})"


def _one_line(text: object) -> str:
    """What a server sent, as one printable line of at most 200 characters."""
    words = "".join(letter if letter.isprintable() else " " for letter in str(text)).split()
    return " ".join(words)[:200]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _discard(path: Path) -> None:
    path.unlink(missing_ok=True)


def _origin_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _remember_origin(part: Path, url: str, headers: http.client.HTTPMessage) -> None:
    """What a later request needs to ask for the rest of this same file (RFC 9110, 13.1.5: no weak
    tags).
    """
    tag = headers.get("ETag", "")
    validator = tag if tag.startswith('"') else headers.get("Last-Modified")
    _discard(part)
    _origin_file(part).write_text(
        json.dumps({"url": url, "validator": validator}), encoding="utf-8"
    )


def _origin(part: Path) -> dict:
    try:
        origin = json.loads(_origin_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return origin if isinstance(origin, dict) else {}
