from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.capabilities.cloud.kv_runs import (
    APPEND,
    CREATE,
    EXCLUSIVE,
    FOLDER,
    READ,
    UPDATE,
    WRITE,
    Cloud,
    Program,
    fails,
)

from pulp_runtime.capabilities.cloud import queue_view
from pulp_runtime.capabilities.cloud.queue import Queues, capability
from pulp_runtime.ext import Capability, CellRef, ExtensionError, File, Kind
from pulp_runtime.queues.message import MESSAGE_BYTES
from pulp_runtime.testing import FakeHost

STORE = ".pulp-cloud/queue"
ROOT = "/beta/queue/orders"
GRANTS = {"queue": {"orders": "rw"}}


@pytest.fixture
def make(pulp_env: FakeHost) -> Iterator[Callable[..., Cloud]]:
    made: list[Cloud] = []

    def make(config: dict[str, Any] | None = None) -> Cloud:
        made.append(Cloud(pulp_env, capability(), config))
        return made[-1]

    yield make
    for cloud in made:
        cloud.close()


@pytest.fixture
def cloud(make: Callable[..., Cloud]) -> Cloud:
    return make()


@pytest.fixture
def cell(cloud: Cloud) -> CellRef:
    return cloud.cell(granted=GRANTS)


@pytest.fixture
def program(cloud: Cloud, cell: CellRef) -> Program:
    return cloud.program(cell, ROOT)


def publish(program: Program, *bodies: bytes, name: str = "new") -> None:
    for body in bodies:
        file = program.open(name, WRITE)
        for piece in (body[:3], body[3:]):
            if piece:
                assert file.write(piece) == len(piece)
        program.close(file)


def drain(file: File) -> bytes:
    found = b""
    while piece := file.read(3):
        found += piece
    return found


def take(program: Program) -> bytes:
    """Do what `cat next` does."""
    file = program.open("next")
    body = drain(file)
    program.close(file)
    return body


def last(program: Program) -> str:
    return program.read("next.id").decode()


# Publishing and taking ------------------------------------------------------------------------------------------------


def test_a_message_is_published_by_writing_taken_by_reading_and_done_by_removing(program: Program) -> None:
    publish(program, b"first order", b"second")
    assert take(program) == b"first order"
    number = last(program)
    assert program.ls("inflight") == [number]
    assert program.read(f"inflight/{number}") == b"first order"
    assert program.stat(f"inflight/{number}").size == 11
    program.unlink(f"inflight/{number}")

    assert program.ls("inflight") == []
    assert take(program) == b"second"


def test_the_folder_shows_what_a_reader_can_do_and_to_a_writer_nothing(cloud: Cloud, program: Program) -> None:
    writer = cloud.program(cloud.cell("w", granted={"queue": {"orders": "w"}, "namespace": "shop"}), ROOT)
    publish(writer, b"x")

    assert program.ls() == ["dead", "inflight", "next", "next.id"]
    assert writer.ls() == []
    for name in ("next", "next.id", "inflight", "dead", "dead/1", "inflight/1"):
        with fails(errno.ENOENT):
            writer.stat(name)
        with fails(errno.ENOENT):
            writer.open(name)
    assert program.stat("next").kind is Kind.FILE
    assert program.stat("dead").kind is Kind.FOLDER
    assert take(program) == b"x"


def test_what_is_published_is_not_there_as_a_file(program: Program) -> None:
    publish(program, b"x", name="mine")
    with fails(errno.ENOENT):
        program.stat("mine")


def test_each_write_to_an_appended_file_is_a_message(program: Program) -> None:
    file = program.open("log", APPEND)
    file.write(b"one")
    assert take(program) == b"one"
    file.write(b"two")
    file.write(b"three")
    program.close(file)

    assert [take(program), take(program)] == [b"two", b"three"]
    with pytest.raises(BlockingIOError):
        take(program)


def test_an_empty_message_is_published_by_truncating_and_not_by_touching(program: Program) -> None:
    program.close(program.open("touched", CREATE))
    with pytest.raises(BlockingIOError):
        take(program)
    program.close(program.open("new", WRITE))
    assert take(program) == b""
    assert last(program) != ""
    program.close(program.open("new", EXCLUSIVE))
    assert take(program) == b""


def test_what_a_program_that_is_ended_had_not_closed_is_not_published(program: Program) -> None:
    program.open("new", WRITE).write(b"half")
    program.end(clean=False)
    with pytest.raises(BlockingIOError):
        take(program)


def test_one_opening_reads_one_message_and_then_its_end(program: Program) -> None:
    publish(program, b"1", b"2")
    file = program.open("next")

    assert drain(file) == b"1"
    assert file.read(10) == b""
    assert file.ready() == 0


def test_the_id_is_that_of_the_last_message_since_next_was_opened(program: Program) -> None:
    assert last(program) == ""
    publish(program, b"1")
    take(program)
    number = last(program)
    assert number.isdigit()
    assert program.stat("next.id").size == len(number)
    program.open("next")
    assert last(program) == ""


def test_a_program_sees_its_own_messages_in_flight_only(cloud: Cloud, cell: CellRef, program: Program) -> None:
    publish(program, b"1", b"2")
    other = cloud.program(cell, ROOT)
    take(program)
    take(other)

    assert program.ls("inflight") == ["1"]
    assert other.ls("inflight") == ["2"]
    with fails(errno.ENOENT):
        program.unlink("inflight/2")


def test_programs_of_a_namespace_share_its_queues_and_others_do_not(cloud: Cloud, program: Program) -> None:
    publish(program, b"x")
    partner = cloud.program(cloud.cell("two", granted={**GRANTS, "namespace": "shop"}), ROOT)
    stranger = cloud.program(cloud.cell("three", granted=GRANTS), ROOT)
    with pytest.raises(BlockingIOError):
        take(stranger)

    assert take(partner) == b"x"


# Waiting --------------------------------------------------------------------------------------------------------------


def test_who_waits_is_woken_when_a_message_comes(program: Program) -> None:
    file = program.open("next")
    woken = threading.Event()
    end = file.watch(woken.set)
    assert file.ready() is None
    with pytest.raises(BlockingIOError):
        file.read(10)
    publish(program, b"x")

    assert woken.is_set()
    assert file.ready() == 0
    assert file.read(10) == b"x"
    end()


def test_a_run_that_is_to_end_reads_the_end_of_the_file(program: Program) -> None:
    file = program.open("next")
    woken = threading.Event()
    file.watch(woken.set)
    publish(program, b"x")
    woken.clear()
    for callback in program.run.stops:
        callback()

    assert woken.is_set()
    assert file.ready() == 0
    assert file.read(10) == b""
    assert last(program) == ""


class Timed(Queues):
    """Queues whose clock a test runs itself."""


@pytest.mark.slow
def test_the_clock_gives_a_message_out_again_as_soon_as_its_time_is_over(pulp_env: FakeHost) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        tasks = []
        env = replace(
            pulp_env("cloud.queue"),
            spawn=lambda coroutine: tasks.append(loop.create_task(coroutine)),
            defer=lambda callback: loop.call_soon_threadsafe(callback) and None,
        )
        queues = Capability.of("cloud.queue", Timed())
        assert queues.setup
        assert queues.teardown
        queues.setup(env)
        cloud = Cloud.__new__(Cloud)
        cloud.host, cloud.capability, cloud.cells = pulp_env, queues, []
        cell = cloud.cell(granted=GRANTS, tables={"cloud.queue": {"visibility_seconds": 1}})
        program = cloud.program(cell, ROOT)
        await asyncio.sleep(0)
        publish(program, b"x")
        assert take(program) == b"x"
        woken = asyncio.Event()
        file = program.open("next")
        file.watch(lambda: loop.call_soon_threadsafe(woken.set) and None)
        assert file.ready() is None
        await asyncio.wait_for(woken.wait(), 10)
        assert file.read(10) == b"x"
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        queues.teardown()

    asyncio.run(scenario())


# Acknowledging, giving back, dead letters -----------------------------------------------------------------------------


def test_what_a_run_that_was_ended_had_in_flight_is_ready_at_once(
    cloud: Cloud, cell: CellRef, program: Program
) -> None:
    publish(program, b"x")
    take(program)
    program.end(clean=False)

    assert take(cloud.program(cell, ROOT)) == b"x"


def test_what_a_run_that_ended_by_itself_had_in_flight_waits_for_its_time(
    cloud: Cloud, cell: CellRef, program: Program
) -> None:
    publish(program, b"x")
    take(program)
    program.end(clean=True)
    with pytest.raises(BlockingIOError):
        take(cloud.program(cell, ROOT))


def test_a_message_that_is_moved_out_is_ready_again_and_one_moved_to_the_dead_is_dead(program: Program) -> None:
    publish(program, b"x")
    take(program)
    program.rename("inflight/1", "again")
    assert take(program) == b"x"
    program.rename("inflight/1", "dead/1")

    assert program.ls("dead") == ["1"]
    assert program.read("dead/1") == b"x"
    assert program.stat("dead/1").size == 1
    with pytest.raises(BlockingIOError):
        take(program)
    program.rename("dead/1", "again")
    assert take(program) == b"x"
    program.rename("inflight/1", "dead/1")
    program.unlink("dead/1")
    assert program.ls("dead") == []


def test_a_message_that_nobody_acknowledges_is_dead_in_the_end_and_the_operator_is_told(cloud: Cloud) -> None:
    cell = cloud.cell(granted=GRANTS, tables={"cloud.queue": {"max_deliveries": 2}})
    publish(cloud.program(cell, ROOT), b"poison")
    for _ in range(2):
        program = cloud.program(cell, ROOT)
        assert take(program) == b"poison"
        program.end(clean=False)
    program = cloud.program(cell, ROOT)

    assert program.ls("dead") == ["1"]
    assert "message is dead" in cloud.log()
    with pytest.raises(BlockingIOError):
        take(program)


def test_touching_a_message_keeps_it_longer(cloud: Cloud) -> None:
    cell = cloud.cell(granted=GRANTS, tables={"cloud.queue": {"visibility_seconds": 1000}})
    program = cloud.program(cell, ROOT)
    publish(program, b"x")
    take(program)
    store = program.folder().view.store  # type: ignore[attr-defined]
    before = program.folder().view.held[1].due_ns  # type: ignore[attr-defined]
    program.touch("inflight/1", None)

    assert program.folder().view.held[1].due_ns > before  # type: ignore[attr-defined]
    assert store.counts("orders").in_flight == 1


def test_a_message_that_somebody_else_has_meanwhile_is_stale(cloud: Cloud, cell: CellRef, program: Program) -> None:
    publish(program, b"x")
    take(program)
    store = program.folder().view.store  # type: ignore[attr-defined]
    store.release("orders", 1, 1)
    take(cloud.program(cell, ROOT))
    with fails(errno.ESTALE):
        program.unlink("inflight/1")

    assert program.ls("inflight") == []


def test_a_run_has_a_bounded_number_in_flight(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_view, "HELD", 2)
    publish(program, b"1", b"2", b"3")
    take(program)
    take(program)
    with fails(errno.EBUSY):
        take(program)
    program.unlink("inflight/1")
    assert take(program) == b"3"


# Bounds and settings --------------------------------------------------------------------------------------------------


def test_a_message_past_its_bound_is_refused_and_no_half_of_it_is_published(program: Program) -> None:
    file = program.open("new", WRITE)
    file.write(bytes(MESSAGE_BYTES))
    with fails(errno.EFBIG):
        file.write(b"x")
    with fails(errno.EFBIG):
        program.close(file)
    with pytest.raises(BlockingIOError):
        take(program)


def test_the_operator_bounds_a_topic(make: Callable[..., Cloud]) -> None:
    cloud = make({"max_messages": 2})
    program = cloud.program(cloud.cell(granted=GRANTS), ROOT)
    publish(program, b"1", b"2")
    with fails(errno.EDQUOT):
        publish(program, b"3")

    assert "queue refused" in cloud.log()
    take(program)
    program.unlink("inflight/1")
    publish(program, b"3")


@pytest.mark.parametrize("config", [{"max_messages": 0}, {"durability": "never"}, {"visibility": 1}])
def test_settings_of_the_operator_that_cannot_be_are_refused(
    make: Callable[..., Cloud], config: dict[str, Any]
) -> None:
    with pytest.raises(ExtensionError, match=next(iter(config))):
        make(config)


@pytest.mark.parametrize(
    "table", [{"visibility_seconds": 0}, {"visibility_seconds": 50_000}, {"max_deliveries": 0}, {"deliveries": 1}]
)
def test_settings_of_a_manifest_that_cannot_be_are_refused(cloud: Cloud, table: dict[str, Any]) -> None:
    with pytest.raises(ExtensionError, match=next(iter(table))):
        cloud.cell("x", granted=GRANTS, tables={"cloud.queue": table})


def test_messages_outlive_the_host(pulp_env: FakeHost) -> None:
    for power in (False, True):
        cloud = Cloud(pulp_env, capability(), {"durability": "power"} if power else None)
        program = cloud.program(cloud.cell(granted=GRANTS), ROOT)
        if power:
            assert take(program) == b"x"
        else:
            publish(program, b"x")
        cloud.close()


def test_a_file_that_is_no_queue_keeps_the_cell_from_loading(cloud: Cloud) -> None:
    folder = cloud.host.storage_root / STORE / "broken"
    folder.mkdir(parents=True)
    (folder / "queue.db").write_bytes(b"no database" * 1000)
    with pytest.raises(ExtensionError, match="move the file away"):
        cloud.cell("broken", granted=GRANTS)


def test_a_cell_that_is_gone_mounts_nothing_and_a_reload_keeps_the_queue(cloud: Cloud, program: Program) -> None:
    publish(program, b"x")
    hooks = cloud.capability
    assert hooks.swap_begin
    assert hooks.swap_end
    assert hooks.teardown_cell
    for adopted in (False, True):
        hooks.swap_begin("shop")
        cell = cloud.cell(granted=GRANTS)
        hooks.swap_end("shop", adopted)
        assert cloud.program(cell, ROOT).ls() == ["dead", "inflight", "next", "next.id"]
    hooks.teardown_cell("shop")

    assert "beta" not in cloud.program(program.run.cell, ROOT).run.tree.children
    with fails(errno.EIO):
        publish(program, b"y")


# What cannot be done --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda p: p.open("next", WRITE), errno.EACCES),
        (lambda p: p.open("next.id", APPEND), errno.EACCES),
        (lambda p: p.open("inflight/1", WRITE), errno.EACCES),
        (lambda p: p.open("inflight/99", WRITE), errno.EACCES),
        (lambda p: p.open("dead/x", CREATE), errno.EACCES),
        (lambda p: p.open("inflight", WRITE), errno.EISDIR),
        (lambda p: p.open("next", EXCLUSIVE), errno.EEXIST),
        (lambda p: p.open("next", FOLDER), errno.ENOTDIR),
        (lambda p: p.open("next/x"), errno.ENOTDIR),
        (lambda p: p.open("nothing"), errno.ENOENT),
        (lambda p: p.open("nothing", UPDATE), errno.ENOENT),
        (lambda p: p.open("a/b", WRITE), errno.ENOENT),
        (lambda p: p.open(".x", WRITE), errno.EINVAL),
        (lambda p: p.open("x" * 256, WRITE), errno.ENAMETOOLONG),
        (lambda p: p.open("", WRITE), errno.EISDIR),
        (lambda p: p.unlink("next"), errno.EACCES),
        (lambda p: p.unlink("inflight"), errno.EISDIR),
        (lambda p: p.unlink("inflight/99"), errno.ENOENT),
        (lambda p: p.unlink("inflight/01"), errno.ENOENT),
        (lambda p: p.unlink("dead/1"), errno.ENOENT),
        (lambda p: p.rename("inflight/1", "next"), errno.EACCES),
        (lambda p: p.rename("inflight/1", "inflight/2"), errno.EACCES),
        (lambda p: p.rename("inflight/1", "/beta/queue/refunds/x"), errno.EXDEV),
        (lambda p: p.rename("next", "x"), errno.EACCES),
        (lambda p: p.mkdir("x"), errno.EACCES),
        (lambda p: p.rmdir("dead"), errno.EACCES),
        (lambda p: p.touch("next", 1), errno.EACCES),
    ],
)
def test_what_cannot_be_done_says_so(cloud: Cloud, act: Callable[[Program], object], code: int) -> None:
    program = cloud.program(cloud.cell(granted={"queue": {"orders": "rw", "refunds": "rw"}}), ROOT)
    publish(program, b"x")
    take(program)
    with fails(code):
        act(program)

    assert program.read("inflight/1") == b"x"
    assert program.ls() == ["dead", "inflight", "next", "next.id"]


# Attacks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["..", "../x", "a/../b", "/etc/passwd", "//x", "inflight/../x", "dead/../../x"])
def test_threat_01_no_message_name_leads_out_of_its_topic(cloud: Cloud, program: Program, name: str) -> None:
    canary = cloud.host.storage_root.parent / "canary"
    canary.write_bytes(b"canary")
    publish(program, b"x")
    take(program)
    node, _ = program.at("")
    parts = tuple(name.split("/"))
    for act in (
        lambda: node.open(parts, WRITE),
        lambda: node.open(parts, READ),
        lambda: node.unlink(parts),
        lambda: node.stat(parts),
        lambda: node.rename(("inflight", "1"), node, parts),
    ):
        with pytest.raises(OSError):  # noqa: PT011  # which one depends on the name
            act()

    assert canary.read_bytes() == b"canary"
    assert program.ls("inflight") == ["1"]


@pytest.mark.parametrize(
    "act",
    [
        lambda p: p.open("new", WRITE),
        lambda p: p.open("new", APPEND),
        lambda p: p.open("new", EXCLUSIVE),
        lambda p: p.open("new", CREATE),
        lambda p: p.open("dead/9", WRITE),
        lambda p: p.mkdir("new"),
    ],
)
def test_threat_05_a_topic_that_is_granted_for_reading_is_not_published_to(
    cloud: Cloud, program: Program, act: Callable[[Program], object]
) -> None:
    reader = cloud.program(cloud.cell("r", granted={"queue": {"orders": "r"}, "namespace": "shop"}), ROOT)
    with fails(errno.EROFS):
        act(reader)
    publish(program, b"mine")
    take(program)
    with fails(errno.EROFS):
        program.at("inflight")[0].rename(("inflight", "1"), reader.at("")[0], ("x",))
    program.unlink("inflight/1")
    with pytest.raises(BlockingIOError):
        take(program)
    publish(program, b"x")

    assert take(reader) == b"x"  # taking and acknowledging is what the grant is for
    reader.unlink("inflight/2")


def test_threat_05_a_topic_that_is_granted_for_writing_is_not_read(cloud: Cloud, program: Program) -> None:
    publish(program, b"secret")
    take(program)
    writer = cloud.program(cloud.cell("w", granted={"queue": {"orders": "w"}, "namespace": "shop"}), ROOT)
    for act in (
        lambda: writer.read("inflight/1"),
        lambda: writer.unlink("inflight/1"),
        lambda: writer.rename("inflight/1", "x"),
        lambda: writer.touch("inflight/1", 1),
        lambda: writer.open("next"),
    ):
        with fails(errno.ENOENT):
            act()
    for name in ("next", "dead", "inflight"):
        with fails(errno.EINVAL):
            writer.open(name, WRITE)


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "C:", "CON", "a.", " ", "-rf", "é", "e\u0301", "x" * 255])
def test_threat_06_and_07_any_name_publishes_one_message(program: Program, name: str) -> None:
    publish(program, b"x", name=name)

    assert take(program) == b"x"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "1" * 300, "-1", "1e3", "٣", "0x1", " 1"])
def test_threat_06_and_07_an_id_that_is_none_is_not_there(program: Program, name: str) -> None:
    publish(program, b"x")
    take(program)
    for folder in ("inflight", "dead"):
        with fails(errno.ENOENT):
            program.unlink(f"{folder}/{name}")


@pytest.mark.slow
def test_threat_09_a_queue_that_fills_the_disk_quota_ends_there_for_its_namespace_alone(cloud: Cloud) -> None:
    program = cloud.program(cloud.cell(granted=GRANTS, disk_bytes=4 << 20), ROOT)
    other = cloud.program(cloud.cell("other", granted=GRANTS, disk_bytes=4 << 20), ROOT)
    with fails(errno.EDQUOT):
        for _ in range(100):
            publish(program, bytes(256 * 1024))
    publish(other, b"x")

    assert take(other) == b"x"
    assert len(take(program)) == 256 * 1024
    assert sum(path.stat().st_size for path in Path(cloud.host.storage_root / STORE / "shop").rglob("*")) < 16 << 20


@pytest.mark.slow
def test_threat_09_a_queue_that_was_full_takes_messages_again_when_some_are_done(cloud: Cloud) -> None:
    program = cloud.program(cloud.cell(granted=GRANTS, disk_bytes=6 << 20), ROOT)
    for _ in range(3):
        published = 0
        with fails(errno.EDQUOT):
            for _ in range(100):
                publish(program, bytes(100 * 1024))
                published += 1
        assert published > 5
        for _ in range(published):
            take(program)
            program.unlink(f"inflight/{last(program)}")


def test_threat_10_a_namespace_that_is_no_folder_of_its_own_does_not_load(cloud: Cloud) -> None:
    with pytest.raises(ExtensionError, match="no name for a folder"):
        cloud.cell("x", granted={**GRANTS, "namespace": ".."})
