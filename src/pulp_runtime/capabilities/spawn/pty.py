"""`spawn.pty`: terminals with programs on them (spec/capabilities §13).

    worker   pty_open ── permits ── openpty, start           pty_write ── terminal
    loop     terminal ── buffer ── post, one event at a time, with everything that waits ──▶ mailbox

A terminal is its cell's alone. One that persists lives on while the cell is restarted, and ends with the host.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from pulp_runtime.abi.pty import PtyOpen, encode_opened, encode_pty_output
from pulp_runtime.capabilities.operator import operator_settings
from pulp_runtime.capabilities.pool import CELL_FULL, SATURATED
from pulp_runtime.capabilities.spawn.permits import Folders, Refused, environment
from pulp_runtime.capabilities.spawn.session import Session
from pulp_runtime.capabilities.spawn.shells import VARIABLES, PtyCellSettings, PtySettings, Shells
from pulp_runtime.capabilities.spawn.warden import Warden
from pulp_runtime.capabilities.waiting import LoopDoor
from pulp_runtime.ext import (
    U32,
    Capability,
    CellRef,
    Errno,
    Guest,
    HostError,
    Linker,
    Posted,
    SetupEnv,
    StepEvent,
    host_function,
)
from pulp_runtime.ext.capability import undeclared
from pulp_runtime.log import Log

NAME: Final = "spawn.pty"
TERM: Final = "xterm-256color"
MAX_SIDE: Final = 0xFFFF
_RETRY_SECONDS: Final = (0.002, 1.0)


class Ptys:
    """The terminals of all cells."""

    def __init__(self) -> None:
        self._env: SetupEnv | None = None
        self._warden = Warden(Log("pulp", capability=NAME))
        self._settings = PtySettings()
        self._folders = Folders((), "run_roots")
        self._shells: Final[dict[str, Shells]] = {}
        self._sessions: Final[dict[int, Session]] = {}
        self._opening: Final[Counter[str]] = Counter()
        self._is_stopping = True
        self._lock: Final = threading.Lock()
        self._numbers: Final = itertools.count(1)
        self._door: Final = LoopDoor()
        self._dying: Final[set[asyncio.Task[None]]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._pause = _RETRY_SECONDS[0]

    # What cells call --------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def pty_open(self, guest: Guest, request: PtyOpen | None, address_out: U32, length_out: U32) -> None:
        """Start a program on a terminal of its own; deliver the terminal's id.

        Answers 4 when it cannot be started, 11 for a program or a folder that is not allowed, 16 when the cell has too
        many terminals, 17 when the host has, or stops.
        """
        asked, cell = request or PtyOpen(), guest.cell
        if self._env is None:
            raise HostError(Errno.UNDECLARED, "spawn.pty is not set up")
        try:
            session = self._start(cell, asked)
        except Refused as refused:
            cell.log.warning("pty refused", shell=asked.shell, reason=str(refused))
            raise HostError(Errno.DENIED, str(refused)) from None
        except HostError as error:
            cell.log.warning("pty not opened", shell=asked.shell, reason=error.detail)
            raise
        try:
            guest.deliver(encode_opened(session.number), address_out, length_out)
        except HostError:
            self._close(session)  # nobody could ever name it
            raise

    def _start(self, cell: CellRef, asked: PtyOpen) -> Session:
        argv = self._shells[cell.id].argv(asked)
        self._take_room(cell)
        session = None
        try:
            with self._folders.opened(asked.dir) as folder:
                session = Session(
                    next(self._numbers), cell, argv, self._warden, cwd=folder, persist=asked.persist,
                    env=environment({}, self._settings.pass_env, (), TERM=TERM),
                )  # fmt: skip
        except (OSError, ValueError) as error:
            raise HostError(Errno.FAILED, str(error)) from None
        finally:
            with self._lock:
                self._opening[cell.id] -= 1
                if session is not None and not self._is_stopping:
                    self._sessions[session.number] = session
        if session.number not in self._sessions:  # the host began to stop meanwhile
            session.child.end()
            session.release()
            raise HostError(SATURATED, "the host stops")
        self._defer(self._live, session)
        return session

    def _take_room(self, cell: CellRef) -> None:
        """Count a terminal that is about to be opened."""
        with self._lock:
            own = sum(one.cell.id == cell.id for one in self._sessions.values()) + self._opening[cell.id]
            if self._is_stopping:
                raise HostError(SATURATED, "the host stops")
            if own >= self._settings.max_per_cell:
                raise HostError(CELL_FULL, f"the cell has {own} terminals")
            if len(self._sessions) + self._opening.total() >= self._settings.max_total:
                raise HostError(SATURATED, f"{self._settings.max_total} terminals are open")
            self._opening[cell.id] += 1

    @host_function
    def pty_write(self, guest: Guest, pty: U32, data: bytes) -> None:
        """Type something.

        Answers 4 when the program has ended or does not read, 6 for a terminal that is none of the cell's.
        """
        session = self._own(guest.cell, pty)
        written = session.write_now(data) if data else 0
        if written < len(data):
            with guest.blocking():
                session.write(data[written:], guest.seconds_left())

    @host_function
    def pty_resize(self, cell: CellRef, pty: U32, columns: U32, rows: U32) -> None:
        """Say how large the terminal is; 80 by 24 until then.

        Answers 4 for a size outside 1..65535 or a terminal that has gone, 6 for one that is none of the cell's.
        """
        session = self._own(cell, pty)
        if not (0 < columns <= MAX_SIDE and 0 < rows <= MAX_SIDE):
            raise HostError(Errno.FAILED, f"{columns} by {rows}")
        try:
            session.resize(columns, rows)
        except OSError as error:
            raise HostError(Errno.FAILED, f"resize: {error}") from None

    @host_function
    def pty_close(self, cell: CellRef, pty: U32) -> None:
        """End the program with everything it started; answers 6 for a terminal that is none of the cell's."""
        self._close(self._own(cell, pty))

    @host_function
    def pty_alive(self, cell: CellRef, pty: U32) -> U32:
        """Answer 1 while the terminal's program runs, 0 for all else."""
        session = self._sessions.get(pty)
        return int(session is not None and session.cell.id == cell.id and session.is_alive)

    def _own(self, cell: CellRef, number: int) -> Session:
        session = self._sessions.get(number)
        if session is None or session.cell.id != cell.id:
            raise HostError(Errno.NOT_FOUND, f"no terminal {number}")
        return session

    def _close(self, session: Session) -> None:
        session.is_alive = False
        with self._lock:
            self._sessions.pop(session.number, None)
        self._defer(self._end, session)

    def _defer(self, what: Callable[[Session], None], session: Session) -> None:
        if self._env is not None:
            self._env.defer(lambda: what(session))

    # On the loop ------------------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        with self._door.opened() as loop:
            try:
                await loop.create_future()
            finally:
                with self._lock:
                    self._is_stopping = True
                    sessions = list(self._sessions.values())
                for session in sessions:
                    self._end(session)
                lives = [session.life for session in sessions if session.life is not None]
                await asyncio.gather(*lives, *self._dying, return_exceptions=True)

    def _live(self, session: Session) -> None:
        if session.life is None:
            session.life = asyncio.ensure_future(session.live(self._flush))
            session.life.add_done_callback(lambda _life: self._ended(session))

    def _end(self, session: Session) -> None:
        """End a session, also one that nobody has looked after yet."""
        self._live(session)
        session.closing.set()
        if session.life is not None and not session.life.done():
            self._dying.add(session.life)
            session.life.add_done_callback(self._dying.discard)

    def _ended(self, session: Session) -> None:
        self._flush(session)
        self._forget(session)

    def _forget(self, session: Session) -> None:
        """Drop a terminal whose program has ended and whose output has all been taken."""
        if session.life is not None and session.life.done() and not session.waits and not session.is_posted:
            with self._lock:
                self._sessions.pop(session.number, None)

    def _flush(self, session: Session) -> None:
        """Post everything that waits, unless the cell still has the last of it."""
        env = self._env
        if env is None or session.is_posted or not session.waits or session.number not in self._sessions:
            return
        size = len(session.waits)
        while True:
            payload = encode_pty_output(session.number, bytes(session.waits[:size]))
            session.is_posted = True
            posted = env.post(StepEvent("pty.output", payload, session.number, session.cell.id))
            if posted is Posted.ACCEPTED:
                del session.waits[:size]
                self._pause = _RETRY_SECONDS[0]
                return
            session.is_posted = False
            if posted is not Posted.TOO_LARGE or size == 1:
                break
            size = (size + 1) // 2
        if posted is Posted.TOO_LARGE:
            session.waits.clear()
            session.cell.log.warning("pty output dropped", pty_id=session.number, reason=posted.value)
        else:
            self._retry()

    def _retry(self) -> None:
        """Try again soon: the mailbox is full, or the cell is being restarted."""
        if self._timer is None and (loop := self._door.loop) is not None:
            self._timer = loop.call_later(self._pause, self._on_timer)
            self._pause = min(2 * self._pause, _RETRY_SECONDS[1])

    def _on_timer(self) -> None:
        self._timer = None
        for session in list(self._sessions.values()):
            self._flush(session)

    def _taken(self, number: int) -> None:
        session = self._sessions.get(number)
        if session is not None:
            self._flush(session)
            self._forget(session)

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings; nothing is allowed by default."""
        self._settings = operator_settings(env, PtySettings, VARIABLES)
        Shells(self._settings, PtyCellSettings())
        self._folders = Folders(self._settings.run_roots, "run_roots")
        self._warden = env.services.get(Warden, lambda: Warden(env.logger))
        self._env, self._is_stopping = env, False
        env.spawn(self._serve())
        if not self._settings.allow_shells:
            env.logger.warning("no terminal may be opened", reason="PTY_ALLOW_SHELLS is empty")

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest leaves it of what the operator allows."""
        self._shells[cell.id] = Shells(self._settings, cell.settings(NAME, PtyCellSettings))

    def finalize(self, number: int) -> None:
        """Post what has come meanwhile: the cell has dealt with the last output."""
        session = self._sessions.get(number)
        if session is not None and self._env is not None:
            session.is_posted = False
            self._env.defer(lambda: self._taken(number))

    def teardown_cell(self, cell_id: str) -> None:
        """End the cell's programs, but for those that persist."""
        for session in list(self._sessions.values()):
            if session.cell.id == cell_id and not session.persist:
                self._close(session)

    def teardown(self) -> None:
        """Let the warden go; what ran has ended with the task."""
        self._warden.close()
        self._sessions.clear()
        self._env = None


def capability() -> Capability:
    """Return the capability."""
    made = Capability.of(NAME, Ptys())

    def stub(linker: Linker, _cell: CellRef) -> None:
        """Answer 99, and that nothing is alive (spec/capabilities §13)."""
        for function in made.functions.values():
            linker.define(function.name, function.words, _nothing if function.name == "pty_alive" else undeclared)

    return dataclasses.replace(made, stub=stub)


def _nothing(_guest: object, *_words: int) -> int:
    return 0
