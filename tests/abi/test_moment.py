from __future__ import annotations

import copy
import pickle
from datetime import UTC, date, datetime, time, timedelta, timezone

import msgpack
import pytest

from pulp_runtime.abi.moment import NanoDateTime, NanoTime, Timestamp, timestamp_of

EAST = timezone(timedelta(hours=14))
WEST = timezone(timedelta(hours=-14))


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(Timestamp(0), id="the epoch"),
        pytest.param(Timestamp((1 << 32) - 1), id="the last of four bytes"),
        pytest.param(Timestamp(1 << 32), id="the first past four bytes"),
        pytest.param(Timestamp((1 << 34) - 1, 999_999_999), id="the last of eight bytes"),
        pytest.param(Timestamp(1 << 34), id="the first past eight bytes"),
        pytest.param(Timestamp(-1, 1), id="before the epoch"),
    ],
)
def test_a_timestamp_is_what_the_reference_library_writes(moment: Timestamp) -> None:
    encoded = moment.encode()
    theirs = msgpack.Timestamp(moment.seconds, moment.nanoseconds)

    assert encoded == msgpack.packb(theirs)
    assert Timestamp.decode(theirs.to_bytes()) == moment


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"12345", id="five bytes long"),
        pytest.param(b"\xff" * 8, id="more than a second of nanoseconds"),
        pytest.param(b"\xff" * 12, id="more than a second of nanoseconds in the long form"),
    ],
)
def test_bytes_that_are_no_timestamp_are_none(body: bytes) -> None:
    assert Timestamp.decode(body) is None


def test_a_fraction_is_counted_forward_also_before_the_epoch() -> None:
    moment = timestamp_of(datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC), 0)

    assert moment == Timestamp(-1, 500_000_000)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        pytest.param(datetime(1, 1, 1, tzinfo=EAST), -62_135_596_800 - 14 * 3600, id="first day"),
        pytest.param(datetime(9999, 12, 31, tzinfo=WEST), 253_402_214_400 + 14 * 3600, id="last day"),
    ],
)
def test_an_offset_may_leave_the_calendar(value: datetime, seconds: int) -> None:
    assert timestamp_of(value, 0) == Timestamp(seconds)


def test_an_own_offset_wins_over_the_local_one() -> None:
    assert timestamp_of(datetime(1970, 1, 1, tzinfo=UTC), 3600) == Timestamp(0)
    assert timestamp_of(datetime(1970, 1, 1), 3600) == Timestamp(-3600)
    assert timestamp_of(date(1970, 1, 1), -3600) == Timestamp(3600)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(NanoDateTime.of(datetime(1979, 5, 27, 7, 32, tzinfo=WEST), 123_456_789), id="a date-time"),
        pytest.param(NanoTime.of(time(7, 32), 123_456_789), id="a time"),
    ],
)
def test_nanoseconds_survive_a_copy(value: NanoDateTime | NanoTime) -> None:
    copies = [copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value))]

    for made in copies:
        assert made == value
        assert made.nanosecond == 123_456_789


def test_a_changed_moment_forgets_only_what_it_cannot_hold() -> None:
    moment = NanoDateTime.of(datetime(1979, 5, 27, tzinfo=UTC), 123_456_789)

    assert moment.replace(day=28).nanosecond == 123_456_000
