"""Hostile functions and daemons in a host: what they do to others, to its threads, and while it changes them."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.programs.hostile import Host as Held
from tests.programs.hostile import guest, must, opening, resident_bytes, text
from tests.programs.test_slot import Door

from pulp_runtime import Host
from pulp_runtime.ext import Capability, Posted, Run
from pulp_runtime.wasi import Pipe

from .conftest import Bench

SPIN = "(loop $on (br $on))"
READ = f"""{must(0, opening("word"))} (i32.store (i32.const 104) (i32.const 200))
  (i32.store (i32.const 108) (i32.const 50))
  (drop (call $fd_read (i32.load (i32.const 32)) (i32.const 104) (i32.const 1) (i32.const 112)))"""
READER = guest(READ, "path_open", "fd_read", more=text("word"))
FLOOD = """(i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 65536))
  (memory.fill (i32.const 1024) (i32.const 10) (i32.const 65536))
  (loop $on (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $on))"""
SLEEPS = """(i32.store (i32.const 16) (i32.const 1)) (i64.store (i32.const 24) (i64.const 0x7fffffffffffffff))
  (loop $on (drop (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200))) (br $on))"""
FUNCTION = '[function]\nroutes = ["GET /{name}"]\n'

Serve = Callable[..., Any]


@pytest.fixture
def serve(tmp_path: Path, wasm: Callable[[str], bytes], bench: Bench) -> Serve:
    """Return `serve(name=(text, lines), …)`: a host with these programs, functions unless their lines say otherwise."""

    @contextmanager
    def serve(options: dict[str, Any] | None = None, **programs: tuple[str, str]) -> Iterator[Host]:
        folders = []
        for name, (wat, lines) in programs.items():
            folder = tmp_path / name
            folder.mkdir()
            (folder / "cell.wasm").write_bytes(wasm(wat))
            if "[daemon]" not in lines:
                lines = f'execution = "function"\n{FUNCTION.format(name=name)}{lines}'
            (folder / "pulp.cell.toml").write_text(
                f'name = "{name}"\nversion = "1"\ncapabilities = ["test.bench", "transport.http.inbound"]\n{lines}'
            )
            folders.append(folder)
        given = {"storage_root": tmp_path / "data", "http_port": "127.0.0.1:0", **(options or {})}
        with Host(folders, capabilities=[Capability.of("test.bench", bench)], **given) as host:
            yield host

    return serve


def served(bench: Bench, count: int, cell: str = "good") -> list[float]:
    """Run a function so often, one after the other; return how long each took."""
    taken = []
    for number in range(count):
        began = time.monotonic()
        event = 100_000 + number
        assert bench.post(event, cell) is Posted.ACCEPTED
        bench.wait(lambda event=event: event in bench.finalized)  # type: ignore[misc]
        taken.append(time.monotonic() - began)
    return taken


@pytest.mark.slow
@pytest.mark.parametrize(
    "evil",
    [
        pytest.param(guest(SPIN), id="spins"),
        pytest.param(READER, id="waits for what never comes"),
        pytest.param(guest(SLEEPS, "poll_oneoff"), id="sleeps for ever"),
        pytest.param(guest(FLOOD, "fd_write"), id="floods its output"),
        pytest.param(
            guest("(loop $on (memory.fill (i32.const 0) (i32.const 1) (i32.const 131072)) (br $on))"), id="fills"
        ),
    ],
)
def test_threat_22_a_function_that_never_answers_keeps_no_other_from_its_requests(
    serve: Serve, bench: Bench, evil: str
) -> None:
    bench.on_mount = lambda run: run.tree.add("/word", Door(Pipe().reader))
    lines = "max_instances = 8\ntimeout_ms = 1500"
    with serve(evil=(evil, lines), good=(guest(""), "max_instances = 2")):
        served(bench, 3)
        for number in range(16):
            bench.post(number, "evil")
        bench.wait(lambda: sum(run.cell.name == "evil" for run in bench.runs) >= 8)
        taken = served(bench, 30)
        bench.wait(lambda: sum(number < 16 for number in bench.finalized) == 16)

    assert statistics.median(taken) < 0.25
    assert max(taken) < 2.0  # the machine may be busy
    assert all(outcome.timed_out for outcome in bench.outcomes if outcome.status is None)


@pytest.mark.slow
def test_threat_25_two_hundred_and_fifty_instances_run_at_once(serve: Serve, bench: Bench) -> None:
    """Each waits in a read, on a worker of its own; a further request waits, and others are served meanwhile."""
    pipes: list[Pipe] = []

    def mount(run: Run) -> None:
        pipe = Pipe()
        run.tree.add("/word", Door(pipe.reader))
        if run.cell.name == "evil":
            pipes.append(pipe)

    bench.on_mount = mount
    lines = "max_instances = 250\ntimeout_ms = 60000\n[limits]\nmailbox_events = 300"
    with serve(evil=(READER, lines), good=(guest(""), "")):
        before, held = resident_bytes(), Held()
        for number in range(250):
            assert bench.post(number, "evil") is Posted.ACCEPTED
        bench.wait(lambda: sum(bool(pipe._wakes) for pipe in pipes) == 250 or _slept())
        assert resident_bytes() - before < 400 << 20
        assert max(served(bench, 3)) < 2.0
        for pipe in pipes:
            pipe.end()
        bench.wait(lambda: sum(number < 250 for number in bench.finalized) == 250)
        assert Held().handles <= held.handles + 2

    assert sum(outcome.status == 0 for outcome in bench.outcomes) == 253


def _slept() -> bool:
    """Have the condition that waits looked at again soon; nobody tells it."""
    time.sleep(0.01)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    "evil", [guest(FLOOD, "fd_write"), guest(SLEEPS, "poll_oneoff"), guest(SPIN)], ids=["floods", "sleeps", "spins"]
)
def test_threat_27_and_45_a_hostile_daemon_is_bounded_and_ends_with_the_host(
    serve: Serve, bench: Bench, records: Any, evil: str
) -> None:
    threads = threading.active_count()
    with serve(evil=(evil, 'execution = "daemon"\n[daemon]'), good=(guest(""), "")) as host:
        bench.wait(lambda: bool(bench.runs))
        taken = served(bench, 30)
        began = time.monotonic()
    closing = time.monotonic() - began

    assert host.finished
    assert statistics.median(taken) < 0.25
    assert closing < 10
    assert len([one for one in records.all if getattr(one, "fields", {}).get("stream") == "stdout"]) < 200 * 20
    deadline = time.monotonic() + 5
    while any(thread.name == "cell:evil" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert threading.active_count() <= threads + 1


@pytest.mark.slow
def test_threat_27_a_daemon_that_traps_again_and_again_leaves_nothing_behind(serve: Serve, bench: Bench) -> None:
    lines = 'execution = "daemon"\nrestart = "always"\n[daemon]\n[limits]\nrestarts = 200\nrestart_window_seconds = 600'
    with serve(evil=(guest("unreachable"), lines), good=(guest(""), "")) as host:
        bench.wait(lambda: len(bench.outcomes) >= 3)
        held = Held()
        assert max(served(bench, 10)) < 2.0
        bench.wait(lambda: sum(run.cell.name == "evil" for run in bench.runs) >= 6)
        assert Held().handles <= held.handles + 2
        assert Held().threads <= held.threads + 2
    assert host.finished


@pytest.mark.slow
def test_threat_49_no_request_is_lost_when_a_function_is_reloaded_in_a_flood_of_them(
    serve: Serve, bench: Bench
) -> None:
    """Also when each version has another number of places."""
    lines = "max_instances = {}\n[limits]\nmailbox_events = 1000"
    with serve(evil=(guest(""), lines.format(4))) as host:
        accepted: list[int] = []
        over = threading.Event()

        def flood() -> None:
            number = 0
            while not over.is_set():
                if bench.post(number, "evil") is Posted.ACCEPTED:
                    accepted.append(number)
                number += 1
                time.sleep(0.0005)

        thread = threading.Thread(target=flood)
        thread.start()
        for _ in range(10):
            host._thread.run(host.operations.reload("evil"))
        over.set()
        thread.join(5)
        bench.wait(lambda: len(bench.finalized) == len(accepted))
        assert host.status()["evil"].state == "ready"
        assert served(bench, 5, "evil")

    assert len(accepted) > 20
    assert sorted(bench.finalized)[: len(accepted)] == sorted(accepted)
    assert {outcome.status for outcome in bench.outcomes} == {0}
