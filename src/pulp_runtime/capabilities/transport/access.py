"""What the operator may want to know of every request, and have done to it: who asked, under which id, what came of it.

Nothing of this is in the way of a request unless it is switched on: `trusted_proxies`, `access_log`, `request_id`.
Then each request gets a connection of its own, `Seen`, that stands before the real one:

    listener ──▶ admit: address, headers, id ──▶ the front ──▶ render, respond, begin … ──▶ Seen ──▶ connection
                                                                                            └──▶ a line of the log
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any, Final

from pulp_runtime._net.exchange import Connection, Handler, Request, TakenOver
from pulp_runtime._net.response import RenderedFields
from pulp_runtime._net.routes import Match
from pulp_runtime._net.stream import ResponseStream
from pulp_runtime.abi.http import pack_remote_addr
from pulp_runtime.capabilities.transport.listener_settings import ListenerSettings
from pulp_runtime.capabilities.transport.proxies import Proxies
from pulp_runtime.errors import ExtensionError
from pulp_runtime.log import Log

LOG: Final = "pulp.access"
PATH_CHARACTERS: Final = 1_024
"""How much of a path a line shows."""
CLIENT_GONE: Final = 499
"""What the log shows as the status of a request whose client left before it was answered."""
_ID_BYTES: Final = 12
_HEADER: Final = "X-Request-Id"

#: An id that somebody else gave: no more than this, or it gets a new one.
_usable: Final = re.compile(r"[A-Za-z0-9._~+/=@:-]{1,128}").fullmatch

Taker = Callable[[Request, Match], None]


class Access:
    """What is done to every request of a host.

    Args:
        settings: at least one of them switched on.

    Raises:
        ExtensionError: a trusted proxy is no network.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self._proxies: Proxies | None = None
        if settings.trusted_proxies is not None:
            try:
                self._proxies = Proxies(settings.trusted_proxies, settings.proxy_header)
            except ValueError as error:
                raise ExtensionError(f"http.trusted_proxies: {error}") from None
        self._ids: Final = settings.request_id
        self._log: Final = Log(LOG) if settings.access_log else None

    def admit(self, request: Request) -> None:
        """Prepare a request for the front. On the loop."""
        connection, block = request.connection, request.block
        remote, fields = connection.remote_addr, None
        trusted = self._proxies is not None and self._proxies.trusts(remote)
        if self._proxies is not None:
            if trusted:
                remote = self._proxies.client(block, remote)
            fields = self._proxies.cleaned(block, trusted=trusted)
        request_id = ""
        if self._ids:
            given = block.fields.get(_HEADER, "") if trusted else ""
            request_id = given if _usable(given) else os.urandom(_ID_BYTES).hex()
            fields = {**(block.fields if fields is None else fields), _HEADER: request_id}
        if fields is not None and fields != block.fields:
            request.block = block.with_fields(fields)
        request.connection = Seen(connection, request, remote, request_id, self._log)

    def mark(self, request: Request, application: str, instance: str) -> None:
        """Note whose a request is that came by the gateway."""
        if isinstance(request.connection, Seen):
            request.connection.application, request.connection.instance = application, instance

    def watch(self, taker: Taker) -> Taker:
        """Return a taker that notes whose a request is."""

        def take(request: Request, match: Match) -> None:
            if isinstance(request.connection, Seen):
                request.connection.cell = match.owner
            taker(request, match)

        return take

    def before(self, handler: Handler) -> Handler:
        """Return a handler of requests that admits them first."""

        def handle(request: Request) -> None:
            self.admit(request)
            handler(request)

        return handle

    def behind(self, handler: Handler) -> Handler:
        """Return a handler of requests whose client has left, that notes so."""

        def handle(request: Request) -> None:
            if isinstance(request.connection, Seen):
                request.connection.told(CLIENT_GONE, 0)
            handler(request)

        return handle


class Seen:
    """One request's connection: see `exchange.Connection`. The address is the client's, also behind trusted proxies.

    Attributes:
        cell: whose route it was, "" for none.
        application: which one it is a cell of, "" on a host without a gateway.
        instance: which instance of the application.
    """

    __slots__ = (
        "_began",
        "_connection",
        "_id",
        "_line",
        "_log",
        "_size",
        "_status",
        "application",
        "cell",
        "instance",
        "packed_remote_addr",
        "remote_addr",
        "secure",
    )

    def __init__(self, connection: Connection, request: Request, remote: str, request_id: str, log: Log | None) -> None:
        self.cell = self.application = self.instance = ""
        self.remote_addr = remote
        same = remote == connection.remote_addr
        self.packed_remote_addr = connection.packed_remote_addr if same else pack_remote_addr(remote)
        self.secure = connection.secure
        self._connection: Final = connection
        self._line: Final = request.line  # a gateway takes its prefix off
        self._id: Final = request_id
        self._log = log
        self._began: Final = time.monotonic()
        self._status = self._size = 0

    def limit_idle(self, seconds: float) -> None:
        """See `exchange.Connection`."""
        self._connection.limit_idle(seconds)

    def render(self, request: Request, fields: RenderedFields, body: bytes) -> Any:
        """See `exchange.Connection`."""
        self._status = fields.status
        self._size = 0 if fields.bodiless or request.line.method == "HEAD" else len(body)
        return self._connection.render(request, self._named(fields), body)

    def respond(self, request: Request, answer: Any, *, close: bool = False) -> None:
        """See `exchange.Connection`."""
        self._connection.respond(request, answer, close=close)
        self.told(self._status, self._size)

    def send_direct(self, request: Request, answer: Any) -> Any | None:
        """See `exchange.Connection`."""
        rest = self._connection.send_direct(request, answer)
        if rest is None:
            self.told(self._status, self._size)
        return rest

    def begin(self, request: Request, fields: RenderedFields) -> ResponseStream | None:
        """See `exchange.Connection`."""
        stream = self._connection.begin(request, self._named(fields))
        if stream is None or self._log is None:
            return stream
        silent = fields.bodiless or request.line.method == "HEAD"
        return _Counted(stream, lambda size, broken: self.told(fields.status, 0 if silent else size, broken=broken))

    def take_over(self, request: Request) -> TakenOver | None:
        """See `exchange.Connection`."""
        taken = self._connection.take_over(request)
        if taken is not None:
            self.told(101, 0)
        return taken

    def _named(self, fields: RenderedFields) -> RenderedFields:
        return fields.with_line(_HEADER.encode(), self._id.encode()) if self._id else fields

    def told(self, status: int, size: int, *, broken: bool = False) -> None:
        """Log what came of the request, once."""
        log, self._log = self._log, None
        if log is None:
            return
        line = self._line
        more = {"application": self.application, "instance": self.instance} if self.application else {}
        if self._id:
            more["id"] = self._id
        log.info(
            "request",
            method=line.method,
            path=line.path[:PATH_CHARACTERS],
            status=status,
            bytes=size,
            ms=round((time.monotonic() - self._began) * 1000, 1),
            cell=self.cell,
            remote=self.remote_addr,
            **more,
            **({"broken": True} if broken else {}),
        )


class _Counted(ResponseStream):
    """An answer in pieces whose bytes are counted; tells `done(bytes, broken)` at its end."""

    def __init__(self, stream: ResponseStream, done: Callable[[int, bool], None]) -> None:
        self._stream: Final = stream
        self._done: Final = done
        self._size = 0
        super().__init__()
        stream.on_room = lambda: self.on_room()
        stream.on_close = self._lost

    def _lost(self) -> None:
        self._done(self._size, True)
        self.on_close()

    @property
    def closed(self) -> bool:
        """See `ResponseStream`."""
        return self._stream.closed

    @closed.setter
    def closed(self, value: bool) -> None:
        """It is the other stream's to say."""

    @property
    def full(self) -> bool:
        """See `ResponseStream`."""
        return self._stream.full

    @full.setter
    def full(self, value: bool) -> None:
        """It is the other stream's to say."""

    @property
    def waiting(self) -> int:
        """See `ResponseStream`."""
        return self._stream.waiting

    def write(self, data: bytes) -> None:
        """See `ResponseStream`."""
        if not self._stream.closed:
            self._size += len(data)
        self._stream.write(data)

    def end(self) -> None:
        """See `ResponseStream`."""
        self._stream.end()
        self._done(self._size, False)

    def abort(self) -> None:
        """See `ResponseStream`."""
        self._stream.abort()
        self._done(self._size, True)
