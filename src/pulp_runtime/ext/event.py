"""Events: what an extension wants a cell to see in its next step."""

from __future__ import annotations

import enum

import msgspec


class StepEvent(msgspec.Struct, frozen=True, gc=False):
    """One pending event.

    Attributes:
        kind: a dotted noun that tells the guest what it is, e.g. `http.request`.
        payload: the MessagePack of the event, spliced into the envelope as it is; b"" is sent as nil.
        id: the extension's own handle, given back to `finalize`; 0..2**64-1.
        cell_id: `CellRef.id` of the receiver; "" means every cell that declares the capability, and in an application
            the only one that does: where there are several nobody is meant.
    """

    kind: str
    payload: bytes
    id: int = 0
    cell_id: str = ""


class Posted(enum.Enum):
    """What became of a posted event.

    Only for `ACCEPTED` does the host call `finalize`, exactly once, after the last receiver's step.
    Everything else is the poster's to answer: the event has not been kept.
    """

    ACCEPTED = "accepted"
    FULL = "full"  #: the receiver's mailbox is full
    TOO_LARGE = "too large"  #: the envelope would exceed the cell's message limit
    CLOSED = "closed"  #: no such cell, or it is down
