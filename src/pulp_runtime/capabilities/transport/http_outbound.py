"""`transport.http.outbound`: requests to servers, made while the cell waits (spec/capabilities §3).

    http_fetch         a whole response
    http_fetch_begin   the head; then http_fetch_read, piece by piece, and http_fetch_close

Every connection passes the egress guard. A cell has its own connections and its own streams; both end with it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Final

from pulp_runtime._net.dial_names import Resolve
from pulp_runtime._net.dial_patience import DialFault, Patience, StepNearItsEnd, before_deadline
from pulp_runtime._net.egress import EgressRefused
from pulp_runtime._net.fetch import FetchClient, FetchStream
from pulp_runtime._net.fetch_request import FetchRequest, RequestInvalid, prepare
from pulp_runtime._net.fetch_streams import FetchStreams, TooManyStreams
from pulp_runtime._net.fetch_url import UrlInvalid
from pulp_runtime.abi.http_fetch import HTTPFetchRequest, encode_chunk, encode_fetch_response, encode_stream_header
from pulp_runtime.capabilities.transport.outbound import WayOut
from pulp_runtime.ext import (
    U32,
    U64,
    Capability,
    CellRef,
    Errno,
    Guest,
    HostError,
    SetupEnv,
    host_function,
)

NAME: Final = "transport.http.outbound"
FETCH_SECONDS: Final = 30.0
"""A whole exchange of `http_fetch`, unless the request says something else."""
BODY_BYTES: Final = 50 * 1024 * 1024
"""Longest body of `http_fetch`, decoded."""
READ_BYTES: Final = 4 * 1024 * 1024
"""Most bytes of one `http_fetch_read`."""
SWEEP_SECONDS: Final = 15.0
_NANOSECONDS: Final = 1_000_000_000


class HttpOutbound:
    """Requests of cells.

    Args:
        resolve: names to addresses; the system's resolver by default.
    """

    def __init__(self, resolve: Resolve | None = None) -> None:
        self._way_out: Final = WayOut(NAME, "HTTP_FETCH_ALLOW", resolve=resolve)
        self._streams = FetchStreams()
        self._clients: Final[dict[str, FetchClient]] = {}
        self._lock: Final = threading.Lock()

    # What cells call --------------------------------------------------------------------------------------------

    @host_function(blocking=True)
    def http_fetch(self, guest: Guest, request: HTTPFetchRequest) -> bytes:
        """Make a request, follow redirects, and deliver the whole response.

        Answers `FAILED` (4) for a URL, method or header that is not sent, for a target the cell may not dial, and
        for whatever goes wrong until the last byte of the body; the log says which. A status of 400 and more is a
        response like any other.
        """
        cell = guest.cell
        prepared = _prepared(cell, request)
        client = self._client(cell)
        seconds = request.timeout / _NANOSECONDS if request.timeout > 0 else FETCH_SECONDS
        patience = Patience(seconds, step=before_deadline(guest.seconds_left), gone=lambda: client.closed)
        stream = self._opened(cell, client, prepared, patience)
        try:
            return encode_fetch_response(stream.status, stream.fields, _whole(stream))
        except DialFault as error:
            raise _failed(cell, prepared, error) from None
        finally:
            stream.close()

    @host_function(blocking=True)
    def http_fetch_begin(
        self, guest: Guest, request: HTTPFetchRequest, header_ptr_out: U32, header_len_out: U32
    ) -> None:
        """Make a request, follow redirects, and deliver the head of the response with the number of a stream.

        Answers `FAILED` (4) as `http_fetch` does, and when the cell has 64 streams. What cannot be delivered is
        closed again.
        """
        cell = guest.cell
        prepared = _prepared(cell, request)
        client = self._client(cell)
        if self._streams.full(cell.id):
            raise _failed(cell, prepared, TooManyStreams("64 streams are open; close some"))
        life = Patience(request.timeout / _NANOSECONDS if request.timeout > 0 else None)
        step = life.of(before_deadline(guest.seconds_left), lambda: client.closed)
        stream = self._opened(cell, client, prepared, step, life)
        try:
            number = self._streams.add(cell.id, stream)
        except TooManyStreams as error:
            stream.close()
            raise _failed(cell, prepared, error) from None
        try:
            guest.deliver(encode_stream_header(number, stream.status, stream.fields), header_ptr_out, header_len_out)
        except BaseException:
            self._close(cell.id, number)
            raise

    @host_function(blocking=True)
    def http_fetch_read(
        self, guest: Guest, stream_id: U64, max_bytes: U32, chunk_ptr_out: U32, chunk_len_out: U32
    ) -> None:
        """Deliver the next piece of a stream's body.

        Answers `EMPTY` (1) for no bytes. What goes wrong with the stream, and a number that is none of the cell's,
        is said in the chunk.
        """
        if not max_bytes:
            raise HostError(Errno.EMPTY, "max_bytes")
        cell = guest.cell
        stream = self._streams.get(cell.id, stream_id)
        data = b""
        if stream is None:
            chunk = encode_chunk(b"", err="no such stream")
        else:
            client = self._client(cell)
            step = stream.patience.of(before_deadline(guest.seconds_left), lambda: client.closed)
            try:
                data = stream.read(min(max_bytes, READ_BYTES), step)
                chunk = encode_chunk(data, eof=stream.ended)
            except StepNearItsEnd:
                chunk = encode_chunk(b"")
            except DialFault as error:
                stream.close()
                chunk = encode_chunk(b"", err=str(error))
        try:
            guest.deliver(chunk, chunk_ptr_out, chunk_len_out)
        except BaseException:
            if stream is not None:
                stream.unread(data)
            raise

    @host_function
    def http_fetch_close(self, cell: CellRef, stream_id: U64) -> None:
        """Close a stream; nothing happens when there is no such stream."""
        self._close(cell.id, stream_id)

    def _close(self, cell_id: str, number: int) -> None:
        stream = self._streams.take(cell_id, number)
        if stream is not None:
            stream.close()

    # Cells ------------------------------------------------------------------------------------------------------

    def _client(self, cell: CellRef) -> FetchClient:
        with self._lock:
            client = self._clients.get(cell.id)
            if client is None:
                client = self._clients[cell.id] = FetchClient(self._way_out.dialer(cell))
            return client

    def _opened(
        self,
        cell: CellRef,
        client: FetchClient,
        request: FetchRequest,
        patience: Patience,
        life: Patience | None = None,
    ) -> FetchStream:
        try:
            return client.open(request, patience, life)
        except EgressRefused as error:
            cell.log.warning("fetch refused", url=request.url.origin, reason=str(error))
            raise HostError(Errno.FAILED, str(error)) from None
        except (DialFault, UrlInvalid) as error:
            raise _failed(cell, request, error) from None

    # Hooks ------------------------------------------------------------------------------------------------------

    def setup(self, env: SetupEnv) -> None:
        """Read what the operator allows; look after idle connections."""
        self._way_out.open(env)
        self._streams = env.services.get(FetchStreams, FetchStreams)
        env.spawn(self._sweep())

    async def _sweep(self) -> None:
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
        """Close the cell's streams and connections; a request in progress gives up."""
        with self._lock:
            client = self._clients.pop(cell_id, None)
        if client is not None:
            client.close()
        self._streams.drop(cell_id)

    def teardown(self) -> None:
        """Close what is left."""
        for cell_id in list(self._clients):
            self.teardown_cell(cell_id)


def _prepared(cell: CellRef, request: HTTPFetchRequest) -> FetchRequest:
    try:
        return prepare(request.method, request.url, request.headers or {}, request.body or b"")
    except (RequestInvalid, UrlInvalid) as error:
        cell.log.warning("fetch refused", reason=str(error))
        raise HostError(Errno.FAILED, str(error)) from None


def _failed(cell: CellRef, request: FetchRequest, error: Exception) -> HostError:
    cell.log.info("fetch failed", url=request.url.origin, reason=str(error))
    return HostError(Errno.FAILED, str(error))


def _whole(stream: FetchStream) -> bytearray:
    """Return the whole body.

    Raises:
        DialFault: it is too large, or does not come.
    """
    body = bytearray()
    if (stream.length or 0) <= BODY_BYTES:
        while data := stream.read(BODY_BYTES + 1 - len(body)):
            body += data
            if len(body) > BODY_BYTES:
                break
        else:
            return body
    raise DialFault(f"body over {BODY_BYTES:,} bytes; read it piece by piece with http_fetch_begin")


def capability() -> Capability:
    """Return the capability; the entry point."""
    return Capability.of(NAME, HttpOutbound())
