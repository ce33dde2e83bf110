"""The epoch: a clock that guests are stopped by.

One thread advances the engine's epoch every 5 ms while any guest is inside a call, so a guest ends at its deadline or
at most two ticks later. When nothing has run for a tenth of a second the thread sleeps until the next call: an idle
host has no tick.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Protocol

from pulp_runtime.log import Log

TICK_SECONDS: Final = 0.005
_CROWDED_TICKS: Final = 40
_QUIET_TICKS: Final = 20
_MOST_EPOCHS: Final = 2_000_000  # 2.8 hours of ticks; takes a second to advance


class Guest(Protocol):
    """Who may be inside a call."""

    def tick(self, epoch: int) -> None:
        """Hear that the epoch has advanced, on the ticker's thread."""


class Ticker:
    """Advances an epoch while someone is `inside`.

    Attributes:
        epoch: how often it has ticked.
        inside: who is inside a guest call right now. Add before the call, `wake` if `parked`, discard after it.
        parked: whether the thread sleeps.
    """

    __slots__ = (
        "_advance",
        "_closed",
        "_crowded_until",
        "_longest",
        "_on_tick",
        "_thread",
        "_wake",
        "epoch",
        "inside",
        "parked",
    )

    def __init__(self, advance: Callable[[], None], on_tick: Callable[[], None] | None = None) -> None:
        self._advance: Final = advance
        self._on_tick = on_tick
        self.epoch = 0
        self.inside: Final[set[Guest]] = set()
        self.parked = False
        self._longest = 1
        self._crowded_until = 0
        self._closed = False
        self._wake: Final = threading.Event()
        self._thread = threading.Thread(target=self._run, name="epoch", daemon=True)
        self._thread.start()

    def epochs(self, seconds: float) -> int:
        """Return how many epochs from now a deadline `seconds` away is."""
        epochs = int(seconds / TICK_SECONDS) + 1
        if epochs > self._longest:
            self._longest = min(epochs, _MOST_EPOCHS)
        return epochs

    @property
    def crowded(self) -> bool:
        """Whether more than one guest wanted to run at once a moment ago."""
        return self.epoch < self._crowded_until

    def wake(self) -> None:
        """Make a parked ticker tick again."""
        self._wake.set()

    def expire(self) -> None:
        """Advance past every deadline handed out so far."""
        for _ in range(self._longest + 1):
            self._advance()
            self.epoch += 1

    def close(self) -> None:
        """Stop ticking."""
        self._closed = True
        self._wake.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        quiet = 0
        wait = threading.Event().wait
        while not self._closed:
            if quiet >= _QUIET_TICKS:
                self._park()
                quiet = 0
            wait(TICK_SECONDS)
            self._advance()
            self.epoch += 1
            inside = tuple(self.inside)
            if len(inside) > 1:
                self._crowded_until = self.epoch + _CROWDED_TICKS
            quiet = 0 if inside else quiet + 1
            try:
                self._tell(inside)
            except Exception as error:  # noqa: BLE001  # whatever happens, deadlines must go on passing
                Log("pulp").error("tick failed", error=repr(error), exc_info=error)

    def _tell(self, inside: tuple[Guest, ...]) -> None:
        for guest in inside:
            guest.tick(self.epoch)
        if self._on_tick is not None:
            self._on_tick()

    def _park(self) -> None:
        self._wake.clear()
        self.parked = True
        # A call that entered before it could see the flag is seen here instead.
        if not self.inside and not self._closed:
            self._wake.wait()
        self.parked = False
