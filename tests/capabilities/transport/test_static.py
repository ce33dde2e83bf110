"""Files served for a cell: real files, real sockets; the cell's own requests stay in a queue of the test's."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import http.client
import os
import socket
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulp_runtime import Host
from pulp_runtime.abi.http import HTTPListen
from pulp_runtime.capabilities.transport import static as static_module
from pulp_runtime.capabilities.transport.static import parts_of
from pulp_runtime.capabilities.transport.static_conditions import Version, codings, condition, part, wants_a_page
from pulp_runtime.capabilities.transport.static_file import SMALL_BYTES
from pulp_runtime.capabilities.transport.static_types import content_type_of
from pulp_runtime.errors import Errno, ExtensionError
from pulp_runtime.ext import CellRef
from pulp_runtime.log import Log

from .test_access import Configured
from .test_http_inbound import code_of

VERSION = Version('"abc"', 1_700_000_000)
CONDITIONAL = ("If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range")
PAGE = b"<!doctype html><title>t</title>"


class Site:
    """A capability that serves `public` of a cell `site`, on an event loop in a thread."""

    def __init__(self, folder: Path, *mounts: dict[str, object], **http: object) -> None:
        self.public = folder / "public"
        self.cell = CellRef("site", "site", Log("pulp", cell="site"), manifest=folder / "pulp.cell.toml")
        self._mounts = mounts or ({"path": "/", "folder": "public"},)
        self._http = http
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.bench: Configured

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    def __enter__(self) -> Site:
        self._thread.start()
        self.run(self._open())
        host, _, port = self.bench.endpoints[0].address.removeprefix("http://").rpartition(":")
        self.address = (host, int(port))
        return self

    async def _open(self) -> None:
        self.bench = await Configured(**self._http).__aenter__()
        self.load(*self._mounts)

    def load(self, *mounts: dict[str, object]) -> None:
        self.bench.set_up(self.cell, static=list(mounts))

    def __exit__(self, *_error: object) -> None:
        self.run(self.bench.__aexit__())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    def client(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=20)

    def ask(self, path: str, method: str = "GET", **headers: str) -> Reply:
        client = self.client()
        try:
            client.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            return Reply(client.getresponse())
        finally:
            client.close()

    def raw(self, target: bytes) -> bytes:
        with socket.create_connection(self.address, 20) as client:
            client.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            data = b""
            while piece := client.recv(65_536):
                data += piece
            return data

    def forget_the_time(self) -> None:
        """Have the disk asked again, as if a second had passed."""
        for resource in self.bench.inbound._static._kept.values():
            resource.checked = -10.0


class Reply:
    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status = answer.status
        self.headers = answer.headers
        self.body = answer.read()

    def __getitem__(self, name: str) -> str | None:
        return self.headers.get(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    public = tmp_path / "public"
    (public / "docs" / "deep").mkdir(parents=True)
    (public / "index.html").write_bytes(PAGE)
    (public / "app.js").write_text("let a = 1\n")
    (public / "docs" / "index.html").write_text("docs")
    (public / "docs" / "deep" / "a b é.txt").write_text("deep")
    (public / "empty.bin").write_bytes(b"")
    (public / "long.bin").write_bytes(bytes(range(256)) * 4096)
    (public / ".env").write_text("SECRET=1")
    (public / ".well-known").mkdir()
    (public / ".well-known" / "security.txt").write_text("Contact: a@b.c")
    (tmp_path / "canary").write_text("stolen")
    return tmp_path


@pytest.fixture
def site(folder: Path) -> Iterator[Site]:
    with Site(folder) as site:
        yield site


# What is served -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/", PAGE, "text/html; charset=utf-8"),
        ("/index.html", PAGE, "text/html; charset=utf-8"),
        ("/app.js?v=1", b"let a = 1\n", "text/javascript; charset=utf-8"),
        ("/docs/", b"docs", "text/html; charset=utf-8"),
        ("/docs/deep/a%20b%20%C3%A9.txt", b"deep", "text/plain; charset=utf-8"),
        ("/empty.bin", b"", "application/octet-stream"),
        ("/long.bin", bytes(range(256)) * 4096, "application/octet-stream"),
        ("/.well-known/security.txt", b"Contact: a@b.c", "text/plain; charset=utf-8"),
    ],
)
def test_a_file_is_served_as_it_is(site: Site, path: str, body: bytes, kind: str) -> None:
    for _ in range(2):  # from the disk, and from memory
        reply = site.ask(path)
        assert (reply.status, reply.body) == (200, body)
        assert reply["Content-Type"] == kind
        assert reply["Content-Length"] == str(len(body))
        assert reply["X-Content-Type-Options"] == "nosniff"
        assert reply["Cache-Control"] == "no-cache"
        assert reply["Accept-Ranges"] == "bytes"
        head = site.ask(path, "HEAD")
        assert (head.status, head.body, head["ETag"]) == (200, b"", reply["ETag"])
        assert head["Content-Length"] == str(len(body))


@pytest.mark.parametrize("path", ["/none", "/app.js/", "/app.js/x", "/docs/deep/", "/docs/none/x", "/" + "x" * 300])
def test_what_is_not_there_is_404_and_folders_are_not_listed(site: Site, path: str) -> None:
    reply = site.ask(path)

    assert (reply.status, reply.body) == (404, b"404 page not found")


def test_other_methods_have_no_route(site: Site) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert site.ask("/app.js", method).status == 404


def test_a_folder_without_its_slash_is_redirected_to(site: Site) -> None:
    reply = site.ask("/docs?a=%2F&b")

    assert (reply.status, reply["Location"]) == (301, "/docs/?a=%2F&b")
    assert site.ask("/docs/deep").status == 301


def test_a_mount_has_a_path_of_its_own(folder: Path) -> None:
    mounts = (
        {"path": "/static/", "folder": "public", "cache_control": "public, max-age=60"},
        {"path": "/d", "folder": "public/docs", "index": "none.html", "cache_control": ""},
    )
    with Site(folder, *mounts) as site:
        assert site.ask("/static/app.js")["Cache-Control"] == "public, max-age=60"
        assert site.ask("/static").status == 301
        assert site.ask("/static")["Location"] == "/static/"
        assert site.ask("/static/").body == PAGE
        assert site.ask("/app.js").status == 404
        assert site.ask("/staticapp.js").status == 404
        assert site.ask("/d/").status == 404
        assert site.ask("/d/index.html").body == b"docs"
        assert site.ask("/d/index.html")["Cache-Control"] is None


def test_the_routes_of_the_cell_come_first(site: Site) -> None:
    assert site.bench.register(site.cell, "GET", "/app.js") == Errno.OK
    assert site.bench.register(site.cell, "GET", "/docs/:page") == Errno.OK
    threads = [threading.Thread(target=site.ask, args=(path,)) for path in ("/app.js", "/docs/index.html")]
    for thread in threads:
        thread.start()
    asked = []
    for _ in threads:
        request = site.run(site.bench.request())
        asked.append(request.path)
        assert site.bench.respond(site.cell, id=request.id, body=b"") == Errno.OK
    for thread in threads:
        thread.join()
    assert sorted(asked) == ["/app.js", "/docs/index.html"]
    assert site.ask("/index.html").body == PAGE


def test_a_route_behind_a_mount_is_refused_because_it_would_never_be_reached(site: Site, records) -> None:
    assert site.bench.register(site.cell, "GET", "/*rest") == Errno.FAILED
    assert site.bench.register(site.cell, " head", "/*") == Errno.FAILED
    assert site.bench.register(site.cell, "POST", "/*rest") == Errno.OK
    assert site.bench.register(site.cell, "GET", "/api/*rest") == Errno.OK
    assert "is what a folder is served on" in records.fields("route refused")[0]["reason"]


def test_people_who_navigate_to_no_file_get_the_fallback_and_nobody_else_does(folder: Path) -> None:
    with Site(folder, {"path": "/", "folder": "public", "fallback": "index.html"}) as site:
        browser = "text/html,application/xhtml+xml,*/*;q=0.8"
        for path in ("/deep/link", "/docs/deep/", "/none.html"):
            reply = site.ask(path, Accept=browser)
            assert (reply.status, reply.body, reply["Content-Type"]) == (200, PAGE, "text/html; charset=utf-8")
            assert site.ask(path, "HEAD", Accept=browser)["Content-Length"] == str(len(PAGE))
            assert site.ask(path, Accept="*/*").status == 404
            assert site.ask(path).status == 404
        assert site.ask("/.env", Accept=browser).body == PAGE
        reply = site.ask("/deep/link", Accept=browser, If_None_Match=site.ask("/")["ETag"])
        assert (reply.status, reply.body) == (304, b"")


# Conditions -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"If-None-Match": '"abc"'}, 304),
        ({"If-None-Match": 'W/"abc"'}, 304),
        ({"If-None-Match": '"x", W/"y" , "abc"'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": "abc"}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": formatdate(2_000_000_000, usegmt=True)}, 200),
        ({"If-Modified-Since": formatdate(1_700_000_000, usegmt=True)}, 304),
        ({"If-Modified-Since": formatdate(1_699_999_999, usegmt=True)}, 200),
        ({"If-Modified-Since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, 304),
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Modified-Since": "1" * 60_000}, 200),
        ({"If-Match": '"abc"'}, 200),
        ({"If-Match": 'W/"abc"'}, 412),
        ({"If-Match": '"x"'}, 412),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"x"', "If-None-Match": '"abc"'}, 412),
        ({"If-Unmodified-Since": formatdate(1_699_999_999, usegmt=True)}, 412),
        ({"If-Unmodified-Since": formatdate(1_700_000_000, usegmt=True)}, 200),
        ({}, 200),
    ],
    ids=str,
)
def test_conditions_are_those_of_the_rfc(fields: dict[str, str], status: int) -> None:
    assert condition(fields, VERSION) == status


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"Range": "bytes=0-0"}, (0, 1)),
        ({"Range": "bytes=2-"}, (2, 10)),
        ({"Range": "bytes=2-100"}, (2, 10)),
        ({"Range": "bytes=-3"}, (7, 10)),
        ({"Range": "bytes=-100"}, (0, 10)),
        ({"Range": "Bytes=9-9"}, (9, 10)),
        ({"Range": "bytes=5-4"}, None),
        ({"Range": "bytes=-"}, None),
        ({"Range": "bytes=0-1,3-4"}, None),
        ({"Range": "bytes=0x1-2"}, None),
        ({"Range": "bytes=1-" + "9" * 30}, None),
        ({"Range": "items=0-1"}, None),
        ({"Range": "bytes=0-0", "If-Range": '"abc"'}, (0, 1)),
        ({"Range": "bytes=0-0", "If-Range": 'W/"abc"'}, None),
        ({"Range": "bytes=0-0", "If-Range": '"old"'}, None),
        ({"Range": "bytes=0-0", "If-Range": formatdate(1_700_000_000, usegmt=True)}, (0, 1)),
        ({"Range": "bytes=0-0", "If-Range": formatdate(1_700_000_001, usegmt=True)}, None),
        ({}, None),
    ],
    ids=str,
)
def test_one_range_is_understood_and_several_are_not_asked_for(fields: dict[str, str], found: object) -> None:
    assert part(fields, VERSION, 10) == found


@pytest.mark.parametrize(("text", "size"), [("bytes=10-", 10), ("bytes=10-12", 10), ("bytes=-0", 10), ("bytes=0-", 0)])
def test_a_range_behind_the_end_is_none(text: str, size: int) -> None:
    with pytest.raises(ValueError, match="behind the end"):
        part({"Range": text}, VERSION, size)


@pytest.mark.parametrize(
    ("accepted", "found"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("br, gzip", "br"),
        ("gzip, deflate, br;q=0.5", "gzip"),
        ("GZIP;q=0.2", "gzip"),
        ("br;q=0, gzip;q=0", ""),
        ("*", "br"),
        ("*;q=0.1, br;q=0", "gzip"),
        ("identity", ""),
        ("gzip;q=nonsense", "gzip"),
        (",;,", ""),
    ],
)
def test_the_coding_is_the_one_that_suits_best(accepted: str, found: str) -> None:
    assert codings({"Accept-Encoding": accepted}, {"": 1, "br": 1, "gzip": 1}) == found
    assert codings({"Accept-Encoding": accepted}, {"": 1}) == ""


WORDS = st.text(st.sampled_from('bytes=-,0123456789 "W/*;q.:GMTMonJan+\\()é'), max_size=50)


@given(st.dictionaries(st.sampled_from([*CONDITIONAL, "Range", "Accept-Encoding", "Accept"]), WORDS))
def test_no_field_of_a_request_is_a_failure(fields: dict[str, str]) -> None:
    assert condition(fields, VERSION) in (200, 304, 412)
    assert codings(fields, {"": 1, "br": 1, "gzip": 1}) in ("", "br", "gzip")
    assert wants_a_page(fields) in (True, False)
    try:
        found = part(fields, VERSION, 10)
    except ValueError:
        return
    assert found is None or 0 <= found.start < found.end <= 10


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.HTML", "text/html; charset=utf-8"),
        ("a.b.svg", "image/svg+xml"),
        (".js", "application/octet-stream"),
        ("js", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("a.exe", "application/octet-stream"),
    ],
)
def test_the_type_is_told_by_the_end_of_the_name(name: str, kind: str) -> None:
    assert content_type_of(name) == kind


@pytest.mark.parametrize("path", ["/app.js", "/long.bin"])
def test_a_client_that_has_a_file_gets_304_until_it_changes(site: Site, path: str) -> None:
    first = site.ask(path)
    again = site.ask(path, If_None_Match=first["ETag"], Range="bytes=0-0")
    assert (again.status, again.body, again["ETag"]) == (304, b"", first["ETag"])
    assert again["Cache-Control"] == "no-cache"
    assert site.ask(path, If_Modified_Since=first["Last-Modified"]).status == 304
    assert site.ask(path, If_Match='"other"').status == 412
    file = site.public / path[1:]
    file.write_bytes(bytes(reversed(file.read_bytes())))
    site.forget_the_time()
    changed = site.ask(path, If_None_Match=first["ETag"])
    assert (changed.status, changed.body) == (200, file.read_bytes())
    assert changed["ETag"] != first["ETag"]


def test_the_tag_of_a_short_file_is_that_of_its_bytes_on_every_machine(site: Site) -> None:
    digest = hashlib.blake2b(b"let a = 1\n", digest_size=12).hexdigest()
    before = site.ask("/app.js")["ETag"]
    os.utime(site.public / "app.js", (1, 1))
    site.forget_the_time()

    assert before == f'"{digest}"' == site.ask("/app.js")["ETag"]
    assert site.ask("/app.js")["Last-Modified"] == "Thu, 01 Jan 1970 00:00:01 GMT"


@pytest.mark.parametrize("path", ["/app.js", "/long.bin"])
def test_a_range_is_some_of_the_file(site: Site, path: str) -> None:
    body = (site.public / path[1:]).read_bytes()
    size = len(body)
    for start, end in ((0, 1), (3, 7), (size - 4, size), (0, size)):
        reply = site.ask(path, Range=f"bytes={start}-{end - 1}")
        assert (reply.status, reply.body) == (206, body[start:end])
        assert reply["Content-Range"] == f"bytes {start}-{end - 1}/{size}"
        assert reply["Content-Length"] == str(end - start)
        assert reply["ETag"]
    whole = site.ask(path, Range="bytes=0-1,2-3")
    assert (whole.status, whole.body) == (200, body)
    beyond = site.ask(path, Range=f"bytes={size}-")
    assert (beyond.status, beyond["Content-Range"]) == (416, f"bytes */{size}")
    assert site.ask(path, "HEAD", Range="bytes=0-1").status == 200


# Compressed siblings --------------------------------------------------------------------------------------------------


def test_a_compressed_sibling_is_served_to_who_takes_it(site: Site) -> None:
    (site.public / "app.js.gz").write_bytes(gzip.compress(b"let a = 1\n"))
    (site.public / "app.js.br").write_bytes(b"not really brotli")
    plain, packed, better = (site.ask("/app.js", Accept_Encoding=one) for one in ("identity", "gzip", "gzip, br"))

    assert (plain.body, plain["Content-Encoding"]) == (b"let a = 1\n", None)
    assert (gzip.decompress(packed.body), packed["Content-Encoding"]) == (b"let a = 1\n", "gzip")
    assert (better.body, better["Content-Encoding"]) == (b"not really brotli", "br")
    assert {reply["Vary"] for reply in (plain, packed, better)} == {"Accept-Encoding"}
    assert {reply["Content-Type"] for reply in (plain, packed, better)} == {"text/javascript; charset=utf-8"}
    assert len({reply["ETag"] for reply in (plain, packed, better)}) == 3
    unchanged = site.ask("/app.js", Accept_Encoding="gzip", If_None_Match=packed["ETag"])
    assert (unchanged.status, unchanged["Vary"]) == (304, "Accept-Encoding")
    assert site.ask("/app.js", Accept_Encoding="gzip", Range="bytes=0-1").body == packed.body[:2]


def test_a_sibling_that_is_older_than_its_file_is_left_alone(site: Site) -> None:
    old = site.public / "app.js.gz"
    old.write_bytes(b"stale")
    os.utime(old, (1, 1))

    reply = site.ask("/app.js", Accept_Encoding="gzip")
    assert (reply.body, reply["Content-Encoding"], reply["Vary"]) == (b"let a = 1\n", None, None)


def test_a_sibling_alone_is_a_file_like_others(site: Site) -> None:
    (site.public / "only.txt.gz").write_bytes(b"x")

    assert site.ask("/only.txt").status == 404
    reply = site.ask("/only.txt.gz", Accept_Encoding="gzip")
    assert (reply.body, reply["Content-Encoding"], reply["Content-Type"]) == (b"x", None, "application/gzip")


def open_files() -> Iterator[str]:
    for link in Path("/proc/self/fd").iterdir():
        try:
            yield str(link.readlink())
        except FileNotFoundError:  # the one this folder was read by
            pass


# Long files -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_client_that_takes_its_time_holds_neither_memory_nor_a_descriptor(site: Site) -> None:
    body = os.urandom(1 << 20) * 24
    (site.public / "huge.bin").write_bytes(body)
    with socket.create_connection(site.address, 20) as client:
        client.sendall(b"GET /huge.bin HTTP/1.0\r\n\r\n")
        client.recv(1)
        time.sleep(0.1)
        assert not any(name.endswith("huge.bin") for name in open_files())
        connection = next(iter(site.bench.inbound._front._doors[""].listener._service.connections))
        assert connection._transport.get_write_buffer_size() <= 2 * static_module.PIECE_BYTES
        data = b""
        while piece := client.recv(1 << 20):
            data += piece
    assert data.partition(b"\r\n\r\n")[2] == body


def test_a_long_file_that_changes_while_it_is_sent_is_broken_off(site: Site, records) -> None:
    file = site.public / "huge.bin"
    file.write_bytes(bytes(24 << 20))
    with socket.create_connection(site.address, 20) as client:
        client.sendall(b"GET /huge.bin HTTP/1.1\r\nHost: a\r\n\r\n")
        client.recv(1)
        file.write_bytes(b"x" * (24 << 20))
        total = 0
        try:
            while piece := client.recv(1 << 20):
                total += len(piece)
                assert b"x" not in piece[1000:]
        except ConnectionResetError:
            pass
    assert total < 24 << 20
    assert records.fields("file broken off")


def test_a_connection_goes_on_behind_a_long_file(site: Site) -> None:
    client = site.client()
    for path in ("/long.bin", "/app.js", "/long.bin", "/none"):
        client.request("GET", path)
        answer = client.getresponse()
        assert len(answer.read()) == int(answer.getheader("Content-Length"))
    client.close()


def test_files_are_served_over_http2_as_well(folder: Path) -> None:
    with Site(folder, http2=True) as site, httpx.Client(http1=False, http2=True, trust_env=False) as client:
        url = "http://{}:{}".format(*site.address)
        for path in ("/long.bin", "/app.js"):
            reply = client.get(url + path)
            assert (reply.http_version, reply.status_code) == ("HTTP/2", 200)
            assert reply.content == (site.public / path[1:]).read_bytes()
            assert client.get(url + path, headers={"If-None-Match": reply.headers["ETag"]}).status_code == 304
            assert client.get(url + path, headers={"Range": "bytes=-3"}).content == reply.content[-3:]
            head = client.head(url + path)
            assert (head.headers["content-length"], head.content) == (str(len(reply.content)), b"")


# Memory ---------------------------------------------------------------------------------------------------------------


def test_what_is_kept_in_memory_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_module, "KEPT_BYTES", 100_000)
    for number in range(20):
        (site.public / f"{number}.bin").write_bytes(bytes(20_000))
        assert site.ask(f"/{number}.bin").status == 200
    files = site.bench.inbound._static
    assert files._weight <= 100_000
    assert files._weight == sum(resource.weight for resource in files._kept.values())
    assert {name for _mount, name in files._kept} == {"16.bin", "17.bin", "18.bin", "19.bin"}


def test_a_file_in_memory_is_not_read_again_until_a_second_has_passed(site: Site) -> None:
    assert site.ask("/app.js").body == b"let a = 1\n"
    (site.public / "app.js").write_text("let b = 2\n")
    assert site.ask("/app.js").body == b"let a = 1\n"
    site.forget_the_time()
    assert site.ask("/app.js").body == b"let b = 2\n"
    (site.public / "app.js").unlink()
    site.forget_the_time()
    assert site.ask("/app.js").status == 404
    assert site.bench.inbound._static._weight == 0


def test_a_file_of_the_longest_kept_size_and_one_that_is_longer(site: Site) -> None:
    for size in (SMALL_BYTES, SMALL_BYTES + 1):
        (site.public / "edge.bin").write_bytes(b"e" * size)
        site.forget_the_time()
        reply = site.ask("/edge.bin")
        assert (reply.status, len(reply.body)) == (200, size)


# Attacks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        b"/../canary",
        b"/%2e%2e/canary",
        b"/docs/%2e%2e/%2e%2e/canary",
        b"/docs/..%2f..%2fcanary",
        b"/..%5ccanary",
        b"/%5c..%5ccanary",
        b"/....//canary",
        b"/%252e%252e/canary",
        b"//canary",
        b"/%2fetc/passwd",
        b"/.env",
        b"/%2eenv",
        b"/docs/.%00/../canary",
        b"/app.js%00.txt",
        b"/app.js%0a",
        b"/app.js%5c",
        b"/.well-known/../.env",
        b"/docs/.well-known/x",
        b"/" + b"a/" * 3_000,
        b"/" + b"x" * 5_000,
        b"/C:/windows",
        b"/app.js/.",
        b"/app.js.",
        b"/app.js%20",
    ],
)
def test_threat_1_and_6_no_path_leads_out_of_the_folder_or_to_a_hidden_file(site: Site, target: bytes) -> None:
    answer = site.raw(target)

    assert answer.split()[1] in (b"301", b"400", b"404", b"414")
    assert b"stolen" not in answer
    assert b"SECRET" not in answer
    assert b"root:" not in answer


@pytest.mark.parametrize("name", ["a\\b", ".hidden", "a/.git/x", "a//b", "a\nb", "a\x7f", "a\u202eb", "\u200b"])
def test_threat_6_a_name_that_is_none_of_ours_has_no_parts(name: str) -> None:
    assert parts_of(name) is None


def test_threat_2_a_link_is_followed_inside_the_folder_and_never_out_of_it(site: Site, records) -> None:
    (site.public / "in.js").symlink_to("app.js")
    (site.public / "out.txt").symlink_to("../canary")
    (site.public / "outside").symlink_to("..")
    (site.public / "far.txt").symlink_to("/etc/passwd")
    (site.public / "loop").symlink_to("loop")
    (site.public / "dangling").symlink_to("../nothing")
    (site.public / "app.js.br").symlink_to("../canary")

    assert site.ask("/in.js").body == b"let a = 1\n"
    for path in ("/out.txt", "/outside/canary", "/far.txt", "/loop", "/dangling", "/outside/", "/outside"):
        assert site.ask(path).status == 404
    assert site.ask("/app.js", Accept_Encoding="br").body == b"let a = 1\n"
    assert {"out.txt", "outside/canary"} <= {fields["path"] for fields in records.fields("file refused")}


@pytest.mark.slow
def test_threat_3_a_folder_that_is_swapped_for_a_link_never_leads_out(site: Site) -> None:
    outside = site.public.parent / "outside"
    outside.mkdir()
    (outside / "index.html").write_text("stolen")
    place, spare = site.public / "place", site.public / "spare"
    place.mkdir()
    (place / "index.html").write_text("good")
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            place.rename(spare)
            place.symlink_to("../outside")
            place.unlink()
            spare.rename(place)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(500):
            site.forget_the_time()
            reply = site.ask("/place/index.html")
            seen.add((reply.status, reply.body))
    finally:
        done.set()
        thread.join()
    assert seen <= {(200, b"good"), (404, b"404 page not found")}


@pytest.mark.parametrize("kind", ["fifo", "socket", "device"])
def test_threat_8_what_is_no_regular_file_is_404_and_nobody_waits_for_it(site: Site, kind: str) -> None:
    place = site.public / "odd"
    if kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        bound = socket.socket(socket.AF_UNIX)
        bound.bind(str(place))
        bound.close()
    else:
        place.symlink_to("/dev/zero")
    assert site.ask("/odd").status == 404


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_the_host_may_not_read_is_404(site: Site) -> None:
    (site.public / "app.js").chmod(0)
    assert site.ask("/app.js").status == 404


def test_while_the_folder_is_exchanged_there_is_nothing_and_none_is_made(site: Site) -> None:
    moved = site.public.with_name("moved")
    assert site.ask("/app.js").status == 200
    site.public.rename(moved)
    site.forget_the_time()
    assert site.ask("/app.js").status == 404
    assert not site.public.exists()
    moved.rename(site.public)
    assert site.ask("/app.js").status == 200


def test_a_folder_behind_a_link_can_be_exchanged_in_one_step(folder: Path) -> None:
    for release in ("one", "two"):
        (folder / release).mkdir()
        (folder / release / "index.html").write_text(release)
    (folder / "current").symlink_to("one")
    with Site(folder, {"path": "/", "folder": "current"}) as site:
        assert site.ask("/").body == b"one"
        (folder / "next").symlink_to("two")
        (folder / "next").rename(folder / "current")
        site.forget_the_time()
        assert site.ask("/").body == b"two"


# Manifests ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mount", "reason"),
    [
        ({"path": "/", "folder": "none"}, "none is no folder"),
        ({"path": "/", "folder": "canary"}, "canary is no folder"),
        ({"path": "/", "folder": "."}, "holds the manifest"),
        ({"path": "/", "folder": ".."}, "holds the manifest"),
        ({"path": "relative", "folder": "public"}, "must start with '/'"),
        ({"path": "/:id", "folder": "public"}, "without parameters"),
        ({"path": "/*", "folder": "public"}, "without parameters"),
        ({"path": "/", "folder": "public", "index": "a/b"}, "no file name"),
        ({"path": "/", "folder": "public", "index": ".env"}, "no file name"),
        ({"path": "/", "folder": "public", "fallback": "../canary"}, "no path below the folder"),
        ({"path": "/", "folder": "public", "cache_control": "a\r\nEvil: 1"}, "control character"),
        ({"path": "/", "folder": "public", "typo": 1}, "typo"),
        ({"folder": "public"}, "path"),
        ({"path": "/", "folder": 1}, "folder"),
    ],
)
def test_a_mount_that_cannot_be_refuses_the_cell_and_says_why(folder: Path, mount: dict, reason: str) -> None:
    with Site(folder, {"path": "/ok", "folder": "public"}) as site:
        with pytest.raises(ExtensionError, match=r"pulp\.cell\.toml: .*static") as refused:
            site.load(mount)
        assert reason in str(refused.value)


def test_two_mounts_on_one_path_are_refused(folder: Path) -> None:
    with (
        Site(folder, {"path": "/ok", "folder": "public"}) as site,
        pytest.raises(ExtensionError, match=r"static\[1\].*served already"),
    ):
        site.load({"path": "/a", "folder": "public"}, {"path": "/a/", "folder": "public"})


def test_threat_39_a_mount_does_not_take_what_another_cell_has(folder: Path) -> None:
    with Site(folder, {"path": "/ok", "folder": "public"}) as site:
        other = CellRef("other", "other", Log("pulp", cell="other"))
        assert site.bench.register(other, "GET", "/a/b") == Errno.OK
        with pytest.raises(ExtensionError, match=r"GET /\* of site overlaps GET /a/b of other"):
            site.load({"path": "/", "folder": "public"})
        assert site.bench.register(other, "GET", "/ok/x") == Errno.FAILED


def test_a_mount_is_there_while_its_cell_is_restarted_and_changes_with_its_manifest(site: Site) -> None:
    site.bench.inbound.teardown_cell("site")
    assert site.ask("/app.js").status == 200
    site.load({"path": "/docs", "folder": "public/docs"})
    assert site.ask("/docs/").body == b"docs"
    assert site.ask("/app.js").status == 404


@pytest.mark.parametrize("adopted", [True, False])
def test_a_reload_changes_the_mounts_only_if_the_new_version_is_adopted(site: Site, adopted: bool) -> None:
    site.bench.inbound.swap_begin("site")
    site.load({"path": "/docs", "folder": "public/docs"})
    site.bench.inbound.swap_end("site", adopted)
    assert site.ask("/docs/").body == b"docs"
    assert site.ask("/app.js").status == (404 if adopted else 200)


def test_a_mount_goes_with_its_cell_to_a_listener_of_its_own(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert listen(site, address) == Errno.OK
    assert site.ask("/app.js").status == 404
    site.address = ("127.0.0.1", int(address.rpartition(":")[2]))
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert site.ask("/app.js").status == 200
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    assert site.bench.register(site.cell, "GET", "/x") == Errno.OK
    assert listen(site, "127.0.0.1:1") == Errno.NOT_FOUND


def listen(site: Site, address: str) -> int:
    return code_of(lambda: site.bench.inbound.http_listen(site.cell, HTTPListen(addr=address)))


# A real host ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_cell_that_only_serves_files_runs_in_a_host_and_is_not_stepped(folder: Path, wasm) -> None:
    (folder / "cell.wasm").write_bytes(wasm("minimal"))
    (folder / "pulp.cell.toml").write_text(
        'name = "site"\nversion = "1"\ntick_ms = 0\ncapabilities = ["transport.http.inbound"]\n'
        '[settings."transport.http.inbound"]\n'
        'static = [{ path = "/", folder = "public", fallback = "index.html" }]\n'
    )
    with Host([folder], storage_root=folder / "data", cache=folder / "cache", http_port="127.0.0.1:0") as host:
        client = http.client.HTTPConnection(host.url.removeprefix("http://"), timeout=20)
        steps = host.status()["site"].steps
        for path, body in (("/", PAGE), ("/app.js", b"let a = 1\n"), ("/docs/", b"docs")):
            client.request("GET", path)
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, body)
        assert host.status()["site"].steps == steps
        client.close()
