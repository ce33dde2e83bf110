"""What was logged, kept for the test to look at."""

from __future__ import annotations

from typing import Any, NamedTuple

from pulp_runtime.log import Log


class Logged(NamedTuple):
    """One record.

    Attributes:
        level: a number of `logging`.
        message: its text, already escaped if a guest wrote it.
        fields: whatever goes with it.
    """

    level: int
    message: str
    fields: dict[str, Any]


class KeptLog(Log):
    """A log that keeps what it passes on, and shares it with every log bound from it."""

    __slots__ = ("_given", "seen")

    def __init__(self, seen: list[Logged], **fields: Any) -> None:
        super().__init__("pulp", **fields)
        self._given = fields
        self.seen = seen

    def bind(self, **fields: Any) -> Log:
        """See `Log.bind`."""
        return KeptLog(self.seen, **{**self._given, **fields})

    def record(self, level: int, message: str, fields: dict[str, Any], exc_info: BaseException | None = None) -> None:
        """See `Log.record`."""
        self.seen.append(Logged(level, message, {**self._given, **fields}))
        super().record(level, message, fields, exc_info)
