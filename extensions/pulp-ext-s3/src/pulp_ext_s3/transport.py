"""Sends what botocore has signed: within the caller's deadline, to one host, and never more than a bound.

botocore's own sender has one timeout for all calls. Its event `before-send` lets another one answer instead.
"""

from __future__ import annotations

import http.client
import io
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from botocore.awsrequest import AWSResponse, HeadersDict

MOST_BYTES: Final = 64 * 1024 * 1024
"""Longest body of an answer; also the longest object that a cell can send or get in one piece."""
CONNECTIONS: Final = 16
"""Idle connections that are kept. More calls at once open more, and close them again."""
CONNECT_SECONDS: Final = 5.0
_CHUNK: Final = 256 * 1024
_ELSEWHERE: Final = (301, 302, 303, 307, 308)
_GONE: Final = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class Unsent(Exception):
    """The store could not be asked, or did not answer in time; the text says why, without credentials."""


class TooLong(Exception):
    """The answer is longer than `MOST_BYTES`."""


class Body(io.BytesIO):
    """The body of an answer, as botocore reads one."""

    def stream(self, _amount: int = 0, **_options: Any) -> Iterator[bytes]:
        """Give out everything at once."""
        yield self.getvalue()


class Transport:
    """Connections to one store. From any thread.

    Args:
        endpoint: `http(s)://host[:port]`; nothing is ever sent to another one.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._netloc: Final = parts.netloc
        self._address: Final = (parts.hostname or "", parts.port)
        self._tls: Final = ssl.create_default_context() if parts.scheme == "https" else None
        self._idle: Final[deque[http.client.HTTPConnection]] = deque()
        self._call: Final = threading.local()

    @contextmanager
    def within(self, seconds: float) -> Iterator[None]:
        """Let what this thread sends here take no longer than `seconds` in all."""
        self._call.deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            del self._call.deadline

    def send(self, request: Any, **_about: Any) -> AWSResponse:
        """Answer `request`, one that botocore has prepared and signed; a handler of its `before-send`.

        Raises:
            Unsent: no connection, no answer in time, or the request is for another host.
            TooLong: the answer has more than `MOST_BYTES`.
        """
        netloc = urlsplit(request.url).netloc
        if netloc != self._netloc:
            raise Unsent(f"the store sends us on to {netloc}; make that the endpoint")
        try:
            connection = self._kept()
            if connection is not None:
                try:
                    return self._exchange(connection, request)
                except _GONE:
                    pass  # closed by the store while it was idle: what was asked has not been read
            return self._exchange(self._opened(), request)
        except (OSError, http.client.HTTPException) as error:
            raise Unsent(f"{type(error).__name__}: {_why(error)}") from None

    def _exchange(self, connection: http.client.HTTPConnection, request: Any) -> AWSResponse:
        address = urlsplit(request.url)
        target = address.path + (f"?{address.query}" if address.query else "")
        response = None
        try:
            self._hurry(connection)
            connection.request(request.method, target, request.body, dict(request.headers.items()))
            self._hurry(connection)
            response = connection.getresponse()
            if response.status in _ELSEWHERE:
                # botocore would look for the bucket by itself, with more requests, and again for each of those.
                raise Unsent(f"the store sends us elsewhere ({response.status}); correct S3_ENDPOINT or S3_REGION")
            body = self._read(connection, response)
        except BaseException:
            connection.close()  # half-read, it is of no further use
            if response is not None:
                response.close()
            raise
        if response.will_close or len(self._idle) >= CONNECTIONS:
            connection.close()
        else:
            self._idle.append(connection)
        return AWSResponse(request.url, response.status, HeadersDict(response.headers), Body(body))

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> bytes:
        if (response.length or 0) > MOST_BYTES:
            raise TooLong
        parts: list[bytes] = []
        size = 0
        while True:
            if not response.isclosed():
                self._hurry(connection)
            part = response.read(_CHUNK)
            if not part and response.length:
                raise http.client.IncompleteRead(b"")
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES:
                raise TooLong

    def _kept(self) -> http.client.HTTPConnection | None:
        """Return an idle connection that is still open, if there is one."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            waiting = select.poll()
            waiting.register(connection.sock, select.POLLIN)
            if not waiting.poll(0):  # anything to read on an idle connection is its end
                return connection
            connection.close()
        return None

    def _opened(self) -> http.client.HTTPConnection:
        host, port = self._address
        seconds = min(self._left(), CONNECT_SECONDS)
        connection: http.client.HTTPConnection = (
            http.client.HTTPConnection(host, port, timeout=seconds)
            if self._tls is None
            else http.client.HTTPSConnection(host, port, timeout=seconds, context=self._tls)
        )
        connection.connect()
        return connection

    def _left(self) -> float:
        left = float(self._call.deadline) - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def _hurry(self, connection: http.client.HTTPConnection) -> None:
        """Let the next thing on this connection take what is left of the deadline."""
        sock: socket.socket | None = connection.sock
        if sock is not None:
            sock.settimeout(self._left())

    def close(self) -> None:
        """Close idle connections."""
        while self._idle:
            self._idle.pop().close()


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer before the deadline of the call"
    return getattr(error, "strerror", None) or "the connection ended"
