"""A run's beginning and end, whatever the capabilities in it do, and from whichever thread it is ended."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.programs.hostile import FOREVER, Alone, guest, must, opening, text

from pulp_runtime._kernel.programs.daemon import DaemonCell
from pulp_runtime.ext import File, Folder, How, Kind, Leaf, Outcome, Run
from pulp_runtime.wasi import Pipe

SPIN = "(loop $on (br $on))"


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    alone = Alone()
    yield alone
    alone.close()


class Counted(File):
    """A stream that counts how it was let go of."""

    kind = Kind.DEVICE

    def __init__(self) -> None:
        self.ends: list[str] = []

    def read(self, size: int) -> bytes:
        return b""

    def write(self, data: bytes) -> int:
        return len(data)

    def close(self) -> None:
        self.ends.append("closed")

    def abandon(self) -> None:
        self.ends.append("abandoned")


class Door(Leaf):
    """Opens a file that was made before."""

    def __init__(self, file: File) -> None:
        self._file = file

    def open_file(self, how: How) -> File:
        return self._file


def streams(run: Run) -> list[Counted]:
    run.stdin, run.stdout, run.stderr = made = Counted(), Counted(), Counted()
    return list(made)


@pytest.mark.parametrize(
    ("start", "ends"),
    [
        ("", "closed"),
        ("(call $exit (i32.const 3))", "closed"),
        ("unreachable", "abandoned"),
        (must(0, "(call $fd_close (i32.const 1))") + "unreachable", "abandoned"),
    ],
)
def test_a_standard_stream_is_let_go_of_once(alone: Alone, start: str, ends: str) -> None:
    """Closing a descriptor of the host twice would close somebody else's."""
    made: list[Counted] = []
    alone.run(guest(start, "fd_close"), lambda run: made.extend(streams(run)))

    closed = "closed" if "fd_close" in start else ends
    assert [stream.ends for stream in made] == [[ends], [closed], [ends]]


def _broken(_run: Run) -> None:
    raise RuntimeError("no such thing")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_broken, "no such thing"),
        (lambda run: run.preopens.append("nowhere"), "nowhere"),
        (lambda run: run.preopens.append("\ud800"), "could not begin"),
    ],
    ids=["raises", "preopens nothing", "a name without bytes"],
)
def test_what_a_mount_makes_impossible_is_that_run_s_end_and_it_is_told(
    alone: Alone, spoil: Callable[[Run], None], words: str
) -> None:
    """Whoever waits for the run's answer hears of it, its streams are let go of, and the next run is sound."""
    made: list[Counted] = []
    ends: list[Outcome] = []
    wrong = True

    def mount(run: Run) -> None:
        run.on_end(ends.append)
        made.extend(streams(run))
        if wrong:
            spoil(run)

    program = alone.program(guest(""), mount)
    slot = program.take()
    outcome = slot.run()
    wrong = False

    assert (ends, outcome.status) == ([outcome], None)
    assert words in outcome.error
    assert [stream.ends for stream in made] == [["abandoned"]] * 3
    assert slot not in alone.engine.ticker.inside
    assert slot.run().status == 0


def test_callbacks_that_fail_keep_neither_the_others_nor_the_run(alone: Alone) -> None:
    called: list[str] = []

    def mount(run: Run) -> None:
        run.on_end(lambda _outcome: called.append("first"))
        run.on_end(lambda _outcome: 1 / 0)  # type: ignore[arg-type, return-value]
        run.on_end(lambda _outcome: called.append("last"))
        run.on_stop(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
        run.on_stop(lambda: called.append("stopped"))

    program = alone.program(guest(SPIN), mount, seconds=FOREVER)
    slot = program.take()
    thread = threading.Thread(target=slot.run)
    thread.start()
    while slot._reprieve is None:
        time.sleep(0.001)
    program.kill()
    thread.join(5)

    assert called == ["stopped", "first", "last"]


def test_nothing_of_a_run_waits_for_the_collector(alone: Alone) -> None:
    """A capability keeps its run, and hangs on it by a callback, as they do."""
    from weakref import ref

    kept: list[ref[Any]] = []

    class Owner:
        def __init__(self, run: Run) -> None:
            self.run = run
            run.tree.add("/own", Door(Counted()))
            run.on_end(self.end)
            run.on_stop(self.stop)
            kept.append(ref(self))

        def end(self, outcome: Outcome) -> None: ...

        def stop(self) -> None: ...

    program = alone.program(guest(""), lambda run: Owner(run) and None)
    slot = program.take()
    gc.disable()
    try:
        slot.run()
        assert kept[0]() is None
    finally:
        gc.enable()


def test_who_waits_for_a_stream_that_nobody_ends_is_ended_by_force(alone: Alone) -> None:
    """The capability forgot `on_stop`; the daemon's thread must not stay for that."""
    pipe = Pipe()
    start = f"""{must(0, opening("word"))} (i32.store (i32.const 104) (i32.const 200))
      (i32.store (i32.const 108) (i32.const 50))
      (loop $on (drop (call $fd_read (i32.load (i32.const 32)) (i32.const 104) (i32.const 1) (i32.const 112)))
      (br $on))"""
    program = alone.program(
        guest(start, "path_open", "fd_read", more=text("word")),
        lambda run: run.tree.add("/word", Door(pipe.reader)),
        seconds=FOREVER,
    )
    slot = program.take()
    outcomes: list[Outcome] = []
    thread = threading.Thread(target=lambda: outcomes.append(slot.run()))
    thread.start()
    while not pipe._wakes:
        time.sleep(0.001)
    program.stop()
    thread.join(0.2)
    assert thread.is_alive()
    began = time.monotonic()
    program.kill()
    thread.join(5)

    assert [outcome.status for outcome in outcomes] == [None]
    assert time.monotonic() - began < 1
    assert not pipe._wakes


@pytest.mark.slow
def test_runs_that_are_stopped_from_other_threads_at_any_moment_end_and_the_slots_are_sound(alone: Alone) -> None:
    """Stops fall before, into and behind runs; each run waits for a stream until it is stopped, or for 20 ms."""
    start = f"""{must(0, opening("word"))} (i32.store (i32.const 104) (i32.const 200))
      (i32.store (i32.const 108) (i32.const 50))
      (drop (call $fd_read (i32.load (i32.const 32)) (i32.const 104) (i32.const 1) (i32.const 112)))"""

    def mount(run: Run) -> None:
        pipe = Pipe()
        run.tree.add("/word", Door(pipe.reader))
        run.on_stop(pipe.end)

    program = alone.program(guest(start, "path_open", "fd_read", more=text("word")), mount, seconds=0.02)
    over = threading.Event()
    errors: list[BaseException] = []

    def stop() -> None:
        try:
            while not over.is_set():
                program.stop()
                program.kill()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    def work() -> None:
        try:
            for _ in range(150):
                slot = program.take()
                outcome = slot.run()
                program.give(slot)
                assert outcome.status == 0 or outcome.timed_out, outcome
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    stopper = threading.Thread(target=stop)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for thread in (stopper, *workers):
        thread.start()
    for thread in workers:
        thread.join(60)
    over.set()
    stopper.join(5)

    assert errors == []
    assert (program.running, len(program._free) <= 4) == (0, True)
    assert not alone.engine.ticker.inside


def test_a_daemon_that_cannot_even_begin_has_ended(alone: Alone) -> None:
    """Else it would be in service for ever without a thread."""
    program = alone.program(guest(""), seconds=FOREVER)
    ended = threading.Event()

    def broken() -> Any:
        raise MemoryError

    program.take = broken  # type: ignore[method-assign]
    cell = DaemonCell(Spec(), program, ended.set)  # type: ignore[arg-type]
    cell.init()

    assert ended.wait(5)
    assert cell.outcome is not None
    assert "MemoryError" in cell.outcome.error


class Spec:
    name = "hostile"


def test_a_store_is_closed_while_a_watcher_is_about_to_wake(alone: Alone) -> None:
    """The stream changes all the time, also after the run that watched it is over."""
    pipe = Pipe()
    over = threading.Event()

    def ring() -> None:
        while not over.is_set():
            pipe._wake()

    thread = threading.Thread(target=ring)
    thread.start()
    start = f"""{must(0, opening("word"))} (i32.store (i32.const 104) (i32.const 200))
      (i32.store (i32.const 108) (i32.const 50))
      (drop (call $fd_read (i32.load (i32.const 32)) (i32.const 104) (i32.const 1) (i32.const 112)))"""
    program = alone.program(
        guest(start, "path_open", "fd_read", more=text("word")),
        lambda run: run.tree.add("/word", Door(Unclosed(pipe.reader))),
        seconds=0.01,
    )
    slot = program.take()
    outcomes = [slot.run() for _ in range(20)]
    over.set()
    thread.join(5)

    assert all(outcome.status == 0 or outcome.timed_out for outcome in outcomes)
    assert not pipe._wakes


class Unclosed(File):
    """A stream that others go on with."""

    kind = Kind.DEVICE

    def __init__(self, inner: File) -> None:
        self._inner = inner
        self.read, self.ready, self.watch = inner.read, inner.ready, inner.watch  # type: ignore[method-assign]


def test_a_folder_of_the_tree_does_not_tell_where_it_is_in_the_host() -> None:
    folders = [Folder() for _ in range(3)]

    numbers = [folder.stat(()).inode for folder in folders]
    assert len(set(numbers)) == 3
    assert numbers == [folder.stat(()).inode for folder in folders]
    assert not {id(folder) & 0xFFFF_FFFF for folder in folders} & set(numbers)


def test_a_daemon_that_was_told_to_end_ends_also_when_nothing_ticks_any_more() -> None:
    """The host closes before it was asked: it would spin until the process ends."""
    alone = Alone()
    slot = alone.program(guest(SPIN), seconds=FOREVER).take()
    thread = threading.Thread(target=slot.run)
    thread.start()
    while slot._reprieve is None:
        time.sleep(0.001)
    slot._reprieve.over = True
    alone.close()
    thread.join(5)

    assert not thread.is_alive()
