"""Servers that a test scripts byte by byte: what outbound requests meet."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import NamedTuple, Self

PATIENCE_SECONDS = 20.0


class Seen(NamedTuple):
    """A request as it arrived.

    Attributes:
        method: of its first line.
        target: of its first line.
        fields: by lower-case name, as a list of values.
        body: as long as Content-Length says.
        head: every byte of the head.
        connection: which connection brought it, from 1.
    """

    method: str
    target: str
    fields: dict[str, list[str]]
    body: bytes
    head: bytes
    connection: int


class Peer:
    """One accepted connection, on a thread of its own."""

    def __init__(self, upstream: Upstream, sock: socket.socket, number: int) -> None:
        self.upstream = upstream
        self.sock = sock
        self.number = number
        self._kept = b""

    def read_until(self, end: bytes) -> bytes:
        """Return bytes up to and with `end`; less if the client is gone."""
        while end not in self._kept:
            data = self.sock.recv(65536)
            if not data:
                whole, self._kept = self._kept, b""
                return whole
            self._kept += data
        head, _, self._kept = self._kept.partition(end)
        return head + end

    def read(self, size: int) -> bytes:
        """Return so many bytes."""
        while len(self._kept) < size:
            data = self.sock.recv(65536)
            if not data:
                break
            self._kept += data
        data, self._kept = self._kept[:size], self._kept[size:]
        return data

    def request(self) -> Seen | None:
        """Return the next request, None when the client is gone."""
        head = self.read_until(b"\r\n\r\n")
        if not head.endswith(b"\r\n\r\n"):
            return None
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        fields: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            fields.setdefault(name.lower(), []).append(value.strip())
        body = self.read(int(fields.get("content-length", ["0"])[0]))
        seen = Seen(method, target, fields, body, head, self.number)
        self.upstream.seen.append(seen)
        return seen

    def send(self, data: bytes) -> None:
        """Send everything."""
        self.sock.sendall(data)

    def wait_for_end(self) -> bytes:
        """Return what the client still sends until it closes."""
        rest = self._kept
        with contextlib.suppress(OSError):
            while data := self.sock.recv(65536):
                rest += data
        self.upstream.ended.set()
        return rest


Script = Callable[[Peer], None]


class Upstream:
    """A server on loopback. Every connection runs `script` on a thread; what it raises, `close` raises again.

    Attributes:
        seen: requests, oldest first.
        connections: how many were accepted.
        ended: set when a script saw its client go.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None, family: int = socket.AF_INET) -> None:
        self.seen: list[Seen] = []
        self.connections = 0
        self.ended = threading.Event()
        self._script = script
        self._tls = tls
        self._socks: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self._sock = socket.socket(family)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        self._sock.listen(128)
        self.port = self._sock.getsockname()[1]
        self._start(self._accept)

    @property
    def address(self) -> str:
        """`127.0.0.1:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """Its root, by address."""
        return f"{'https' if self._tls else 'http'}://{self.address}"

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _address = self._sock.accept()
                self.connections += 1
                self._socks.append(sock)
                self._start(self._serve, sock, self.connections)

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.settimeout(PATIENCE_SECONDS)
            if self._tls is not None:
                try:
                    sock = self._tls.wrap_socket(sock, server_side=True)
                except OSError:
                    return  # the client did not like us
                self._socks.append(sock)
            self._script(Peer(self, sock, number))
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_WR)
        except (ConnectionError, ssl.SSLError):
            self.ended.set()  # the client has left: what tests of impatience are about
        except BaseException as error:  # noqa: BLE001  # raised again by `close`
            self._failures.append(error)
        finally:
            sock.close()

    def close(self) -> None:
        """End every connection."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for sock in list(self._socks):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        for thread in list(self._threads):
            thread.join(PATIENCE_SECONDS)
        for sock in self._socks:
            sock.close()
        if self._failures:
            raise self._failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_error: object) -> None:
        try:
            self.close()
        except BaseException:
            if kind is None:
                raise


def response(body: bytes = b"ok", *fields: str, status: str = "200 OK") -> bytes:
    """Return a response whose length is its body's."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


def always(answer: bytes | Callable[[Seen], bytes]) -> Script:
    """Return a script that answers every request of a connection."""

    def script(peer: Peer) -> None:
        while (seen := peer.request()) is not None:
            peer.send(answer(seen) if callable(answer) else answer)

    return script


def once(answer: bytes) -> Script:
    """Return a script that reads one request, sends these bytes, and closes."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer)

    return script


def silent(peer: Peer) -> None:
    """Read a request, and say nothing until the client leaves."""
    peer.request()
    peer.wait_for_end()


def dripping(data: bytes, stop: threading.Event, seconds: float = 0.02) -> Script:
    """Return a script that reads a request and then sends one byte at a time."""

    def script(peer: Peer) -> None:
        peer.request()
        for byte in data:
            peer.send(bytes((byte,)))
            if stop.wait(seconds):
                return

    return script
