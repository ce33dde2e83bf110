"""One cell, loaded, stepped and looked into by a test, with every hook of its capabilities run in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from pulp_runtime._kernel.hooks import set_up
from pulp_runtime.abi.config import encode_config
from pulp_runtime.abi.envelope import StepEnvelope, encode_step
from pulp_runtime.abi.http import HTTPResponse
from pulp_runtime.capabilities.catalog import ALWAYS
from pulp_runtime.errors import HookFailed
from pulp_runtime.ext import Capability, Endpoint, Posted, StepEvent
from pulp_runtime.manifest.cell import CellSpec
from pulp_runtime.testing.fake import Fake
from pulp_runtime.testing.host import FakeHost
from pulp_runtime.testing.http import NAME as HTTP_INBOUND
from pulp_runtime.testing.http import HttpInbound
from pulp_runtime.testing.inbox import Inbox, run_hook
from pulp_runtime.testing.lines import KeptLog, Logged
from pulp_runtime.testing.module import HereEngine, spec_of
from pulp_runtime.testing.opened import OpenedCell
from pulp_runtime.testing.provided import registry_of
from pulp_runtime.testing.tape import Call, Tape

WALL_TIME_NS: Final = 1_700_000_000 * 10**9
"""When tests take place unless they say otherwise: 2023-11-14, 22:13:20 UTC."""
REMOTE_ADDR: Final = "192.0.2.1:50000"


def load(
    source: str | bytes | Path,
    *,
    capabilities: Iterable[Capability | Fake] = (),
    declares: Iterable[str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    wall_time_ns: int = WALL_TIME_NS,
    storage_root: Path | None = None,
    **fields: Any,
) -> CellUnderTest:
    """Set up capabilities and load a cell; `init` is the test's next step, and `close` its last.

    Capabilities that come with Pulp or with an installed package need not be given. `transport.http.inbound` is one
    without a listener: see `CellUnderTest.http_request`.

    Args:
        source: WebAssembly text, the bytes of a module, or the path of a `.wat`, a `.wasm`, a manifest or a folder
            that holds one.
        capabilities: more of them, real or fake; one that is called like another takes its place.
        declares: what the cell declares; by default what its manifest says, or all that is given.
        settings: what an operator would set, by capability name.
        wall_time_ns: the time that envelopes carry, nanoseconds since 1970.
        storage_root: where capabilities keep the cell's data; a temporary folder by default.
        fields: whatever else a manifest may say, by the names of `CellSpec`: `name`, `config`, `call_timeout_ms`, …

    Raises:
        ManifestError, LoadError: the cell cannot be loaded.
        HookFailed: a capability's `setup`, `register` or `stub` raised.
        CellTrap, CellExit: the module's start function did not return.
    """
    given = list(capabilities)
    host = FakeHost(storage_root)
    try:
        names = [item.capability.name if isinstance(item, Fake) else item.name for item in given]
        if declares is not None:
            fields["capabilities"] = tuple(declares)
        spec = spec_of(source, host.folder, [name for name in names if name not in ALWAYS], fields)
        return CellUnderTest(spec, given, host, settings or {}, wall_time_ns)
    except BaseException:
        host.close()
        raise


class CellUnderTest:
    """A loaded cell. Made by `load`; a context manager that closes it.

    What a host would log as an error and go on, a hook or a task of a capability that raised, is raised here: by the
    call it happened in, or by `close`. A method that enters the guest raises `CellTrap`, `CellTimeout` or `CellExit`
    when it does not come back; then only `restart` and `close` are left.

    Attributes:
        spec: its manifest.
        call_number: the number of the next step.
        logged: what the cell and its capabilities logged, oldest first.
    """

    def __init__(
        self,
        spec: CellSpec,
        given: Sequence[Capability | Fake],
        host: FakeHost,
        settings: Mapping[str, Mapping[str, Any]],
        wall_time_ns: int,
    ) -> None:
        self.spec: Final = spec
        self.call_number = 0
        self.logged: Final[list[Logged]] = host.logged
        self._host: Final = host
        self._tape: Final = Tape()
        self._http: Final = HttpInbound()
        self._stand_in: Final = Capability.of(HTTP_INBOUND, self._http)
        self._registry: Final = registry_of(given, {HTTP_INBOUND: lambda: self._stand_in}, self._tape)
        self._inbox: Final = Inbox(spec, self._step, host.soon)
        self._began_ns = wall_time_ns
        self._config = b""
        self._closed = False
        found = {name: self._registry.find(name) for name in spec.capabilities}
        # A name nobody offers is for the loader to refuse.
        self._declared: Final = [capability for capability in found.values() if capability is not None]
        set_up([(capability, self._env(capability, settings)) for capability in self._declared])
        self._engine: Final = HereEngine()
        try:
            self._cell = self._load()
        except BaseException:
            with suppress(HookFailed):  # the first failure is the one to show
                _all(self._teardown, self._engine.close)
            raise

    def _env(self, capability: Capability, settings: Mapping[str, Mapping[str, Any]]) -> Any:
        def post(event: StepEvent) -> Posted:
            return self._inbox.post(event, capability)

        return self._host(capability.name, config=settings.get(capability.name), post=post)

    def _load(self) -> OpenedCell:
        log = KeptLog(self.logged, cell=self.spec.name)
        return OpenedCell.load(self.spec, self._registry, engine=self._engine, log=log)  # type: ignore[return-value]

    # Entry points -----------------------------------------------------------------------------------------------

    def init(self, config: Mapping[str, object] | None = None) -> None:
        """Run `pulp_init` with `config`, by default the manifest's.

        Raises:
            CellRefused: it answered another number than 0.
        """
        self._config = encode_config(self.spec.config if config is None else config)
        self._cell.init(self._config)
        self._inbox.open = True
        self._host.turn()

    def step(self, kind: str, payload: Any = None) -> int:
        """Run `pulp_step` with an event of your own; return what it answered.

        Args:
            kind: such as `http.request`.
            payload: bytes are MessagePack already; anything else is encoded.
        """
        data = payload if isinstance(payload, bytes) else msgspec.msgpack.encode(payload)
        return self._step(StepEvent(kind, data))

    def replay(self, events: Iterable[StepEvent | tuple[str, Any]]) -> list[int]:
        """Run a step for each recorded event, a `StepEvent` or (kind, payload); return the answers."""
        return [self._step(event) if isinstance(event, StepEvent) else self.step(*event) for event in events]

    def tick(self) -> int:
        """Run an idle step; return what it answered."""
        return self._enter(b"")

    def call(self, function: str, args: Any = b"") -> bytes:
        """Ask the cell for a function it provides, as another cell would; return the response.

        Args:
            function: its name.
            args: bytes as they are; anything else as MessagePack.

        Raises:
            CellRefused: it answered another number than 0.
            CellClosed: it has no `pulp_on_call`.
        """
        data = args if isinstance(args, bytes) else msgspec.msgpack.encode(args)
        response = self._cell.call(function, data)
        self._host.turn()
        return response

    def run(self, export: str, *words: int) -> int:
        """Call any exported function with i32 words; return its result, unsigned, or 0 if it has none.

        Raises:
            LookupError: there is no such function, or it takes something else.
        """
        answer = self._cell.run(export, words)
        self._host.turn()
        return answer

    def shutdown(self) -> None:
        """Run `pulp_shutdown`; `close` then does not.

        Raises:
            CellRefused: it answered another number than 0.
        """
        self._inbox.open = False
        self._cell.shutdown()

    def _step(self, event: StepEvent) -> int:
        envelope = encode_step(0, 0, event.kind, event.payload)
        return self._enter(envelope[20:])

    def _enter(self, payload: bytes) -> int:
        number = self.call_number
        self.call_number += 1
        answer = self._cell.step(StepEnvelope(number, self.wall_time_ns, payload))
        self._host.turn()
        return answer

    # Capabilities -----------------------------------------------------------------------------------------------

    def deliver(self) -> int:
        """Step through every event that capabilities posted, oldest first, each finalized; return how many."""
        return self._inbox.deliver()

    def poll(self) -> int:
        """Ask every source that can only be asked, until it has nothing more; return how many events it had.

        They wait for `deliver`.
        """
        return self._inbox.poll(self._declared)

    def advance(self, seconds: float) -> None:
        """Let time pass for the tasks of capabilities, and deliver what they post. It takes no time."""
        self._host.advance(seconds)
        self.deliver()

    def http_request(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        remote_addr: str = REMOTE_ADDR,
    ) -> HTTPResponse:
        """Send a request to the cell's routes; return what the client would get, empty fields as empty values.

        404 when no route matches, 500 when the cell does not answer in its step.

        Args:
            method: such as `GET`.
            target: path and query, percent-encoded.
            headers: by name; names are given to the cell in their canonical form.
            body: of any length the cell's message limit allows.
            remote_addr: `ip:port` of the client.

        Raises:
            LookupError: the cell does not declare `transport.http.inbound`, or the test gave one of its own.
        """
        if not any(capability.functions is self._stand_in.functions for capability in self._declared):
            raise LookupError(f"{self.spec.name} does not declare {HTTP_INBOUND}, or it has been given another")
        event = self._http.request(method, target, headers or {}, body, remote_addr)
        if event is not None:
            self._step(event)
        return self._http.response(event)

    @property
    def wall_time_ns(self) -> int:
        """The time the next envelope carries, nanoseconds since 1970; `advance` moves it on. May be set."""
        return self._began_ns + round(self._host.now * 1e9)

    @wall_time_ns.setter
    def wall_time_ns(self, time_ns: int) -> None:
        self._began_ns += time_ns - self.wall_time_ns

    @property
    def endpoints(self) -> list[Endpoint]:
        """What capabilities reported as reachable."""
        return self._host.endpoints

    @property
    def storage_root(self) -> Path:
        """Where capabilities keep the cell's data."""
        return self._host.storage_root

    # What happened ----------------------------------------------------------------------------------------------

    @property
    def transcript(self) -> list[str]:
        """Every call of an import and its answer, e.g. `["==> demo_greet('world')", "<== 0"]`."""
        return self._tape.transcript

    @property
    def calls(self) -> list[Call]:
        """Every call of an import, oldest first."""
        return self._tape.calls

    def replies(self, name: str) -> list[Any]:
        """Return what the cell handed to import `name`, call by call: the argument, or a tuple of several."""
        given = [tuple(call.arguments.values()) for call in self._tape.calls if call.name == name]
        return [arguments[0] if len(arguments) == 1 else arguments for arguments in given]

    def clear(self) -> None:
        """Forget calls, transcript and log so far."""
        self._tape.clear()
        self.logged.clear()

    # Memory -----------------------------------------------------------------------------------------------------

    def read(self, address: int, length: int) -> bytes:
        """Return bytes of the guest's memory; IndexError if the range is not inside it."""
        return self._cell.read(address, length)

    def write(self, address: int, data: bytes) -> None:
        """Put bytes into the guest's memory; IndexError if the range is not inside it."""
        self._cell.write(address, data)

    @property
    def memory_bytes(self) -> int:
        """How much memory the guest has now."""
        return self._cell.memory_bytes

    # Life -------------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """Replace the instance as a host does after a trap: close, `teardown_cell`, load, `pulp_init` again."""
        self._inbox.open = False
        self._cell.close()
        self._teardown_cell()
        self._cell = self._load()
        self._cell.init(self._config)
        self._inbox.open = True
        self._host.turn()

    def close(self) -> None:
        """Stop as a host does; may be called again.

        Tasks are cancelled, what was posted is delivered, then `pulp_shutdown`, `teardown_cell`, `teardown`: each in
        spite of the others' failures, of which the first is raised when everything has been released.
        """
        if self._closed:
            return
        self._closed = True
        self._host.cancel()
        parts: list[Callable[[], object]] = []
        if self._inbox.open and not self._cell.spent:
            parts += [self.deliver, self.shutdown]
        parts += [self._inbox.drop, self._cell.close, self._teardown_cell, self._host.finish, self._teardown]
        _all(*parts, self._engine.close, self._host.close)

    def _teardown_cell(self) -> None:
        cell = self.spec.name
        _all(*(partial(run_hook, each, "teardown_cell", cell, cell=cell) for each in reversed(self._declared)))

    def _teardown(self) -> None:
        _all(*(partial(run_hook, each, "teardown") for each in reversed(self._declared)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _stack: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception:
            if kind is None:  # else what failed first is what the test should show
                raise


def _all(*parts: Callable[[], object]) -> None:
    """Run every part, in spite of the others' failures; then raise the first of those."""
    first: Exception | None = None
    for part in parts:
        try:
            part()
        except Exception as error:  # noqa: BLE001  # the rest must still be released
            first = first or error
    if first is not None:
        raise first
