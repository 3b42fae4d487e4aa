"""Fetching a file, and continuing what a cut, a kill or another mirror left unfinished."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from alexnet_keras.errors import WeightsError
from alexnet_keras.pretrained.catalog import PUBLISHED
from tests.conftest import ROOT
from tests.weights.mirror import BODY, FILE, NPY, Answer, fetch_by_name, isolated_mirror
from weights.store import cache_folder


@pytest.fixture(autouse=True)
def publish(monkeypatch, tmp_path):
    with isolated_mirror(monkeypatch, tmp_path) as publisher:
        yield publisher


@pytest.fixture
def mirror(publish):
    return publish.mirror


def ranges(mirror):
    return [asked.range for asked in mirror.asked]


# Fetching


def test_a_file_is_fetched_once(publish, mirror):
    publish()
    path = fetch_by_name("caffe")
    assert path.read_bytes() == BODY
    assert fetch_by_name("caffe") == path
    assert len(mirror.asked) == 1
    assert not list(path.parent.glob("*.part*"))


def test_progress_counts_to_the_total(publish):
    publish()
    calls = []
    fetch_by_name("caffe", progress=lambda *call: calls.append(call))
    assert {(label, total) for label, _, total in calls} == {(FILE, len(BODY))}
    assert [done for _, done, _ in calls] == sorted(done for _, done, _ in calls)
    assert calls[-1][1] == len(BODY)


def test_progress_without_a_length(publish):
    publish(Answer(BODY, announces_length=False))
    calls = []
    assert fetch_by_name("caffe", progress=lambda *call: calls.append(call)).read_bytes() == BODY
    assert calls[-1] == (FILE, len(BODY), None)


def test_a_redirect_to_the_file_is_followed(publish, mirror):
    mirror.serve("/real", Answer(BODY))
    publish(Answer(redirect="/real"))
    assert fetch_by_name("caffe").read_bytes() == BODY


def test_mirrors_are_tried_in_order(publish, mirror):
    bad = mirror.serve("/bad", Answer(status=404))
    good = mirror.serve("/good", Answer(BODY))
    never = mirror.serve("/never", Answer(BODY))
    publish(
        mirrors=(
            bad,
            good,
            never,
        )
    )
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert [asked.path for asked in mirror.asked] == ["/bad", "/good"]


def test_the_users_own_mirror_is_asked_first(publish, mirror, monkeypatch):
    publish()
    mirror.serve(f"/own/{FILE}", Answer(BODY))
    monkeypatch.setenv("ALEXNET_KERAS_MIRROR", mirror.url("/own/"))
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert [asked.path for asked in mirror.asked] == [f"/own/{FILE}"]


def test_the_published_mirrors_are_asked_where_the_users_own_has_no_such_file(
    publish, mirror, monkeypatch
):
    publish()
    monkeypatch.setenv("ALEXNET_KERAS_MIRROR", mirror.url("/own"))
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert [asked.path for asked in mirror.asked] == [f"/own/{FILE}", "/file"]


def test_the_digest_holds_for_the_users_own_mirror_too(publish, mirror, monkeypatch):
    publish(Answer(status=404))
    mirror.serve(f"/own/{FILE}", Answer(BODY[::-1]))
    monkeypatch.setenv("ALEXNET_KERAS_MIRROR", mirror.url("/own"))
    with pytest.raises(WeightsError, match="wrong digest: sha1"):
        fetch_by_name("caffe")


@pytest.mark.parametrize("value", ["file:///etc", "mirror", "http://a b", "http://a\nb"])
def test_a_mirror_that_is_no_url(publish, monkeypatch, value):
    publish()
    monkeypatch.setenv("ALEXNET_KERAS_MIRROR", value)
    with pytest.raises(WeightsError, match=r"^ALEXNET_KERAS_MIRROR: expected a URL .*, got ") as e:
        fetch_by_name("caffe")
    assert "\n" not in str(e.value)


def test_a_digest_prefix_is_enough(publish):
    publish(digest=hashlib.sha256(BODY).hexdigest()[:8], digest_algorithm="sha256", size=len(BODY))
    assert fetch_by_name("caffe").read_bytes() == BODY


# Continuing


def test_a_cut_is_continued_with_range_and_if_range(publish, mirror):
    publish(Answer(BODY, cut_after=30_000), Answer(BODY, cut_after=20_000), Answer(BODY))
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert [(asked.range, asked.if_range) for asked in mirror.asked] == [
        (None, None),
        ("bytes=30000-", '"v1"'),
        ("bytes=50000-", '"v1"'),
    ]


def test_last_modified_serves_where_there_is_no_strong_tag(publish, mirror):
    date = "Sat, 01 Nov 2014 00:00:00 GMT"
    publish(
        Answer(BODY, etag='W/"weak"', last_modified=date, cut_after=30_000),
        Answer(BODY, last_modified=date),
    )
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert mirror.asked[1].if_range == date


def test_a_server_that_ignores_ranges_restarts(publish, mirror):
    publish(Answer(BODY, cut_after=30_000), Answer(BODY, accepts_ranges=False))
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-"]


def test_another_range_than_the_one_asked_for_restarts(publish, mirror):
    publish(Answer(BODY, cut_after=30_000), Answer(BODY, range_shift=7))
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-", None]


def test_a_file_that_changed_between_two_answers_is_not_glued_together(publish, mirror):
    publish(Answer(b"old" * 40_000, etag='"old"', cut_after=30_000), Answer(BODY, etag='"new"'))
    assert fetch_by_name("caffe").read_bytes() == BODY


def test_without_validators_the_digest_vouches_for_the_joint(publish, mirror):
    publish(Answer(BODY, etag=None, cut_after=30_000), Answer(BODY, etag=None))
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-"]


def test_a_bad_joint_is_fetched_once_more_from_the_start(publish, mirror):
    publish(Answer(b"\x0aold" * 40_000, etag=None, cut_after=30_000), Answer(BODY, etag=None))
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-", None]


def test_the_next_mirror_continues_what_the_first_began(publish, mirror):
    first = mirror.serve("/first", Answer(BODY, cut_after=30_000), Answer(status=503))
    second = mirror.serve("/second", Answer(BODY))
    publish(
        mirrors=(
            first,
            second,
        )
    )
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert mirror.asked[-1] == ("/second", "bytes=30000-", None)


def test_the_next_call_continues(publish, mirror):
    publish(Answer(BODY, cut_after=30_000), Answer(status=503), Answer(BODY))
    with pytest.raises(WeightsError, match="HTTP 503"):
        fetch_by_name("caffe")
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, "bytes=30000-", "bytes=30000-"]


def test_a_part_that_is_whole_already_is_used(publish, mirror):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{FILE}.part").write_bytes(BODY)
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert ranges(mirror) == [f"bytes={len(BODY)}-"]


@pytest.mark.parametrize("left", [b"garbage", BODY + b"more", BODY[:50] + b"\0" * 50])
def test_a_spoilt_part_is_mended(publish, left):
    publish()
    cache_folder().mkdir(parents=True)
    (cache_folder() / f"{FILE}.part").write_bytes(left)
    assert fetch_by_name("caffe").read_bytes() == BODY


def test_without_digest_and_validator_it_starts_over(publish, mirror):
    publish.without_digest(
        Answer(NPY, etag=None, cut_after=500), Answer(NPY, etag=None), size=len(NPY)
    )
    assert fetch_by_name("tensorflow").read_bytes() == NPY
    assert ranges(mirror) == [None, None]


def _in_a_process():
    """A process that fetches ``caffe``, as published at this moment."""
    code = (
        "from weights.published_file import PublishedFile\nfrom weights.store import fetch\n"
        f"print(fetch({PUBLISHED['caffe'].file!r}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_killed_in_the_middle_and_continued(publish, mirror):
    publish(Answer(BODY, pause_s=0.2), Answer(BODY))
    part = cache_folder() / f"{FILE}.part"
    with _in_a_process() as process:
        deadline = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size > 8192):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    there = part.stat().st_size
    assert 8192 < there < len(BODY)
    assert fetch_by_name("caffe").read_bytes() == BODY
    assert ranges(mirror) == [None, f"bytes={there}-"]


def test_two_processes_fetch_once(publish, mirror):
    publish(Answer(BODY, pause_s=0.02))
    with _in_a_process() as one, _in_a_process() as two:
        paths = {process.communicate()[0].strip() for process in (one, two)}
    assert paths == {str(cache_folder() / FILE)}
    assert len(mirror.asked) == 1


def test_threads_fetch_once(publish, mirror):
    publish(Answer(BODY, pause_s=0.005))
    threads = [threading.Thread(target=fetch_by_name, args=("caffe",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mirror.asked) == 1
