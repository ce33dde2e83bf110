"""What a queue holds, and its bounds."""

from __future__ import annotations

from typing import Final, NamedTuple

MESSAGE_BYTES: Final = 1024 * 1024
"""Longest message."""
VISIBILITY_SECONDS: Final = 30
"""How long whoever takes a message has it to himself, by default."""
DELIVERIES: Final = 5
"""How often a message is given out by default before it is dead."""
MOST_MESSAGES: Final = 100_000
"""Most messages of one topic, those in flight and the dead included, by default."""
MOST_BYTES: Final = 256 * 1024 * 1024
"""Most bytes of them, by default."""
PAGE: Final = 1000
"""Most ids of one page of a listing."""
SECOND_NS: Final = 1_000_000_000


class Message(NamedTuple):
    """A message that somebody has taken.

    Attributes:
        id: of the message; higher for one that was published later.
        body: what was published.
        deliveries: how often it has been given out, this time included: 1 or more. With `id` it is the receipt.
        published_ns: when it was published, nanoseconds since 1970.
    """

    id: int
    body: bytes
    deliveries: int
    published_ns: int


class Terms(NamedTuple):
    """How messages are given out.

    Attributes:
        visibility_seconds: how long whoever takes one has it to himself.
        deliveries: how often one is given out; the next time it is dead instead.
    """

    visibility_seconds: float = VISIBILITY_SECONDS
    deliveries: int = DELIVERIES


class Bounds(NamedTuple):
    """How much a topic may hold."""

    messages: int = MOST_MESSAGES
    bytes: int = MOST_BYTES


class Counts(NamedTuple):
    """How much it holds.

    Attributes:
        ready: messages that wait.
        in_flight: those that somebody has.
        dead: those that are given out no more.
        bytes: of all of them.
    """

    ready: int
    in_flight: int
    dead: int
    bytes: int
