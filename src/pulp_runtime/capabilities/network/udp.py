"""`network.udp`: datagrams in and out (spec/capabilities §10).

    worker   udp_listen ── bind ── selector      udp_send ── resolve ── guard ── sendto
    loop     selector readable ── recvfrom ── ring[socket] ── post, one event each, round robin ──▶ mailbox

A ring keeps the newest packets when the cell does not keep up; what it drops is counted, and told once a second. A
full mailbox leaves packets in their ring: they are posted when the cell has dealt with an event, or a little later.
"""

from __future__ import annotations

import asyncio
import itertools
import selectors
import socket
import threading
from collections import deque
from typing import Any, Final

from pulp_runtime._net.dial_names import Names
from pulp_runtime._net.dial_patience import Patience, before_deadline
from pulp_runtime.abi.udp import UdpClose, UdpListen, UdpSend, UdpSent, encode_listening
from pulp_runtime.capabilities.network.addresses import literal
from pulp_runtime.capabilities.network.udp_policy import (
    VARIABLES,
    Asker,
    Policy,
    UdpCellSettings,
    UdpSettings,
    bound,
    destination,
    split,
)
from pulp_runtime.capabilities.network.udp_socket import MAX_DATAGRAM, Held, Socket
from pulp_runtime.capabilities.operator import operator_settings
from pulp_runtime.ext import (
    Capability,
    CellRef,
    Errno,
    ExtensionError,
    Guest,
    HostError,
    Posted,
    SetupEnv,
    StepEvent,
    host_function,
)

NAME: Final = "network.udp"
DEFAULT_BUFFER: Final = 262_144
_MOST_BUFFER: Final = 1 << 30
_BURST: Final = 64
"""Packets read from one socket before another has its turn."""
_RETRY_SECONDS: Final = (0.001, 0.05)


class Udp:
    """The sockets of all cells."""

    def __init__(self) -> None:
        self._env: SetupEnv | None = None
        self._selector: selectors.BaseSelector | None = None
        self._settings = UdpSettings()
        self._policies: Final[dict[str, tuple[Policy, Held]]] = {}
        self._sockets: Final[dict[int, Socket]] = {}
        self._lock: Final = threading.Lock()
        self._ids: Final = itertools.count(1)
        self._names = Names()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: Final[deque[Socket]] = deque()
        self._buffer: Final = bytearray(MAX_DATAGRAM)
        self._stalled = False
        self._pause = _RETRY_SECONDS[0]
        self._timer: asyncio.TimerHandle | None = None

    # What cells call --------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def udp_listen(self, guest: Guest, request: UdpListen) -> bytes:
        """Bind a socket; answer its id.

        Answers 4 when the address cannot be resolved or bound, or there are too many sockets, 10 when the capability
        is not set up, 12 when the address may not be bound.
        """
        cell = guest.cell
        selector = self._set_up()
        policy, held = self._policies[cell.id]
        try:
            sock = bound(policy, request.addr, self._asker(guest))
            _set_buffer(cell, sock, request.buffer_size)
            try:
                return encode_listening(self._add(selector, cell, sock, policy, held))
            except BaseException:
                sock.close()
                raise
        except HostError as error:
            cell.log.warning("udp socket refused", addr=request.addr, reason=error.detail)
            raise

    def _add(
        self, selector: selectors.BaseSelector, cell: CellRef, sock: socket.socket, policy: Policy, held: Held
    ) -> int:
        most = self._settings
        with self._lock:
            own = sum(other.cell.id == cell.id for other in self._sockets.values())
            if own >= most.max_sockets_per_cell or len(self._sockets) >= most.max_sockets_total:
                raise HostError(Errno.FAILED, f"{own} sockets of the cell, {len(self._sockets)} in all: no more")
            made = Socket(next(self._ids), cell, sock, policy, held)
            try:
                selector.register(sock, selectors.EVENT_READ, made)
            except OSError as error:
                raise HostError(Errno.FAILED, f"watch the socket: {error}") from None
            self._sockets[made.number] = made
        return made.number

    @host_function
    def udp_send(self, guest: Guest, request: UdpSend) -> UdpSent:
        """Send one datagram; answer how many bytes went.

        Answers 4 for an unknown socket, an address that cannot be resolved or a datagram that cannot be sent, 10 when
        the capability is not set up, 11 for the socket of another cell, 12 when the address may not be sent to.
        """
        own = self._own(guest.cell, request.socket_id)
        where = own.known(request.dst_addr)
        if where is None:
            where = self._destination(guest, own, request.dst_addr)
        payload = request.payload or b""
        if not own.send_now(payload, where):
            with guest.blocking():
                own.send(payload, where, guest.seconds_left())
        return UdpSent(len(payload))

    def _destination(self, guest: Guest, own: Socket, addr: str) -> tuple[Any, ...]:
        try:
            host, port = split(addr)
            if literal(host) is not None:
                where = destination(own.policy, own.sock, host, port, self._asker(guest))
                own.remember(addr, where)
                return where
            with guest.blocking():  # a name takes its time, and may mean something else next time
                return destination(own.policy, own.sock, host, port, self._asker(guest))
        except HostError as error:
            own.cell.log.warning("udp datagram refused", dst_addr=addr, reason=error.detail)
            raise

    def _asker(self, guest: Guest) -> Asker:
        """Return what looks names up for a cell, as long as its call may take."""
        names, cell_id = self._names, guest.cell.id
        return lambda name: names.resolve(cell_id, name, Patience(step=before_deadline(guest.seconds_left)))

    @host_function
    def udp_close(self, cell: CellRef, request: UdpClose) -> None:
        """Close a socket; packets that wait in it are dropped.

        Answers 4 for an unknown socket, 10 when the capability is not set up, 11 for the socket of another cell.
        """
        self._close(self._own(cell, request.socket_id))

    def _set_up(self) -> selectors.BaseSelector:
        if self._selector is None:
            raise HostError(Errno.UNAVAILABLE, "network.udp is not set up")
        return self._selector

    def _own(self, cell: CellRef, number: int) -> Socket:
        self._set_up()
        found = self._sockets.get(number)
        if found is None:
            raise HostError(Errno.FAILED, f"no socket {number}")
        if found.cell.id != cell.id:
            cell.log.warning("udp socket of another cell refused", socket_id=number)
            raise HostError(Errno.DENIED, f"socket {number} is another cell's")
        return found

    def _close(self, one: Socket) -> None:
        with self._lock:
            self._sockets.pop(one.number, None)
        one.close(self._set_up())

    # Packets, on the loop ---------------------------------------------------------------------------------------

    async def _serve(self, selector: selectors.BaseSelector) -> None:
        """Read packets until the host begins to stop; sending goes on."""
        file = selector.fileno()  # type: ignore[attr-defined]
        self._loop = loop = asyncio.get_running_loop()
        loop.add_reader(file, self._on_readable, selector)
        try:
            await loop.create_future()
        finally:
            loop.remove_reader(file)
            self._loop = None
            if self._timer is not None:
                self._timer.cancel()

    def _on_readable(self, selector: selectors.BaseSelector) -> None:
        for key, _mask in selector.select(0):
            one: Socket = key.data
            one.receive(self._buffer, _BURST)
            if len(one) and not one.queued:
                one.queued = True
                self._waiting.append(one)
        self._pump()

    def _pump(self) -> None:
        """Post what waits, a packet from each socket in turn, until every mailbox is full or nothing is left."""
        env, waiting = self._env, self._waiting
        full: set[str] = set()
        later: list[Socket] = []
        while waiting and env is not None:
            one = waiting.popleft()
            if one.closed or not len(one):
                one.queued = False
                one.empty()
            elif one.cell.id in full or not self._post(env, one):
                full.add(one.cell.id)
                later.append(one)
            else:
                waiting.append(one)
        waiting.extend(later)
        self._stalled = bool(later)
        if later:
            self._retry()
        else:
            self._pause = _RETRY_SECONDS[0]

    def _post(self, env: SetupEnv, one: Socket) -> bool:
        """Post the oldest packet of a socket; False if it must wait."""
        posted = env.post(StepEvent("udp.packet", one.oldest(), one.number, one.cell.id))
        if posted is Posted.ACCEPTED:
            one.take()
        elif posted is not Posted.FULL:
            one.let_go(posted.value)
        return posted is not Posted.FULL

    def _retry(self) -> None:
        """Try again soon: the mailbox may hold none of our own events, whose end would tell that there is room."""
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(self._pause, self._on_timer)
            self._pause = min(2 * self._pause, _RETRY_SECONDS[1])

    def _on_timer(self) -> None:
        self._timer = None
        self._pump()

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read the operator's settings."""
        self._settings = operator_settings(env, UdpSettings, VARIABLES)
        Policy.of(self._settings)
        selector = selectors.DefaultSelector()
        if not hasattr(selector, "fileno"):
            raise ExtensionError("network.udp needs a system with epoll or kqueue")
        self._names = env.services.get(Names, Names)
        self._env, self._selector = env, selector
        env.spawn(self._serve(selector))

    def setup_cell(self, cell: CellRef) -> None:
        """Read what the cell's manifest leaves of what the operator allows."""
        self._policies[cell.id] = (Policy.of(self._settings, cell.settings(NAME, UdpCellSettings)), Held())

    def finalize(self, _number: int) -> None:
        """Go on posting: the cell has dealt with a packet, so its mailbox has room."""
        if self._stalled and self._env is not None:
            self._stalled = False
            self._env.defer(self._pump)

    def teardown_cell(self, cell_id: str) -> None:
        """Close the cell's sockets."""
        for one in [one for one in list(self._sockets.values()) if one.cell.id == cell_id]:
            self._close(one)

    def teardown(self) -> None:
        """Close every socket."""
        for one in list(self._sockets.values()):
            self._close(one)
        if self._selector is not None:
            self._selector.close()
        self._selector = self._env = None
        self._policies.clear()


def _set_buffer(cell: CellRef, sock: socket.socket, wanted: int) -> None:
    size = min(wanted, _MOST_BUFFER) if wanted > 0 else DEFAULT_BUFFER
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
    except OSError as error:
        cell.log.warning("udp receive buffer not set", bytes=size, reason=str(error))


def capability() -> Capability:
    """Return the capability."""
    return Capability.of(NAME, Udp())
