"""One client of an event stream, and when it is pinged. Everything here belongs to the loop's thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from pulp_runtime._net.stream import ResponseStream
from pulp_runtime.capabilities.transport.sse_frame import PING

FRAMES: Final = 32
"""Frames that wait for a client that takes nothing; what comes then is lost for it (spec/capabilities §5)."""
WAITING_BYTES: Final = 1024 * 1024
"""The same in bytes; two frames may wait however long they are."""
PIECE_BYTES: Final = 64 * 1024
"""Longest write: frames are shared by all their subscribers, what a transport holds is each one's own."""
_BREATH: Final = 256
"""Pings in one go, before others have the loop."""


class Subscriber:
    """A client, with the frames it has not taken yet.

    Args:
        stream: its answer, begun.
        path: what it asked for.
        before: frames of earlier events, exempt from the bounds: they are there already.
    """

    __slots__ = ("_queue", "_replayed", "_sent", "_waiting", "path", "stream")

    def __init__(self, stream: ResponseStream, path: str, before: Iterable[bytes] = ()) -> None:
        self.stream: Final = stream
        self.path: Final = path
        self._queue: Final = deque(before)
        self._replayed = len(self._queue)
        self._waiting = 0  # bytes of the frames behind those
        self._sent = 0  # bytes of the first frame
        stream.on_room = self._pump
        self._pump()

    def offer(self, frames: list[bytes], joined: bytes) -> int:
        """Send frames, or let them wait; return how many were lost.

        Args:
            frames: in order.
            joined: the same in one.
        """
        stream = self.stream
        if not self._queue and not stream.full and len(joined) <= PIECE_BYTES:
            stream.write(joined)
            return 0
        if stream.closed:
            return 0
        lost = 0
        for frame in frames:
            behind = len(self._queue) - self._replayed
            if behind >= FRAMES or (behind > 1 and self._waiting + len(frame) > WAITING_BYTES):
                lost += 1
            else:
                self._queue.append(frame)
                self._waiting += len(frame)
        self._pump()
        return lost

    def ping(self) -> None:
        """Keep the connection open; who has bytes to take needs no more of them."""
        if not self._queue and not self.stream.full:
            self.stream.write(PING)

    def end(self) -> None:
        """End the stream; clients leave out a frame that is cut short."""
        self._queue.clear()
        self.stream.end()

    def forget(self) -> None:
        """Drop what waits; the client is gone."""
        self._queue.clear()

    def _pump(self) -> None:
        """Send what waits for as long as there is room."""
        queue, stream = self._queue, self.stream
        while queue and not stream.full and not stream.closed:
            frame = queue[0]
            piece = frame[self._sent : self._sent + PIECE_BYTES] if len(frame) > PIECE_BYTES else frame
            self._sent += len(piece)
            if self._sent == len(frame):
                self._sent = 0
                queue.popleft()
                if self._replayed:
                    self._replayed -= 1
                else:
                    self._waiting -= len(frame)
            stream.write(piece)


class Rota:
    """Pings every subscriber at its interval, in one task."""

    def __init__(self) -> None:
        self._turns: Final[dict[float, deque[tuple[float, Subscriber]]]] = {}
        self._added: Final = asyncio.Event()

    def add(self, subscriber: Subscriber, seconds: float, now: float) -> None:
        """Ping a subscriber every so many seconds until its stream is closed."""
        turns = self._turns.setdefault(seconds, deque())
        turns.append((now + seconds, subscriber))
        if len(turns) == 1:
            self._added.set()

    async def run(self, clock: Callable[[], float]) -> None:
        """Ping until cancelled; sleeps while there is nobody."""
        while True:
            self._added.clear()
            pause = await self._ping(clock)
            try:
                await asyncio.wait_for(self._added.wait(), pause)
            except TimeoutError:
                pass

    async def _ping(self, clock: Callable[[], float]) -> float | None:
        """Ping those whose turn it is; return the seconds until the next one's, None if there is none."""
        count = 0
        for seconds, turns in list(self._turns.items()):
            while turns and turns[0][0] <= (now := clock()):
                _due, subscriber = turns.popleft()
                if subscriber.stream.closed:
                    continue
                subscriber.ping()
                turns.append((now + seconds, subscriber))
                count += 1
                if not count % _BREATH:
                    await asyncio.sleep(0)
            if not turns:
                del self._turns[seconds]
        nexts = [turns[0][0] for turns in self._turns.values()]
        return max(0.0, min(nexts) - clock()) if nexts else None
