"""Fractions of a second beyond the sixth digit, which `tomllib` drops.

A fraction cannot be recovered from the parsed value, so each one in the text is
replaced by its number in order, and the number is looked up afterwards: the
literal `07:32:00.123456789`, the third of its document, is parsed as
`07:32:00.000003`.
"""

from __future__ import annotations

import re
from datetime import datetime, time
from typing import Final

from pulp_runtime.abi.moment import NanoDateTime, NanoTime

_FRACTION: Final = r"(?P<clock>\d{2}:\d{2}:\d{2}\.)(?P<digits>\d+)"
_MICROSECOND_DIGITS: Final = 6
_NANOSECOND_DIGITS: Final = 9
_LONG_FRACTION: Final = re.compile(rf":\d{{2}}\.\d{{{_MICROSECOND_DIGITS + 1}}}")
#: Comments and the four kinds of string, so that a clock inside one is left alone. The text is
#: known to parse, so every string ends.
_TOKEN: Final = re.compile(
    r"""
      \#[^\n]*
    | \"{3} (?: [^"\\] | \\[\s\S] | "(?!"") )*+ \"{3,5}
    | '{3} (?: [^'] | '(?!'') )*+ '{3,5}
    | " (?: [^"\\\n] | \\. )*+ "
    | ' [^'\n]*+ '
    | """
    + _FRACTION,
    re.VERBOSE,
)


def has_long_fractions(text: str) -> bool:
    """Tell whether `text` may hold a fraction that `tomllib` would cut."""
    return _LONG_FRACTION.search(text) is not None


class Fractions:
    """The fractions of one document, which must be valid TOML.

    Attributes:
        text: the document with each fraction replaced by its number, from 1.
    """

    def __init__(self, text: str) -> None:
        self._digits: list[str] = []
        self.text: Final = _TOKEN.sub(self._number, text)

    def _number(self, token: re.Match[str]) -> str:
        digits = token["digits"]
        if digits is None:
            return token[0]
        self._digits.append(digits)
        return f"{token['clock']}{len(self._digits):0{_MICROSECOND_DIGITS}d}"

    def restore(self, value: datetime | time) -> datetime | time:
        """Return a value parsed from `text` with its own fraction; exact to the nanosecond."""
        if value.microsecond == 0:
            return value
        digits = self._digits[value.microsecond - 1]
        nanosecond = int(digits[:_NANOSECOND_DIGITS].ljust(_NANOSECOND_DIGITS, "0"))
        if isinstance(value, datetime):
            return NanoDateTime.of(value, nanosecond)
        return NanoTime.of(value, nanosecond)
