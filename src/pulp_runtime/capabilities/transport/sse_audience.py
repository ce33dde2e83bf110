"""Who listens to a cell, what it emitted, and how that gets from one to the other.

    worker   emit ── pending (bounded: past it the cell waits) ── defer ─┐
    loop     deliver ◀── a batch of each cell in turn, a few ms at a time ┘ ──▶ replay, subscribers

A frame is made once, and shared by the replay and by every subscriber it waits for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

import msgspec

from pulp_runtime._net.stream import ResponseStream
from pulp_runtime.capabilities.transport.sse_frame import GAP, retry_line
from pulp_runtime.capabilities.transport.sse_replay import Replay
from pulp_runtime.capabilities.transport.sse_subscriber import PIECE_BYTES, Subscriber
from pulp_runtime.ext import Guest
from pulp_runtime.log import Log

PENDING_EVENTS: Final = 1_024
"""Events of one cell that may wait for the loop; past it the cell waits."""
PENDING_BYTES: Final = 8 * 1024 * 1024
TELL_SECONDS: Final = 10.0
"""How often the log says that a cell's subscribers lose events, or are turned away."""
_TURN_SECONDS: Final = 0.003
"""How long events are delivered before whatever else the loop has to do."""
_BREATH: Final = 64
"""Subscribers between two looks at the clock."""


class SseSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a cell's manifest may set under `[settings."transport.sse"]`.

    Attributes:
        keepalive_seconds: time between two pings.
        retry_ms: how long clients wait before they connect again; 0 leaves it to them.
        replay_events: newest events with an id that are kept of one path, for clients that come back; 0 keeps none.
        replay_bytes: bytes that are kept of all paths together.
        max_subscribers: clients at once. Past it 503.
        event_bytes: longest frame. Past it `sse_emit` answers 4.
        accept_only: only requests whose Accept names `text/event-stream` get a stream; others go to the HTTP routes.
    """

    keepalive_seconds: Annotated[float, msgspec.Meta(ge=0.05, le=3_600)] = 15.0
    retry_ms: Annotated[int, msgspec.Meta(ge=0, le=3_600_000)] = 0
    replay_events: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 256
    replay_bytes: Annotated[int, msgspec.Meta(ge=0, le=1 << 30)] = 4 * 1024 * 1024
    max_subscribers: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 10_000
    event_bytes: Annotated[int, msgspec.Meta(ge=1_024, le=8 * 1024 * 1024)] = 1024 * 1024
    accept_only: bool = False


class Emitted(NamedTuple):
    """An event on its way to the loop."""

    path: str
    event_id: str
    frame: bytes


class Audience:
    """Everything about the streams of one cell; it outlives the cell's instances.

    Attributes:
        settings: of the manifest.
        log: the cell's.
        count: subscribers of all paths.
    """

    def __init__(self, settings: SseSettings, log: Log) -> None:
        self.settings = settings
        self.log = log
        self.count = 0
        self._paths: Final[dict[str, dict[Subscriber, None]]] = {}
        self._replay: Final = Replay()
        self._pending: Final[deque[Emitted]] = deque()
        self._bytes = 0
        self._told = False
        self._changed: Final = threading.Condition()
        self._troubles: Final[dict[str, tuple[int, float]]] = {}

    # From any thread --------------------------------------------------------------------------------------------

    def listeners(self, path: str) -> int:
        """Return how many clients are connected on exactly this path."""
        return len(self._paths.get(path, ()))

    def push(self, event: Emitted, guest: Guest) -> bool:
        """Let an event wait for the loop; wait for room first, until the call's deadline.

        Returns:
            Whether the loop has yet to be told.

        Raises:
            TimeoutError: there was no room.
        """
        if self._full():
            with guest.blocking(), self._changed:
                if not self._changed.wait_for(lambda: not self._full(), max(0.0, guest.seconds_left())):
                    raise TimeoutError(f"{len(self._pending)} events wait to be delivered")
        with self._changed:
            self._pending.append(event)
            self._bytes += len(event.frame)
            untold, self._told = not self._told, True
        return untold

    def _full(self) -> bool:
        return len(self._pending) >= PENDING_EVENTS or self._bytes >= PENDING_BYTES

    # On the loop ------------------------------------------------------------------------------------------------

    def join(self, stream: ResponseStream, path: str, last_id: str) -> Subscriber:
        """Add a client; send it what it has missed."""
        before = [retry_line(self.settings.retry_ms)] if self.settings.retry_ms else []
        if last_id:
            resumed = self._replay.after(path, last_id)
            before += resumed.frames if resumed.complete else [GAP, *resumed.frames]
        subscriber = Subscriber(stream, path, before)
        self._paths.setdefault(path, {})[subscriber] = None
        self.count += 1
        return subscriber

    def leave(self, subscriber: Subscriber) -> None:
        """Forget a client whose stream is closed."""
        subscriber.forget()
        there = self._paths[subscriber.path]
        del there[subscriber]
        self.count -= 1
        if not there:
            del self._paths[subscriber.path]

    def subscribers(self) -> list[Subscriber]:
        """Return every client."""
        return [subscriber for there in self._paths.values() for subscriber in there]

    def deliver(self) -> Iterator[None]:
        """Deliver a batch of pending events of one path; stops now and then for the clock to be looked at."""
        path, frames = self._take()
        there = self._paths.get(path)
        if there:
            joined = frames[0] if len(frames) == 1 else b"".join(frames)
            lost = 0
            for number, subscriber in enumerate(tuple(there), 1):
                lost += subscriber.offer(frames, joined)
                if not number % _BREATH:
                    yield
            if lost:
                self.trouble("slow subscribers lost events", lost)
        yield

    def _take(self) -> tuple[str, list[bytes]]:
        """Take the oldest events that are for the same path; keep those with an id for who comes back."""
        batch: list[Emitted] = []
        size = 0
        with self._changed:
            path = self._pending[0].path
            while self._pending and self._pending[0].path == path and (not batch or size < PIECE_BYTES):
                batch.append(self._pending.popleft())
                size += len(batch[-1].frame)
            self._bytes -= size
            self._changed.notify()
        settings = self.settings
        for _path, event_id, frame in batch:
            if event_id:
                self._replay.keep(path, event_id, frame, events=settings.replay_events, size=settings.replay_bytes)
        return path, [event.frame for event in batch]

    def more(self) -> bool:
        """Return whether events wait; if not, the loop has to be told of the next one."""
        with self._changed:
            self._told = bool(self._pending)
            return self._told

    def trouble(self, message: str, count: int = 1) -> None:
        """Log a trouble of clients now, or with the others of the next seconds."""
        before, told = self._troubles.get(message, (0, -TELL_SECONDS))
        now = time.monotonic()
        if now - told >= TELL_SECONDS:
            self.log.warning(message, count=before + count)
            self._troubles[message] = (0, now)
        else:
            self._troubles[message] = (before + count, told)

    def tell(self) -> None:
        """Log what has not been logged yet."""
        for message, (count, _told) in self._troubles.items():
            if count:
                self.log.warning(message, count=count)
        self._troubles.clear()


class Post:
    """Brings pending events to their subscribers: the cells take turns, and the loop does other things in between."""

    def __init__(self) -> None:
        self._ready: Final[deque[Audience]] = deque()
        self._work: Iterator[None] = iter(())
        self._running = False

    def add(self, audience: Audience) -> None:
        """Put an audience with pending events in the row; `run` has to follow. From any thread."""
        self._ready.append(audience)

    def run(self) -> None:
        """Deliver for a few milliseconds, and go on later if there is more."""
        if self._running:
            return
        end = time.monotonic() + _TURN_SECONDS
        while time.monotonic() < end:
            if not self._step():
                return
        self._running = True
        asyncio.get_running_loop().call_soon(self._again)

    def _again(self) -> None:
        self._running = False
        self.run()

    def finish(self) -> None:
        """Deliver everything, however long it takes: the host is stopping."""
        while self._step():
            pass

    def _step(self) -> bool:
        """Do a little; return whether there was anything to do."""
        try:
            next(self._work)
        except StopIteration:
            if not self._ready:
                return False
            audience = self._ready.popleft()
            self._work = self._of(audience)
        return True

    def _of(self, audience: Audience) -> Iterator[None]:
        try:
            yield from audience.deliver()
        finally:  # also when that raised: the others' turn comes again with the next event
            if audience.more():
                self._ready.append(audience)
