"""One connection to a server, in the clear or over TLS: a socket that never blocks, and waits that end."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING, Final

from pulp_runtime._net.dial_patience import DialFault, Patience

if TYPE_CHECKING:
    import ssl

_READ: Final = select.POLLIN
_WRITE: Final = select.POLLOUT
_SENT_AT_ONCE: Final = 256 * 1024
_EARLY_BYTES: Final = 64 * 1024


class Wire:
    """A connected socket. Belongs to one thread at a time.

    Attributes:
        wants: the `select.poll` event that the last operation, which could do nothing, waits for.
    """

    __slots__ = ("_early", "_poll", "_sock", "wants")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._poll: Final = select.poll()
        self._poll.register(sock.fileno(), 0)
        self._early: bytes | None = None
        self.wants = _READ

    @property
    def sock(self) -> socket.socket:
        """The socket; an `SSLSocket` once TLS has been begun."""
        return self._sock

    def fileno(self) -> int:
        """Return its descriptor; -1 when it is closed."""
        return self._sock.fileno()

    # Without waiting --------------------------------------------------------------------------------------------

    def recv_now(self, size: int) -> bytes | None:
        """Return what is there, at most `size` bytes; b"" at the end of the stream, None when nothing is there yet.

        Raises:
            DialFault: the connection broke; over TLS also when it ended without saying so.
        """
        if self._early is not None:
            early, self._early = self._early, None
            return early
        self.wants = _READ
        try:
            return self._sock.recv(size)
        except OSError as error:
            self._blocked(error, "receive")
            return None

    def send_now(self, data: memoryview) -> int:
        """Send as much as goes at once; return how many bytes that was.

        Raises:
            DialFault: the connection broke.
        """
        self.wants = _WRITE
        try:
            return self._sock.send(data[:_SENT_AT_ONCE])
        except OSError as error:
            self._blocked(error, "send")
            return 0

    def _blocked(self, error: OSError, doing: str) -> None:
        """Note what to wait for, or raise what cannot be waited for."""
        if isinstance(error, BlockingIOError):
            return
        kind = type(error).__name__
        if kind == "SSLWantReadError":
            self.wants = _READ
        elif kind == "SSLWantWriteError":
            self.wants = _WRITE
        else:
            raise DialFault(f"{doing}: {reason_of(error)}") from None

    @property
    def pending(self) -> bool:
        """Whether bytes are here that the socket does not show any more: decrypted, or read ahead."""
        return self._early is not None or bool(getattr(self._sock, "pending", int)())

    # With patience ----------------------------------------------------------------------------------------------

    def wait(self, patience: Patience, events: int | None = None) -> int:
        """Wait until the socket is ready for what it `wants`, or for `events`; return for which of them it is.

        Raises:
            OutOfTime: it was not ready in time.
        """
        self._poll.modify(self._sock.fileno(), events or self.wants)
        while not (ready := self._poll.poll(patience.slice() * 1000)):
            pass
        return ready[0][1]

    def recv(self, size: int, patience: Patience) -> bytes:
        """Return the next bytes, at most `size`; b"" at the end of the stream.

        Raises:
            DialFault: the connection broke, or time is up.
        """
        while (data := self.recv_now(size)) is None:
            self.wait(patience)
        return data

    def send(self, data: bytes, patience: Patience) -> bool:
        """Send all of `data`, unless the server says something first; return whether all of it went.

        Raises:
            DialFault: the connection broke, or time is up.
        """
        with memoryview(data) as view:
            sent = self.send_now(view)
            while sent < len(view):
                if self.wait(patience, self.wants | _READ) & ~_WRITE:
                    self._early = self.recv_now(_EARLY_BYTES)
                    if self._early is not None:
                        return False
                sent += self.send_now(view[sent:])
        return True

    def start_tls(self, context: ssl.SSLContext, host: str, patience: Patience) -> None:
        """Do the handshake, and check the certificate against `host`.

        Raises:
            DialFault: it failed, or time is up.
        """
        import ssl

        raw = self._sock
        try:
            secure = context.wrap_socket(
                raw, server_hostname=host.rstrip("."), do_handshake_on_connect=False, suppress_ragged_eofs=False
            )
        except (OSError, ValueError) as error:
            raise DialFault(f"TLS: {reason_of(error)}") from None
        self._sock = secure
        while True:
            try:
                secure.do_handshake()
                return
            except ssl.SSLWantReadError:
                self.wait(patience, _READ)
            except ssl.SSLWantWriteError:
                self.wait(patience, _WRITE)
            except (OSError, ValueError) as error:
                raise DialFault(f"TLS: {reason_of(error)}") from None

    # The end ----------------------------------------------------------------------------------------------------

    @property
    def quiet(self) -> bool:
        """Whether an idle connection can be used again: it is open, and the server has said nothing unasked."""
        try:
            return self.recv_now(1) is None
        except DialFault:
            return False

    def interrupt(self) -> None:
        """End the connection under a thread that waits for it; that thread closes it. From any thread."""
        try:
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # below TLS, whose state is the other thread's
        except OSError:
            pass

    def close(self) -> None:
        """Close the socket; may be called again."""
        self._sock.close()


def reason_of(error: Exception) -> str:
    """Return an error in words, without addresses of memory, paths or codes of a library's own."""
    verification = getattr(error, "verify_message", "")
    if verification:
        return str(verification)
    reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(reason).lower().replace("_", " ")
