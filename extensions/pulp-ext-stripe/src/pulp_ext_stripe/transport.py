"""Sends what the stripe library has written: within the caller's deadline, to one host, and never more than a bound.

The library's own senders have one timeout for all calls. It takes another one, if that is an `HTTPClient`.
"""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from stripe import APIConnectionError, HTTPClient

MOST_BYTES: Final = 1024 * 1024
"""Longest body of an answer."""
CONNECTIONS: Final = 16
"""Idle connections that are kept. More calls at once open more, and close them again."""
CONNECT_SECONDS: Final = 5.0
_CHUNK: Final = 64 * 1024
_GONE: Final = (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError)


class Transport(HTTPClient):
    """Connections to Stripe, as the library uses them. From any thread.

    Args:
        base: `https://host[:port]`; nothing is ever sent to another one.
    """

    name = "pulp"

    def __init__(self, base: str) -> None:
        super().__init__()
        parts = urlsplit(base)
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

    @property
    def busy(self) -> bool:
        """Whether this thread is in a call."""
        return hasattr(self._call, "deadline")

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        **_about: Any,
    ) -> tuple[str, int, Mapping[str, str]]:
        """Send one request; return body, status and headers. See `stripe.HTTPClient`.

        Raises:
            APIConnectionError: no connection, no answer in time, one that is too long, or another host.
        """
        if urlsplit(url).netloc != self._netloc:
            raise APIConnectionError("the request is for another host")  # type: ignore[no-untyped-call]
        try:
            connection = self._kept()
            if connection is not None:
                try:
                    return self._exchange(connection, method, url, headers or {}, post_data)
                except _GONE:
                    pass  # closed while it was idle; what writes carries a key, so that twice is once
            return self._exchange(self._opened(), method, url, headers or {}, post_data)
        except (OSError, http.client.HTTPException) as error:
            reason = f"{type(error).__name__}: {_why(error)}"
            raise APIConnectionError(reason) from None  # type: ignore[no-untyped-call]

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, url: str, headers: Mapping[str, str], data: Any
    ) -> tuple[str, int, Mapping[str, str]]:
        address = urlsplit(url)
        target = address.path + (f"?{address.query}" if address.query else "")
        response = None
        try:
            self._hurry(connection)
            connection.request(method.upper(), target, data, dict(headers))
            self._hurry(connection)
            response = connection.getresponse()
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
        return (
            body.decode(errors="replace"),
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
        )

    def _read(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> bytes:
        if (response.length or 0) > MOST_BYTES:
            raise http.client.HTTPException(f"the answer has more than {MOST_BYTES:,} bytes")
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
                raise http.client.HTTPException(f"the answer has more than {MOST_BYTES:,} bytes")

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
    return getattr(error, "strerror", None) or str(error) or "the connection ended"
