from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from tests.capabilities.puppet import Puppet, until

from pulp_runtime.abi.sse import SSEEmitRequest
from pulp_runtime.capabilities.transport import sse_audience, sse_subscriber
from pulp_runtime.capabilities.transport.sse_frame import FrameInvalid, encode_frame
from pulp_runtime.capabilities.transport.sse_replay import Replay
from pulp_runtime.errors import Errno, ExtensionError
from pulp_runtime.ext import CellRef, SetupEnv
from pulp_runtime.log import Log

from .streams import ECHO, OTHER, Bench, Caller, Client, code_of, on_a_bench

IMPORTS = {"sse_register": 2, "sse_emit": 2, "sse_has_subscribers": 3}
MOST = 1024 * 1024


# Frames ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "frame"),
    [
        ({"data": "hi"}, b"data: hi\n\n"),
        ({}, b"data: \n\n"),
        ({"id": "7", "event": "score", "data": "1:0"}, b"id: 7\nevent: score\ndata: 1:0\n\n"),
        ({"data": "one\ntwo"}, b"data: one\ndata: two\n\n"),
        ({"data": "one\n"}, b"data: one\ndata: \n\n"),
        ({"data": "one\r\ntwo\rthree"}, b"data: one\ndata: two\ndata: three\n\n"),
        ({"data": "a\n\nid: 6"}, b"data: a\ndata: \ndata: id: 6\n\n"),
        ({"data": "\0é\u2028\ufeff"}, "data: \0é\u2028\ufeff\n\n".encode()),
        ({"id": " a\tb ", "data": "x"}, b"id:  a\tb \ndata: x\n\n"),
    ],
    ids=["data", "nothing", "all", "lines", "a last line break", "CR and CRLF", "an empty line", "odd text", "blanks"],
)
def test_a_frame_is_written_as_the_contract_says(event: dict[str, str], frame: bytes) -> None:
    assert encode_frame(SSEEmitRequest(path="/", **event), MOST) == frame


def test_a_frame_may_be_as_long_as_allowed_and_no_longer() -> None:
    assert len(encode_frame(SSEEmitRequest(data="x" * 92), 100)) == 100
    for data in ("x" * 93, "\n" * 14, "é" * 60, "x" * 10_000):
        with pytest.raises(FrameInvalid, match="100"):
            encode_frame(SSEEmitRequest(data=data), 100)


# What is kept ---------------------------------------------------------------------------------------------------------


def kept(replay: Replay, path: str, *ids: str, events: int = 256, size: int = MOST) -> None:
    for one in ids:
        replay.keep(path, one, one.encode(), events=events, size=size)


def test_a_client_is_given_what_came_after_the_event_it_names() -> None:
    replay = Replay()
    kept(replay, "/a", "1", "2", "3")
    kept(replay, "/b", "9")

    assert replay.after("/a", "1") == ([b"2", b"3"], True)
    assert replay.after("/a", "3") == ([], True)
    assert replay.after("/a", "9") == ([b"1", b"2", b"3"], False)
    assert replay.after("/c", "1") == ([], False)


def test_of_events_with_one_id_the_newest_counts() -> None:
    replay = Replay()
    kept(replay, "/a", "x", "1", "x", "2", events=3)

    assert replay.after("/a", "x") == ([b"2"], True)
    kept(replay, "/a", "3", "4", events=3)
    assert replay.after("/a", "x") == ([b"2", b"3", b"4"], True)  # the last that fell out: nothing is missing
    kept(replay, "/a", "5", events=3)
    assert replay.after("/a", "x") == ([b"3", b"4", b"5"], False)


def test_an_id_comes_back_without_the_blanks_around_it() -> None:
    replay = Replay()
    kept(replay, "/a", " 1\t", "2")

    assert replay.after("/a", "1") == ([b"2"], True)


def test_no_more_events_of_a_path_are_kept_than_it_may_have() -> None:
    replay = Replay()
    kept(replay, "/a", *map(str, range(1000)), events=10)

    assert replay.after("/a", "none").frames == [str(one).encode() for one in range(990, 1000)]


def test_no_more_bytes_are_kept_than_all_paths_may_have_and_the_oldest_go_first() -> None:
    replay = Replay()
    for number in range(1000):
        kept(replay, f"/{number}", "1", size=100_000)
        assert replay.size <= 100_000

    assert replay.after("/0", "none").frames == []
    assert replay.after("/999", "none").frames == [b"1"]


def test_what_is_dropped_is_given_back() -> None:
    replay = Replay()
    kept(replay, "/a", *map(str, range(50)), events=10)
    kept(replay, "/b", "1", events=10)
    kept(replay, "/a", "x", events=0)
    kept(replay, "/b", "x", size=10)

    assert replay.size == 0
    assert not replay._paths
    assert not replay._order


def test_an_event_too_long_to_keep_leaves_no_hole_that_nobody_knows_of() -> None:
    replay = Replay()
    kept(replay, "/a", "1", "2", size=10_000)
    replay.keep("/a", "3", bytes(10_000), events=9, size=10_000)
    kept(replay, "/a", "4", size=10_000)

    assert replay.after("/a", "2") == ([b"4"], False)


# Streams --------------------------------------------------------------------------------------------------------------


def test_a_subscriber_gets_what_is_emitted_on_its_path() -> None:
    async def test(bench: Bench) -> None:
        assert bench.register("/live/:room") == Errno.OK
        one, other = await bench.subscribe("/live/a"), await bench.subscribe("/live/b")
        assert bench.emit("/live/a", "first") == Errno.OK
        assert bench.emit("/live/a", "second", id="2", event="kind") == Errno.OK
        assert await one.frames(2) == ["data: first", "id: 2\nevent: kind\ndata: second"]
        assert await other.silent()

    on_a_bench(test)


def test_the_head_of_a_stream_comes_at_once_and_says_what_it_is() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        client = await bench.subscribe("/live")
        assert client.head.startswith("HTTP/1.1 200 OK\r\n")
        for line in ("Content-Type: text/event-stream", "Cache-Control: no-cache", "Transfer-Encoding: chunked"):
            assert f"\r\n{line}\r\n" in client.head
        assert await client.silent()

    on_a_bench(test)


def test_an_emit_without_subscribers_is_fine() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        assert bench.emit("/live", "x") == Errno.OK
        assert bench.emit("/live", "x", id="1") == Errno.OK

    on_a_bench(test)


def test_a_path_is_what_the_client_asked_for_decoded() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/*all")
        client = await bench.subscribe("/a%20b/c%C3%A9?x=1")
        assert bench.count("/a b/cé") == 1
        bench.emit("/a b/cé", "x")
        assert await client.frame() == "data: x"

    on_a_bench(test)


@pytest.mark.parametrize("path", ["relative", "", b"\xff/", "x" * 3000, "/" + "x" * 2048, "/" + "a/" * 64])
def test_a_pattern_that_is_none_is_refused(path: str | bytes) -> None:
    async def test(bench: Bench) -> None:
        assert bench.register(path) == (Errno.FAILED if path else Errno.EMPTY)

    on_a_bench(test)


def test_threat_39_no_two_streams_overlap_not_even_of_one_cell() -> None:
    async def test(bench: Bench) -> None:
        assert bench.register("/a/:b") == Errno.OK
        assert bench.register("/a/:b") == Errno.OK
        assert bench.register("/a/fixed") == Errno.FAILED
        assert bench.register("/a/fixed", OTHER) == Errno.FAILED
        assert bench.register("/b", OTHER) == Errno.OK

    on_a_bench(test)


def test_threat_20_a_cell_emits_on_its_own_paths_only() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/mine")
        bench.register("/theirs/:x", OTHER)
        client = await bench.subscribe("/theirs/1")
        for path in ("/theirs/1", "/none", "", "mine", "/mine/", "/MINE", "/" + "x" * 9_000):
            assert bench.emit(path, "stolen") == Errno.FAILED
            assert bench.emit(path, "stolen", id="1") == Errno.FAILED
        assert bench.count("/theirs/1") == 0, "nor does it learn who listens there"
        assert bench.count("/theirs/1", OTHER) == 1
        bench.emit("/theirs/1", "own", cell=OTHER)
        assert await client.frame() == "data: own"

    on_a_bench(test)


def test_a_cell_can_ask_how_many_listen() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        assert bench.count("/live") == 0
        clients = [await bench.subscribe("/live") for _ in range(3)]
        assert bench.count("/live") == 3
        clients[0].leave()
        await bench.until_count("/live", 2)
        clients[1].writer.write_eof()  # who shuts its side waits for no more
        await bench.until_count("/live", 1)

    on_a_bench(test)


@pytest.mark.parametrize(
    ("address", "length", "out", "code"),
    [
        pytest.param(0, 5, 60, Errno.OK, id="good"),
        pytest.param(0, 0, 60, Errno.EMPTY, id="no path"),
        pytest.param(2**32 - 1, 0, 2**32 - 1, Errno.EMPTY, id="no path anywhere"),
        pytest.param(60, 5, 0, Errno.FAULT, id="a path that runs past the end"),
        pytest.param(0, 5, 61, Errno.WRITE, id="an out-address that runs past the end"),
        pytest.param(0, 5, 2**32 - 1, Errno.WRITE, id="the last out-address of all"),
    ],
)
def test_asking_how_many_listen_answers_each_code(address: int, length: int, out: int, code: int) -> None:
    async def test(bench: Bench) -> None:
        caller = Caller(memory=b"/live" + bytes(59))
        assert code_of(lambda: bench.sse.sse_has_subscribers(caller, address, length, out)) == code

    on_a_bench(test)


def test_a_stream_beats_a_route_of_transport_http_inbound_unless_accept_says_otherwise() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        assert (await bench.connect("/live", "Accept: text/html")).status == 200
        bench.load(ECHO, accept_only=True)
        assert (await bench.connect("/live", "Accept: text/html")).status == 404
        assert (await bench.connect("/live")).status == 404
        assert (await bench.connect("/live", "Accept: text/event-stream;q=0")).status == 404
        assert (await bench.connect("/live", "Accept: text/html, Text/Event-Stream;q=0.5")).status == 200

    on_a_bench(test)


def test_only_get_is_a_stream() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        host, _, port = bench.endpoints[0].address.removeprefix("http://").rpartition(":")
        for method in ("HEAD", "POST", "OPTIONS"):
            answer = await asyncio.to_thread(ask, host, int(port), method, "/live")
            assert answer == 404

    on_a_bench(test)


def ask(host: str, port: int, method: str, path: str) -> int:
    client = http.client.HTTPConnection(host, port, timeout=10)
    try:
        client.request(method, path)
        return client.getresponse().status
    finally:
        client.close()


@pytest.mark.slow
def test_streams_of_one_http2_connection_are_streams_like_others() -> None:
    class Http2(Bench):
        def env(self, _http: dict[str, object] | None = None) -> SetupEnv:
            return super().env({"http2": True})

    async def main() -> None:
        client = httpx.AsyncClient(http1=False, http2=True, trust_env=False)
        async with asyncio.timeout(20), Http2() as bench:
            bench.register("/live")
            bench.emit("/live", "zero", id="0")
            bench.emit("/live", "one", id="1")
            url = bench.endpoints[0].address + "/live"
            async with (
                client.stream("GET", url, headers={"Last-Event-ID": "0"}) as one,
                client.stream("GET", url) as other,
            ):
                assert (one.http_version, one.status_code) == ("HTTP/2", 200)
                assert one.headers["content-type"] == "text/event-stream"
                await bench.until_count("/live", 2)
                bench.emit("/live", "x" * 200_000, id="2")
                lines, others = one.aiter_lines(), other.aiter_lines()
                assert [await anext(lines) for _ in range(3)] == ["id: 1", "data: one", ""]
                for end in (lines, others):
                    assert [await anext(end) for _ in range(3)] == ["id: 2", "data: " + "x" * 200_000, ""]
            await client.aclose()
            await bench.until_count("/live", 0)

    asyncio.run(main())


# Time -----------------------------------------------------------------------------------------------------------------


def test_a_silent_stream_is_pinged() -> None:
    async def test(bench: Bench) -> None:
        bench.load(ECHO, keepalive_seconds=0.05)
        bench.register("/live")
        began = time.monotonic()
        client = await bench.subscribe("/live")
        assert await client.chunk() == b":ping\n\n"
        assert time.monotonic() - began > 0.04
        late = await bench.subscribe("/live")
        assert await late.frames(3) == [":ping"] * 3

    on_a_bench(test)


def test_every_stream_has_the_interval_of_its_cell_and_one_task_serves_them_all() -> None:
    async def test(bench: Bench) -> None:
        bench.load(OTHER, keepalive_seconds=0.05)
        bench.register("/slow")
        bench.register("/fast", OTHER)
        before = len(asyncio.all_tasks())
        slow = [await bench.subscribe("/slow") for _ in range(20)]
        fast = await bench.subscribe("/fast")
        assert len(asyncio.all_tasks()) == before
        assert await fast.frames(3) == [":ping"] * 3
        assert await slow[0].silent(0.01)
        for client in slow:
            client.leave()
        fast.leave()
        await bench.until_count("/fast", 0, OTHER)
        while bench.sse._rota._turns.get(0.05):
            await asyncio.sleep(0.01)

    on_a_bench(test)


def test_a_client_is_told_when_to_come_back() -> None:
    async def test(bench: Bench) -> None:
        bench.load(ECHO, retry_ms=1500)
        bench.register("/live")
        client = await bench.subscribe("/live")
        assert await client.frame() == "retry: 1500"
        bench.emit("/live", "x")
        assert await client.frame() == "data: x"

    on_a_bench(test)


# Coming back ----------------------------------------------------------------------------------------------------------


def test_a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        client = await bench.subscribe("/live")
        seen = []
        for number in range(1, 101):
            if number in (20, 50, 80):
                bench.emit("/live", str(number), id=str(number))
                client.leave()  # whatever of it has arrived
                last = seen[-1].partition("data: ")[2] if seen else ""
                await bench.until_count("/live", 0)
                bench.emit("/live", "meanwhile", id=f"m{number}")
                client = await bench.subscribe("/live", f"Last-Event-ID: {last}")
                seen += await client.frames(2)
            else:
                bench.emit("/live", str(number), id=str(number))
                seen.append(await client.frame())
        expected = []
        for number in range(1, 101):
            expected.append(f"id: {number}\ndata: {number}")
            if number in (20, 50, 80):
                expected.append(f"id: m{number}\ndata: meanwhile")
        assert seen == expected

    on_a_bench(test)


def test_a_client_whose_last_event_is_gone_is_told_so_and_gets_what_is_there() -> None:
    async def test(bench: Bench) -> None:
        bench.load(ECHO, replay_events=3)
        bench.register("/live")
        for number in range(10):
            bench.emit("/live", str(number), id=str(number))
        for last, frames in (("2", [":gap", *"789"]), ("6", [*"789"]), ("8", ["9"]), ("who", [":gap", *"789"])):
            client = await bench.subscribe("/live", f"Last-Event-ID: {last}")
            got = [(await client.frame()).rpartition("data: ")[2] for _ in frames]
            assert got == frames
            assert await client.silent(0.01)

    on_a_bench(test)


def test_a_client_without_a_last_event_gets_nothing_old_and_events_without_id_are_not_kept() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        bench.emit("/live", "1", id="1")
        bench.emit("/live", "transient")
        bench.emit("/live", "2", id="2")
        for lines in ((), ("Last-Event-ID:",)):
            assert await (await bench.subscribe("/live", *lines)).silent()
        client = await bench.subscribe("/live", "Last-Event-ID: 1")
        assert await client.frame() == "id: 2\ndata: 2"

    on_a_bench(test)


def test_an_id_beyond_ascii_comes_back_as_it_went() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        bench.emit("/live", "1", id="é€")
        bench.emit("/live", "2", id="2")
        client = await bench.subscribe("/live", "Last-Event-ID: é€")
        assert await client.frame() == "id: 2\ndata: 2"

    on_a_bench(test)


def test_a_restarted_cell_finds_its_subscribers_and_what_it_had_emitted() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        client = await bench.subscribe("/live")
        bench.emit("/live", "before", id="1")
        bench.emit("/live", "before", id="2")
        assert len(await client.frames(2)) == 2
        bench.sse.teardown_cell("echo")
        assert bench.emit("/live", "too early") == Errno.FAILED
        during = await bench.subscribe("/live", "Last-Event-ID: 1")
        bench.load(ECHO)
        assert bench.register("/live") == Errno.OK
        assert bench.count("/live") == 2
        bench.emit("/live", "after", id="3")
        assert await client.frame() == "id: 3\ndata: after"
        assert await during.frames(2) == ["id: 2\ndata: before", "id: 3\ndata: after"]

    on_a_bench(test)


@pytest.mark.parametrize("adopted", [True, False])
def test_a_reload_keeps_subscribers_and_the_routes_of_the_version_that_runs(adopted: bool) -> None:
    async def test(bench: Bench) -> None:
        bench.register("/old/:any")
        bench.register("/both")
        both, old = await bench.subscribe("/both"), await bench.subscribe("/old/1")
        bench.sse.swap_begin("echo")
        bench.load(ECHO, max_subscribers=1)
        assert bench.register("/both") == Errno.OK
        assert bench.register("/old/1") == Errno.OK, "what the old version has does not count"
        assert bench.register("/old/:any") == Errno.FAILED, "what the new one has does"
        bench.sse.swap_end("echo", adopted)
        assert bench.emit("/both", "here") == Errno.OK
        assert await both.frame() == "data: here"
        assert bench.emit("/old/2", "x") == (Errno.FAILED if adopted else Errno.OK)
        assert bench.emit("/old/1", "here") == Errno.OK
        assert await old.frame() == "data: here"
        assert (await bench.connect("/both")).status == (503 if adopted else 200)

    on_a_bench(test)


def test_a_version_without_streams_leaves_its_subscribers_to_be_ended_with_the_host() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        client = await bench.subscribe("/live")
        bench.sse.swap_begin("echo")
        bench.sse.swap_end("echo", True)
        assert bench.emit("/live", "x") == Errno.FAILED
        for task in bench.tasks:
            task.cancel()
        assert await client.frame() == ""

    on_a_bench(test)


def test_the_paths_of_a_cell_that_is_torn_down_are_free_for_another_which_gets_none_of_its_subscribers() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        client = await bench.subscribe("/live")
        bench.sse.teardown_cell("echo")
        assert bench.register("/live", OTHER) == Errno.OK
        assert bench.count("/live", OTHER) == 0
        bench.emit("/live", "of another cell", cell=OTHER)
        assert await client.silent()

    on_a_bench(test)


def test_smaller_bounds_after_a_restart_hold_for_what_is_kept_already() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        for number in range(10):
            bench.emit("/live", str(number), id=str(number))
        await asyncio.sleep(0)
        bench.load(ECHO, replay_events=2)
        bench.emit("/live", "10", id="10")
        client = await bench.subscribe("/live", "Last-Event-ID: 1")
        assert await client.frames(3) == [":gap", "id: 9\ndata: 9", "id: 10\ndata: 10"]

    on_a_bench(test)


# Bounds ---------------------------------------------------------------------------------------------------------------


async def clog(bench: Bench, path: str, client: Client) -> int:
    """Emit until a client takes no more; return how many frames of 64 KB that took."""
    audience = bench.sse._audiences["echo"]
    for number in range(1000):
        bench.emit(path, "x" * 64_000)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        subscriber = next(iter(audience._paths[path]))
        if subscriber._queue:
            return number + 1
    raise AssertionError("it takes everything")


def test_a_slow_subscriber_loses_what_comes_behind_32_frames_and_no_other_does(records) -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        slow = await bench.subscribe("/live")
        slow.reader._transport.pause_reading()
        await clog(bench, "/live", slow)
        quick = await bench.subscribe("/live")
        for number in range(200):
            bench.emit("/live", str(number))
            if not number % 20:
                await asyncio.sleep(0)
        assert await quick.frames(200) == [f"data: {number}" for number in range(200)]
        slow.reader._transport.resume_reading()
        seen = []
        while not (frame := await slow.frame()).endswith("x"):
            seen.append(frame)
        while not seen or seen[-1] != "data: 30":
            frame = await slow.frame()
            if not frame.endswith("x"):
                seen.append(frame)
        assert seen == [f"data: {number}" for number in range(31)], "the clog is the first of the 32"
        bench.emit("/live", "later")
        assert await slow.frame() == "data: later"
        await bench.stop()
        lost = sum(fields["count"] for fields in records.fields("slow subscribers lost events"))
        assert lost == 169

    on_a_bench(test)


def test_waiting_frames_are_bounded_in_bytes_too() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        slow = await bench.subscribe("/live")
        slow.reader._transport.pause_reading()
        await clog(bench, "/live", slow)
        subscriber = next(iter(bench.sse._audiences["echo"]._paths["/live"]))
        for _ in range(30):
            bench.emit("/live", "y" * 200_000)
        await asyncio.sleep(0.05)
        assert 500_000 < subscriber._waiting <= sse_subscriber.WAITING_BYTES
        assert subscriber.stream.waiting < 400_000

    on_a_bench(test)


def test_a_long_frame_costs_each_subscriber_a_piece_of_it_at_a_time() -> None:
    async def test(bench: Bench) -> None:
        bench.load(ECHO, event_bytes=8 * 1024 * 1024)
        bench.register("/live")
        clients = [await bench.subscribe("/live") for _ in range(3)]
        for client in clients:
            client.reader._transport.pause_reading()
        long = "z" * (8 * 1024 * 1024 - 8)
        assert bench.emit("/live", long) == Errno.OK
        await asyncio.sleep(0.01)
        bench.emit("/live", "next")
        await asyncio.sleep(0.05)
        for subscriber in bench.sse._audiences["echo"].subscribers():
            assert subscriber.stream.waiting < 400_000
        for client in clients:
            client.reader._transport.resume_reading()
            assert await client.frame() == f"data: {long}"
            assert await client.frame() == "data: next"

    on_a_bench(test)


def test_an_event_longer_than_the_cell_may_emit_is_refused() -> None:
    async def test(bench: Bench) -> None:
        bench.load(ECHO, event_bytes=1024)
        bench.register("/live")
        assert bench.emit("/live", "x" * 1016) == Errno.OK
        assert bench.emit("/live", "x" * 1017) == Errno.FAILED

    on_a_bench(test)


def test_subscribers_past_the_bound_are_turned_away_and_one_that_leaves_makes_room(records) -> None:
    async def test(bench: Bench) -> None:
        bench.load(ECHO, max_subscribers=2)
        bench.register("/:any")
        first = await bench.subscribe("/a")
        await bench.subscribe("/b")
        for _ in range(3):
            refused = await bench.connect("/c")
            assert (refused.status, await refused.body()) == (503, "too many subscribers\n")
        first.leave()
        await bench.until_count("/a", 0)
        await bench.subscribe("/c")
        assert len(records.fields("subscribers turned away")) == 1

    on_a_bench(test)


def test_a_cell_that_emits_faster_than_can_be_delivered_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(bench: Bench) -> None:
        monkeypatch.setattr(sse_audience, "PENDING_EVENTS", 4)
        bench.register("/live")
        client = await bench.subscribe("/live")
        caller = Caller()

        def emit() -> None:
            for number in range(1000):
                bench.sse.sse_emit(caller, SSEEmitRequest(path="/live", data=str(number)))

        thread = threading.Thread(target=emit)
        thread.start()
        assert await client.frames(1000) == [f"data: {number}" for number in range(1000)]
        await asyncio.to_thread(thread.join)
        assert caller.waited
        for _ in range(4):
            bench.emit("/live")
        late = Caller(seconds=0.01)
        assert code_of(lambda: bench.sse.sse_emit(late, SSEEmitRequest(path="/live"))) == Errno.FAILED
        assert late.waited

    on_a_bench(test)


@pytest.mark.parametrize(
    "settings",
    [
        {"keepalive_seconds": 0},
        {"retry_ms": -1},
        {"replay_events": 1_000_000},
        {"replay_bytes": "many"},
        {"max_subscribers": 0},
        {"event_bytes": 1},
        {"accept_only": 1},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_setting_that_cannot_be_is_refused_by_name(settings: dict[str, object]) -> None:
    with pytest.raises(ExtensionError, match=rf"transport\.sse.*{next(iter(settings))}"):
        Bench().load(ECHO, **settings)


# The end --------------------------------------------------------------------------------------------------------------


def test_streams_end_cleanly_when_the_host_stops_behind_what_a_cell_says_last() -> None:
    async def test(bench: Bench) -> None:
        bench.register("/live")
        bench.register("/gone", OTHER)
        client, gone = await bench.subscribe("/live"), await bench.subscribe("/gone")
        bench.sse.teardown_cell("other")  # a cell that was down already
        for task in bench.tasks:
            task.cancel()
        assert await gone.frame() == ""
        assert bench.emit("/live", "goodbye") == Errno.OK
        bench.sse.teardown_cell("echo")
        assert await client.frames(2) == ["data: goodbye", ""]
        assert await client.reader.read() == b""
        await bench.stop()

    on_a_bench(test)


# A real host ----------------------------------------------------------------------------------------------------------


class Listener:
    """A client in a thread's place: blocking reads."""

    def __init__(self, url: str, path: str, **headers: str) -> None:
        self._client = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
        self._client.request("GET", path, headers=headers)
        self.answer = self._client.getresponse()

    def frame(self) -> str:
        lines = []
        while line := self.answer.readline().decode().rstrip("\n"):
            lines.append(line)
        return "\n".join(lines)

    def close(self) -> None:
        self._client.close()


@pytest.mark.slow
def test_a_cell_in_a_host_emits_crashes_and_is_resumed(puppets: Callable[..., tuple[Puppet, ...]]) -> None:
    (cell,) = puppets("transport.sse", IMPORTS, http_port="127.0.0.1:0")
    assert cell("sse_register", b"/live/:room") == (0, b"")
    listener = Listener(cell.host.url, "/live/a")
    assert listener.answer.getheader("Content-Type") == "text/event-stream"
    assert listener.answer.getheader("Cache-Control") == "no-cache"

    assert cell("sse_emit", {"path": "/live/a", "id": "1", "event": "greet", "data": "hello\nworld"}) == (0, b"")
    assert listener.frame() == "id: 1\nevent: greet\ndata: hello\ndata: world"
    cell.trap()
    assert cell("sse_emit", {"path": "/live/a", "data": "x"}) == (4, b"")
    assert cell("sse_register", b"/live/:room") == (0, b"")
    assert cell("sse_emit", {"path": "/live/a", "id": "2", "data": "again"}) == (0, b"")
    assert listener.frame() == "id: 2\ndata: again"
    resumed = Listener(cell.host.url, "/live/a", **{"Last-Event-ID": "1"})
    assert resumed.frame() == "id: 2\ndata: again"
    resumed.close()
    listener.close()


@pytest.mark.slow
def test_a_guest_is_answered_each_code(puppets: Callable[..., tuple[Puppet, ...]]) -> None:
    (cell,) = puppets("transport.sse", IMPORTS, http_port="127.0.0.1:0")
    ok, empty, fault, decode, failed, write = 0, 1, 2, 3, 4, 8

    assert cell("sse_register", b"/live")[0] == ok
    assert cell("sse_register", b"")[0] == empty
    assert cell("sse_register", 0xFFFF_FFF0, 0x20)[0] == fault
    assert cell("sse_register", b"live")[0] == failed
    assert cell("sse_emit", {"path": "/live", "data": "x"})[0] == ok
    assert cell("sse_emit", [b"/live", "", None, b"x"])[0] == ok, "read as liberally as everything else"
    assert cell("sse_emit", 0, 0)[0] == empty
    assert cell("sse_emit", 0, 0xFFFF_FFFF)[0] == fault
    assert cell("sse_emit", b"\xc1")[0] == decode
    assert cell("sse_emit", {"path": 5})[0] == decode
    assert cell("sse_emit", {"path": "/none", "data": "x"})[0] == failed
    assert cell("sse_has_subscribers", b"/live", 64)[0] == ok
    assert cell("sse_has_subscribers", b"", 64)[0] == empty
    assert cell("sse_has_subscribers", 0xFFFF_FFF0, 0x20, 64)[0] == fault
    assert cell("sse_has_subscribers", b"/live", 0xFFFF_FFFE)[0] == write


@pytest.mark.slow
def test_threat_43_a_cell_that_does_not_declare_it_is_answered_99(puppets: Callable[..., tuple[Puppet, ...]]) -> None:
    (cell,) = puppets("transport.http.inbound", IMPORTS, http_port="127.0.0.1:0")

    assert cell("sse_register", b"/live")[0] == Errno.UNDECLARED
    assert cell("sse_emit", {"path": "/live"})[0] == Errno.UNDECLARED
    assert cell("sse_has_subscribers", b"/live", 64)[0] == Errno.UNDECLARED


@pytest.mark.slow
def test_a_stopping_host_ends_its_streams(puppets: Callable[..., tuple[Puppet, ...]]) -> None:
    (cell,) = puppets("transport.sse", IMPORTS, http_port="127.0.0.1:0")
    cell("sse_register", b"/live")
    listener = Listener(cell.host.url, "/live")
    until(lambda: cell("sse_has_subscribers", b"/live", 64)[0] == 0)
    began = time.monotonic()
    puppets.stop()  # type: ignore[attr-defined]

    assert listener.answer.read() == b""  # IncompleteRead, had it been cut off
    assert time.monotonic() - began < 4
    listener.close()


def test_the_settings_are_read_from_the_manifest(tmp_path: Path) -> None:
    ref = CellRef("a", "a", Log("pulp"), manifest=tmp_path / "m.toml", tables={"transport.sse": {"retry_ms": 7}})
    settings = ref.settings("transport.sse", sse_audience.SseSettings)

    assert settings == msgspec.structs.replace(sse_audience.SseSettings(), retry_ms=7)
