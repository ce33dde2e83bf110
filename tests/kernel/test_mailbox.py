from __future__ import annotations

import threading

import pytest

from pulp_runtime._kernel.mailbox import Mailbox
from pulp_runtime.ext import Posted, StepEvent
from pulp_runtime.manifest.limits import DEFAULT_MAX_MESSAGE_BYTES, MAILBOX_EVENTS, Limits


def event(number: int) -> StepEvent:
    return StepEvent("test", b"\xc0", number)


def nothing(_event_id: int) -> None:
    pass


class Ready:
    """How often a cell was put before the workers."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


@pytest.fixture
def ready() -> Ready:
    return Ready()


@pytest.fixture
def mailbox(ready: Ready) -> Mailbox:
    return Mailbox(Limits(), ready)


def ids(deliveries) -> list[int]:
    return [event.id for event, _finalize in deliveries]


def test_events_are_taken_in_the_order_in_which_they_were_posted(mailbox: Mailbox) -> None:
    for number in range(5):
        mailbox.post(event(number), nothing)

    assert ids(mailbox.take(2)) == [0, 1]
    assert ids(mailbox.take(64)) == [2, 3, 4]
    assert mailbox.take(64) == []


def test_64_events_wait_and_no_more(mailbox: Mailbox) -> None:
    posted = [mailbox.post(event(number), nothing) for number in range(MAILBOX_EVENTS + 1)]

    assert posted == [Posted.ACCEPTED] * 64 + [Posted.FULL]


def test_with_one_in_progress_65_events_of_a_flood_are_accepted(mailbox: Mailbox) -> None:
    mailbox.post(event(0), nothing)
    mailbox.take(1)

    posted = [mailbox.post(event(number), nothing) for number in range(3000)]
    assert posted.count(Posted.ACCEPTED) == 64


def test_a_batch_in_progress_takes_up_room_but_for_the_one_that_is_stepped_through(ready: Ready) -> None:
    made = 0
    mailbox = Mailbox(Limits(mailbox_events=4), ready, lambda: made)
    for number in range(4):
        mailbox.post(event(number), nothing)
    mailbox.take(4)

    assert mailbox.post(event(4), nothing) is Posted.ACCEPTED
    assert mailbox.post(event(5), nothing) is Posted.FULL
    made = 1
    assert mailbox.post(event(5), nothing) is Posted.ACCEPTED


def test_what_is_put_back_comes_before_everything_else(mailbox: Mailbox) -> None:
    for number in range(4):
        mailbox.post(event(number), nothing)
    taken = mailbox.take(3)
    mailbox.post(event(4), nothing)

    assert mailbox.put_back(taken[1:])
    assert ids(mailbox.take(64)) == [1, 2, 3, 4]


def test_nothing_can_be_put_back_into_a_closed_mailbox(mailbox: Mailbox) -> None:
    mailbox.post(event(0), nothing)
    taken = mailbox.take(1)
    mailbox.close()

    assert not mailbox.put_back(taken)
    assert len(mailbox) == 0


def test_closing_hands_over_what_waits_and_refuses_what_comes(mailbox: Mailbox) -> None:
    for number in range(3):
        mailbox.post(event(number), nothing)

    assert ids(mailbox.close()) == [0, 1, 2]
    assert mailbox.close() == []
    assert mailbox.post(event(3), nothing) is Posted.CLOSED
    assert mailbox.take(64) == []


def test_a_cell_is_put_before_the_workers_once_until_it_rests(mailbox: Mailbox, ready: Ready) -> None:
    for number in range(3):
        mailbox.post(event(number), nothing)
    assert ready.times == 1
    assert mailbox.scheduled
    assert not mailbox.claim()

    mailbox.take(64)
    assert mailbox.rest(serving=True)
    mailbox.post(event(3), nothing)
    assert ready.times == 2


def test_a_cell_with_more_to_do_does_not_rest(mailbox: Mailbox) -> None:
    mailbox.post(event(0), nothing)

    assert not mailbox.rest(serving=True)
    assert mailbox.scheduled


def test_a_cell_that_cannot_take_events_rests_all_the_same(mailbox: Mailbox) -> None:
    mailbox.post(event(0), nothing)

    assert mailbox.rest(serving=False)
    assert mailbox.claim()


SMALL = Limits(message_bytes=2048)
#: 20 of the header, then {"kind": "test", "payload": …}
OVERHEAD = 20 + len(b"\x82\xa4kind\xa4test\xa7payload")


@pytest.mark.parametrize(
    ("length", "posted"),
    [
        pytest.param(2048 - OVERHEAD, Posted.ACCEPTED, id="exactly the limit is accepted"),
        pytest.param(2048 - OVERHEAD + 1, Posted.TOO_LARGE, id="one byte more is refused"),
        pytest.param(DEFAULT_MAX_MESSAGE_BYTES, Posted.TOO_LARGE, id="much more is refused"),
        pytest.param(0, Posted.ACCEPTED, id="nothing is accepted"),
    ],
)
def test_an_event_that_is_too_large_is_refused_at_the_door(ready: Ready, length: int, posted: Posted) -> None:
    mailbox = Mailbox(SMALL, ready)

    assert mailbox.post(StepEvent("test", bytes(length)), nothing) is posted


@pytest.mark.parametrize("closing", [False, True], ids=["and none is lost", "and none is lost when it closes"])
def test_many_writers_and_one_reader_never_see_an_event_twice(
    ready: Ready, closing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    mailbox = Mailbox(Limits(mailbox_events=1000), ready)
    accepted: list[int] = []
    seen: list[int] = []
    together = threading.Barrier(5)
    written = threading.Event()

    def write(first: int) -> None:
        together.wait()
        numbers = range(first, first + 500)
        accepted.extend(number for number in numbers if mailbox.post(event(number), nothing) is Posted.ACCEPTED)

    def read() -> None:
        together.wait()
        while not written.is_set() or len(mailbox):
            taken = mailbox.take(7)
            seen.extend(ids(taken[:3]))
            if not mailbox.put_back(taken[3:]):
                seen.extend(ids(taken[3:]))

    writers = [threading.Thread(target=write, args=(1000 * at,)) for at in range(4)]
    reader = threading.Thread(target=read)
    for thread in [*writers, reader]:
        thread.start()
    if closing:
        seen_at_close = ids(mailbox.close())
    for thread in writers:
        thread.join()
    written.set()
    reader.join()

    everything = seen + (seen_at_close if closing else [])
    assert sorted(everything) == sorted(accepted)
