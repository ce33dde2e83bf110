"""Values on their way into SQLite and out of it, and moments as text (spec/capabilities §8.4, §8.5).

SQLite has no type for a moment. What a guest binds as one is stored in the form that Go's `time.Time` prints, and text
in a column that is declared as a date is read back as a moment, in any of the forms that programs in this field write:

    2026-05-01 12:00:00.5 +0000 UTC      2026-05-01      2026-05-01[ T]12:00[:00[.5]][+02:00][Z]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Final

from pulp_runtime.abi.codec import Timestamp

DATES: Final = frozenset({"DATE", "DATETIME", "TIMESTAMP"})
"""Declared types, exactly and in any case, whose text is read as a moment."""
DATE_WORDS: Final = re.compile(r"\b(?:date|datetime|timestamp)\b", re.IGNORECASE)

_PLAIN: Final = frozenset({int, float, str, bytes, bool, type(None)})
_DAY_SECONDS: Final = 86_400
_EPOCH_DAY: Final = date(1970, 1, 1).toordinal()
#: The calendar repeats after 400 years, which is how years that Python's does not have are reached.
_CYCLE_DAYS: Final = 146_097
_CYCLE_YEARS: Final = 400

_ISO: Final = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)(?:[ T](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?:([+-])(\d\d):(\d\d))?)?Z?"
)
_GO: Final = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:[.,](\d+))? ([+-])(\d\d)(\d\d)"
    rb" (?:[A-Za-z]{3,5}|[+-]\d{2,4})(?: m=[+-][\d.]+)?"
)


class Unbindable(Exception):
    """A value that no column can hold; the text is for the guest."""


def bindable(values: list[object]) -> list[object]:
    """Return `values` as SQLite's module takes them: moments as text, the others as they are.

    Raises:
        Unbindable: an array, a map, another extension.
    """
    for value in values:
        if type(value) not in _PLAIN:
            return [_bindable(at, value) for at, value in enumerate(values)]
    return values


def _bindable(at: int, value: object) -> object:
    if isinstance(value, Timestamp):
        return moment_text(value)
    if type(value) in _PLAIN:
        return value
    code = getattr(value, "code", None)  # either reader's kind of extension has it
    kind = _KINDS.get(type(value), f"extension {code}")
    raise Unbindable(f"parameter {at + 1} is {kind}, which cannot be stored")


_KINDS: Final[dict[type, str]] = {list: "an array", dict: "a map"}


def moment_text(moment: Timestamp) -> str:
    """Return a moment as Go's `time.Time` prints it in UTC: `2026-05-01 12:00:00.5 +0000 UTC`."""
    days, second = divmod(moment.seconds, _DAY_SECONDS)
    cycles, rest = divmod(days + _EPOCH_DAY - 1, _CYCLE_DAYS)
    day = date.fromordinal(rest + 1)
    year = day.year + cycles * _CYCLE_YEARS
    written = f"{year:04}" if year >= 0 else f"-{-year:04}"
    fraction = f".{moment.nanoseconds:09}".rstrip("0") if moment.nanoseconds else ""
    clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{fraction}"
    return f"{written}-{day.month:02}-{day.day:02} {clock} +0000 UTC"


def read_moment(text: bytes) -> Timestamp | None:
    """Return the moment a text stands for, None if it is in none of the forms; without an offset it is UTC."""
    match = _ISO.fullmatch(text) or _GO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, ahead_hours, ahead_minutes = match.groups()
    try:
        # 0000 is a leap year like 0400.
        days = date(int(year) or _CYCLE_YEARS, int(month), int(day)).toordinal() - (0 if int(year) else _CYCLE_DAYS)
    except ValueError:
        return None
    clock = [int(part or 0) for part in (hour, minute, second, ahead_hours, ahead_minutes)]
    if clock[0] > 23 or clock[1] > 59 or clock[2] > 59 or clock[3] > 24 or clock[4] > 59:
        return None
    ahead = (clock[3] * 3600 + clock[4] * 60) * (-1 if sign == b"-" else 1)
    seconds = (days - _EPOCH_DAY) * _DAY_SECONDS + clock[0] * 3600 + clock[1] * 60 + clock[2] - ahead
    return Timestamp(seconds, int((fraction or b"")[:9].ljust(9, b"0") or 0))


class DateColumns:
    """Reads the text of some columns as moments: `converted` of `abi.sql.encode_row`."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Sequence[int]) -> None:
        self._columns: Final = frozenset(columns)

    def __call__(self, column: int, text: bytes) -> bytes | None:
        """Return the moment as MessagePack; None if the column is no date, or its text no moment."""
        if column not in self._columns:
            return None
        moment = read_moment(text)
        return None if moment is None else moment.encode()
