"""Downloads against a server on this machine: cut, changed, too large, redirected, refused."""

from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.core.data import catalogue
from quatrain.core.data.download import ATTEMPTS, UnreachableError, download
from quatrain.core.errors import BadDataError

CONTENT = bytes(range(256)) * 40


@dataclass
class Site:
    """What the server on this machine serves, how it misbehaves, and what it was asked."""

    content: bytes = CONTENT
    etag: str = '"v1"'
    modified: str = ""
    url: str = ""
    # Bytes to send before the connection is cut, one per request; then no more cuts.
    cuts: list[int] = field(default_factory=list)
    # Whole answers (status, headers) given before the file is served.
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    ignores_range: bool = False
    hides_length: bool = False
    ranges: list[str | None] = field(default_factory=list)
    if_ranges: list[str | None] = field(default_factory=list)
    # No answer is given while this is not set.
    gate: threading.Event = field(default_factory=threading.Event)


class SiteServer(http.server.ThreadingHTTPServer):
    """A server on a free port of this machine."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.site = Site(url=f"http://127.0.0.1:{self.server_port}/set.csv")


class Handler(http.server.BaseHTTPRequestHandler):
    """Answer one request the way the site wants."""

    server: SiteServer

    def do_GET(self) -> None:
        """Serve the file, or what the test wants in its place."""
        site = self.server.site
        site.gate.wait(timeout=30)
        site.ranges.append(self.headers["Range"])
        site.if_ranges.append(self.headers["If-Range"])
        if site.answers:
            status, headers = site.answers.pop(0)
            self._start(status, headers, length=0)
        else:
            self._send_content(site)

    def _send_content(self, site: Site) -> None:
        start = self._wanted_start(site)
        if start >= len(site.content) and start:
            self._start(416, {}, length=0)
            return
        body = site.content[start:]
        span = {"Content-Range": f"bytes {start}-{len(site.content) - 1}/{len(site.content)}"} if start else {}
        tags = {"ETag": site.etag, "Last-Modified": site.modified}
        length = None if site.hides_length else len(body)
        self._start(206 if start else 200, span | {key: tag for key, tag in tags.items() if tag}, length=length)
        self.wfile.write(body[: site.cuts.pop(0)] if site.cuts else body)

    def _wanted_start(self, site: Site) -> int:
        wanted, condition = self.headers["Range"], self.headers["If-Range"]
        is_stale = condition is not None and condition not in {site.etag, site.modified}
        if wanted is None or site.ignores_range or is_stale:
            return 0
        return int(wanted.removeprefix("bytes=").removesuffix("-"))

    def _start(self, status: int, headers: dict[str, str], *, length: int | None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def serve() -> Iterator[Site]:
    """Serve a Site on 127.0.0.1 while the block runs."""
    with SiteServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            server.site.gate.set()
            yield server.site
        finally:
            server.site.gate.set()
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reach this machine directly even where a proxy is set."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def site() -> Iterator[Site]:
    """Return a site that serves CONTENT well."""
    with serve() as site:
        yield site


def fetch(site: Site, target: Path, *, size: int = len(CONTENT), pauses: list[float] | None = None) -> bytes:
    """Return what a download of the site wrote."""
    download(site.url, target, size=size, progress=False, sleep=(pauses if pauses is not None else []).append)
    return target.read_bytes()


def test_file_is_written_whole_and_nothing_else_remains(site: Site, tmp_path: Path) -> None:
    """A finished download leaves the file alone in its folder."""
    assert fetch(site, tmp_path / "set.csv") == CONTENT
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["set.csv"]


def test_cut_connection_is_resumed_where_it_stopped(site: Site, tmp_path: Path) -> None:
    """The second request asks only for the missing bytes of the same version."""
    site.cuts = [1000]
    assert fetch(site, tmp_path / "set.csv") == CONTENT
    assert site.ranges == [None, "bytes=1000-"]
    assert site.if_ranges == [None, '"v1"']


def test_later_call_goes_on_from_the_part_that_was_left(site: Site, tmp_path: Path) -> None:
    """A download given up, or killed, costs nothing that it already had."""
    site.cuts = [1000] + [0] * (ATTEMPTS - 1)
    with pytest.raises(UnreachableError, match="cut after 1000 of 10240 bytes"):
        fetch(site, tmp_path / "set.csv")
    assert fetch(site, tmp_path / "set.csv") == CONTENT
    assert site.ranges[-1] == "bytes=1000-"


def test_changed_file_is_fetched_from_its_start(site: Site, tmp_path: Path) -> None:
    """Bytes of two versions are never joined."""
    site.cuts = [1000] + [0] * (ATTEMPTS - 1)
    with pytest.raises(UnreachableError, match="cut"):
        fetch(site, tmp_path / "set.csv")
    site.content, site.etag = CONTENT[::-1], '"v2"'
    assert fetch(site, tmp_path / "set.csv") == CONTENT[::-1]


def test_part_of_another_address_is_not_continued(site: Site, tmp_path: Path) -> None:
    """A part that another address left behind is dropped."""
    (tmp_path / "set.csv.part").write_bytes(b"x" * 1000)
    (tmp_path / "set.csv.part.json").write_text('{"url": "https://example.org/other", "tag": ""}')
    assert fetch(site, tmp_path / "set.csv") == CONTENT
    assert site.ranges == [None]


def test_weak_etag_is_not_used_as_a_promise_of_equal_bytes(site: Site, tmp_path: Path) -> None:
    """If-Range falls back to the date when the ETag is weak."""
    site.etag, site.modified, site.cuts = 'W/"v1"', "Sat, 21 Nov 2026 00:00:00 GMT", [1000]
    assert fetch(site, tmp_path / "set.csv") == CONTENT
    assert site.if_ranges == [None, site.modified]


def test_server_without_ranges_is_downloaded_again_from_the_start(site: Site, tmp_path: Path) -> None:
    """A 200 answer to a range request replaces what was there."""
    site.ignores_range, site.cuts = True, [1000]
    assert fetch(site, tmp_path / "set.csv") == CONTENT


def test_part_that_no_longer_fits_is_dropped(site: Site, tmp_path: Path) -> None:
    """A 416 answer starts the download again."""
    site.answers = [(416, {})]
    (tmp_path / "set.csv.part").write_bytes(CONTENT[:1000])
    (tmp_path / "set.csv.part.json").write_text(f'{{"url": "{site.url}", "tag": ""}}')
    assert fetch(site, tmp_path / "set.csv") == CONTENT
    assert site.ranges == ["bytes=1000-", None]


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(1, 3000), max_size=6))
def test_any_series_of_cuts_gives_the_same_bytes(tmp_path_factory: pytest.TempPathFactory, cuts: list[int]) -> None:
    """Wherever connections break, the file comes out whole, as long as each try gets further."""
    with serve() as site:
        site.cuts = list(cuts)
        assert fetch(site, tmp_path_factory.mktemp("cuts") / "set.csv") == CONTENT


def test_other_size_is_refused_before_it_is_downloaded(site: Site, tmp_path: Path) -> None:
    """A Content-Length that is not the catalogue's stops at once."""
    with pytest.raises(BadDataError, match="offers 10240 bytes, the catalogue says 10000"):
        fetch(site, tmp_path / "set.csv", size=10_000)
    assert not (tmp_path / "set.csv.part").exists()


def test_endless_body_is_stopped_at_the_size_expected(site: Site, tmp_path: Path) -> None:
    """A server that does not say its length cannot fill the disk."""
    site.hides_length = True
    with pytest.raises(BadDataError, match="sends more than the 10000 bytes"):
        fetch(site, tmp_path / "set.csv", size=10_000)
    assert not (tmp_path / "set.csv").exists()


def test_short_file_without_a_length_is_given_up(site: Site, tmp_path: Path) -> None:
    """A body that always ends early is reported, not retried for ever."""
    site.hides_length = True
    with pytest.raises(UnreachableError, match=f"tried {ATTEMPTS} times"):
        fetch(site, tmp_path / "set.csv", size=len(CONTENT) + 10)


def test_404_is_reported_at_once(site: Site, tmp_path: Path) -> None:
    """What will not change by waiting is not retried."""
    site.answers = [(404, {})]
    with pytest.raises(UnreachableError, match="404 Not Found"):
        fetch(site, tmp_path / "set.csv")
    assert len(site.ranges) == 1


def test_busy_server_is_asked_again_after_the_pause_it_wants(site: Site, tmp_path: Path) -> None:
    """503 with Retry-After waits that long, and without it a little longer each time."""
    site.answers = [(503, {"Retry-After": "7"}), (503, {})]
    pauses: list[float] = []
    assert fetch(site, tmp_path / "set.csv", pauses=pauses) == CONTENT
    assert pauses == [7.0, 2.0]


def test_no_server_is_reported_after_a_few_tries(site: Site, tmp_path: Path, closed_port: int) -> None:
    """A refused connection says so, with the number of tries."""
    site.url = f"http://127.0.0.1:{closed_port}/set.csv"
    pauses: list[float] = []
    with pytest.raises(UnreachableError, match=rf"cannot be reached.*tried {ATTEMPTS} times"):
        fetch(site, tmp_path / "set.csv", pauses=pauses)
    assert pauses == [1.0, 2.0, 4.0]


def test_redirect_on_this_machine_is_followed(site: Site, tmp_path: Path) -> None:
    """A redirect between plain addresses of this machine is harmless."""
    site.answers = [(302, {"Location": "/moved.csv"})]
    assert fetch(site, tmp_path / "set.csv") == CONTENT


@pytest.mark.parametrize("target", ["http://example.org/set.csv", "ftp://example.org/set.csv", "file:///etc/hostname"])
def test_redirect_to_anything_but_https_is_refused(site: Site, tmp_path: Path, target: str) -> None:
    """A redirect may not lead to an address that others can read or change on the way."""
    site.answers = [(302, {"Location": target})]
    with pytest.raises(UnreachableError, match=r"not https|not allowed"):
        fetch(site, tmp_path / "set.csv")
    assert not (tmp_path / "set.csv").exists()


def describe_set(folder: Path, site: Site, *, sha256: str | None = None) -> None:
    """Make a catalogue in `folder` that has one set, `a-set`, at the site."""
    text = f"""
title = "A set"
app = "fintech"
task = "fraud"
licence = "CC0-1.0"
citation = "Nobody, 2026."
homepage = "https://example.org"
synthetic = false
file = "set.csv"
sha256 = "{sha256 or hashlib.sha256(CONTENT).hexdigest()}"
size = {len(CONTENT)}
[source]
kind = "https"
url = "{site.url}"
"""
    (folder / "a-set.toml").write_text(text, encoding="utf-8")


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is the catalogue."""
    folder = tmp_path / "sets"
    folder.mkdir()
    monkeypatch.setattr(catalogue, "SETS", folder)
    return folder


def test_pull_downloads_once_and_then_uses_the_cache(site: Site, sets: Path) -> None:
    """A second pull asks the network for nothing."""
    describe_set(sets, site)
    assert catalogue.pull("a-set").read_bytes() == CONTENT
    assert catalogue.pull("a-set") == catalogue.verify("a-set")
    assert len(site.ranges) == 1


def test_wrong_digest_is_refused_and_nothing_is_kept(site: Site, sets: Path, tmp_path: Path) -> None:
    """The message shows both digests; the next pull does not start from the bad bytes."""
    describe_set(sets, site)
    site.content = CONTENT[::-1]
    good, bad = (hashlib.sha256(content).hexdigest() for content in (CONTENT, CONTENT[::-1]))
    with pytest.raises(BadDataError, match=rf"expected sha256 {good} \(10240 bytes\), got {bad} \(10240 bytes\)"):
        catalogue.pull("a-set")
    assert catalogue.held("a-set") is None
    assert [path.name for path in (tmp_path / "quatrain-cache" / "data").iterdir()] == ["a-set.lock"]


def test_unreachable_source_tells_the_way_round(site: Site, sets: Path) -> None:
    """The message says what was tried and how to supply the file by hand."""
    describe_set(sets, site)
    site.answers = [(404, {})]
    with pytest.raises(UnreachableError, match=r"(?s)404.*example\.org.*quatrain data pull a-set --from PATH"):
        catalogue.pull("a-set")


def test_file_supplied_by_hand_needs_no_network(site: Site, sets: Path, tmp_path: Path) -> None:
    """--from takes the user's copy, which stays where it was."""
    describe_set(sets, site)
    (tmp_path / "mine.csv").write_bytes(CONTENT)
    assert catalogue.pull("a-set", supplied=tmp_path / "mine.csv").read_bytes() == CONTENT
    assert (tmp_path / "mine.csv").exists()
    assert site.ranges == []


def test_new_version_of_a_set_is_fetched_in_place_of_the_old(site: Site, sets: Path) -> None:
    """A descriptor with another digest makes the cached copy outdated, not wrong."""
    describe_set(sets, site)
    catalogue.pull("a-set")
    site.content, site.etag = CONTENT[::-1], '"v2"'
    describe_set(sets, site, sha256=hashlib.sha256(site.content).hexdigest())
    assert catalogue.held("a-set") is None
    assert catalogue.pull("a-set").read_bytes() == CONTENT[::-1]


def test_two_processes_pull_a_set_once(site: Site, sets: Path, tmp_path: Path) -> None:
    """Whoever comes second waits and takes what the first has fetched."""
    describe_set(sets, site)
    code = (
        "import pathlib, sys\n"
        "from quatrain.core.data import catalogue\n"
        "catalogue.SETS = pathlib.Path(sys.argv[1])\n"
        "print('started', flush=True)\n"
        "sys.stdout.write(str(catalogue.pull('a-set')))\n"
    )
    command = [sys.executable, "-c", code, str(sets)]
    environment = os.environ | {"QUATRAIN_CORE__CACHE": str(tmp_path / "quatrain-cache")}
    site.gate.clear()
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    assert [process.stdout.readline() for process in processes if process.stdout] == [b"started\n"] * 2
    site.gate.set()
    paths = [process.communicate(timeout=60)[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert Path(paths[0]).read_bytes() == CONTENT
    assert paths[0] == paths[1]
    assert len(site.ranges) == 1
