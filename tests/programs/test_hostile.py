"""Hostile programs, each by itself: what they use up ends, is bounded, and is given back."""

from __future__ import annotations

import resource
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.programs.hostile import FOREVER, PAGE, Alone, Host, guest, must, opening, resident_bytes, text, times

from pulp_runtime.ext import Run
from pulp_runtime.files.quota import DiskQuota
from pulp_runtime.wasi import MemoryFolder, RealFolder
from pulp_runtime.wasi.errno import WasiErrno

BADF, INVAL, FAULT, MFILE, NOSPC, DQUOT = (
    int(WasiErrno[name]) for name in ("BADF", "INVAL", "FAULT", "MFILE", "NOSPC", "DQUOT")
)


@pytest.fixture(scope="module")
def alone() -> Iterator[Alone]:
    alone = Alone()
    yield alone
    alone.close()


# Descriptors, files and folders -------------------------------------------------------------------------------

COUNT_OPENS = (
    "(if (i32.eqz (global.get $code)) (then (global.set $sum (i32.add (global.get $sum) (i32.const 1))))"
    f" (else (if (i32.ne (global.get $code) (i32.const {MFILE})) (then unreachable))))"
)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["tmp/a", "real/a", "real"])
def test_threat_09_a_hundred_thousand_opens_end_at_the_limit_and_all_are_closed(
    alone: Alone, tmp_path: Path, where: str
) -> None:
    """It counts what was opened, less the 4 descriptors it began with, and exits with 7 if that is the limit."""
    folder = tmp_path / "real"
    folder.mkdir()
    flags = 0 if where == "real" else 1
    opens = times(100_000, f"(global.set $code {opening(where, oflags=flags)}) {COUNT_OPENS}")
    check = "(call $exit (select (i32.const 7) (i32.const 8) (i32.eq (global.get $sum) (i32.const 1020))))"
    alone.run(guest(""))
    before = Host()

    outcome = alone.run(
        guest(opens + check, "path_open", more=text(where)), lambda run: run.tree.add("/real", RealFolder(folder))
    )

    assert (outcome.status, outcome.error) == (7, "")
    assert Host().has_no_more_than(before)


@pytest.mark.parametrize("where", ["real/a", "real"])
def test_threat_09_a_program_that_opens_all_it_can_leaves_descriptors_for_the_host(
    alone: Alone, tmp_path: Path, where: str, records: Any
) -> None:
    """It is told so once; where the system gives no more than 400, a quarter of them is not for programs."""
    nfile = int(WasiErrno.NFILE)
    flags = 0 if where == "real" else 1
    start = (
        times(
            1000,
            f"""(global.set $code {opening(where, oflags=flags)})
        (if (i32.eqz (global.get $code)) (then (global.set $sum (i32.add (global.get $sum) (i32.const 1))))
        (else (if (i32.ne (global.get $code) (i32.const {nfile})) (then unreachable))))""",
        )
        + "(call $exit (select (i32.const 7) (i32.const 8) (i32.lt_u (global.get $sum) (i32.const 300))))"
    )
    room: list[int] = []

    def mount(run: Run) -> None:
        run.tree.add("/real", RealFolder(tmp_path))

    program = alone.program(guest(start, "path_open", more=text(where)), mount)
    slot = program.take()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))
    try:
        end = slot._wasi.end
        slot._wasi.end = lambda **how: (room.append(Host().handles), end(**how))[1]  # type: ignore[method-assign]
        outcome = slot.run()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert outcome.status == 7
    assert max(room) <= 302
    assert records.messages.count("no descriptors left for programs; the program gets ENFILE") == 1


NAMED = """(i32.store (i32.const 68) (i32.add (i32.const 0x30303030) (i32.and (global.get $n) (i32.const 0x0f0f0f0f))))
  (i32.store (i32.const 72) (i32.add (i32.const 0x61616161) (i32.and (i32.shr_u (global.get $n) (i32.const 4))
    (i32.const 0x0f0f0f0f))))"""
"""A name of eight letters for each number, behind the four of a folder's."""


@pytest.mark.slow
def test_threat_09_a_hundred_thousand_folders_in_tmp_end_at_the_limit_of_memory(alone: Alone) -> None:
    used: list[int] = []

    def mount(run: Run) -> None:
        tmp = run.tree.children["tmp"] = MemoryFolder(4 << 20)
        run.on_end(lambda _outcome: used.append(tmp.used_bytes))

    make = "(global.set $code (call $path_create_directory (i32.const 3) (i32.const 64) (i32.const 12)))"
    body = f"{NAMED} {make} (if (i32.eq (global.get $code) (i32.const {NOSPC})) (then (call $exit (i32.const 7))))"
    before = resident_bytes()

    outcome = alone.run(guest(times(100_000, body), "path_create_directory", more=text("tmp/")), mount)

    assert outcome.status == 7
    assert 3 << 20 < used[0] <= 4 << 20
    assert resident_bytes() - before < 24 << 20


DEEPER = f"""
  {must(0, "(call $path_create_directory (global.get $fd) (i32.const 64) (i32.const 1))")}
  {must(0, opening("d", fd="(global.get $fd)"))}
  (if (i32.ne (global.get $fd) (i32.const 4)) (then (drop (call $fd_close (global.get $fd)))))
  (global.set $fd (i32.load (i32.const 32)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["tmp", "real"])
def test_threat_06_folders_ten_thousand_deep_are_made_and_left(alone: Alone, tmp_path: Path, where: str) -> None:
    folder = tmp_path / "deep"
    folder.mkdir()
    start = (
        must(0, opening(where, at=80)) + "(global.set $fd (i32.load (i32.const 32)))" + times(10_000, DEEPER)
        + "(call $exit (i32.const 7))"
    )  # fmt: skip
    more = text("d") + text(where, 80) + "(global $fd (mut i32) (i32.const 3))"
    alone.run(guest(""))
    before = Host()

    def mount(run: Run) -> None:
        run.tree.add("/real", RealFolder(folder, quota=DiskQuota(folder, 64 << 20)))

    outcome = alone.run(
        guest(start, "path_open", "path_create_directory", "fd_close", more=more), mount, memory_pages=1024
    )

    room = DiskQuota(folder, 64 << 20).room()
    subprocess.run(["rm", "-rf", str(folder)], check=True)  # shutil would go 10,000 calls deep
    assert (outcome.status, outcome.error) == (7, "")
    assert Host().has_no_more_than(before)
    assert room <= (64 << 20) - (10_000 * 4096 if where == "real" else 0)


def test_threat_09_what_a_run_leaves_in_tmp_is_given_back_at_its_end(alone: Alone) -> None:
    """A file of 8 MiB in a folder: kept for the collector, 64 of them would be half a gigabyte."""
    write = f"""
      {must(0, "(call $path_create_directory (i32.const 3) (i32.const 64) (i32.const 5))")}
      {must(0, opening("tmp/d/f", oflags=1, rights=66))}
      {must(0, "(call $fd_filestat_set_size (i32.load (i32.const 32)) (i64.const 8388608))")}
    """
    kept: list[Any] = []

    def mount(run: Run) -> None:
        run.on_end(lambda outcome: kept.append((outcome.status, run.cell)))  # refers back to its run, as most do

    program = alone.program(
        guest(write, "path_open", "path_create_directory", "fd_filestat_set_size", more=text("tmp/d/f")), mount
    )
    slot = program.take()
    slot.run()
    before = resident_bytes()

    for _ in range(64):
        assert slot.run().status == 0

    assert resident_bytes() - before < 64 << 20


def test_threat_16_descriptors_that_are_closed_or_moved_over_are_not_there(alone: Alone) -> None:
    start = "".join(
        [
            *(must(0, f"(call $fd_close (i32.const {fd}))") for fd in (0, 1, 2)),
            *(must(BADF, f"(call $fd_close (i32.const {fd}))") for fd in (0, 1, 2, 4, 1024, -1)),
            must(0, opening("tmp")),  # takes 0
            must(0, "(call $fd_renumber (i32.const 0) (i32.const 3))"),
            must(BADF, "(call $fd_prestat_get (i32.const 3) (i32.const 200))"),
            must(int(WasiErrno.NOTCAPABLE), opening("../tmp", at=80)),
            must(BADF, opening("tmp", fd="(i32.const 0)")),
            must(0, "(call $fd_close (i32.const 3))"),
            must(BADF, opening("tmp")),
            must(BADF, "(call $fd_renumber (i32.const 3) (i32.const 0))"),
            "(call $exit (i32.const 7))",
        ]
    )
    calls = ("fd_close", "fd_renumber", "fd_prestat_get", "path_open")

    assert alone.run(guest(start, *calls, more=text("tmp") + text("../tmp", 80))).status == 7


# Memory and processor -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "more", "words"),
    [
        pytest.param("(call $start)", "", "call stack exhausted", id="recursion"),
        pytest.param(
            "(loop $on (br_if $on (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) (i32.store (i32.const -4)"
            " (i32.const 1))",
            "",
            "out of bounds memory access",
            id="memory grows and grows",
        ),
        pytest.param(
            "(loop $on (br_if $on (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1))))"
            " (call_indirect $t (i32.const 5))",
            "(table $t 1 funcref)",
            "uninitialized element",
            id="a table grows and grows",
        ),
    ],
)
def test_threat_24_and_25_a_program_that_grows_without_end_traps_alone(
    alone: Alone, start: str, more: str, words: str
) -> None:
    before = resident_bytes()
    outcome = alone.run(guest(start, more=more))

    assert outcome.status is None
    assert words in outcome.error
    assert resident_bytes() - before < 32 << 20
    assert alone.run(guest("")).status == 0


@pytest.mark.slow
def test_threat_27_ten_thousand_traps_leave_nothing_behind(alone: Alone) -> None:
    """Each has a file open, folders in /tmp, and all its memory written."""
    start = f"""
      {must(0, "(call $path_create_directory (i32.const 3) (i32.const 64) (i32.const 5))")}
      {must(0, opening("tmp/d/f", oflags=1, rights=66))}
      (memory.fill (i32.const 1024) (i32.const 1) (i32.const 100000)) unreachable"""
    program = alone.program(guest(start, "path_create_directory", "path_open", more=text("tmp/d/f")))

    def storm(count: int) -> None:
        for _ in range(count):
            slot = program.take()
            assert slot.run().status is None
            program.give(slot)

    storm(2500)
    before, host = resident_bytes(), Host()
    storm(7500)

    assert resident_bytes() - before < 4 << 20
    assert Host().has_no_more_than(host)
    assert (program.running, len(program._free)) == (0, 1)


def test_threat_47_memory_of_a_slot_used_before_is_zero(alone: Alone) -> None:
    """It looks through all its memory, exits with 9 if a byte is set, and sets all of them; half the runs trap."""
    scan = f"""(loop $on
        (if (i64.ne (i64.load (global.get $n)) (i64.const 0)) (then (call $exit (i32.const 9))))
        (global.set $n (i32.add (global.get $n) (i32.const 8)))
        (br_if $on (i32.lt_u (global.get $n) (i32.const {16 * PAGE}))))"""
    fill = f"(memory.fill (i32.const 0) (i32.const 255) (i32.const {16 * PAGE}))"
    grow = "(drop (memory.grow (i32.const 14)))"
    exits = alone.program(guest(grow + scan + fill))
    traps = alone.program(guest(grow + scan + fill + "unreachable"))

    slots = [exits.take(), traps.take()]
    assert [slot.run().status for slot in slots * 20] == [0, None] * 20


def test_threat_47_no_variable_of_one_run_is_in_the_next(alone: Alone) -> None:
    runs: list[Run] = []

    def mount(run: Run) -> None:
        runs.append(run)
        if len(runs) == 1:
            run.environ["SECRET"] = "canary"
            run.args.append("canary")

    start = f"""{must(0, "(call $environ_sizes_get (i32.const 0) (i32.const 4))")}
      {must(0, "(call $args_sizes_get (i32.const 8) (i32.const 12))")}
      (call $exit (i32.add (i32.mul (i32.load (i32.const 0)) (i32.const 10)) (i32.load (i32.const 8))))"""
    program = alone.program(guest(start, "environ_sizes_get", "args_sizes_get"), mount, environ={"A": "b"})
    slot = program.take()

    assert [slot.run().status for _ in range(3)] == [22, 11, 11]
    assert dict(program.environ) == {"A": "b"}


# Waiting, writing, drawing ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_threat_45_a_gigabyte_of_output_is_a_few_lines_of_log(alone: Alone, records: Any) -> None:
    """64 times 16 MiB: of zeros, of line ends, and one line that never ends."""
    write = must(0, "(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))")
    start = f"""(drop (memory.grow (i32.const 256)))
      (i32.store (i32.const 0) (i32.const 65536)) (i32.store (i32.const 4) (i32.const {16 << 20}))
      {times(32, write)}
      (memory.fill (i32.const 65536) (i32.const 10) (i32.const {16 << 20}))
      {times(32, write)}"""
    before = resident_bytes()

    outcome = alone.run(guest(start, "fd_write"), memory_pages=512, log_lines_per_second=20)

    assert outcome.status == 0
    lines = [record for record in records.all if getattr(record, "fields", {}).get("stream") == "stdout"]
    assert len(lines) < 2000
    assert max(len(record.getMessage()) for record in lines) <= 6 * 4096  # a zero is \\u0000
    assert resident_bytes() - before < 96 << 20


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 1000000000) (i32.const 0))", INVAL),
        ("(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))", INVAL),
        ("(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0))", INVAL),
        ("(call $poll_oneoff (i32.const -48) (i32.const 0) (i32.const 1) (i32.const 0))", FAULT),
        ("(call $poll_oneoff (i32.const 131032) (i32.const 0) (i32.const 1) (i32.const 0))", FAULT),
        ("(call $poll_oneoff (i32.const 0) (i32.const 131041) (i32.const 1) (i32.const 0))", FAULT),
        ("(call $poll_oneoff (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 131069))", FAULT),
        ("(call $random_get (i32.const 0) (i32.const -1))", FAULT),
        ("(call $random_get (i32.const 1) (i32.const 131072))", FAULT),
        ("(call $random_get (i32.const 131072) (i32.const 1))", FAULT),
        ("(call $random_get (i32.const 131072) (i32.const 0))", 0),
        ("(call $random_get (i32.const 0) (i32.const 131072))", 0),
        ("(call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 0))", INVAL),
        ("(call $fd_write (i32.const 1) (i32.const 131068) (i32.const 1) (i32.const 0))", FAULT),
        ("(call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const -4))", FAULT),
    ],
)
def test_threat_16_and_29_numbers_and_lengths_without_bound_are_refused(alone: Alone, call: str, code: int) -> None:
    start = must(code, call) + "(call $exit (i32.const 7))"

    assert alone.run(guest(start, "poll_oneoff", "random_get", "fd_write")).status == 7


SLEEP = """(i32.store8 (i32.const 8) (i32.const 0)) (i32.store (i32.const 16) (i32.const 1))
  (i64.store (i32.const 24) (i64.const 0x7fffffffffffffff))"""
NAP = "(drop (call $poll_oneoff (i32.const 0) (i32.const 100) (i32.const 1) (i32.const 200)))"


def test_threat_29_a_sleep_of_centuries_ends_at_the_deadline(alone: Alone) -> None:
    began = time.monotonic()
    outcome = alone.run(guest(f"{SLEEP} (loop $on {NAP} (br $on))", "poll_oneoff"), seconds=0.1)

    assert outcome.timed_out
    assert time.monotonic() - began < 5


def test_threat_29_who_has_no_deadline_and_sleeps_again_and_again_is_ended_all_the_same(alone: Alone) -> None:
    """The wait ends when it is told to stop; the program goes to sleep again; killing it must be enough."""
    program = alone.program(guest(f"{SLEEP} (loop $on {NAP} (br $on))", "poll_oneoff"), seconds=FOREVER)
    slot = program.take()
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(slot.run()))
    thread.start()
    time.sleep(0.1)
    program.stop()
    thread.join(0.2)
    assert thread.is_alive()
    program.kill()
    thread.join(5)

    assert not thread.is_alive()
    assert outcomes[0].status is None
