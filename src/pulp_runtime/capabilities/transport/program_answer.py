"""The answer of a program: its thread on one side, the loop and a slow client on the other, and neither waits.

    program   write ──▶ [ pieces ] ── at most 128 KiB ──▶ loop ──▶ client
                           │ held for a moment: an answer that is complete by then goes in one piece, with its length

A program that writes an answer and ends is done within a fraction of a millisecond. So the first bytes stay here for 5
to 10 ms, or up to 64 KiB, before the head is sent and the rest follows in pieces as it is written.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from pulp_runtime._net import answers
from pulp_runtime._net.exchange import Request
from pulp_runtime._net.response import RenderedFields, render_head_fields
from pulp_runtime._net.stream import ResponseStream
from pulp_runtime.capabilities.cloud.signal import Signal
from pulp_runtime.capabilities.transport.front import Front

WAITING_BYTES: Final = 128 * 1024
"""Bytes of an answer that may wait for the client before its program has to."""
HELD_BYTES: Final = 64 * 1024
"""Bytes of an answer that are kept for a moment, in case that they are all of it."""
HELD_SECONDS: Final = 0.005
"""How often what is held is looked at; it goes at the second look."""
_HEADS: Final = 512
_HEAD_FIELDS: Final = 16

_HELD, _BEGUN, _OVER = range(3)


class Wire:
    """What the answers of one host share: its loop, and the clock of those that are held.

    Attributes:
        front: sends them.
        live: those that are not over.
    """

    def __init__(self, front: Front) -> None:
        self.front: Final = front
        self._fresh: deque[Answer] = deque()
        self._old: deque[Answer] = deque()
        self._armed = False
        self._heads: Final[dict[object, RenderedFields]] = {}
        self.live: Final[set[Answer]] = set()

    def head(self, status: int, headers: Mapping[str, str], cookies: tuple[str, ...]) -> RenderedFields:
        """Return a checked and rendered head; programs send the same few again and again.

        Raises:
            ResponseInvalid: it cannot be sent.
        """
        if len(headers) + len(cookies) > _HEAD_FIELDS:
            return render_head_fields(status, headers, cookies)
        key = (status, tuple(headers.items()), cookies)
        fields = self._heads.get(key)
        if fields is None:
            fields = render_head_fields(status, headers, cookies)
            if len(fields.head) <= 1024:
                if len(self._heads) >= _HEADS:
                    self._heads.clear()
                self._heads[key] = fields
        return fields

    def soon(self, callback: Callable[[], None]) -> bool:
        """Have the loop call back. From any thread; False when it has ended."""
        loop = self.front.loop
        if loop is None:
            return False
        try:
            loop.call_soon_threadsafe(callback)
        except RuntimeError:  # closed, and with it every connection
            return False
        return True

    def later(self, callback: Callable[[], None]) -> None:
        """Have the loop call back when it has done what it is at. On the loop."""
        if self.front.loop is not None:
            self.front.loop.call_soon(callback)

    def hold(self, answer: Answer) -> None:
        """Look at an answer in a moment: what is not complete by then is begun. From any thread."""
        self._fresh.append(answer)
        if not self._armed:
            self._armed = True
            self.soon(self._arm)

    def _arm(self) -> None:
        loop = self.front.loop
        if loop is not None:
            loop.call_later(HELD_SECONDS, self._look)

    def _look(self) -> None:
        old, self._old = self._old, deque()
        while self._fresh:
            self._old.append(self._fresh.popleft())
        for answer in old:
            answer.go()
        if self._old:
            self._arm()
        else:
            self._armed = False
            if self._fresh:  # it came between the two lines above, and saw a clock that ran
                self._armed = True
                self._arm()

    def send(self, request: Request, fields: RenderedFields, body: bytes, *, last: bool = False) -> None:
        """Send a complete answer. From any thread.

        Args:
            request: what is answered.
            fields: its head.
            body: all of it.
            last: the run ends with it, so that it may go together with those of others.
        """
        connection = request.connection
        rest = connection.render(request, fields, body)
        if not self.live and not fields.close:  # nobody else waits for the loop, so this need not wake it
            rest = connection.send_direct(request, rest)
        if rest is None:
            return
        if last:
            self.front.send(request, rest, fields.close)
        else:
            self.soon(lambda: connection.respond(request, rest, close=fields.close))


class Answer:
    """One answer. `write` and `complete` belong to the program's thread, everything else may come from any.

    Args:
        wire: of the host.
        request: what is answered.

    Attributes:
        room: fires when more may be written, or nobody will take it.
        over: nothing can be written any more: it is complete, or the client is gone, or another answer was sent.
        begun: its head is on its way, so that no other answer can be sent instead.
    """

    __slots__ = (
        "_ending",
        "_fields",
        "_left",
        "_lock",
        "_queue",
        "_request",
        "_scheduled",
        "_state",
        "_stream",
        "_waiting",
        "_wire",
        "room",
    )

    def __init__(self, wire: Wire, request: Request) -> None:
        self._wire: Final = wire
        self._request: Final = request
        self._lock: Final = threading.Lock()
        self._queue: Final[deque[bytes]] = deque()
        self._waiting = 0
        self._left: int | None = None
        self._fields: RenderedFields | None = None
        self._stream: ResponseStream | None = None
        self._state = _HELD
        self._ending = self._scheduled = False
        self.room: Final = Signal()
        wire.live.add(self)

    @property
    def over(self) -> bool:
        """See above."""
        return self._state == _OVER or self._ending

    @property
    def begun(self) -> bool:
        """See above."""
        return self._state == _BEGUN

    @property
    def has_room(self) -> bool:
        """Whether `write` would take something, or say that it never will."""
        return self._waiting < WAITING_BYTES or self.over

    def head(self, fields: RenderedFields) -> None:
        """Say how it begins; once, before the first `write`."""
        self._fields = fields
        if fields.content_length is not None and not fields.chunked and self._request.line.method != "HEAD":
            self._left = fields.content_length
        self._wire.hold(self)

    def write(self, data: bytes) -> int:
        """Add to its body; return how many bytes were taken.

        Raises:
            BlockingIOError: the client is behind; see `room`.
            BrokenPipeError: nobody will take it.
            OSError: `EFBIG`, it would be longer than its Content-Length.
        """
        with self._lock:
            if self.over:
                raise BrokenPipeError(errno.EPIPE, "the client is gone, or answered")
            if self._left is not None and len(data) > self._left:
                raise OSError(errno.EFBIG, "the body is longer than its Content-Length")
            data = data[: WAITING_BYTES - self._waiting]
            if not data:
                raise BlockingIOError(errno.EAGAIN, "the client is behind")
            if self._left is not None:
                self._left -= len(data)
            self._queue.append(data)
            self._waiting += len(data)
            if self._state == _HELD:
                if self._waiting <= HELD_BYTES:
                    return len(data)
                self._state = _BEGUN
                callback = self._begin
            elif self._scheduled:
                return len(data)
            else:
                callback = self._flush
            self._scheduled = True
        self._schedule(callback)
        return len(data)

    def complete(self, fields: RenderedFields, body: bytes) -> None:
        """Send all of it at once, with its length; nothing happens when it is over already."""
        with self._lock:
            if self._state != _HELD or self._ending:
                return
            self._over()
        self._wire.send(self._request, fields, body)

    def finish(self) -> bool:
        """End it behind what was written; False when its body is shorter than its Content-Length, and it is cut off."""
        with self._lock:
            if self.over:
                return True
            short = bool(self._left) and not (self._fields is not None and self._fields.bodiless)
            if self._state == _BEGUN:
                self._ending = True
                callback = self._abort if short else self._flush
            elif short:
                return False  # the caller says something else instead
            else:
                body = b"".join(self._queue)
                self._over()
                callback = None
        if callback is not None:
            self._schedule(callback)
        elif self._fields is not None:
            self._wire.send(self._request, self._fields, body, last=True)
        return not short

    def refuse(self, status: int, text: str) -> None:
        """Answer with an error instead; when its head is out already, break it off so that the client notices."""
        with self._lock:
            if self.over:
                return
            if self._state == _BEGUN:
                self._ending = True
            else:
                self._over()
        if self._ending:
            self._schedule(self._abort)
        else:
            self._wire.send(self._request, *answers.error(status, text))
        self.room.fire()

    def _over(self) -> None:
        """Note that nothing more will happen; with the lock held."""
        if self._state != _OVER:
            self._state = _OVER
            self._queue.clear()
            self._waiting = 0
            self._wire.live.discard(self)

    def _schedule(self, callback: Callable[[], None]) -> None:
        if not self._wire.soon(callback):
            with self._lock:
                self._over()

    # On the loop ------------------------------------------------------------------------------------------------

    def go(self) -> None:
        """Begin it, unless it is complete by now."""
        with self._lock:
            if self._state != _HELD or self._ending:
                return
            self._state = _BEGUN
        self._begin()

    def _begin(self) -> None:
        assert self._fields is not None  # noqa: S101 - bytes come behind a head
        stream = self._request.connection.begin(self._request, self._fields)
        if stream is None:
            self._lost()
            return
        self._stream = stream
        stream.on_room = self._flush
        stream.on_close = self._lost
        self._flush()

    def _flush(self) -> None:
        stream = self._stream
        if stream is None:
            return
        with self._lock:
            self._scheduled = False
            while self._queue and not stream.full and not stream.closed:
                piece = self._queue.popleft()
                self._waiting -= len(piece)
                stream.write(piece)
            done = self._ending and not self._queue
            if done:
                self._over()
            woken = self._waiting <= WAITING_BYTES // 2
        if done:
            stream.end()
        if woken:
            self.room.fire()

    def _abort(self) -> None:
        with self._lock:
            self._over()
        if self._stream is not None:
            self._stream.abort()
        self.room.fire()

    def _lost(self) -> None:
        with self._lock:
            self._over()
        self.room.fire()
