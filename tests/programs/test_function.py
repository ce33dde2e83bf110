"""Functions: a fresh run for each event, many at once, each within its bounds."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from pulp_runtime import Host, StartError
from pulp_runtime.ext import Posted, Run
from pulp_runtime.manifest.bare import load_bare

from .conftest import Bench, Serve, program

SPIN = "(loop $on (br $on))"


def test_a_program_that_returns_ends_with_status_0(serve: Serve, bench: Bench) -> None:
    with serve(program("")):
        assert bench.one() == (0, "", False)


def test_what_a_program_exits_with_is_its_status(serve: Serve, bench: Bench) -> None:
    with serve(program("(call $exit (i32.const 7))")):
        assert bench.one().status == 7


def test_a_reactor_s_function_is_run_after_its_initialization(serve: Serve, bench: Bench) -> None:
    more = '(func (export "_initialize") (global.set $times (i32.const 40)))'
    text = program(
        "(i32.add (global.get $times) (i32.const 2))", more=more, export="pulp_function", result="(result i32)"
    )
    with serve(text):
        assert bench.one().status == 42


def test_nothing_of_a_run_is_left_for_the_next(serve: Serve, bench: Bench) -> None:
    """The global counts, and the memory is written: a second run sees neither."""
    text = program(
        """
        (if (i32.or (global.get $times) (i32.load (i32.const 4096))) (then (call $exit (i32.const 9))))
        (global.set $times (i32.const 1))
        (i32.store (i32.const 4096) (i32.const 1))
        """
    )
    with serve(text):
        assert [bench.one(number).status for number in (1, 2, 3)] == [0, 0, 0]


def test_a_trap_is_told_and_the_next_run_is_sound(serve: Serve, bench: Bench, records: Any) -> None:
    with serve(program("unreachable")) as host:
        outcomes = [bench.one(number) for number in (1, 2)]
        assert host.status()["prog"].state == "ready"

    assert [(one.status, one.timed_out) for one in outcomes] == [(None, False)] * 2
    assert "unreachable" in outcomes[0].error
    assert "run failed" in records.messages


def test_a_run_past_its_deadline_is_ended(serve: Serve, bench: Bench) -> None:
    with serve(program(SPIN), "timeout_ms = 50"):
        outcome = bench.one()

    assert (outcome.status, outcome.timed_out) == (None, True)
    assert "0.05 s" in outcome.error


def test_a_program_finds_what_a_capability_mounted(serve: Serve, bench: Bench) -> None:
    """It opens `word` in the folder that is descriptor 3, reads it, and exits with how much there was."""
    text = program(
        """
        (drop (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 4) (i32.const 0)
          (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 100)))
        (i32.store (i32.const 104) (i32.const 200)) (i32.store (i32.const 108) (i32.const 50))
        (drop (call $read (i32.load (i32.const 100)) (i32.const 104) (i32.const 1) (i32.const 112)))
        (call $exit (i32.load (i32.const 112)))
        """,
        more='(data (i32.const 64) "word")',
    )
    with serve(text):
        assert bench.one().status == len("sesame")


def test_what_a_program_prints_is_logged_line_by_line(serve: Serve, bench: Bench, records: Any) -> None:
    text = program(
        """
        (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 8))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 16)))
        """,
        more='(data (i32.const 64) "one\\ntwo!")',
    )
    with serve(text):
        bench.one()

    assert [message for message in records.messages if message in ("one", "two!")] == ["one", "two!"]


class Barrier:
    """Holds every run that is mounted until it is opened."""

    def __init__(self, bench: Bench) -> None:
        self.open = threading.Event()
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()
        self._bench = bench
        bench.on_mount = self._mount

    def _mount(self, run: Run) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        with self._bench._changed:
            self._bench._changed.notify_all()
        with run.blocking():
            assert self.open.wait(20)
        with self._lock:
            self.inside -= 1


def test_runs_happen_at_once_up_to_the_manifest_s_number(serve: Serve, bench: Bench) -> None:
    barrier = Barrier(bench)
    with serve(program(""), "max_instances = 3"):
        for number in range(8):
            assert bench.post(number) is Posted.ACCEPTED
        bench.wait(lambda: barrier.inside == 3)
        assert bench.finalized == []
        barrier.open.set()
        bench.wait(lambda: len(bench.finalized) == 8)

    assert barrier.most == 3
    assert sorted(bench.finalized) == list(range(8))


def test_past_the_mailbox_an_event_is_refused(serve: Serve, bench: Bench) -> None:
    barrier = Barrier(bench)
    with serve(program(""), "max_instances = 1\n[limits]\nmailbox_events = 2"):
        assert bench.post(0) is Posted.ACCEPTED
        bench.wait(lambda: barrier.inside == 1)
        assert [bench.post(number) for number in (1, 2, 3)] == [Posted.ACCEPTED, Posted.ACCEPTED, Posted.FULL]
        barrier.open.set()
        bench.wait(lambda: len(bench.finalized) == 3)


def test_what_a_mount_raises_ends_that_run_alone(serve: Serve, bench: Bench, records: Any) -> None:
    def broken(_run: Run) -> None:
        raise RuntimeError("no such thing")

    bench.on_mount = broken
    with serve(program("")):
        outcome = bench.one()
        bench.on_mount = lambda _run: None
        assert bench.one(2).status == 0

    assert outcome.status is None
    assert "no such thing" in outcome.error
    assert "extension hook failed" in records.messages


def test_stopping_the_host_ends_what_still_runs(serve: Serve, bench: Bench) -> None:
    with serve(program(SPIN), "timeout_ms = 600000", grace_seconds=2.0) as host:
        bench.post()
        bench.wait(lambda: bool(bench.runs))
    assert host.finished
    bench.wait(lambda: bool(bench.outcomes))
    assert bench.outcomes[0].status is None


def test_a_reload_leaves_what_runs_alone(serve: Serve, bench: Bench) -> None:
    barrier = Barrier(bench)
    with serve(program("")) as host:
        assert bench.post(1) is Posted.ACCEPTED
        bench.wait(lambda: barrier.inside == 1)
        host._thread.run(host.operations.reload("prog"))
        assert bench.post(2) is Posted.ACCEPTED
        bench.wait(lambda: barrier.inside == 2)
        barrier.open.set()
        bench.wait(lambda: len(bench.finalized) == 2)

    assert [outcome.status for outcome in bench.outcomes] == [0, 0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('(module (memory (export "memory") 1))', "exports neither _start nor pulp_function"),
        ('(module (func (export "_start")))', "exports no memory"),
        ('(module (memory (export "memory") 1) (func (export "_start") (param i32)))', "takes no parameter"),
        (
            '(module (import "pulp" "pulp_call" (func)) (memory (export "memory") 1) (func (export "_start")))',
            "imports pulp.pulp_call; a program is given WASI preview 1 and files",
        ),
        (
            '(module (import "wasi_snapshot_preview1" "fd_swim" (func)) (memory (export "memory") 1)'
            ' (func (export "_start")))',
            "fd_swim",
        ),
    ],
    ids=["no entry", "no memory", "an entry with a parameter", "an import of cells", "an import that WASI has not"],
)
def test_what_is_no_program_is_refused_by_name(serve: Serve, text: str, words: str, records: Any) -> None:
    with pytest.raises(StartError), serve(text):
        pass
    assert any(words in str(fields.get("err")) for fields in records.fields("load failed"))


def test_a_program_that_declares_storage_fs_has_its_folder_as_data(tmp_path: Path) -> None:
    """Written by one run, seen on the disk, read by the next; a link out of the folder leads nowhere."""
    box = Path(__file__).parents[2] / "examples" / "box" / "box.wasm"
    spec = load_bare(box)
    spec = replace(spec, name="files", capabilities=(*spec.capabilities, "storage.fs"))
    assert spec.program is not None
    with Host([spec], storage_root=tmp_path, http_port="127.0.0.1:0") as host:
        canary = tmp_path / "canary"
        canary.write_text("secret")
        folder = tmp_path / "files"
        (folder / "out").symlink_to(canary)

        def box_says(script: bytes) -> bytes:
            with urlopen(Request(host.url, script, method="POST"), timeout=20) as answer:
                return answer.read()

        assert box_says(b"echo hey > /data/note\nls /data\n") == b"note\nout\n"
        assert (folder / "note").read_text() == "hey\n"
        assert box_says(b"cat /data/out\ncat /data/note\n") == b"hey\n"


def test_what_lies_in_tmp_counts_as_memory_of_the_run(tmp_path: Path) -> None:
    """Of 20 MiB its memory has more than 16, so two files of 2.4 MB do not fit; the first one stays whole."""
    box = Path(__file__).parents[2] / "examples" / "box" / "box.wasm"
    spec = replace(load_bare(box), max_memory_pages=320)
    with Host([spec], storage_root=tmp_path, http_port="127.0.0.1:0") as host:
        script = b"".join(b"echo " + b"x" * 4000 + b" >> /tmp/a\n" for _ in range(600))
        script += b"cp /tmp/a /tmp/b\nstat /tmp/a\nstat /tmp/b\n"
        with urlopen(Request(host.url, script, method="POST"), timeout=20) as answer:
            first, second = (int(line.split()[2]) for line in answer.read().decode().splitlines())

    assert first == 600 * 4001
    assert 0 < second < first


def test_every_run_is_counted_and_none_is_left_in_the_count(serve: Serve, bench: Bench) -> None:
    """Thousands of short runs on many threads: whoever waits for the function to be idle is not kept for ever."""
    with serve(program(""), "max_instances = 8\n[limits]\nmailbox_events = 4096", workers=8) as host:
        for number in range(2_000):
            assert bench.post(number) is Posted.ACCEPTED
        bench.wait(lambda: len(bench.finalized) == 2_000)
        runner = host.operations._fleet.runners["prog"]
        bench.wait(lambda: not runner.busy)
        assert host.status()["prog"].steps == 2_000
