"""`workers`: requests that are made while the cell does something else, and asked about later (spec/capabilities §11).

    worker   workers_submit ── prepare ── pool ── id          workers_result ── status, and the response once
    thread   fetch, through the same guard and the same client as `transport.http.outbound`

A request holds a thread while it waits for the network: one of a fixed number, begun when first needed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Final

import msgspec

from pulp_runtime._net.dial_names import Resolve
from pulp_runtime._net.dial_patience import DialFault, Patience
from pulp_runtime._net.egress import EgressRefused
from pulp_runtime._net.fetch import FetchClient, FetchStream
from pulp_runtime._net.fetch_request import FetchRequest, RequestInvalid, prepare
from pulp_runtime._net.fetch_url import UrlInvalid
from pulp_runtime.abi.http_fetch import encode_fetch_response
from pulp_runtime.abi.workers import WorkerTask
from pulp_runtime.capabilities.operator import Variable, operator_settings
from pulp_runtime.capabilities.pool import (
    CELL_BYTES,
    COMPLETE,
    FAILED,
    PANICKED,
    TOTAL_BYTES,
    UNKNOWN,
    Bounds,
    Outcome,
    TaskPool,
)
from pulp_runtime.capabilities.transport.outbound import WayOut
from pulp_runtime.ext import U32, Capability, CellRef, Errno, Guest, HostError, Linker, SetupEnv, host_function
from pulp_runtime.ext.capability import undeclared

NAME: Final = "workers"
FETCH: Final = "http.fetch"
DEFAULT_MS: Final = 300_000
KEEP_SECONDS: Final = 300.0
SWEEP_SECONDS: Final = 15.0
_READ_BYTES: Final = 1024 * 1024

Count = Annotated[int, msgspec.Meta(ge=1, le=4096)]


class WorkersSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator may set.

    Attributes:
        allow: hosts, `host:port` and networks that cells may dial although they are not public.
        ca_file: PEM certificates to trust beside the system's.
        max_concurrency: requests at once.
        max_queued: requests that may wait for that.
        max_per_cell: requests of one cell that wait or run.
        max_fetch_bytes: longest body, decoded.
    """

    allow: tuple[str, ...] = ()
    ca_file: str = ""
    max_concurrency: Count = 32
    max_queued: Annotated[int, msgspec.Meta(ge=0, le=65_536)] = 1024
    max_per_cell: Count = 8
    max_fetch_bytes: Annotated[int, msgspec.Meta(ge=0, le=16 << 30)] = 64 * 1024 * 1024


VARIABLES: Final = {
    "max_concurrency": Variable("PULP_WORKERS_MAX_CONCURRENCY"),
    "max_queued": Variable("PULP_WORKERS_MAX_QUEUED"),
    "max_per_cell": Variable("PULP_WORKERS_MAX_PER_CELL"),
    "max_fetch_bytes": Variable("PULP_WORKERS_MAX_FETCH_BYTES"),
}
OLDER: Final = {**VARIABLES, "max_per_cell": Variable("PULP_WORKER_MAX_PER_CELL")}
"""With a name that an older host had."""


class Workers:
    """The requests of all cells.

    Args:
        resolve: names to addresses; the host's own lookups by default.
    """

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._way_out: Final = WayOut(NAME, "HTTP_FETCH_ALLOW", resolve=resolve)
        self._settings = WorkersSettings()
        self._pool: Final = TaskPool(_panicked)
        self._clients: Final[dict[str, FetchClient]] = {}
        self._lock: Final = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None

    # What cells call --------------------------------------------------------------------------------------------

    @host_function
    def workers_submit(self, cell: CellRef, task: WorkerTask) -> U32:
        """Begin a request; answer the id of the task, 100 or more.

        Answers 3 for a type other than `http.fetch`, 15, 16 and 17 when there are too many tasks, 99 when it is not
        set up. What is wrong with the request itself is its result.
        """
        return self._submit(cell, task, is_kept=True)

    @host_function
    def workers_submit_fire(self, cell: CellRef, task: WorkerTask) -> None:
        """Begin a request whose response nobody will ask for; answers as `workers_submit`, but 0 instead of an id."""
        self._submit(cell, task, is_kept=False)

    @host_function
    def workers_result(self, guest: Guest, task: U32, address_out: U32, length_out: U32) -> U32:
        """Hand over what came of a task, once.

        Answers 0 while it waits or runs, 1 with the response, 2 and 3 with a text that says why there is none, 4 for a
        task that is none of the cell's; 7 or 8 when there is no place for it.
        """
        return self._pool.deliver(guest, task, address_out, length_out)

    @host_function
    def workers_cancel(self, cell: CellRef, task: U32) -> U32:
        """Give a task up; answer 0, or 1 when there is none that waits or runs."""
        return 0 if self._pool.cancel(cell, task) else 1

    @host_function
    def workers_pending(self, _cell: CellRef) -> U32:
        """Answer how many tasks of all cells wait or run."""
        return self._pool.pending()

    def _submit(self, cell: CellRef, task: WorkerTask, *, is_kept: bool) -> int:
        if task.type != FETCH:
            raise HostError(Errno.DECODE, f"type {task.type!r}")
        return self._pool.submit(cell, lambda: self._run(cell, task), is_kept=is_kept)

    # A request --------------------------------------------------------------------------------------------------

    async def _run(self, cell: CellRef, task: WorkerTask) -> Outcome:
        """Make a request in a thread; cancelled, have it give up and wait for that."""
        given_up = threading.Event()
        work = asyncio.get_running_loop().run_in_executor(self._threads, self._fetch, cell, task, given_up.is_set)
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            given_up.set()
            await asyncio.wait({work})
            raise

    def _fetch(self, cell: CellRef, task: WorkerTask, given_up: Callable[[], bool]) -> Outcome:
        try:
            request = prepare(task.method, task.url, task.headers or {}, task.body or b"")
        except (RequestInvalid, UrlInvalid) as error:
            cell.log.warning("fetch refused", reason=str(error))
            return _failure(str(error))
        client = self._client(cell)
        patience = Patience((task.timeout_ms or DEFAULT_MS) / 1000, gone=lambda: given_up() or client.closed)
        try:
            stream = client.open(request, patience)
            try:
                return Outcome(COMPLETE, encode_fetch_response(stream.status, stream.fields, self._whole(stream)))
            finally:
                stream.close()
        except EgressRefused as error:
            return _refused(cell, request, error)
        except (DialFault, UrlInvalid) as error:
            cell.log.info("fetch failed", url=request.url.origin, reason=str(error))
            return _failure(str(error))

    def _whole(self, stream: FetchStream) -> bytearray:
        """Return the whole body; `DialFault` when it is too large, or does not come."""
        body, most = bytearray(), self._settings.max_fetch_bytes
        if (stream.length or 0) <= most:
            while data := stream.read(min(_READ_BYTES, most + 1 - len(body))):
                body += data
                if len(body) > most:
                    break
            else:
                return body
        raise DialFault(f"body over {most:,} bytes")

    def _client(self, cell: CellRef) -> FetchClient:
        with self._lock:
            client = self._clients.get(cell.id)
            if client is None:
                client = self._clients[cell.id] = FetchClient(self._way_out.dialer(cell))
            return client

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings."""
        named = VARIABLES if os.environ.get(VARIABLES["max_per_cell"].name, "").strip() else OLDER
        self._settings = most = operator_settings(env, WorkersSettings, named)
        way_out = {name: env.config[name] for name in ("allow", "ca_file") if name in env.config}
        self._way_out.open(dataclasses.replace(env, config=way_out))
        self._threads = ThreadPoolExecutor(most.max_concurrency, thread_name_prefix="fetch")
        self._pool.open(
            env,
            Bounds(
                running=most.max_concurrency,
                queued=most.max_queued,
                per_cell=most.max_per_cell,
                keep_seconds=KEEP_SECONDS,
                cell_bytes=max(CELL_BYTES, most.max_fetch_bytes),
                total_bytes=max(TOTAL_BYTES, most.max_fetch_bytes),
            ),
        )
        env.spawn(self._pool.serve())
        env.spawn(self._sweep())

    async def _sweep(self) -> None:
        """Close connections that nobody has used for a while."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            with self._lock:
                clients = list(self._clients.values())
            for client in clients:
                client.pool.sweep(time.monotonic())

    def setup_cell(self, cell: CellRef) -> None:
        """Refuse a cell whose settings mean nothing."""
        self._way_out.allowed(cell)

    def teardown_cell(self, cell_id: str) -> None:
        """Give up the cell's tasks, forget their results, and close its connections."""
        self._pool.drop(cell_id)
        with self._lock:
            client = self._clients.pop(cell_id, None)
        if client is not None:
            client.close()

    def teardown(self) -> None:
        """Close what is left."""
        for cell_id in list(self._clients):
            self.teardown_cell(cell_id)
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(cancel_futures=True)  # what ran has given up already


def _refused(cell: CellRef, request: FetchRequest, error: EgressRefused) -> Outcome:
    """Tell the operator where it would have led, and the cell only that it may not."""
    cell.log.warning("fetch refused", url=request.url.origin, reason=str(error))
    return _failure("the target is not for this cell")


def _failure(text: str) -> Outcome:
    return Outcome(FAILED, text.encode())


def _panicked(error: BaseException) -> Outcome:
    return Outcome(PANICKED, f"the host failed: {type(error).__name__}".encode())


_STUBS: Final = {"workers_result": UNKNOWN, "workers_cancel": 1, "workers_pending": 0}
"""What a cell is answered that does not declare the capability, where that is not 99 (spec/capabilities §11)."""


def capability() -> Capability:
    """Return the capability."""
    made = Capability.of(NAME, Workers())

    def stub(linker: Linker, _cell: CellRef) -> None:
        for function in made.functions.values():
            answer = _STUBS.get(function.name, undeclared)
            linker.define(function.name, function.words, answer if callable(answer) else _always(answer))

    return dataclasses.replace(made, stub=stub)


def _always(code: int) -> Callable[..., int]:
    return lambda _guest, *_words: code
