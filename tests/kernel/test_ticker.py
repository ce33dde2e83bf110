from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from pulp_runtime._kernel.ticker import TICK_SECONDS, Ticker

GENEROUS_SECONDS = 5.0


class Epoch:
    """An epoch that tells when it has advanced far enough."""

    def __init__(self) -> None:
        self.value = 0
        self.moved = threading.Condition()

    def advance(self) -> None:
        with self.moved:
            self.value += 1
            self.moved.notify_all()

    def reaches(self, value: int) -> bool:
        with self.moved:
            return self.moved.wait_for(lambda: self.value >= value, GENEROUS_SECONDS)


class Inside:
    """Somebody inside a call."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.epochs: list[int] = []

    def tick(self, epoch: int) -> None:
        self.epochs.append(epoch)
        self.told.set()


@pytest.fixture
def epoch() -> Epoch:
    return Epoch()


@pytest.fixture
def ticker(epoch: Epoch) -> Iterator[Ticker]:
    ticker = Ticker(epoch.advance)
    yield ticker
    ticker.close()


def parked(ticker: Ticker) -> bool:
    """Wait until the ticker sleeps."""
    pause = threading.Event()
    return any(ticker.parked or pause.wait(TICK_SECONDS) for _ in range(1000))


def test_it_ticks_while_somebody_is_inside(ticker: Ticker, epoch: Epoch) -> None:
    ticker.inside.add(Inside())
    ticker.wake()

    assert epoch.reaches(epoch.value + 50)
    assert not ticker.parked


def test_it_sleeps_when_nobody_has_been_inside_for_a_while(ticker: Ticker, epoch: Epoch) -> None:
    assert parked(ticker)
    before = epoch.value

    assert not threading.Event().wait(10 * TICK_SECONDS)
    assert epoch.value == before


def test_it_wakes_for_the_next_call(ticker: Ticker, epoch: Epoch) -> None:
    assert parked(ticker)

    ticker.inside.add(Inside())
    ticker.wake()

    assert epoch.reaches(epoch.value + 5)


def test_those_inside_hear_of_each_tick(ticker: Ticker) -> None:
    guest = Inside()
    ticker.inside.add(guest)
    ticker.wake()

    assert guest.told.wait(GENEROUS_SECONDS)
    assert guest.epochs[0] <= ticker.epoch


def test_it_is_crowded_while_more_than_one_is_inside(ticker: Ticker, epoch: Epoch) -> None:
    one, other = Inside(), Inside()
    ticker.inside.add(one)
    ticker.wake()
    assert epoch.reaches(epoch.value + 2)
    assert not ticker.crowded

    ticker.inside.add(other)
    assert epoch.reaches(epoch.value + 3)
    assert ticker.crowded

    ticker.inside.discard(other)
    assert epoch.reaches(epoch.value + 50)
    assert not ticker.crowded


@pytest.mark.parametrize("who", ["a guest", "the host"])
def test_it_goes_on_when_somebody_it_tells_raises(epoch: Epoch, who: str, records) -> None:
    class Raises(Inside):
        def tick(self, epoch: int) -> None:
            raise ValueError("a bug")

    def raises() -> None:
        raise ValueError("a bug")

    ticker = Ticker(epoch.advance, raises if who == "the host" else None)
    ticker.inside.add(Raises() if who == "a guest" else Inside())
    ticker.wake()

    assert epoch.reaches(10)
    ticker.close()
    assert "tick failed" in records.messages


@pytest.mark.parametrize(
    ("seconds", "epochs"),
    [pytest.param(0.001, 1, id="less than a tick is one"), pytest.param(30.0, 6001, id="the usual deadline")],
)
def test_a_deadline_is_counted_in_epochs(ticker: Ticker, seconds: float, epochs: int) -> None:
    assert ticker.epochs(seconds) == epochs


def test_expiring_goes_past_every_deadline_given_out(ticker: Ticker, epoch: Epoch) -> None:
    assert parked(ticker)
    longest = ticker.epochs(30.0)
    ticker.epochs(1.0)
    before, known = epoch.value, ticker.epoch

    ticker.expire()

    assert epoch.value - before > longest
    assert ticker.epoch - known == epoch.value - before


def test_closing_ends_the_thread_also_when_it_sleeps(epoch: Epoch) -> None:
    ticker = Ticker(epoch.advance)
    assert parked(ticker)

    ticker.close()
    ticker.close()

    assert not ticker._thread.is_alive()
