"""Memory that cells share: what may be attached, that it is one memory, and that nothing of it stays behind."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pulp_runtime._kernel import shared_memory, shared_memory_pages
from pulp_runtime._kernel.cell import Cell
from pulp_runtime._kernel.crossing import GuestMemory
from pulp_runtime._kernel.engine import Engine
from pulp_runtime._kernel.registry import Registry
from pulp_runtime._kernel.shared_memory import OTHER_LENGTH, QUOTA, UNEVEN, SharedMemory
from pulp_runtime._kernel.shared_memory_pages import SharedPages
from pulp_runtime.errors import Errno, LoadError
from pulp_runtime.ext import Scope
from pulp_runtime.manifest.limits import PAGE

pytestmark = pytest.mark.skipif(not shared_memory_pages.supported(), reason="this system cannot share pages")

MIB = 1 << 20
NAMES = {"frames": 64, "other": 80, "third": 96, "a" * 64: 128}
OUT = 32
MEMBER = """(module
  (import "pulp" "shm_attach" (func $attach (param i32 i32 i32 i32) (result i32)))
  (import "pulp" "shm_fence" (func $fence (result i32)))
  (memory (export "memory") 4)
  (data (i32.const 64) "frames")
  (data (i32.const 80) "other")
  (data (i32.const 96) "third")
  (data (i32.const 128) "%(long)s")
  (global $top (mut i32) (i32.const 70000))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_step") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (func $alloc (export "pulp_alloc") (param i32) (result i32) (local i32)
    %(alloc)s
    (local.set 1 (global.get $top))
    (global.set $top (i32.add (global.get $top) (local.get 0)))
    (if (i32.gt_u (global.get $top) (i32.shl (memory.size) (i32.const 16)))
      (then (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.shr_u (local.get 0) (i32.const 16)))))
        (then (return (i32.const 0))))))
    (local.get 1))
  %(more)s
  (func (export "attach") (param i32 i32 i32 i32) (result i32)
    (call $attach (local.get 0) (local.get 1) (local.get 2) (local.get 3)))
  (func (export "fence") (result i32) (call $fence))
  (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
  (func (export "store") (param i32 i32) (i32.store (local.get 0) (local.get 1)))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
  (func (export "trap") (unreachable)))"""


def member(alloc: str = "", more: str = "") -> str:
    return MEMBER % {"alloc": alloc, "more": more, "long": "a" * 64}


class Member:
    """A loaded cell, and its exports as methods."""

    def __init__(self, cell: Cell, poke: Callable[..., int]) -> None:
        self.cell = cell
        self._poke = poke

    def __getattr__(self, export: str) -> Callable[..., int]:
        return lambda *words: self._poke(self.cell, export, *words)

    def attached(self, name: str = "frames", length: int = PAGE) -> int:
        """Attach; return the address."""
        assert self.attach(NAMES[name], len(name), length, OUT) == Errno.OK
        return self.load(OUT)

    @property
    def memory(self) -> GuestMemory:
        return self.cell._instance.memory


@pytest.fixture
def cells(engine: Engine, spec: Callable[..., object], poke: Callable[..., int]):
    """Return `cells(text, name=…, groups=…, scope=…, host=…)`; cells with the same `host` share one `SharedMemory`."""
    hosts: dict[str, SharedMemory] = {}
    loaded: list[Cell] = []

    def cells(text: str = "", *, host: str = "one", scope: Scope | None = None, **fields: object) -> Member:
        fields.setdefault("shared_memory_groups", ("frames", "other", "third"))
        fields.setdefault("name", f"member-{len(loaded)}")
        registry = Registry(prefill=False)
        registry.always(hosts.setdefault(host, SharedMemory()).capability())
        cell = Cell.load(spec(text or member(), **fields), registry, engine=engine, scope=scope)
        loaded.append(cell)
        return Member(cell, poke)

    yield cells
    for cell in loaded:
        cell.close()


@pytest.fixture(autouse=True)
def _nothing_left_by_others() -> None:
    if sys.platform == "linux":
        wait_for_no_group()


def mappings() -> int:
    """Count the places in this process where pages of a group are mapped."""
    if sys.platform != "linux":
        pytest.skip("what follows looks into /proc")
    return Path("/proc/self/maps").read_text().count("memfd:pulp-shared")


def files() -> int:
    """Count the descriptors of groups."""
    links = (os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd.isdigit() and _is_open(fd))
    return sum("memfd:pulp-shared" in link for link in links)


def _is_open(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


def wait_for_no_group() -> None:
    for _ in range(100):
        gc.collect()
        if (mappings(), files()) == (0, 0):
            return
        threading.Event().wait(0.02)  # somebody else's thread still has it on its stack
    assert (mappings(), files()) == (0, 0)


# One memory -----------------------------------------------------------------------------------------------------------


def test_two_members_see_each_others_stores_at_once(cells) -> None:
    one, two = cells(), cells()
    here, there = one.attached(), two.attached()

    one.store(here + 8, 0x1234_5678)
    two.store(there + PAGE - 4, 7)

    assert two.load(there + 8) == 0x1234_5678
    assert one.load(here + PAGE - 4) == 7


def test_the_host_sees_the_same_memory(cells) -> None:
    one, two = cells(), cells()
    here, there = one.attached(), two.attached()

    assert one.memory.write(here, b"from the host")
    assert two.memory.read(there, 13) == b"from the host"


def test_a_group_begins_with_zeroes_and_at_a_page_of_its_own(cells) -> None:
    one = cells()
    one.fill(65536, 0xAA, 3 * PAGE)  # what the allocator hands out need not be zero

    here = one.attached()

    assert here % PAGE == 0
    assert one.memory.read(here, PAGE) == bytes(PAGE)
    assert one.memory.read(here - 1, 1) == one.memory.read(here + PAGE, 1) == b"\xaa"


def test_groups_with_different_names_are_different_memories(cells) -> None:
    one, two = cells(), cells()
    here = one.attached("frames"), one.attached("other")
    there = two.attached("frames"), two.attached("other")

    one.store(here[0], 1)
    one.store(here[1], 2)

    assert (two.load(there[0]), two.load(there[1])) == (1, 2)


def test_attaching_again_answers_the_same_address(cells) -> None:
    one = cells()
    here = one.attached()
    one.store(here, 5)

    assert one.attached() == here
    assert one.load(here) == 5


def test_memory_that_grows_afterwards_leaves_the_group_where_it_is(cells) -> None:
    one, two = cells(), cells()
    here, there = one.attached(), two.attached()
    for value in range(1, 40):
        assert one.grow(1 + value % 3) != 0xFFFF_FFFF
        one.store(here, value)
        assert two.load(there) == value
    two.store(there, 99)
    assert one.load(here) == 99


def test_instances_with_an_image_of_their_data_keep_it_around_the_group(cells) -> None:
    text = member(alloc="(if (global.get $once) (then (global.set $once (i32.const 0)) (return (i32.const 131000))))")
    text = text.replace(
        "(global $top", '(data (i32.const 196600) "beside!!beside!!")(global $once (mut i32) (i32.const 1))(global $top'
    )
    one, two = cells(text), cells(text)  # one module: its data are mapped copy-on-write

    here, there = one.attached(), two.attached()
    one.store(here + PAGE - 4, 3)

    assert here == there == 131072
    assert two.load(there + PAGE - 4) == 3
    assert one.memory.read(196600, 16) == b"\0\0\0\0\0\0\0\3beside!!"[0:4] + (3).to_bytes(4, "little") + b"beside!!"
    one.store(196608, 0)
    assert two.memory.read(196608, 8) == b"beside!!"  # past the end of the group: its own again


def test_two_threads_pass_a_number_back_and_forth_without_asking_the_host(cells) -> None:
    # Each waits in one call for the other's number: neither would return if the memory were not one.
    wait = """(func (export "rally") (param $at i32) (param $first i32) (result i32) (local $i i32)
      (local.set $i (local.get $first))
      (loop $next
        (loop $poll (br_if $poll (i32.ne (i32.load (local.get $at)) (local.get $i))))
        (i32.store (local.get $at) (i32.add (local.get $i) (i32.const 1)))
        (local.set $i (i32.add (local.get $i) (i32.const 2)))
        (br_if $next (i32.lt_u (local.get $i) (i32.const 400))))
      (local.get $i))"""
    one, two = cells(member(more=wait)), cells(member(more=wait))
    here, there = one.attached(), two.attached()
    answers: list[int] = []
    other = threading.Thread(target=lambda: answers.append(two.rally(there, 1)))
    other.start()
    answers.append(one.rally(here, 0))
    other.join()

    assert sorted(answers) == [400, 401]


# What may be attached -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "name_len", "length", "out", "code"),
    [
        pytest.param(64, 0, PAGE, OUT, Errno.EMPTY, id="no name"),
        pytest.param(64, 6, 0, OUT, Errno.EMPTY, id="no length"),
        pytest.param(64, 6, 1, OUT, UNEVEN, id="one byte"),
        pytest.param(64, 6, PAGE + 1, OUT, UNEVEN, id="one byte too many"),
        pytest.param(64, 6, 0xFFFF_FFFF, OUT, UNEVEN, id="every address and no page"),
        pytest.param(64, 6, 0xFFFF_0000, OUT, QUOTA, id="all but a page of 32 bits"),
        pytest.param(64, 6, 0x8000_0000, OUT, QUOTA, id="half of all there is"),
        pytest.param(64, 6, 65 * MIB, OUT, QUOTA, id="one page past the quota"),
        pytest.param(64, 5, PAGE, OUT, Errno.DENIED, id="a group it does not name"),
        pytest.param(64, 7, PAGE, OUT, Errno.DENIED, id="a name with a NUL behind it"),
        pytest.param(128, 64, PAGE, OUT, Errno.DENIED, id="a name longer than any"),
        pytest.param(0, 3 * PAGE, PAGE, OUT, Errno.DENIED, id="a name as long as memory"),
        pytest.param(64, 0xFFFF_FFFF, PAGE, OUT, Errno.DENIED, id="a name of four gigabytes"),
        pytest.param(0xFFFF_FFFF, 6, PAGE, OUT, Errno.FAULT, id="a name at the last address of all"),
        pytest.param(4 * PAGE - 3, 6, PAGE, OUT, Errno.FAULT, id="a name across the end of memory"),
        pytest.param(64, 6, PAGE, 4 * PAGE - 3, Errno.WRITE, id="an answer across the end of memory"),
        pytest.param(64, 6, PAGE, 0xFFFF_FFFF, Errno.WRITE, id="an answer at the last address of all"),
    ],
)
def test_threat_16_and_25_what_cannot_be_attached_is_a_code_and_nothing_is_mapped(
    cells, records, name: int, name_len: int, length: int, out: int, code: int
) -> None:
    one = cells()

    assert one.attach(name, name_len, length, out) == code

    assert mappings() == 0
    assert one.cell._instance.shared.ranges == ()
    assert records.fields("shm_attach refused")[0]["code"] == code
    assert one.attached() % PAGE == 0  # and it goes on


def test_a_cell_that_declares_no_group_is_answered_99_by_both_functions(cells) -> None:
    stranger = cells(shared_memory_groups=())

    assert stranger.attach(64, 6, PAGE, OUT) == Errno.UNDECLARED
    assert stranger.fence() == Errno.UNDECLARED


def test_a_member_is_answered_0_by_the_fence(cells) -> None:
    assert cells().fence() == Errno.OK


def test_threat_47_a_cell_that_is_no_member_is_refused_whatever_it_knows(cells) -> None:
    one, stranger = cells(), cells(shared_memory_groups=("other",))
    one.store(one.attached(), 42)

    assert stranger.attach(64, 6, PAGE, OUT) == Errno.DENIED
    assert stranger.load(stranger.attached("other")) == 0


@pytest.mark.parametrize("length", [2 * PAGE, 64 * MIB])
def test_another_length_than_the_groups_is_refused(cells, length: int) -> None:
    one, two = cells(), cells()
    one.attached()

    assert two.attach(64, 6, length, OUT) == OTHER_LENGTH
    assert one.attach(64, 6, length, OUT) == OTHER_LENGTH
    assert mappings() == 1


def test_the_quota_counts_all_groups_of_a_cell_together(cells) -> None:
    one = cells(shared_memory_mb=1)
    one.attached("frames", MIB - PAGE)

    assert one.attach(NAMES["other"], 5, 2 * PAGE, OUT) == QUOTA
    one.attached("other", PAGE)
    assert one.attach(NAMES["third"], 5, PAGE, OUT) == QUOTA
    assert one.attached("frames", MIB - PAGE) > 0  # what is attached stays attached


def test_what_is_attached_counts_against_the_cells_own_memory(cells) -> None:
    one = cells(max_memory_pages=8)

    assert one.attach(64, 6, 8 * PAGE, OUT) == Errno.ALLOC
    wait_for_no_group()
    cells(max_memory_pages=8).attached("frames", 2 * PAGE)


# Allocators that do not do what they should ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "alloc",
    [
        pytest.param("(return (i32.const 0))", id="refuses"),
        pytest.param("(return (i32.const 262144))", id="answers the end of memory"),
        pytest.param("(return (i32.const 196609))", id="answers what has no room for a page"),
        pytest.param("(return (i32.const -1))", id="answers the last address"),
        pytest.param("(return (i32.const -65536))", id="answers the last page"),
        pytest.param(
            "(drop (call $attach (i32.const 64) (i32.const 6) (i32.const 65536) (i32.const 32)))", id="attaches"
        ),
    ],
)
def test_threat_17_an_allocator_that_lies_is_7_and_nothing_outside_memory_is_mapped(cells, alloc: str) -> None:
    one = cells(member(alloc=alloc if "attach" not in alloc else alloc + "(return (i32.const 0))"))
    before = Path("/proc/self/maps").read_text().count("memfd")

    assert one.attach(64, 6, PAGE, OUT) == Errno.ALLOC
    assert Path("/proc/self/maps").read_text().count("memfd") == before


def test_an_allocator_that_attaches_the_same_group_itself_gets_one_mapping(cells) -> None:
    nested = "(drop (call $attach (i32.const 64) (i32.const 6) (i32.const 65536) (i32.const 36)))"
    one = cells(member(alloc=nested))

    here = one.attached()

    assert one.load(36) == 0
    assert one.cell._instance.shared.ranges == ((here, PAGE),)
    assert mappings() == 1


def test_an_allocator_that_hands_out_one_place_for_two_groups_is_refused_the_second(cells) -> None:
    one = cells(member(alloc="(return (i32.const 131072))"))
    here = one.attached("frames")

    assert one.attach(NAMES["other"], 5, PAGE, OUT) == Errno.ALLOC
    assert one.cell._instance.shared.ranges == ((here, PAGE),)


def test_an_allocator_that_traps_ends_the_step_and_leaves_no_mapping(cells) -> None:
    one = cells(member(alloc="unreachable"))

    assert one.attach(64, 6, PAGE, OUT) == Errno.ALLOC
    assert "unreachable" in one.cell.spent
    assert mappings() == 0


def test_a_member_that_writes_outside_the_group_traps_and_the_others_go_on(cells) -> None:
    one, two = cells(), cells()
    here, there = one.attached(), two.attached()
    two.store(there, 1)

    with pytest.raises(Exception, match="out of bounds"):
        one.store(one.memory.size - 3, 7)
    one.fill(here, 0xFF, PAGE)

    assert two.memory.read(there, PAGE) == b"\xff" * PAGE
    assert two.memory.read(there + PAGE, 64) == bytes(64)
    assert two.memory.read(there - 64, 64) == bytes(64)


# Ends -----------------------------------------------------------------------------------------------------------------


def test_closing_one_member_leaves_the_others_and_what_they_share(cells) -> None:
    one, two = cells(), cells()
    here, there = one.attached(), two.attached()
    one.store(here, 42)

    one.cell.close()

    assert two.load(there) == 42
    two.store(there, 43)
    again = cells()
    assert again.load(again.attached()) == 43


def test_a_restarted_member_finds_what_the_others_keep(cells) -> None:
    one, two = cells(), cells()
    one.store(one.attached(), 42)
    two.attached()
    with pytest.raises(Exception, match="unreachable"):
        one.trap()
    one.cell.close()

    successor = cells()

    assert successor.load(successor.attached()) == 42


def test_a_group_that_nobody_has_attached_is_gone_and_begins_anew(cells) -> None:
    one = cells()
    one.store(one.attached(), 42)
    one.cell.close()
    wait_for_no_group()

    two = cells()

    assert two.load(two.attached("frames", 3 * PAGE)) == 0


def test_threat_47_no_mapping_is_left_where_another_cell_may_come(cells) -> None:
    """What the engine unmaps or reuses is the closed instance's own memory, with nothing shared in it."""
    keeper = cells()
    kept = keeper.attached()
    for turn in range(20):
        one = cells()
        here = one.attached()
        one.store(here + 4, turn + 1)
        assert mappings() == 2
        one.cell.close()
        assert mappings() == 1
        stranger = cells(shared_memory_groups=())
        assert stranger.memory.read(here, stranger.memory.size - here) == bytes(stranger.memory.size - here)
        stranger.fill(0, 0xEE, stranger.memory.size)
        stranger.cell.close()
        assert keeper.load(kept + 4) == turn + 1
    assert keeper.memory.read(kept, 4) == bytes(4)


def test_what_is_put_back_is_zeroes_before_the_engine_unmaps_anything(cells) -> None:
    one, two = cells(), cells()
    here, there = one.attached(), two.attached()
    one.store(here, 42)

    one.cell._instance.shared.detach()

    assert one.memory.read(here, PAGE) == bytes(PAGE)
    one.store(here, 1)
    assert two.load(there) == 42
    one.cell._instance.shared.detach()  # nothing more to do


def test_an_instance_that_is_only_forgotten_leaves_nothing(cells, spec, engine) -> None:
    text = member(
        more="""(func (export "_initialize")
      (drop (call $attach (i32.const 64) (i32.const 6) (i32.const 65536) (i32.const 32))) unreachable)"""
    )

    with pytest.raises(Exception, match="unreachable"):
        cells(text)

    wait_for_no_group()


def test_in_the_start_section_there_is_no_memory_yet_and_the_answer_is_a_code(cells) -> None:
    text = member(
        more="""(global $code (mut i32) (i32.const -1))
      (func (export "code") (result i32) (global.get $code))
      (func $start (global.set $code
        (call $attach (i32.const 64) (i32.const 6) (i32.const 65536) (i32.const 32)))) (start $start)"""
    )

    assert cells(text).code() == Errno.FAULT
    assert mappings() == 0


def test_no_descriptor_and_no_mapping_is_left_after_many_cells(cells) -> None:
    cells().cell.close()  # the engine keeps a descriptor for what the module's memory begins with
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(30):
        one = cells()
        one.attached("frames")
        one.attached("other", 2 * PAGE)
        one.cell.close()
    wait_for_no_group()

    assert len(os.listdir("/proc/self/fd")) <= before


# Whose it is ----------------------------------------------------------------------------------------------------------


def test_threat_47_groups_of_two_applications_and_of_two_hosts_are_apart(cells) -> None:
    def scope(app: str, instance: str = "default") -> Scope:
        return Scope(app, instance, "cell", "primary")

    placed = [cells(scope=scope("shop")), cells(scope=scope("shop", "second")), cells(scope=scope("bank"))]
    placed += [cells(), cells(host="two")]
    for number, one in enumerate(placed):
        one.store(one.attached(), number + 1)

    assert [one.load(one.attached()) for one in placed] == [1, 2, 3, 4, 5]
    sibling = cells(scope=scope("shop"))
    assert sibling.load(sibling.attached()) == 1


# Memory, and systems that have none -----------------------------------------------------------------------------------


def test_the_pages_exist_once_whatever_the_number_of_members(cells) -> None:
    members = [cells() for _ in range(5)]
    before = _shared_in_use()
    for one in members:
        here = one.attached("frames", 8 * MIB)
        one.fill(here, 1, 8 * MIB)

    assert mappings() == 5
    assert _shared_in_use() - before == 8 * MIB


def _shared_in_use() -> int:
    """Return the bytes that groups take, by what the system has allocated for their files."""
    blocks = {}
    for fd in os.listdir("/proc/self/fd"):
        if _is_open(fd) and "memfd:pulp-shared" in os.readlink(f"/proc/self/fd/{fd}"):
            found = os.stat(f"/proc/self/fd/{fd}")
            blocks[found.st_ino] = found.st_blocks * 512
    return sum(blocks.values())


def test_the_file_of_a_group_cannot_be_cut_under_its_members() -> None:
    pages = SharedPages(PAGE)

    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(pages._file, 0)


def test_a_system_without_files_in_memory_uses_an_unlinked_one(cells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    one, two = cells(), cells()

    one.store(one.attached("frames", 3 * MIB), 42)

    assert two.load(two.attached("frames", 3 * MIB)) == 42
    assert mappings() == 0


@pytest.mark.parametrize("function", ["memfd_create", "posix_fallocate"])
def test_a_system_that_has_no_memory_left_is_4_and_nothing_is_left_open(
    cells, records, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(12, "Cannot allocate memory")

    one, before = cells(), files()
    with monkeypatch.context() as patch:
        patch.setattr(os, function, refuse)
        assert one.attach(64, 6, PAGE, OUT) == Errno.FAILED

    assert files() == before
    assert "Cannot allocate memory" in records.fields("shm_attach refused")[0]["reason"]
    one.attached()


def test_a_mapping_that_the_system_refuses_leaves_the_cells_own_memory_there(
    cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, tried = shared_memory_pages._map, []

    def refuse(address: int, length: int, flags: int, file: int) -> None:
        tried.append(flags)
        if flags == shared_memory_pages._SHARED:
            raise OSError(12, "Cannot allocate memory")
        real(address, length, flags, file)

    one = cells()
    with monkeypatch.context() as patch:
        patch.setattr(shared_memory_pages, "_map", refuse)
        assert one.attach(64, 6, PAGE, OUT) == Errno.FAILED

    assert len(tried) == 2
    assert one.memory.read(2 * PAGE, PAGE) == bytes(PAGE)
    assert one.load(one.attached()) == 0


def test_a_hole_that_cannot_be_mended_is_never_touched_by_the_host(cells, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    one = cells()
    monkeypatch.setattr(shared_memory_pages, "_map", refuse)

    assert one.attach(64, 6, PAGE, OUT) == Errno.FAILED
    assert one.memory.read(2 * PAGE, 1) is None
    assert not one.memory.write(2 * PAGE, b"x")


def test_a_system_that_cannot_share_pages_refuses_the_cell_with_a_way_out(
    cells, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_memory, "supported", lambda: False)

    with pytest.raises(LoadError, match=re.escape("shared_memory_groups works on Linux and macOS only; remove it")):
        cells()
    cells(shared_memory_groups=())
