"""The control socket, with real sockets and real hosts."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from pulp_runtime.control.client import ControlFailed, ask, follow
from pulp_runtime.control.protocol import MOST_BYTES, CellEntry, FrameBroken, Reply, Request, frame
from pulp_runtime.control.server import ControlServer
from pulp_runtime.control.tail import Tail
from pulp_runtime.control.verbs import Verbs
from pulp_runtime.errors import OperationFailed
from pulp_runtime.log import Log


class Desk:
    """A host with two cells, as far as an operator sees it."""

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.states = {"a": "ready", "b": "down"}

    @property
    def operations(self) -> Desk:
        return self

    def cells(self) -> tuple[CellEntry, ...]:
        return tuple(CellEntry(name=name, state=state, steps=7) for name, state in self.states.items())

    async def _note(self, op: str, name: str) -> None:
        if name not in self.states:
            raise OperationFailed(f'unknown cell: "{name}"' if name else "cell name required")
        self.done.append((op, name))

    async def stop(self, name: str) -> None:
        await self._note("stop", name)

    async def start(self, name: str) -> None:
        await self._note("start", name)

    async def restart(self, name: str) -> None:
        await self._note("restart", name)

    async def reload(self, name: str) -> tuple[str, ...]:
        await self._note("reload", name)
        return ("+ capabilities: storage.fs",)

    async def rollback(self, name: str) -> tuple[str, ...]:
        await self._note("rollback", name)
        return ()

    async def call_async(self, cell: str, function: str, args: bytes = b"") -> bytes:
        return f"{cell}.{function}:".encode() + args


def at_a_desk(path: Path, test: Callable[[Desk], Awaitable[None]]) -> None:
    async def main() -> None:
        import logging

        tail = Tail()
        logging.getLogger("pulp").addHandler(tail)
        desk = Desk()
        server = ControlServer(str(path), Verbs(desk, tail), tail)
        await server.start()
        try:
            async with asyncio.timeout(20):
                await test(desk)
        finally:
            await server.stop()
            logging.getLogger("pulp").removeHandler(tail)

    asyncio.run(main())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ctl"


async def said(path: Path, data: bytes, *, close: bool = False) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(data)
    if close:
        writer.write_eof()
    try:
        return await reader.read()
    finally:
        writer.close()


def test_status_in_the_bytes_an_older_client_reads(path: Path) -> None:
    """The first three keys and the nine bytes of `steps` are what the Go client decodes."""

    async def test(_desk: Desk) -> None:
        request = b"\x81\xa2op\xa6status"
        answer = await said(path, len(request).to_bytes(4, "little") + request)
        assert int.from_bytes(answer[:4], "little") == len(answer) - 4
        reply = msgspec.msgpack.decode(answer[4:])
        assert reply["ok"] is True
        assert "error" not in reply
        assert [(cell["name"], cell["state"], cell["steps"]) for cell in reply["cells"]] == [
            ("a", "ready", 7),
            ("b", "down", 7),
        ]
        assert b"\xa5steps\xcf\0\0\0\0\0\0\0\x07" in answer

    at_a_desk(path, test)


@pytest.mark.parametrize(
    ("op", "done"),
    [("shutdown", "stop"), ("start", "start"), ("restart", "restart"), ("reload", "reload"), ("rollback", "rollback")],
)
def test_each_operation_does_what_it_says(path: Path, op: str, done: str) -> None:
    async def test(desk: Desk) -> None:
        reply = await asyncio.to_thread(ask, Request(op=op, cell="a"), str(path))
        assert reply.ok
        assert desk.done == [(done, "a")]
        assert reply.changes == (("+ capabilities: storage.fs",) if op == "reload" else ())

    at_a_desk(path, test)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (Request(op="reload"), "cell name required"),
        (Request(op="reload", cell="c"), 'unknown cell: "c"'),
        (Request(op="dance"), "unknown op: dance"),
    ],
)
def test_what_cannot_be_done_is_an_error_in_the_reply(path: Path, request_: Request, told: str) -> None:
    async def test(_desk: Desk) -> None:
        with pytest.raises(ControlFailed, match=told.replace('"', ".")):
            await asyncio.to_thread(ask, request_, str(path))

    at_a_desk(path, test)


def test_shutdown_all_stops_whoever_is_not_stopped(path: Path) -> None:
    async def test(desk: Desk) -> None:
        desk.states["b"] = "stopped"
        assert (await asyncio.to_thread(ask, Request(op="shutdown_all"), str(path))).ok
        assert desk.done == [("stop", "a")]

    at_a_desk(path, test)


def test_a_function_can_be_called_and_unknown_keys_are_skipped(path: Path) -> None:
    async def test(_desk: Desk) -> None:
        body = msgspec.msgpack.encode({"op": "call", "cell": "a", "function": "f", "args": b"\0x", "later": [1]})
        reply = msgspec.msgpack.decode((await said(path, len(body).to_bytes(4, "little") + body))[4:])
        assert reply == {"ok": True, "result": b"a.f:\0x"}

    at_a_desk(path, test)


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0",
        (MOST_BYTES + 1).to_bytes(4, "little"),
        b"\xff\xff\xff\xff",
        b"\x05\0\0\0ab",
        b"\1",
        b"",
    ],
)
def test_threat_46_a_broken_frame_is_closed_without_an_answer(path: Path, data: bytes) -> None:
    async def test(_desk: Desk) -> None:
        assert await said(path, data, close=True) == b""
        assert (await asyncio.to_thread(ask, Request(op="status"), str(path))).ok  # and harms nobody

    at_a_desk(path, test)


def test_threat_46_a_body_that_is_no_map_is_told(path: Path) -> None:
    async def test(_desk: Desk) -> None:
        answer = await said(path, b"\1\0\0\0\xc0")
        assert msgspec.msgpack.decode(answer[4:])["error"].startswith("invalid msgpack: ")

    at_a_desk(path, test)


def test_threat_46_a_second_frame_is_ignored(path: Path) -> None:
    async def test(desk: Desk) -> None:
        one = frame(Request(op="restart", cell="a"))
        await said(path, one + one)
        assert desk.done == [("restart", "a")]

    at_a_desk(path, test)


def test_threat_46_only_the_hosts_own_user_can_reach_the_socket(path: Path) -> None:
    async def test(_desk: Desk) -> None:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    at_a_desk(path, test)
    assert not path.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="LOUD: only root can play another user")
def test_threat_46_another_user_is_refused_even_when_the_file_lets_him_in(path: Path) -> None:
    async def test(desk: Desk) -> None:
        path.chmod(0o666)
        for folder in path.parents[:3]:
            folder.chmod(0o755)
        child = await asyncio.create_subprocess_exec(
            "python3", "-c",
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.sendall(bytes.fromhex(sys.argv[2])); print(len(s.recv(100)))",
            str(path), frame(Request(op="restart", cell="a")).hex(),
            user=65534, stdout=-1, stderr=-1,
        )  # fmt: skip
        out, errors = await child.communicate()
        assert out.strip() in (b"0", b""), errors
        assert not desk.done

    at_a_desk(path, test)


def test_threat_46_a_live_socket_is_left_to_its_host(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def test(_desk: Desk) -> None:
        tail = Tail()
        second = ControlServer(str(path), Verbs(Desk(), tail), tail)
        await second.start()
        assert "control socket bind failed; continuing without it" in caplog.messages
        await second.stop()
        assert path.exists()
        assert (await asyncio.to_thread(ask, Request(op="status"), str(path))).ok

    at_a_desk(path, test)


def test_threat_46_a_file_that_is_no_socket_is_left_alone(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.write_text("mine")

    async def test(_desk: Desk) -> None:
        assert "control socket bind failed; continuing without it" in caplog.messages

    at_a_desk(path, test)
    assert path.read_text() == "mine"


def test_a_socket_that_a_dead_host_left_behind_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def test(_desk: Desk) -> None:
        assert (await asyncio.to_thread(ask, Request(op="status"), str(path))).ok

    at_a_desk(path, test)


def test_without_a_host_the_client_says_where_it_looked(path: Path) -> None:
    with pytest.raises(ControlFailed, match=f"no host at {path}"):
        ask(Request(op="status"), str(path))
    with pytest.raises(ControlFailed, match="disabled"):
        ask(Request(op="status"), "")


def test_the_log_is_shown_and_followed(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "pulp")

    async def test(_desk: Desk) -> None:
        Log("pulp", cell="a").info("before")
        Log("pulp", cell="b").info("not mine")
        replies = follow(Request(op="logs", cell="a", lines=1, follow=True), str(path))
        first = await asyncio.to_thread(next, replies)
        assert len(first.lines) == 1
        assert first.lines[0].endswith("msg=before cell=a")
        more = asyncio.ensure_future(asyncio.to_thread(next, replies))
        end = time.monotonic() + 10
        while not more.done():
            assert time.monotonic() < end
            Log("pulp", cell="b").info("not mine")
            Log("pulp", cell="a").info("after")
            await asyncio.sleep(0.01)
        assert all(line.endswith("msg=after cell=a") for line in more.result().lines)
        replies.close()

    at_a_desk(path, test)


def test_metrics_tell_of_the_process_and_of_each_cell(path: Path) -> None:
    async def test(_desk: Desk) -> None:
        metrics = (await asyncio.to_thread(ask, Request(op="metrics"), str(path))).metrics
        assert metrics["cells"]["a"] == {"state": "ready", "steps": 7, "restarts": 0, "waiting": 0}
        assert metrics["uptime_seconds"] >= 0
        assert metrics["threads"] >= 1

    at_a_desk(path, test)


def test_a_reply_that_is_too_long_is_an_error_instead(path: Path) -> None:
    with pytest.raises(FrameBroken, match="frame too large"):
        frame(Reply(ok=True, result=bytes(MOST_BYTES)))
