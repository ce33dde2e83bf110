from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pulp_runtime.queues.message import MESSAGE_BYTES, SECOND_NS, Bounds, Message, Terms
from pulp_runtime.queues.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 1_000 * SECOND_NS

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * SECOND_NS)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dead() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def store(tmp_path: Path, clock: Clock, dead: list[tuple[str, int]]) -> Iterator[Store]:
    opened = Store(tmp_path / "q.db", now_ns=clock, buried=lambda topic, number: dead.append((topic, number)))
    yield opened
    opened.close()


@contextmanager
def fails(code: int) -> Iterator[None]:
    with pytest.raises(OSError) as caught:  # noqa: PT011  # the number is looked at
        yield
    assert errno.errorcode[caught.value.errno] == errno.errorcode[code]


def take(store: Store, topic: str = "t", terms: Terms = Terms()) -> Message:  # noqa: B008
    message = store.take(topic, terms)
    assert message is not None
    return message


# Order and delivery ---------------------------------------------------------------------------------------------------


def test_messages_come_in_the_order_they_were_published_each_topic_by_itself(store: Store) -> None:
    for number in range(5):
        store.publish("a", b"a%d" % number)
        store.publish("b", b"b%d" % number)

    assert [take(store, "a").body for _ in range(5)] == [b"a%d" % number for number in range(5)]
    assert store.take("a") is None
    assert take(store, "b").body == b"b0"


def test_what_is_acknowledged_is_gone(store: Store) -> None:
    store.publish("t", b"x")
    message = take(store)
    store.acknowledge("t", message.id, message.deliveries)

    assert store.counts("t") == (0, 0, 0, 0)
    with fails(errno.ENOENT):
        store.acknowledge("t", message.id, message.deliveries)


def test_what_is_in_flight_is_nobody_elses_until_its_time_is_over(store: Store, clock: Clock) -> None:
    store.publish("t", b"x")
    first = take(store, terms=Terms(visibility_seconds=30))
    clock.advance(29.9)
    assert store.take("t") is None
    assert not store.waits("t")
    clock.advance(0.2)
    second = take(store)

    assert (second.id, second.deliveries, first.deliveries) == (first.id, 2, 1)
    with fails(errno.ESTALE):
        store.acknowledge("t", first.id, first.deliveries)
    store.acknowledge("t", second.id, second.deliveries)


def test_a_late_acknowledgement_counts_as_long_as_nobody_else_has_the_message(store: Store, clock: Clock) -> None:
    store.publish("t", b"x")
    message = take(store)
    clock.advance(31)
    store.sweep()
    store.acknowledge("t", message.id, message.deliveries)

    assert store.take("t") is None


def test_a_message_that_is_kept_longer_comes_back_later(store: Store, clock: Clock) -> None:
    store.publish("t", b"x")
    message = take(store)
    clock.advance(20)
    store.renew("t", message.id, message.deliveries, 30)
    clock.advance(20)
    assert store.take("t") is None
    clock.advance(11)

    assert take(store).deliveries == 2


def test_a_message_that_is_given_back_is_ready_at_once_and_first(store: Store) -> None:
    for body in (b"1", b"2"):
        store.publish("t", body)
    first = take(store)
    store.release("t", first.id, first.deliveries)

    assert [take(store).body, take(store).body] == [b"1", b"2"]


def test_after_its_last_delivery_a_message_is_dead_and_told(
    store: Store, clock: Clock, dead: list[tuple[str, int]]
) -> None:
    number = store.publish("t", b"poison")
    for delivery in range(1, 4):
        assert take(store, terms=Terms(deliveries=3)).deliveries == delivery
        clock.advance(31)
        store.sweep()

    assert store.take("t") is None
    assert dead == [("t", number)]
    assert store.dead("t") == [number]
    found = store.find_dead("t", number)
    assert found is not None
    assert found.body == b"poison"
    assert store.counts("t") == (0, 0, 1, 6)


def test_a_dead_message_is_dropped_or_begins_again(store: Store) -> None:
    numbers = [store.publish("t", b"x"), store.publish("t", b"y")]
    for _ in numbers:
        message = take(store)
        store.release("t", message.id, message.deliveries, dead=True)
    store.requeue("t", numbers[1])
    store.drop("t", numbers[0])

    again = take(store)
    assert (again.id, again.body, again.deliveries) == (numbers[1], b"y", 1)
    for call in (store.drop, store.requeue):
        with fails(errno.ENOENT):
            call("t", numbers[0])
    assert store.find_dead("other", numbers[1]) is None


def test_an_id_of_another_topic_means_nothing(store: Store) -> None:
    store.publish("t", b"x")
    message = take(store)
    for call in (store.acknowledge, store.release, store.body):
        with fails(errno.ENOENT):
            call("other", message.id, message.deliveries)


def test_ids_are_never_given_twice(store: Store) -> None:
    first = store.publish("t", b"x")
    message = take(store)
    store.acknowledge("t", message.id, message.deliveries)

    assert store.publish("t", b"x") > first


def test_the_dead_are_listed_page_by_page(store: Store) -> None:
    numbers = [store.publish("t", b"") for _ in range(5)]
    for _ in numbers:
        message = take(store)
        store.release("t", message.id, message.deliveries, dead=True)

    assert store.dead("t", limit=2) == numbers[:2]
    assert store.dead("t", after=numbers[1], limit=10) == numbers[2:]


# Bounds ---------------------------------------------------------------------------------------------------------------


def test_the_longest_message_is_taken_and_a_longer_one_refused(store: Store) -> None:
    store.publish("t", bytes(MESSAGE_BYTES))
    with fails(errno.EFBIG):
        store.publish("t", bytes(MESSAGE_BYTES + 1))
    assert len(take(store).body) == MESSAGE_BYTES


@pytest.mark.parametrize("bounds", [Bounds(messages=2), Bounds(bytes=10)])
def test_a_full_topic_takes_no_more_until_something_is_done(store: Store, bounds: Bounds) -> None:
    for _ in range(2):
        store.publish("t", b"12345", bounds=bounds)
    with fails(errno.EDQUOT):
        store.publish("t", b"12345", bounds=bounds)
    store.publish("other", b"12345", bounds=bounds)
    message = take(store)
    with fails(errno.EDQUOT):  # what is in flight counts
        store.publish("t", b"12345", bounds=bounds)
    store.acknowledge("t", message.id, message.deliveries)
    store.publish("t", b"12345", bounds=bounds)


# Waiting --------------------------------------------------------------------------------------------------------------


def test_who_waits_is_told_of_every_way_a_message_becomes_ready(store: Store, clock: Clock) -> None:
    woken: list[str] = []
    end = store.watch("t", lambda: woken.append("t"))
    store.watch("other", lambda: woken.append("other"))

    def ways() -> Iterator[Callable[[], Any]]:
        yield lambda: store.publish("t", b"x")
        message = take(store)
        yield lambda: store.release("t", message.id, message.deliveries)
        take(store)
        clock.advance(31)
        yield store.sweep
        message = take(store)
        store.release("t", message.id, message.deliveries, dead=True)
        woken.clear()
        yield lambda: store.requeue("t", message.id)

    for way in ways():
        woken.clear()
        way()
        assert woken == ["t"]
        assert store.waits("t")
    end()
    end()
    woken.clear()
    store.publish("t", b"x")
    assert woken == []


def test_the_next_moment_to_look_is_known(store: Store, clock: Clock) -> None:
    assert store.next_due_ns == 0
    store.publish("t", b"x")
    store.publish("t", b"y")
    take(store, terms=Terms(visibility_seconds=50))
    assert store.next_due_ns == clock.now + 50 * SECOND_NS
    take(store, terms=Terms(visibility_seconds=20))
    assert store.next_due_ns == clock.now + 20 * SECOND_NS
    clock.advance(20)
    store.sweep()
    assert store.next_due_ns == clock.now + 30 * SECOND_NS
    clock.advance(30)
    store.sweep()
    assert store.next_due_ns == 0


def test_many_threads_take_each_message_once(store: Store) -> None:
    for number in range(300):
        store.publish("t", b"%d" % number)
    taken: list[bytes] = []

    def work() -> None:
        while (message := store.take("t")) is not None:
            taken.append(message.body)
            store.acknowledge("t", message.id, message.deliveries)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(taken, key=int) == [b"%d" % number for number in range(300)]


# The file -------------------------------------------------------------------------------------------------------------


def test_what_was_in_flight_when_the_process_ended_is_ready_again(tmp_path: Path, store: Store) -> None:
    for body in (b"1", b"2", b"3"):
        store.publish("t", body)
    first = take(store)
    store.acknowledge("t", first.id, first.deliveries)
    take(store)
    take(store, terms=Terms(deliveries=1))
    store.close()
    again = Store(tmp_path / "q.db")

    assert take(again).body == b"2"
    assert again.take("t") is None
    assert len(again.dead("t")) == 1  # that was its last time
    again.close()


def test_one_process_has_it_open_and_a_closed_one_says_so(tmp_path: Path, store: Store) -> None:
    with fails(errno.EBUSY):
        Store(tmp_path / "q.db")
    woken: list[None] = []
    store.watch("t", lambda: woken.append(None))
    store.close()
    store.close()

    assert woken == [None]
    with fails(errno.EIO):
        store.publish("t", b"x")
    with fails(errno.EIO):
        store.take("t")


def test_a_file_that_is_no_queue_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(os.urandom(5000))
    with fails(errno.EIO):
        Store(tmp_path / "x.db")


class Model(RuleBasedStateMachine):
    """A queue does what a few lists do: nothing is lost, nothing is given to two at once, the oldest goes first."""

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.store = self.opened()
        self.ready: dict[int, int] = {}  # id: deliveries so far
        self.taken: dict[int, tuple[int, int]] = {}  # id: deliveries, due
        self.dead: set[int] = set()

    def opened(self) -> Store:
        return Store(Path(self.folder.name) / "q.db", now_ns=self.clock)

    def back(self, number: int, deliveries: int) -> None:
        if deliveries >= 2:
            self.dead.add(number)
        else:
            self.ready[number] = deliveries

    @rule(body=st.binary(max_size=20))
    def publish(self, body: bytes) -> None:
        self.ready[self.store.publish("t", body)] = 0

    @rule()
    def take(self) -> None:
        message = self.store.take("t", Terms(10, 2))
        if not self.ready:
            assert message is None
            return
        oldest = min(self.ready)
        assert message is not None
        assert (message.id, message.deliveries) == (oldest, self.ready.pop(oldest) + 1)
        self.taken[oldest] = (message.deliveries, self.clock.now + 10 * SECOND_NS)

    @rule(data=st.data(), what=st.sampled_from(["acknowledge", "release", "renew"]))
    def settle(self, data: st.DataObject, what: str) -> None:
        if not self.taken:
            return
        number = data.draw(st.sampled_from(sorted(self.taken)))
        deliveries, _due = self.taken[number]
        if what == "renew":
            self.store.renew("t", number, deliveries, 10)
            self.taken[number] = (deliveries, self.clock.now + 10 * SECOND_NS)
            return
        del self.taken[number]
        getattr(self.store, what)("t", number, deliveries)
        if what == "release":
            self.back(number, deliveries)

    @rule(seconds=st.sampled_from([1, 5, 11]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        self.store.sweep()
        for number, (deliveries, due) in list(self.taken.items()):
            if due <= self.clock.now:
                del self.taken[number]
                self.back(number, deliveries)

    @rule()
    def revive(self) -> None:
        if self.dead:
            number = min(self.dead)
            self.store.requeue("t", number)
            self.dead.remove(number)
            self.ready[number] = 0

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = self.opened()
        for number, (deliveries, _due) in self.taken.items():
            self.back(number, deliveries)
        self.taken.clear()

    @invariant()
    def agrees(self) -> None:
        if hasattr(self, "ready"):
            counts = self.store.counts("t")
            assert counts[:3] == (len(self.ready), len(self.taken), len(self.dead))
            assert self.store.dead("t") == sorted(self.dead)
            assert self.store.waits("t") == bool(self.ready)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


TestModel = pytest.mark.slow(Model.TestCase)
TestModel.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
