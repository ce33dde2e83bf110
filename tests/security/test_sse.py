"""Case 41: event injection, slow and absent subscribers, forged and endless ids, exhausted buffers."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.capabilities.puppet import Puppet, puppet_cell
from tests.capabilities.transport.streams import ECHO, Bench, on_a_bench

from pulp_runtime import Host
from pulp_runtime.abi.sse import SSEEmitRequest
from pulp_runtime.capabilities.transport import sse_subscriber
from pulp_runtime.capabilities.transport.sse_frame import FrameInvalid, encode_frame
from pulp_runtime.capabilities.transport.sse_replay import Replay
from pulp_runtime.errors import Errno

MOST = 1024 * 1024


def parsed(stream: bytes) -> list[tuple[str, str, str]]:
    """Return the events a browser makes of a stream: type, data, last id (HTML Living Standard §9.2.6)."""
    events, kind, data, last = [], "", [], ""
    for line in re.split("\r\n|\n|\r", stream.decode()):
        if not line:
            if data:
                events.append((kind or "message", "\n".join(data), last))
            kind, data = "", []
            continue
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id" and "\0" not in value:
            last = value
    return events


HOSTILE = st.text(st.sampled_from("\r\n\0: \t\x0b\x0c\x1c\x85\u2028\u2029\ufeffidateven:x"), max_size=60)


@given(data=HOSTILE, event_id=HOSTILE, kind=HOSTILE)
def test_threat_41_whatever_a_cell_emits_is_one_event_or_is_refused(data: str, event_id: str, kind: str) -> None:
    try:
        frame = encode_frame(SSEEmitRequest(path="/", id=event_id, event=kind, data=data), MOST)
    except FrameInvalid:
        assert re.search(r"[\x00-\x08\x0a-\x1f]", event_id + kind)
        return
    before = encode_frame(SSEEmitRequest(id="before", data="1"), MOST)
    after = encode_frame(SSEEmitRequest(data="2"), MOST)
    assert parsed(before + frame + after) == [
        ("message", "1", "before"),
        (kind or "message", re.sub("\r\n|\r", "\n", data), event_id or "before"),
        ("message", "2", event_id or "before"),
    ]


@pytest.mark.parametrize("field", ["id", "event"])
@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b", "\n", "a\x1b[31m", "\x7f", "x" * 1025, "é" * 513])
def test_threat_41_a_field_that_would_end_its_line_is_refused(field: str, value: str) -> None:
    with pytest.raises(FrameInvalid, match=field):
        encode_frame(SSEEmitRequest(path="/", data="x", **{field: value}), MOST)


@pytest.mark.slow
def test_threat_41_an_injected_event_never_reaches_a_subscriber(tmp_path: Path) -> None:
    imports = {"sse_register": 2, "sse_emit": 2}
    folder = puppet_cell(tmp_path, "one", imports, ["transport.sse"])
    with Host([folder], storage_root=tmp_path / "data", cache=tmp_path, http_port="127.0.0.1:0") as host:
        cell = Puppet(host, "one", imports)
        cell("sse_register", b"/live")
        events = parsed(asyncio.run(stream_of_attempts(cell)))

    assert [kind for kind, _data, _last in events] == ["message"] * 4
    assert {last for _kind, _data, last in events} == {""}


async def stream_of_attempts(cell: Puppet) -> bytes:
    """Return what a subscriber gets while a cell tries to inject events: the whole way from guest to socket."""
    host, _, port = cell.host.url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /live HTTP/1.0\r\n\r\n")  # 1.0: the stream as it is, without chunks
    await reader.readuntil(b"\r\n\r\n")
    emit = asyncio.to_thread
    for forged in ("x\revent: admin\rdata: yes", "x\r\n\r\nevent: admin\r\ndata: yes", "x\n\nid: 9\n"):
        assert (await emit(cell, "sse_emit", {"path": "/live", "data": forged}))[0] == Errno.OK
        for field in ("id", "event"):
            assert (await emit(cell, "sse_emit", {"path": "/live", field: forged}))[0] == Errno.FAILED
    assert (await emit(cell, "sse_emit", {"path": "/live", "data": "end"}))[0] == Errno.OK
    stream = await reader.readuntil(b"data: end\n\n")
    writer.close()
    return stream


@pytest.mark.slow
def test_threat_41_one_slow_subscriber_among_a_thousand_costs_the_others_nothing() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        slow = await bench.subscribe("/live")
        slow.reader._transport.pause_reading()
        subscriber = bench.sse._audiences["echo"].subscribers()[0]
        while not subscriber._queue:
            bench.emit("/live", "x" * 64_000)
            await asyncio.sleep(0)
        clients = [await bench.subscribe("/live") for _ in range(999)]
        for number in range(50):
            bench.emit("/live", f"{number} " + "y" * 1_000)
        began = time.monotonic()
        seen = await asyncio.gather(*(client.frames(50) for client in clients))
        assert time.monotonic() - began < 10
        assert all(frames == seen[0] for frames in seen)
        assert [frame.split()[1] for frame in seen[0]] == [str(number) for number in range(50)]
        assert subscriber._waiting <= sse_subscriber.WAITING_BYTES
        assert len(subscriber._queue) <= sse_subscriber.FRAMES

    on_a_bench(test)


def test_threat_41_memory_for_a_slow_subscriber_does_not_grow_with_what_is_emitted() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        slow = await bench.subscribe("/live")
        slow.reader._transport.pause_reading()
        held = []
        for _ in range(400):
            bench.emit("/live", "x" * 60_000)
            await asyncio.sleep(0)
            subscriber = bench.sse._audiences["echo"].subscribers()[0]
            held.append(subscriber._waiting + subscriber.stream.waiting)
        assert max(held) < sse_subscriber.WAITING_BYTES + 400_000, "of 24 MB"
        assert held[200] == held[-1]

    on_a_bench(test)


@pytest.mark.slow
def test_threat_41_a_subscriber_that_leaves_mid_write_is_forgotten() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        for _round in range(20):
            clients = [await bench.subscribe("/live") for _ in range(5)]
            for client in clients:
                client.reader._transport.pause_reading()
            for _ in range(40):
                bench.emit("/live", "x" * 60_000)
            for client in clients:
                client.leave()
            for _ in range(40):
                bench.emit("/live", "x" * 60_000)
                await asyncio.sleep(0)
            await bench.until_count("/live", 0)
        audience = bench.sse._audiences["echo"]
        assert audience.count == 0
        assert not audience._paths

    on_a_bench(test)


def test_threat_41_a_last_event_id_of_a_megabyte_is_refused_and_a_forged_one_gives_what_anyone_may_have() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/:any")
        bench.emit("/secret", "other path", id="1")
        bench.emit("/live", "own", id="2")
        assert (await bench.connect("/live", "Last-Event-ID: " + "x" * 1_000_000)).status == 431
        for forged in ("1", "x" * 60_000, "../secret", "%00", "é" * 100):
            client = await bench.subscribe("/live", f"Last-Event-ID: {forged}")
            assert await client.frames(2) == [":gap", "id: 2\ndata: own"]
            assert await client.silent(0.01)
        assert (await bench.connect("/live", "Last-Event-ID: a\0b")).status == 400

    on_a_bench(test)


def test_threat_41_a_cell_cannot_exhaust_the_host_with_events_to_keep() -> None:
    replay = Replay()
    for number in range(20_000):
        replay.keep(f"/{number % 5_000}", str(number), b"x" * 100, events=256, size=1_000_000)
        replay.keep("/one", str(number), b"x" * 100, events=256, size=1_000_000)
        assert replay.size <= 1_000_000
    assert len(replay._order) < 2_000
    assert len(replay._paths) < 500
    assert all(len(kept.numbers) <= len(kept.events) for kept in replay._paths.values())


def test_threat_41_clients_that_resume_share_what_is_replayed() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        for number in range(256):
            bench.emit("/live", "x" * 10_000, id=str(number))
        await asyncio.sleep(0.01)
        clients = []
        for _ in range(20):
            clients.append(client := await bench.subscribe("/live", "Last-Event-ID: 0"))
            client.reader._transport.pause_reading()
        await asyncio.sleep(0.05)
        frames = {id(frame) for one in bench.sse._audiences["echo"].subscribers() for frame in one._queue}
        assert len(frames) <= 256
        for one in bench.sse._audiences["echo"].subscribers():
            assert one.stream.waiting < 400_000

    on_a_bench(test)


def test_threat_41_a_subscriber_of_one_cell_counts_for_no_other() -> None:
    async def test(bench: Bench) -> None:
        bench.load(ECHO, max_subscribers=1)
        bench.register("/live")
        await bench.subscribe("/live")
        assert (await bench.connect("/live")).status == 503

    on_a_bench(test)
