from __future__ import annotations

from collections.abc import Callable

import pytest

from pulp_runtime._kernel.events import Events
from pulp_runtime._kernel.mailbox import Mailbox
from pulp_runtime.ext import Capability, Posted, StepEvent
from pulp_runtime.log import Log
from pulp_runtime.manifest.limits import Limits


class Receiver:
    """A cell's mailbox, without the cell."""

    def __init__(self, capacity: int = 64) -> None:
        self.log = Log("pulp")
        self.mailbox = Mailbox(Limits(mailbox_events=capacity), lambda: None)

    def step(self) -> None:
        """Deal with the oldest event."""
        for event, finalize in self.mailbox.take(1):
            finalize(event.id)


@pytest.fixture
def finalized() -> list[int]:
    return []


@pytest.fixture
def events(finalized: list[int]) -> Callable[..., Events]:
    capability = Capability(name="test", register=lambda _linker, _cell: None, finalize=finalized.append)
    return lambda **receivers: Events(capability, receivers)


def test_an_event_goes_to_the_cell_it_names(events: Callable[..., Events], finalized: list[int]) -> None:
    echo, other = Receiver(), Receiver()
    source = events(echo=echo, other=other)

    assert source.post(StepEvent("test", b"\xc0", 7, "echo")) is Posted.ACCEPTED

    assert (len(echo.mailbox), len(other.mailbox)) == (1, 0)
    assert finalized == []
    echo.step()
    assert finalized == [7]


def test_an_event_for_nobody_is_not_kept(events: Callable[..., Events], finalized: list[int]) -> None:
    assert events(echo=Receiver()).post(StepEvent("test", b"\xc0", 7, "nobody")) is Posted.CLOSED
    assert finalized == []


def test_a_full_mailbox_says_so_and_nothing_is_finalized(events: Callable[..., Events], finalized: list[int]) -> None:
    source = events(echo=Receiver(1))
    event = StepEvent("test", b"\xc0", 7, "echo")

    assert [source.post(event), source.post(event)] == [Posted.ACCEPTED, Posted.FULL]
    assert finalized == []


def test_a_broadcast_is_finalized_once_after_the_last_receiver(
    events: Callable[..., Events], finalized: list[int]
) -> None:
    receivers = {name: Receiver() for name in ("a", "b", "c")}
    source = events(**receivers)

    assert source.post(StepEvent("test", b"\xc0", 7)) is Posted.ACCEPTED

    for at, receiver in enumerate(receivers.values()):
        assert finalized == [], f"after {at} of 3"
        receiver.step()
    assert finalized == [7]


def test_a_broadcast_leaves_out_who_has_no_room_and_says_so(
    events: Callable[..., Events], finalized: list[int], records
) -> None:
    full, free = Receiver(1), Receiver()
    source = events(full=full, free=free)
    full.mailbox.post(StepEvent("test", b"\xc0", 1), lambda _id: None)

    assert source.post(StepEvent("test", b"\xc0", 7)) is Posted.ACCEPTED

    assert records.fields("event dropped") == [{"kind": "test", "reason": "full"}]
    free.step()
    assert finalized == [7]


def test_a_broadcast_that_nobody_takes_is_refused_and_not_finalized(
    events: Callable[..., Events], finalized: list[int]
) -> None:
    closed = Receiver()
    closed.mailbox.close()

    assert events(closed=closed).post(StepEvent("test", b"\xc0", 7)) is Posted.CLOSED
    assert events().post(StepEvent("test", b"\xc0", 7)) is Posted.CLOSED
    assert finalized == []


def test_a_capability_that_does_not_care_about_the_end_need_not_hear_of_it() -> None:
    echo = Receiver()
    source = Events(Capability(name="test", register=lambda _linker, _cell: None), {"echo": echo})

    source.post(StepEvent("test", b"\xc0", 7, "echo"))

    echo.step()
