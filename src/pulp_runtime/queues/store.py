"""A store of queues: what can be done with it, by any thread."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from pulp_runtime.kv.fault import KvError
from pulp_runtime.kv.hold import Hold
from pulp_runtime.queues.message import MESSAGE_BYTES, PAGE, SECOND_NS, Bounds, Counts, Message, Terms
from pulp_runtime.queues.tables import DEAD, Tables, translated

WATCHES: Final = 10_000
"""Most who wait for messages of one store at once."""


class Store:
    """The queues of one file. Safe from any thread; one process at a time has it open.

    What was in flight when the last process ended is ready again: whoever had it is gone.

    Args:
        path: the file; created with its folder when it is not there.
        power_safe: whether a message that is published survives a power failure, not only the end of the process.
        now_ns: the clock, nanoseconds since 1970.
        buried: `buried(topic, id)`: a message is dead now.

    Raises:
        OSError: `EBUSY` another process has it open; `EIO` it cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        power_safe: bool = False,
        now_ns: Callable[[], int] = time.time_ns,
        buried: Callable[[str, int], None] = lambda _topic, _number: None,
    ) -> None:
        self._now_ns: Final = now_ns
        self._buried: Final = buried
        self._lock: Final = threading.RLock()
        self._watches: Final[dict[str, dict[int, Callable[[], None]]]] = {}
        self._serial = 0
        self._closed = False
        self._waiting: dict[str, bool] = {}
        try:
            self._hold: Final = Hold(path)
        except KvError as error:
            raise OSError(errno.EBUSY, str(error)) from None
        try:
            self._tables: Final = Tables(path, power_safe=power_safe)
            with self._tables.changing():
                self._tables.recall()
        except BaseException:
            self._hold.release()
            raise
        self._next_due_ns = 0

    @contextmanager
    def _open(self) -> Iterator[Tables]:
        with self._lock, translated():
            if self._closed:
                raise OSError(errno.EIO, "the queue is closed")
            yield self._tables

    # Publishing -------------------------------------------------------------------------------------------------

    def publish(self, topic: str, body: bytes, *, bounds: Bounds = Bounds()) -> int:  # noqa: B008  # a constant
        """Add a message; return its id. It is kept when this returns.

        Raises:
            OSError: `EFBIG` it has more than 1 MiB; `EDQUOT` the topic is full; `ENOSPC` the disk is.
        """
        if len(body) > MESSAGE_BYTES:
            raise OSError(errno.EFBIG, f"a message has at most {MESSAGE_BYTES} bytes")
        with self._open() as tables:
            with tables.changing():
                messages, size = tables.totals(topic)
                if messages >= bounds.messages or size + len(body) > bounds.bytes:
                    raise OSError(errno.EDQUOT, f"{topic} has {messages} messages of {size} bytes; it takes no more")
                number = tables.publish(topic, body, self._now_ns())
            self._waiting[topic] = True
        self._tell(topic)
        return number

    # Taking -----------------------------------------------------------------------------------------------------

    def take(self, topic: str, terms: Terms = Terms()) -> Message | None:  # noqa: B008  # a constant
        """Return the oldest message that is ready, None for none; it is then in flight.

        One that is not acknowledged though it was given out as often as `terms` allow is dead then.
        """
        self.sweep()
        with self._open() as tables:
            if not self._waiting.get(topic, True):
                return None
            with tables.changing():
                found = tables.oldest(topic)
                if found is None:
                    self._waiting[topic] = False
                    return None
                due_ns = self._now_ns() + int(terms.visibility_seconds * SECOND_NS)
                found = found._replace(deliveries=found.deliveries + 1)
                tables.give(found.id, found.deliveries, terms.deliveries, due_ns)
            self._due(due_ns)
            return found

    def waits(self, topic: str) -> bool:
        """Tell whether a message is ready."""
        with self._open() as tables:
            return self._waiting.get(topic, True) and tables.oldest(topic) is not None

    def body(self, topic: str, number: int, deliveries: int) -> bytes:
        """Return a message that was taken once more; raises as `acknowledge` does."""
        with self._open() as tables:
            self._mine(tables, topic, number, deliveries)
            return tables.body(number)

    def acknowledge(self, topic: str, number: int, deliveries: int) -> None:
        """Remove a message that was taken: it is done.

        Args:
            topic: of the message.
            number: its id.
            deliveries: as it was taken.

        Raises:
            OSError: `ESTALE` somebody else has it meanwhile, or it is dead; `ENOENT` it is gone.
        """
        with self._open() as tables, tables.changing():
            tables.remove(topic, number, self._mine(tables, topic, number, deliveries))

    def renew(self, topic: str, number: int, deliveries: int, seconds: float) -> None:
        """Keep a message that was taken for so long from now on; raises as `acknowledge` does."""
        with self._open() as tables:
            due_ns = self._now_ns() + int(seconds * SECOND_NS)
            with tables.changing():
                self._mine(tables, topic, number, deliveries)
                tables.renew(number, due_ns)
            self._due(due_ns)

    def release(self, topic: str, number: int, deliveries: int, *, dead: bool = False) -> None:
        """Give a message that was taken back, or make it dead; raises as `acknowledge` does."""
        with self._open() as tables:
            with tables.changing():
                self._mine(tables, topic, number, deliveries)
                if dead:
                    tables.bury(number)
                else:
                    dead = tables.give_back(number) == DEAD
            self._waiting[topic] = True
        if dead:
            self._buried(topic, number)
        self._tell(topic)

    def _mine(self, tables: Tables, topic: str, number: int, deliveries: int) -> int:
        """Return the size of a message if who took it with that receipt was the last to do so."""
        found = tables.find(topic, number)
        if found is None:
            raise OSError(errno.ENOENT, f"there is no message {number} any more")
        state, current, size = found
        if state == DEAD or current != deliveries:
            raise OSError(errno.ESTALE, f"message {number} has been given to somebody else, or is dead")
        return size

    # Dead letters -----------------------------------------------------------------------------------------------

    def dead(self, topic: str, *, after: int = 0, limit: int = PAGE) -> list[int]:
        """Return a page of the ids of dead messages, in order."""
        with self._open() as tables:
            return tables.ids(topic, DEAD, after, min(limit, PAGE))

    def find_dead(self, topic: str, number: int) -> Message | None:
        """Return a dead message."""
        with self._open() as tables:
            return tables.message(topic, number, DEAD)

    def drop(self, topic: str, number: int) -> None:
        """Remove a dead message; raise `ENOENT` if there is none."""
        with self._open() as tables, tables.changing():
            tables.remove(topic, number, len(self._dead(tables, topic, number).body))

    def requeue(self, topic: str, number: int) -> None:
        """Make a dead message a new one again, with its id; raise `ENOENT` if there is none."""
        with self._open() as tables:
            with tables.changing():
                self._dead(tables, topic, number)
                tables.revive(number)
            self._waiting[topic] = True
        self._tell(topic)

    def _dead(self, tables: Tables, topic: str, number: int) -> Message:
        found = tables.message(topic, number, DEAD)
        if found is None:
            raise OSError(errno.ENOENT, f"there is no dead message {number}")
        return found

    # Time -------------------------------------------------------------------------------------------------------

    @property
    def next_due_ns(self) -> int:
        """When `sweep` has something to do, nanoseconds since 1970; 0 for never."""
        return self._next_due_ns

    def sweep(self) -> None:
        """Make messages ready again whose time is over, and tell who waits for them."""
        if not 0 < self._next_due_ns <= self._now_ns():
            return
        topics: set[str] = set()
        dead: list[tuple[str, int]] = []
        with self._open() as tables:
            while overdue := tables.overdue(self._now_ns()):
                with tables.changing():
                    for number, topic in overdue:
                        topics.add(topic)
                        if tables.give_back(number) == DEAD:
                            dead.append((topic, number))
            self._next_due_ns = tables.next_due_ns()
            self._waiting.update(dict.fromkeys(topics, True))
        for topic, number in dead:
            self._buried(topic, number)
        for topic in topics:
            self._tell(topic)

    def _due(self, due_ns: int) -> None:
        if not self._next_due_ns or due_ns < self._next_due_ns:
            self._next_due_ns = due_ns

    # Who waits --------------------------------------------------------------------------------------------------

    def watch(self, topic: str, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake()` whenever a message of the topic may be ready, from any thread; return what ends that.

        Raises:
            OSError: `EMFILE` 10,000 wait already.
        """
        with self._lock:
            if sum(map(len, self._watches.values())) >= WATCHES:
                raise OSError(errno.EMFILE, f"{WATCHES} wait for messages already")
            self._serial += 1
            number = self._serial
            self._watches.setdefault(topic, {})[number] = wake

        def end() -> None:
            with self._lock:
                self._watches.get(topic, {}).pop(number, None)
                if not self._watches.get(topic, True):
                    del self._watches[topic]

        return end

    def _tell(self, topic: str) -> None:
        with self._lock:
            watches = list(self._watches.get(topic, {}).values())
        for wake in watches:
            wake()

    def counts(self, topic: str) -> Counts:
        """Count the messages of a topic."""
        with self._open() as tables:
            return tables.counts(topic)

    def free_bytes(self) -> int:
        """Return how much can be published before the file has to grow: what acknowledged messages have left."""
        with self._open() as tables:
            return tables.free_bytes()

    def shrink(self) -> None:
        """Give back what the log takes on disk; for when there is no room."""
        with self._open() as tables:
            tables.shrink()

    def close(self) -> None:
        """Close it and wake everybody. May be called again."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._tables.close()
            self._hold.release()
            topics = list(self._watches)
        for topic in topics:
            self._tell(topic)
