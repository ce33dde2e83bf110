"""The example programs: functions and a daemon written with nothing but their language's own file API."""

from __future__ import annotations

import hashlib
import http.client
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from websockets.sync.client import connect

from pulp_runtime import Host

EXAMPLES = Path(__file__).parents[2] / "examples"
PULP = [sys.executable, "-P", "-c", "from pulp_runtime.cli import main; main()"]


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


class Web:
    def __init__(self, host: Host) -> None:
        self.address = host.url.removeprefix("http://")

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "text/plain") -> Answer:
        with closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            connection.request(method, path, body, {"content-type": kind})
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def get(self, path: str) -> bytes:
        answer = self.ask("GET", path)
        assert answer.status == 200
        return answer.body


@contextmanager
def running(example: str, data: Path) -> Iterator[Web]:
    with Host([EXAMPLES / example], storage_root=data, http_port="127.0.0.1:0") as host:
        yield Web(host)


def test_a_guestbook_keeps_what_people_write(tmp_path: Path) -> None:
    form = "application/x-www-form-urlencoded"
    with running("guestbook/c", tmp_path) as web:
        assert b"<li>" not in web.get("/guestbook")
        answer = web.ask("POST", "/guestbook", b"name=Ada&line=%3Cscript%3E+%26+all", form)
        assert (answer.status, answer.headers["location"]) == (303, "/guestbook")

    with running("guestbook/c", tmp_path) as web:
        assert b"<li><b>Ada</b>: &lt;script> &amp; all</li>" in web.get("/guestbook")


@pytest.mark.slow
def test_pictures_come_back_as_they_were(tmp_path: Path) -> None:
    picture = os.urandom(3_000_000)
    with running("images/go", tmp_path) as web:
        answer = web.ask("PUT", "/images/cat.png", picture, "image/png")
        assert (answer.status, answer.body.decode().strip()) == (201, hashlib.sha256(picture).hexdigest())
        assert web.get("/images") == b"cat.png\n"
        answer = web.ask("GET", "/images/cat.png")
        assert (answer.headers["content-type"], answer.body) == ("image/png", picture)
        assert web.ask("DELETE", "/images/cat.png").status == 204
        assert web.ask("GET", "/images/cat.png").status == 404


@pytest.mark.slow
def test_hits_are_counted_one_by_one_however_many_come_at_once(tmp_path: Path) -> None:
    counts: list[int] = []
    with running("hits/zig", tmp_path) as web:

        def client() -> None:
            counts.extend(int(web.get("/hits/home")) for _ in range(10))

        clients = [threading.Thread(target=client) for _ in range(6)]
        for one in clients:
            one.start()
        for one in clients:
            one.join()

    assert sorted(counts) == list(range(1, 61))


def test_people_in_a_chatroom_hear_each_other(tmp_path: Path) -> None:
    with running("chatroom/c", tmp_path) as web:
        room = f"ws://{web.address}/room"
        with connect(room) as ada:
            assert ada.recv(timeout=20) == "* 1 here"
            with connect(room) as bob:
                assert [ada.recv(timeout=20), bob.recv(timeout=20)] == ["* 2 here"] * 2
                bob.send("hello")
                assert [ada.recv(timeout=20), bob.recv(timeout=20)] == ["hello"] * 2
            assert ada.recv(timeout=20) == "* 1 here"


def box(*arguments: str, script: str = "", cwd: Path) -> str:
    done = subprocess.run(
        [*PULP, "exec", *arguments],
        input=script,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_person_looks_around_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "note").write_text("hey\n")
    script = "cd /data\nls\ncat note\necho more >> note\ncp note copy\nmv copy moved\nrm note\nls\ncat moved\n"

    told = box("--dir", "data::/data", str(EXAMPLES / "box" / "box.wasm"), script=script, cwd=tmp_path)

    assert told.splitlines() == ["note", "hey", "moved", "hey", "more"]
    assert (tmp_path / "data" / "moved").read_text() == "hey\nmore\n"
