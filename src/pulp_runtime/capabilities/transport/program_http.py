"""Requests for programs: the half of `transport.http.inbound` for functions and daemons (spec/wasi-cloud §2 to §5).

function   take ── exchange, event ──▶ mailbox ──▶ a fresh run: mount ──▶ /request, /response, CGI ──▶ on_end: answered
daemon     take ── exchange ──▶ door ──▶ /accept ──▶ /conn/<id>/request, response
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.routes import Match, RouteConflict, RouteInvalid
from pulp_runtime._net.upload import Upload, UploadBroken
from pulp_runtime.capabilities.cloud.accept import Door, Doors
from pulp_runtime.capabilities.cloud.cgi import CgiOut, Tail, environment
from pulp_runtime.capabilities.cloud.connections import HttpConnection
from pulp_runtime.capabilities.cloud.exchange import Exchange
from pulp_runtime.capabilities.cloud.request import RequestFiles
from pulp_runtime.capabilities.cloud.request_body import HELD_BYTES, RequestBody
from pulp_runtime.capabilities.cloud.response import ResponseFiles
from pulp_runtime.capabilities.transport.front import HTTP, Front
from pulp_runtime.capabilities.transport.program_answer import Wire
from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import CellRef, Outcome, Posted, Run, SetupEnv, StepEvent
from pulp_runtime.ext.program import DAEMON, Program

if TYPE_CHECKING:
    from pulp_runtime.capabilities.transport.http_inbound import HttpSettings

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
"""What `ANY` stands for."""
SOFTWARE: Final = "pulp"
_ENDED: Final = "the program has ended"


class Served(NamedTuple):
    """A program.

    Attributes:
        cell: its.
        door: if it is a daemon.
        settings: what its manifest sets.
    """

    cell: CellRef
    door: Door | None
    settings: HttpSettings


class Programs:
    """The functions and daemons of one host, as far as they answer requests.

    Args:
        front: has their routes.
        env: the host.
        next_id: `next_id()`: an event id that no other request has.
    """

    def __init__(self, front: Front, env: SetupEnv, next_id: Callable[[], int]) -> None:
        self._front: Final = front
        self._env: Final = env
        self._next_id: Final = next_id
        self._doors: Final = env.services.get(Doors, Doors)
        self._wire: Final = Wire(front)
        self._served: Final[dict[str, Served]] = {}
        self._before: Final[dict[str, Served | None]] = {}
        self._exchanges: Final[dict[int, Exchange]] = {}

    # Life of a program ------------------------------------------------------------------------------------------

    def load(self, cell: CellRef, program: Program, settings: HttpSettings) -> None:
        """Register a program's routes.

        Raises:
            ExtensionError: one cannot be used; the message names manifest, field and fix.
        """
        door = self._doors.of(cell.id) if program.execution == DAEMON else None
        before = self._served.get(cell.id)
        self._served[cell.id] = Served(cell, door, settings)  # first: once it has a route, requests come
        for route in program.routes:
            method, _, path = route.strip().partition(" ")
            for one in _methods(method.upper()):
                try:
                    self._front.register(HTTP, cell.id, one, path.strip())
                except (RouteInvalid, RouteConflict) as error:
                    if before is None:
                        del self._served[cell.id]
                    else:
                        self._served[cell.id] = before
                    where = f"{cell.manifest}: [{program.execution}] routes: {route!r}"
                    raise ExtensionError(f"{where}: {error}; write METHOD /path, with a path of its own") from None
        if door is not None:
            door.open()

    def owns(self, cell_id: str) -> bool:
        """Return whether a cell is a program."""
        return cell_id in self._served

    def swap_begin(self, cell_id: str) -> None:
        """Keep what the present version is, for the case that the next one is not adopted."""
        self._before[cell_id] = self._served.get(cell_id)

    def swap_end(self, cell_id: str, *, adopted: bool) -> None:
        """Leave the version that runs."""
        before = self._before.pop(cell_id, None)
        if not adopted:
            self._served.pop(cell_id, None)
            if before is not None:
                self._served[cell_id] = before

    def leave(self, cell_id: str) -> None:
        """Note that a program is being torn down; what it has accepted is answered when its run ends."""
        served = self._served.get(cell_id)
        if served is not None and served.door is not None:
            served.door.close()

    def clear(self) -> None:
        """Forget everything."""
        self._served.clear()
        self._exchanges.clear()

    # Requests, on the loop --------------------------------------------------------------------------------------

    def take(self, request: Request, match: Match) -> None:
        """Give a request to a program; a short body is waited for first."""
        upload, block = request.upload, request.block
        if upload is None or block.content_length is None or block.content_length > HELD_BYTES:
            self._begin(request, match, upload)
        elif upload.over:
            self._held(request, match, upload)
        else:
            # Not at once: the connection is in the middle of reading, or of giving up.
            upload.on_change = lambda: self._wire.later(lambda: self._held(request, match, upload))

    def _held(self, request: Request, match: Match, upload: Upload) -> None:
        """Go on once all of a short body is here."""
        if not upload.over or upload.on_change is _nothing:
            return
        upload.on_change = _nothing
        pieces = []
        try:
            while piece := upload.read(HELD_BYTES, 0.0):
                pieces.append(piece)
        except UploadBroken as broken:
            slow = "slow" in str(broken) or "timeout" in str(broken)
            self._front.answer(request, answers.error(408 if slow else 400, str(broken)), close=True)
            return
        request.body = b"".join(pieces)
        self._begin(request, match, None)

    def _begin(self, request: Request, match: Match, upload: Upload | None) -> None:
        served = self._served.get(match.owner)
        if served is None:
            self._front.answer(request, answers.error(503, _ENDED))
            return
        cell, door, settings = served
        body = RequestBody(request.body, upload, most=settings.body_bytes)
        if door is not None:
            exchange = Exchange(next(self._doors.numbers), cell, request, match, body, self._wire)
            self._exchanges[-exchange.number] = exchange
            if not door.admit(HttpConnection(exchange, door)):
                del self._exchanges[-exchange.number]
                exchange.reply.refuse(503, "the daemon is not there, or has too much to do")
            return
        number = self._next_id()
        self._exchanges[number] = exchange = Exchange(number, cell, request, match, body, self._wire)
        posted = self._env.post(StepEvent("http.request", b"", number, cell.id))
        if posted is not Posted.ACCEPTED:
            self._exchanges.pop(number, None)
            exchange.reply.refuse(503, "queue full" if posted is Posted.FULL else _ENDED)

    def sweep(self, now: float) -> None:
        """Answer 504 to requests nobody has begun to answer in time, and forget what is over."""
        for key, exchange in list(self._exchanges.items()):
            answer = exchange.reply.answer
            served = self._served.get(exchange.owner)
            seconds = 30.0 if served is None else served.settings.request_timeout_ms / 1000
            waits = not answer.begun and not answer.over and (key < 0 or not exchange.begun)
            if waits and now - exchange.request.received >= seconds:
                exchange.reply.refuse(504, "nobody answered in time")
            if key < 0 and answer.over:
                self._exchanges.pop(key, None)
                if served is not None and served.door is not None:
                    served.door.leave(exchange.number)

    # Runs -------------------------------------------------------------------------------------------------------

    def mount(self, run: Run) -> None:
        """Add to a run what it is asked, and where it answers."""
        served = self._served.get(run.cell.id)
        if served is not None and served.door is not None:
            served.door.mount(run)
            return
        exchange = None if run.event is None else self._exchanges.get(run.event.id)
        if exchange is not None and exchange.owner == run.cell.id:
            exchange.begun = True
            FunctionRun(exchange).mount(run)

    def finalize(self, number: int) -> bool:
        """Let go of a function's request; one whose run never began is answered 503. False: it is none."""
        exchange = self._exchanges.pop(number, None)
        if exchange is None:
            return False
        exchange.reply.refuse(503, _ENDED)
        return True


class FunctionRun:
    """One run of a function for one request."""

    __slots__ = ("_err", "_exchange", "_out", "_run")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange: Final = exchange

    def mount(self, run: Run) -> None:
        """Add the files, the environment and the streams."""
        exchange = self._exchange
        run.tree.add("/request", RequestFiles(exchange))
        run.tree.add("/response", ResponseFiles(exchange.reply))
        own = dict(run.environ)
        run.environ.update(environment(exchange, SOFTWARE))
        run.environ.update(own)  # what the manifest says is not for a client to change
        if not exchange.body.is_held or exchange.body.held:
            run.stdin = exchange.body.open()
        self._out = run.stdout = CgiOut(exchange.reply, run.stdout)
        self._err = run.stderr = Tail(run.stderr)
        self._run = run
        run.on_end(self._end)

    def _end(self, outcome: Outcome) -> None:
        """Answer, if that has not been done."""
        reply, well = self._exchange.reply, outcome.status == 0
        self._out.end(well=well)
        if reply.answer.over:
            return
        half = reply.half or (reply.mode == "cgi" and not outcome.clean)
        if reply.mode and not half:
            reply.finish()
        elif not reply.mode and well:
            reply.end_nothing()
        else:
            self._tell(outcome)
            if outcome.timed_out:
                reply.refuse(504, "the function took too long")
            else:
                reply.refuse(502, "the function failed")

    def _tell(self, outcome: Outcome) -> None:
        self._run.cell.log.error(
            "request failed",
            request=self._exchange.number,
            path=self._exchange.request.line.path[:200],
            status=outcome.status,
            err=outcome.error,
            stderr=self._err.kept.decode(errors="replace").strip(),
        )


def _methods(method: str) -> tuple[str, ...]:
    """Return the methods a route stands for: who answers GET, answers HEAD."""
    if method == "ANY":
        return METHODS
    return ("GET", "HEAD") if method == "GET" else (method,)


def _nothing() -> None:
    """Stand in for a callback nobody has set."""
