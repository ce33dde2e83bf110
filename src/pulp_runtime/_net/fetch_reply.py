"""An HTTP/1.1 response as it arrives (RFC 9112): head, then body, from bytes that the server chooses.

llhttp reads the grammar, strictly; here stand the bounds it does not know, and the two things it cannot: that the
answer to HEAD has no body, and that a body may end with the connection.
"""

from __future__ import annotations

from collections import deque
from typing import Final

import httptools

from pulp_runtime._net.dial_patience import DialFault
from pulp_runtime._net.fields import canonical_name

HEAD_BYTES: Final = 128 * 1024
"""Bytes before the body begins, those of interim responses included."""
HEAD_FIELDS: Final = 200
INTERIM_REPLIES: Final = 8
"""Responses of status 1xx before the real one."""
FRAMING_BYTES: Final = 64 * 1024
"""Bytes between and after chunks that say nothing, beyond those that any chunked body needs."""
CHUNK_BYTES: Final = 20
"""What the framing of one chunk may take without being counted."""

_OWN: Final = frozenset({"Transfer-Encoding", "Trailer"})
"""Fields that concern this connection alone."""


class ReplyReader:
    """Reads one response.

    Attributes:
        status: 0 until the head is complete.
        fields: canonical name to first value; several `Set-Cookie` are one, joined by newlines.
        complete: the last byte of the body is here.
        reusable: the connection may carry another request when this response is complete.
        length: what `Content-Length` says, None without it.
    """

    def __init__(self, method: str) -> None:
        self.status = 0
        self.fields: dict[str, str] = {}
        self.complete = False
        self.reusable = False
        self.length: int | None = None
        self._bodiless: Final = method == "HEAD"
        self._pieces: Final[deque[bytes]] = deque()
        self._parser = httptools.HttpResponseParser(self)
        self._fault = ""
        self._chunked = False
        self._interim = 0
        self._count = 0
        self._wire_bytes = 0
        self._body_bytes = 0
        self._chunks = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes from the server.

        Raises:
            DialFault: they are no response, or one past a bound. A fault of the body is for `take` to raise, behind
                what came before it.
        """
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self.reusable = False
            # What follows a complete response is nobody's; llhttp would read it as the next one.
            if not self.complete and not self._fault:
                self._fault = f"malformed response: {str(error)[:120]}"
        self._wire_bytes += len(data)
        if not self._fault:
            self._fault = self._past_a_bound(head=not self.status)
        if self._fault and not self.status:
            raise DialFault(self._fault)

    def _past_a_bound(self, *, head: bool) -> str:
        if head and self._wire_bytes > HEAD_BYTES:
            return f"response head over {HEAD_BYTES:,} bytes"
        framing = self._wire_bytes - self._body_bytes - self._chunks * CHUNK_BYTES
        return "response is nearly all framing" if framing > HEAD_BYTES + FRAMING_BYTES else ""

    def feed_end(self) -> None:
        """Note that the server has closed the connection.

        Raises:
            DialFault: in the middle of the response.
        """
        if self.complete:
            return
        if not self.status:
            raise DialFault("server closed the connection before it answered")
        if self.length is not None or self._chunked:
            raise DialFault("server closed the connection in the middle of its answer")
        self.complete = True

    def take(self) -> bytes:
        """Return body bytes that have arrived, b"" when there are none.

        Raises:
            DialFault: there will be no more, because the server broke the rules.
        """
        if self._pieces:
            return self._pieces.popleft()
        if self._fault:
            raise DialFault(self._fault)
        return b""

    @property
    def taken(self) -> bool:
        """Whether the whole body has arrived, and been taken."""
        return self.complete and not self._pieces

    # Called by llhttp -------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """See httptools."""
        if self.complete:
            self.reusable = False
        self._chunked = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        if self.status or self._fault:  # a trailer; counted as framing
            return
        self._count += 1
        if self._count > HEAD_FIELDS:
            self._fault = f"response has more than {HEAD_FIELDS} header fields"
            return
        key, text = canonical_name(name.decode("ascii")), _text(value)
        if key == "Transfer-Encoding":
            self._chunked = text.lower() == "chunked"
            if not self._chunked or "Transfer-Encoding" in self.fields:
                self._fault = "response has a transfer coding other than chunked"
        elif key == "Content-Length":
            self.length = int(text)
        if key == "Set-Cookie" and key in self.fields:
            self.fields[key] += "\n" + text
        else:
            self.fields.setdefault(key, text)

    def on_headers_complete(self) -> None:
        """See httptools."""
        status = self._parser.get_status_code()
        if self.complete or self._fault:
            return
        if self._parser.get_http_version() not in ("1.0", "1.1") or status < 100:
            self._fault = f"response of HTTP/{self._parser.get_http_version()}, status {status}"
        elif status == 101:
            self._fault = "server switched to a protocol nobody asked for"
        elif status < 200:
            self._interim += 1
            self.fields.clear()
            self.length = None
            if self._interim > INTERIM_REPLIES:
                self._fault = f"more than {INTERIM_REPLIES} interim responses"
        else:
            self._start_body(status)

    def _start_body(self, status: int) -> None:
        self.status = status
        self.reusable = bool(self._parser.should_keep_alive())
        for name in _OWN:
            self.fields.pop(name, None)
        if self._bodiless or status in (204, 304):
            self.complete = True

    def on_chunk_header(self) -> None:
        """See httptools."""
        self._chunks += 1

    def on_body(self, data: bytes) -> None:
        """See httptools."""
        if self.complete:  # a body where there is none
            self.reusable = False
            return
        self._body_bytes += len(data)
        self._pieces.append(data)

    def on_message_complete(self) -> None:
        """See httptools."""
        if self.status:
            self.complete = True


def _text(value: bytes) -> str:
    value = value.strip(b" \t")
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
