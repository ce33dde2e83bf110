"""Fifty cells for the chaos run: the examples as they are, quiet neighbours, and guests that misbehave.

Each has a folder with a manifest that may be written anew while the host runs: one that
starts, or one that does not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
LAB = (Path(__file__).parent / "lab.wat").read_text()
ANCHORS = 12
INBOUND = 'capabilities = ["transport.http.inbound"]'

#: name: (module, lines of the manifest); all of them are ready whenever nobody has stopped them.
EXAMPLE_CELLS = {
    "echo": ("echo/c/echo.wasm", INBOUND),
    "ledger": (
        "ledger/c/ledger.wasm",
        'capabilities = ["transport.http.inbound", "storage.fs", "storage.sqlite", "storage.kv"]',
    ),
    "prices": ("calls/prices/prices.wasm", 'provides = ["price.of"]'),
    "shop": ("calls/shop/shop.wasm", f'{INBOUND}\nconsumes = ["price.of"]\ndepends_on = ["prices"]'),
    "accounts": (
        "bank/accounts/accounts.wasm",
        'capabilities = ["storage.sqlite"]\nprovides = ["accounts.list", "accounts.open", "accounts.transfer"]',
    ),
    "notifier": ("bank/notifier/notifier.wasm", 'capabilities = ["transport.sse"]\nprovides = ["notify"]'),
    "gateway": (
        "bank/gateway/gateway.wasm",
        f'{INBOUND}\nconsumes = ["accounts.list", "accounts.open", "accounts.transfer", "notify"]\n'
        'depends_on = ["accounts", "notifier"]',
    ),
    "chat": ("chat/c/chat.wasm", 'capabilities = ["transport.http.inbound", "transport.ws.inbound"]'),
    "ws-echo": ("ws-echo/c/ws_echo.wasm", 'capabilities = ["transport.ws.inbound"]\ntick_ms = 0'),
    "heartbeat": ("heartbeat/c/heartbeat.wasm", "[config]\nmarker = 424242"),
    "guestbook": (
        "guestbook/c/guestbook.wasm",
        'execution = "function"\ncapabilities = ["transport.http.inbound", "cloud.kv"]\n'
        '[function]\nroutes = ["GET /guest/book", "POST /guest/book"]\n[cloud]\nkv = { local = "rw" }',
    ),
    "hits": (
        "hits/zig/hits.wasm",
        'execution = "function"\ncapabilities = ["transport.http.inbound", "cloud.kv"]\n'
        '[function]\nroutes = ["GET /hits/:page"]\n[cloud]\nkv = { local = "rw" }',
    ),
    "chatroom": (
        "chatroom/c/chatroom.wasm",
        'execution = "daemon"\ncapabilities = ["transport.ws.inbound"]\n[daemon]\nwebsockets = ["/room"]',
    ),
}
#: A copy of an example with other routes of the same length, so that both may run.
COPIES = {
    "counter": (
        "counter/c/counter.wasm",
        {b"/count": b"/x/unt"},  # a path of one piece would overlap with "/", which is the chat's
        'capabilities = ["transport.http.inbound", "transport.sse"]',
    ),
    "visits": (
        "visits/go/visits.wasm",
        {b"/alarms": b"/al/rms"},
        f"{INBOUND}\nsnapshotable = true\n[snapshot]\nevery_seconds = 5",
    ),
    "echo-go": ("echo/go/echo.wasm", {b"/echo": b"/gogo"}, INBOUND),
    "tight": (
        "ledger/c/ledger.wasm",
        {b"/files/": b"/fales/", b"/rows/": b"/raws/", b"/keys/": b"/kays/"},
        EXAMPLE_CELLS["ledger"][1] + "\n[limits]\ndisk_quota_mb = 1",
    ),
}
LIVELY = "[limits]\nrestarts = 1000\nrestart_window_seconds = 1"
LABS = {
    **dict.fromkeys("abcdef", f"{INBOUND}\ncall_timeout_ms = 200\n{LIVELY}"),
    **dict.fromkeys("gh", f"{INBOUND}\ncall_timeout_ms = 200"),  # these go down after five crashes
}

COMMON = r"""
  (memory (export "memory") 2)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 65536))
  (func (export "pulp_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
"""
GROWS = rf"""(module {COMMON}
  (func (export "pulp_step") (param i32 i32) (result i32)
    (if (i32.eq (memory.grow (i32.const 7)) (i32.const -1)) (then (unreachable)))
    (memory.fill (i32.mul (i32.sub (memory.size) (i32.const 7)) (i32.const 65536)) (i32.const 1) (i32.const 458752))
    (i32.const 0)))"""
FLOODS = rf"""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  {COMMON}
  (data (i32.const 1024) "one more line of no use to anybody\n")
  (func (export "pulp_step") (param i32 i32) (result i32) (local $left i32)
    (local.set $left (i32.const 50))
    (i32.store (i32.const 512) (i32.const 1024))
    (i32.store (i32.const 516) (i32.const 35))
    (loop $more
      (drop (call $fd_write (i32.const 1) (i32.const 512) (i32.const 1) (i32.const 520)))
      (local.set $left (i32.sub (local.get $left) (i32.const 1)))
      (br_if $more (local.get $left)))
    (i32.const 0)))"""
TRAPS = f"""(module {COMMON} (func (export "pulp_step") (param i32 i32) (result i32) (unreachable)))"""
SPINS = f"""(module {COMMON}
  (func (export "pulp_step") (param i32 i32) (result i32) (loop $ever (br $ever)) (i32.const 0)))"""
#: It answers GET /n/NNNN, of its configuration, with NNNN.
NUMBERED = r"""(module
  (import "pulp" "http_register" (func $http_register (param i32 i32) (result i32)))
  (import "pulp" "http_respond" (func $http_respond (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "pulp_alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "pulp_init") (param $config i32) (param i32) (result i32)
    (i32.store (i32.const 1045) (i32.load offset=4 (local.get $config)))
    (call $http_register (i32.const 1024) (i32.const 25)))
  (func (export "pulp_step") (param $envelope i32) (param $length i32) (result i32)
    (local $at i32)
    (if (i32.eq (local.get $length) (i32.const 20)) (then (return (i32.const 0))))
    (local.set $at (local.get $envelope))
    (loop $next
      (if (i32.ne (i32.load (local.get $at)) (i32.const 0xcf6469a2))
        (then (local.set $at (i32.add (local.get $at) (i32.const 1))) (br $next))))
    (i64.store (i32.const 2053) (i64.load offset=4 (local.get $at)))
    (i32.store (i32.const 2087) (i32.load (i32.const 1045)))
    (call $http_respond (i32.const 2048) (i32.const 43)))
  (func (export "pulp_shutdown") (result i32) (i32.const 0))
  (data (i32.const 1024) "\82\a6method\a3GET\a4path\a7/n/????")
  (data (i32.const 2048) "\84\a2id\cf........\a6status\cd\00\c8\a7headers\80\a4body\c4\04????"))"""

#: What every cell is in the end, unless an operator has it otherwise; the others are ready.
AT_LAST = {"traps": {"down"}, "spins": {"down"}, "refuses": {"failed"}, "g": {"ready", "down"}, "h": {"ready", "down"}}
#: Cells that may be caught between a crash and the restart.
RESTLESS = {*LABS, "grows-0", "grows-1", "grows-2"}


class Estate:
    """The folders of the cells.

    Attributes:
        folders: of each cell, by name, in the order in which they are given to the host.
        lock: held while the manifest on the disk is one that cannot start.
    """

    def __init__(self, path: Path, wasm: Callable[[str], bytes]) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        self._version = 0
        self.folders: dict[str, Path] = {}
        self.lock = threading.Lock()
        for name, (module, lines) in EXAMPLE_CELLS.items():
            self._cell(name, (EXAMPLES / module).read_bytes(), lines)
        for name, (module, changes, lines) in COPIES.items():
            data = (EXAMPLES / module).read_bytes()
            for before, after in changes.items():
                assert before in data
                data = data.replace(before, after)
            self._cell(name, data, lines)
        for letter, lines in LABS.items():
            self._cell(letter, wasm(LAB.replace("/x/:do", f"/{letter}/:do")), lines)
        for number in range(ANCHORS):
            self._cell(f"anchor-{number:04}", wasm(NUMBERED), f'{INBOUND}\n[config]\nn = "{number:04}"')
        for number in range(3):
            self._cell(f"grows-{number}", wasm(GROWS), f"max_memory_pages = {64 << number}\ntick_ms = 100\n{LIVELY}")
            self._cell(f"floods-{number}", wasm(FLOODS), "tick_ms = 20\n[limits]\nlog_lines_per_second = 10")
        self._cell("traps", wasm(TRAPS), "tick_ms = 10")
        self._cell("spins", wasm(SPINS), "tick_ms = 10\ncall_timeout_ms = 50")
        self._cell("refuses", wasm("refuse_init"), "")
        self._cell("random", wasm("random"), "tick_ms = 50")
        self._cell("sleeper", wasm("minimal"), "tick_ms = 1000")
        self._cell("early", wasm("minimal"), "tick_ms = 1")
        self._cell("idle", wasm("minimal"), "")

    @property
    def anchors(self) -> list[str]:
        """Names of the cells that nobody touches; they must answer whatever happens to the others."""
        return [name for name in self.folders if name.startswith("anchor-")]

    def _cell(self, name: str, module: bytes, lines: str) -> None:
        folder = self.folders[name] = self._path / name
        folder.mkdir(parents=True)
        (folder / "cell.wasm").write_bytes(module)
        self._lines[name] = lines
        self.write_good(name)

    def write_good(self, name: str) -> None:
        """Write the next version, which starts."""
        self._version += 1
        self._write(name, f'name = "{name}"\nversion = "1.0.{self._version}"\n{self._lines[name]}')

    def write_bad(self, name: str, choice: int) -> None:
        """Write a version that cannot start, in one of several ways."""
        head = f'name = "{name}"\nversion = "2.0.0"\n'
        (self._path / "torn.wasm").write_bytes((self.folders[name] / "cell.wasm").read_bytes()[:-7])
        wrong = [
            f'name = "{name}\n',
            f'name = "other"\nversion = "1"\n{self._lines[name]}',
            f'{head}capabilities = ["storage.sq1ite"]',
            f'{head}wasm = "../nowhere.wasm"\n{self._lines[name]}',
            f'{head}wasm = "../torn.wasm"\n{self._lines[name]}',
            f'{head}wasm = "../refuses/cell.wasm"',
            f'{head}depends_on = ["nobody"]',
        ]
        self._write(name, wrong[choice % len(wrong)])

    def _write(self, name: str, text: str) -> None:
        there = self.folders[name] / "pulp.cell.toml"
        beside = there.with_suffix(".new")
        beside.write_text(text)
        beside.replace(there)
