"""One topic as one run of a program sees it: what it has taken and not yet acknowledged."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from pulp_runtime.ext.run import Outcome, Run
from pulp_runtime.ext.tree import Wake
from pulp_runtime.files.quota import BLOCK, DiskQuota, QuotaExceeded
from pulp_runtime.queues.message import SECOND_NS, Bounds, Message, Terms
from pulp_runtime.queues.store import Store

HELD: Final = 1000
"""Most messages of one topic that a run has in flight."""

_TOLD: Final = (errno.EDQUOT, errno.ENOSPC, errno.EIO)


class _Held(NamedTuple):
    """A message in flight.

    Attributes:
        deliveries: with its id the receipt.
        size: bytes.
        published_ns: when it was published.
        due_ns: until when it is the run's own.
    """

    deliveries: int
    size: int
    published_ns: int
    due_ns: int


class View:
    """A topic, who uses it and how.

    Attributes:
        reads: whether messages may be taken.
        writes: whether messages may be published.
        last: id of the message that was last taken, since `next` was last opened.
        held: what is in flight, by id.
        stopped: whether the host wants the run to end.
    """

    def __init__(
        self,
        run: Run,
        store: Store,
        topic: str,
        mode: str,
        terms: Terms,
        bounds: Bounds,
        quota: DiskQuota,
        taken: Callable[[Store], None],
    ) -> None:
        self.reads: Final = "r" in mode
        self.writes: Final = "w" in mode
        self.last: int | None = None
        self.held: Final[dict[int, _Held]] = {}
        self.stopped = False
        self.store: Final = store
        self.topic: Final = topic
        self._run: Final = run
        self._terms: Final = terms
        self._bounds: Final = bounds
        self._quota: Final = quota
        self._taken: Final = taken
        self._wakes: Final[dict[int, Wake]] = {}
        self._serial = 0
        self._attached = False

    # Publishing -------------------------------------------------------------------------------------------------

    def publish(self, body: bytes) -> None:
        """Add a message; it is kept when this returns."""
        with self._asking(), self._run.blocking():
            more = max(0, len(body) + BLOCK - self.store.free_bytes())
            if more:
                self._room(more)
            self.store.publish(self.topic, body, bounds=self._bounds)
            self._quota.charge(more)

    def _room(self, size: int) -> None:
        """Return if the queues may grow by so many bytes."""
        try:
            self._quota.check(size)
        except QuotaExceeded:
            self.store.shrink()
            self._quota.check(size)

    # Taking -----------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """See to it that a run that is to end reads no more, and that what it has comes back in its end."""
        self.last = None
        if not self._attached:
            self._attached = True
            self._run.on_stop(self._stop)
            self._run.on_end(self._end)

    def take(self) -> Message | None:
        """Return the next message, None for none yet."""
        with self._asking():
            if len(self.held) >= HELD and not self._forget_lost():
                raise OSError(errno.EBUSY, f"{HELD} messages are in flight; acknowledge some")
            message = self.store.take(self.topic, self._terms)
        if message is not None:
            due_ns = time.time_ns() + int(self._terms.visibility_seconds * SECOND_NS)
            self.held[message.id] = _Held(message.deliveries, len(message.body), message.published_ns, due_ns)
            self.last = message.id
            self._taken(self.store)
        return message

    def _forget_lost(self) -> int:
        """Forget what has been given out again meanwhile; return how many."""
        lost = [number for number, held in self.held.items() if held.due_ns <= time.time_ns()]
        for number in lost:
            del self.held[number]
        return len(lost)

    def waits(self) -> bool:
        """Tell whether `take` has something."""
        with self._asking():
            return self.store.waits(self.topic)

    def watch(self, wake: Wake) -> Wake:
        """Have `wake()` called when a message may be ready, or the run is to end; return what ends that."""
        end = self.store.watch(self.topic, wake)
        self._serial += 1
        number = self._serial
        self._wakes[number] = wake

        def both() -> None:
            self._wakes.pop(number, None)
            end()

        return both

    def body(self, number: int) -> bytes:
        """Return a message in flight again."""
        with self._mine(number) as deliveries:
            return self.store.body(self.topic, number, deliveries)

    def acknowledge(self, number: int) -> None:
        """Say that a message in flight is done."""
        with self._mine(number) as deliveries, self._run.blocking():
            self.store.acknowledge(self.topic, number, deliveries)
        self.held.pop(number, None)

    def release(self, number: int, *, dead: bool = False) -> None:
        """Give a message in flight back, or make it dead."""
        with self._mine(number) as deliveries:
            self.store.release(self.topic, number, deliveries, dead=dead)
        self.held.pop(number, None)

    def renew(self, number: int) -> None:
        """Keep a message in flight for another visibility time-out from now on."""
        seconds = self._terms.visibility_seconds
        with self._mine(number) as deliveries:
            self.store.renew(self.topic, number, deliveries, seconds)
        self.held[number] = self.held[number]._replace(due_ns=time.time_ns() + int(seconds * SECOND_NS))
        self._taken(self.store)

    @contextmanager
    def _mine(self, number: int) -> Iterator[int]:
        held = self.held.get(number)
        if held is None:
            raise FileNotFoundError(errno.ENOENT, f"this run has no message {number} in flight")
        try:
            with self._asking():
                yield held.deliveries
        except OSError as error:
            if error.errno in (errno.ESTALE, errno.ENOENT):
                self.held.pop(number, None)
            raise

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Log what the operator has to know."""
        try:
            yield
        except OSError as error:
            if error.errno in _TOLD:
                self._run.cell.log.warning("queue refused", topic=self.topic, reason=error.strerror or repr(error))
            raise

    def _stop(self) -> None:
        self.stopped = True
        for wake in list(self._wakes.values()):
            wake()

    def _end(self, outcome: Outcome) -> None:
        """Give back what a run that was ended had in flight; what another left comes back when its time is over."""
        if outcome.clean:
            return
        for number in list(self.held):
            try:
                self.release(number)
            except OSError:
                pass  # it is somebody else's already, or comes back when its time is over
