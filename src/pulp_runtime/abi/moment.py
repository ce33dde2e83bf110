"""Moments to the nanosecond, which Python's own date and time types cannot hold.

The contract carries a moment as seconds and nanoseconds since 1970 (the
MessagePack extension -1). TOML writes it as a date-time, a date or a time; the
two subclasses here let a parsed document keep the digits that `datetime` drops.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Final, Self, SupportsIndex

NANOSECONDS: Final = 1_000_000_000
TIMESTAMP_EXT: Final = -1

_DAY_SECONDS: Final = 86_400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
#: A TOML time has no date; the contract puts it on 1 January of year 0, a leap year of 366 days
#: that ends where Python's calendar begins.
_TIME_DAY: Final = date(1, 1, 1).toordinal() - 366

_SHORT: Final = struct.Struct(">I")
_MEDIUM: Final = struct.Struct(">Q")
_LONG: Final = struct.Struct(">Iq")


@dataclass(frozen=True, slots=True)
class Timestamp:
    """A moment in UTC.

    Attributes:
        seconds: whole seconds since 1970, any int64; negative before it.
        nanoseconds: what to add to them, 0..999,999,999.
    """

    seconds: int
    nanoseconds: int = 0

    def __hash__(self) -> int:
        """Hash the text, with this process's secret: of tuples of numbers anyone can make a million that collide."""
        return hash(f"{self.seconds} {self.nanoseconds}")

    def encode(self) -> bytes:
        """Return the shortest MessagePack form; moments before 1970 need the longest."""
        if 0 <= self.seconds < 1 << 32 and not self.nanoseconds:
            return b"\xd6\xff" + _SHORT.pack(self.seconds)
        if 0 <= self.seconds < 1 << 34:
            return b"\xd7\xff" + _MEDIUM.pack(self.nanoseconds << 34 | self.seconds)
        return b"\xc7\x0c\xff" + _LONG.pack(self.nanoseconds, self.seconds)

    @classmethod
    def decode(cls, body: bytes) -> Timestamp | None:
        """Read the bytes inside extension -1; None if they are no timestamp."""
        if len(body) == _SHORT.size:
            return cls(_SHORT.unpack(body)[0])
        if len(body) == _MEDIUM.size:
            word = _MEDIUM.unpack(body)[0]
            moment = cls(word & (1 << 34) - 1, word >> 34)
        elif len(body) == _LONG.size:
            nanoseconds, seconds = _LONG.unpack(body)
            moment = cls(seconds, nanoseconds)
        else:
            return None
        return moment if moment.nanoseconds < NANOSECONDS else None


class NanoDateTime(datetime):
    """A date-time whose `nanosecond` (0..999,999,999) is exact."""

    _below_microsecond = 0

    @classmethod
    def of(cls, base: datetime, nanosecond: int) -> Self:
        """Return `base` with its fraction of a second replaced by `nanosecond`."""
        micro, below = divmod(nanosecond, 1000)
        moment = cls.combine(base.date(), base.time().replace(microsecond=micro), base.tzinfo)
        moment._below_microsecond = below
        return moment

    @property
    def nanosecond(self) -> int:
        """The whole fraction of the second."""
        return self.microsecond * 1000 + self._below_microsecond

    def __reduce_ex__(
        self, _protocol: SupportsIndex
    ) -> tuple[Callable[[datetime, int], NanoDateTime], tuple[datetime, int]]:
        # Copies and pickles of a datetime rebuild it from its own fields and would lose ours.
        base = datetime.combine(self.date(), self.time(), self.tzinfo)
        return NanoDateTime.of, (base, self.nanosecond)


class NanoTime(time):
    """A time of day whose `nanosecond` (0..999,999,999) is exact."""

    _below_microsecond = 0

    @classmethod
    def of(cls, base: time, nanosecond: int) -> Self:
        """Return `base` with its fraction of a second replaced by `nanosecond`."""
        micro, below = divmod(nanosecond, 1000)
        moment = cls(base.hour, base.minute, base.second, micro)
        moment._below_microsecond = below
        return moment

    @property
    def nanosecond(self) -> int:
        """The whole fraction of the second."""
        return self.microsecond * 1000 + self._below_microsecond

    def __reduce_ex__(self, _protocol: SupportsIndex) -> tuple[Callable[[time, int], NanoTime], tuple[time, int]]:
        base = time(self.hour, self.minute, self.second, self.microsecond)
        return NanoTime.of, (base, self.nanosecond)


def timestamp_of(value: date | time, local_offset_seconds: int) -> Timestamp:
    """Return the moment that a TOML date-time, date or time stands for.

    Args:
        value: with an offset of its own, or local.
        local_offset_seconds: how far local clocks are ahead of UTC. A local
            date is its midnight; a local time is on 1 January of year 0.
    """
    if isinstance(value, datetime):
        own = value.utcoffset()
        offset = local_offset_seconds if own is None else own.days * _DAY_SECONDS + own.seconds
        return _timestamp(value.toordinal(), value, offset)
    if isinstance(value, time):
        return _timestamp(_TIME_DAY, value, local_offset_seconds)
    return _timestamp(value.toordinal(), time(), local_offset_seconds)


def _timestamp(day: int, clock: datetime | time, offset_seconds: int) -> Timestamp:
    # By arithmetic, not `astimezone`: the first and last day of the calendar may leave it.
    seconds = (day - _EPOCH_DAY) * _DAY_SECONDS - offset_seconds
    seconds += clock.hour * 3600 + clock.minute * 60 + clock.second
    if isinstance(clock, NanoDateTime | NanoTime):
        return Timestamp(seconds, clock.nanosecond)
    return Timestamp(seconds, clock.microsecond * 1000)
