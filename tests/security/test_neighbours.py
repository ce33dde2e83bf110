"""What one cell does, the others do not feel; what one cell knew, the next one does not find."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.security.conftest import ECHO, inside

from pulp_runtime._kernel.cell import Cell
from pulp_runtime.capabilities.core import log as core_log
from pulp_runtime.capabilities.transport import http_inbound
from pulp_runtime.ext import StepEvent
from pulp_runtime.host import Host

SECONDS = 10.0
PAGE = 65_536
EVENT = StepEvent("test", b"\xc0")


def cell(body: str, imports: str = "", *, data: str = "", init: str = "(i32.const 0)") -> str:
    """Return a cell that does this in every step."""
    return f"""(module
      {imports}
      (memory (export "memory") 1)
      {data}
      (func (export "pulp_alloc") (param i32) (result i32) (i32.const 32768))
      (func (export "pulp_init") (param i32 i32) (result i32) {init})
      (func (export "pulp_step") (param i32 i32) (result i32) {body})
      (func (export "pulp_shutdown") (result i32) (i32.const 0)))"""


LOG = '(import "pulp" "log_write" (func $log (param i32 i32 i32) (result i32)))'
HTTP = """(import "pulp" "http_respond" (func $respond (param i32 i32) (result i32)))
  (import "pulp" "http_register" (func $register (param i32 i32) (result i32)))"""

HOSTILE = {
    "looper": cell("(loop $again (br $again)) (unreachable)"),
    "hog": cell(
        "(drop (memory.grow (i32.const 64)))"
        "(memory.fill (i32.const 0) (i32.const 1) (i32.mul (memory.size) (i32.const 65536))) (i32.const 0)"
    ),
    "flooder": cell("(loop $again (drop (call $log (i32.const 3) (i32.const 0) (i32.const 65536))) (br $again))"
                    " (unreachable)", LOG),
    "pointer": cell(
        "(loop $again"
        " (drop (call $respond (i32.const -1) (i32.const -1))) (drop (call $respond (i32.const 65535) (i32.const 2)))"
        " (drop (call $register (i32.const 0) (i32.const 65536))) (drop (call $respond (i32.const 0) (i32.const 9)))"
        " (br $again)) (unreachable)",
        HTTP,
    ),
    "trapper": cell("(unreachable)"),
}  # fmt: skip


@pytest.fixture
def folders(tmp_path: Path, wasm: Callable[[str], bytes]) -> list[Path]:
    """A folder for each hostile cell."""
    made = []
    for name, text in HOSTILE.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "cell.wasm").write_bytes(wasm(text))
        capabilities = '["transport.http.inbound"]' if "http_" in text else "[]"
        (folder / "pulp.cell.toml").write_text(
            f'name = "{name}"\nversion = "1"\ncall_timeout_ms = 150\nmax_memory_pages = 512\ntick_ms = 1\n'
            f'restart = "always"\ncapabilities = {capabilities}\n[limits]\nrestarts = 1000\n'
        )
        made.append(folder)
    return made


@pytest.fixture
def host(folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.delenv("HTTP_PORT", raising=False)
    with Host(
        [ECHO, *folders], storage_root=tmp_path / "data", http_port="127.0.0.1:0", cache=tmp_path / "cache", workers=2
    ) as host:
        yield host


def test_threat_22_to_25_and_45_a_cell_answers_while_its_neighbours_do_their_worst(host: Host, records: Any) -> None:
    """One loops, one takes all the memory it gets, one floods the log, one hands out bad addresses, one traps."""
    address = urlsplit(host.url)
    client = http.client.HTTPConnection(address.hostname or "", address.port, timeout=SECONDS)
    began = time.monotonic()
    slowest = 0.0
    answers = 0
    while time.monotonic() - began < 2.0:
        asked = time.monotonic()
        client.request("GET", f"/echo/{answers}")
        assert client.getresponse().read() == str(answers).encode()
        slowest = max(slowest, time.monotonic() - asked)
        answers += 1
    client.close()

    assert answers >= 5
    assert slowest < SECONDS
    told = [record for record in records.all if record.fields.get("cell") == "flooder"]
    assert len(told) < 2_000


def test_threat_45_refusals_that_a_guest_asks_for_count_against_its_rate(
    load: Callable[..., Cell], records: Any
) -> None:
    """Each refused route is a record, and a guest can have a hundred thousand refused in a second."""
    refused = cell(
        "(local $n i32) (loop $again (drop (call $register (i32.const 0) (i32.const 16)))"
        " (br_if $again (i32.lt_u (local.tee $n (i32.add (local.get $n) (i32.const 1))) (i32.const 3000))))"
        " (i32.const 0)",
        HTTP,
        data='(data (i32.const 0) "\\82\\a6method\\a1G\\a4path\\a0")',
    )
    guest = load(refused, http_inbound.capability(), name="flooder")
    guest.init()

    guest.deliver(0, EVENT)
    assert len(records.all) <= 250


def test_threat_45_what_a_guest_logs_is_one_line_of_bounded_length_for_each_of_its_lines(
    load: Callable[..., Cell], records: Any
) -> None:
    spoof = cell(
        "(call $log (i32.const 3) (i32.const 0) (i32.const 65536))",
        LOG,
        data='(data (i32.const 0) "ok\\ntime=2026-01-01 level=ERROR msg=fake\\r\\n\\1b]0;title\\07\\1b[2J%s%n{0}\\n")',
    )
    guest = load(spoof, core_log.capability(), name="spoof")
    guest.init()

    assert guest.deliver(0, EVENT) == 0
    assert records.messages[:2] == ["ok", "time=2026-01-01 level=ERROR msg=fake"]
    assert all(message.isprintable() and len(message) <= 6 * 4096 for message in records.messages)
    assert all(record.fields["cell"] == "spoof" for record in records.all)


# 47: nothing is left for the next one -----------------------------------------------------------------------------

SCRIBBLER = cell(
    "(drop (memory.grow (i32.const 15)))"
    "(memory.fill (i32.const 0) (i32.const 167) (i32.mul (memory.size) (i32.const 65536))) (i32.const 0)"
)


def test_threat_47_memory_of_a_new_instance_is_zero_also_where_another_cells_was(load: Callable[..., Cell]) -> None:
    reader = cell("(memory.grow (i32.const 15))")
    for at in range(12):
        scribbler = load(SCRIBBLER, name=f"scribbler-{at}")
        scribbler.init()
        scribbler.deliver(0, EVENT)
        scribbler.close()

        innocent = load(reader, name=f"innocent-{at}")
        innocent.init()
        fresh = inside(innocent).read(0, PAGE)
        assert fresh == bytes(PAGE)
        innocent.deliver(0, EVENT)
        memory = inside(innocent).read(PAGE, 15 * PAGE)
        assert memory == bytes(15 * PAGE)


def test_threat_47_what_a_spent_instance_knew_its_successor_does_not(load: Callable[..., Cell]) -> None:
    secret = cell(
        "(i32.store (i32.const 4096) (i32.const 0x5ec4e7)) (unreachable)",
    )
    first = load(secret, name="first")
    first.init()
    with pytest.raises(Exception, match="unreachable"):
        first.deliver(0, EVENT)
    assert inside(first).memory.read(4096, 3) == b"\xe7\xc4\x5e"
    first.close()

    second = load(secret, name="second")
    assert inside(second).memory.read(0, PAGE) == bytes(PAGE)


def test_threat_47_a_batch_of_one_cell_is_not_in_the_memory_of_another(load: Callable[..., Cell]) -> None:
    """Batches have a memory of their own beside the cell's; it ends with the instance."""
    idle = cell("(i32.const 0)")
    events = [StepEvent("test", b"\xc4\x08SECRET-A")] * 3
    one = load(idle, name="one")
    one.init()
    assert one.steps(0, events) == (3, None)
    one.close()

    two = load(idle, name="two")
    two.init()
    assert two.steps(0, [EVENT] * 3) == (3, None)
    assert b"SECRET" not in inside(two).read(0, PAGE)
    batch = inside(two)._batch
    assert batch is not None
    assert b"SECRET" not in bytes(batch._memory.view)
