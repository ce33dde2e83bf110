"""What goes over the control socket.

    ┌───────────────┬──────────────────────────────┐
    │ length u32 LE │ one MessagePack map          │   at most 1 MiB, both ways
    └───────────────┴──────────────────────────────┘

One request, one reply, and the connection is closed. Only `logs` with `follow` is answered by many frames.
"""

from __future__ import annotations

import os
from typing import Annotated, Any, Final

import msgspec

from pulp_runtime.errors import PulpError

MOST_BYTES: Final = 1 << 20
REQUEST_SECONDS: Final = 5.0
VARIABLE: Final = "PULP_CTL_SOCK"
DEFAULT_PATH: Final = "./pulp.ctl"


class FrameBroken(PulpError):
    """A frame that cannot be: too long, empty, or cut short."""


class Request(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What a client asks. Keys it does not know a host skips.

    Attributes:
        op: the operation.
        cell: whom it is about, "" where it is about none or all; for `logs` also an application.
        function: for `call`: the function, which the cell provides.
        args: for `call`: opaque bytes. For `snapshot`: the file to write, absolute; none for the cell's own folder.
        lines: for `logs`: how many of the last lines.
        follow: for `logs`: go on with those that come.
    """

    op: str
    cell: str = ""
    function: str = ""
    args: bytes = b""
    lines: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 100
    follow: bool = False


class CellEntry(msgspec.Struct, kw_only=True, frozen=True):
    """A cell in the reply to `status`; the first three keys are what older clients know.

    Attributes:
        name: of the cell.
        state: see `State`.
        steps: how often it was stepped.
        reason: why it is in that state, "" when nothing is wrong.
        restarts: how often it was restarted.
        version: of its manifest.
        waiting: events in its mailbox.
    """

    name: str
    state: str
    steps: int
    reason: str = ""
    restarts: int = 0
    version: str = ""
    waiting: int = 0


class Reply(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """What a host answers; a key that says nothing is left out.

    Attributes:
        ok: it was done.
        error: why not.
        cells: for `status`.
        changes: for `reload` and `rollback`: what the other manifest changes in what the cell may do.
        result: for `call`: the response.
        lines: for `logs`; for `snapshot`: what was written.
        metrics: for `metrics`.
    """

    ok: bool = False
    error: str = ""
    cells: tuple[CellEntry, ...] = ()
    changes: tuple[str, ...] = ()
    result: bytes = b""
    lines: tuple[str, ...] = ()
    metrics: dict[str, Any] = {}


_encode: Final = msgspec.msgpack.Encoder().encode
_U64: Final = b"\xcf"


def frame(record: Request | Reply) -> bytes:
    """Return a record as it goes over the socket; `steps` always as nine bytes, as older clients expect."""
    if isinstance(record, Reply) and record.cells:
        plain = msgspec.to_builtins(record, builtin_types=(bytes,))
        data = _wide_steps(plain)
    else:
        data = _encode(record)
    if len(data) > MOST_BYTES:
        raise FrameBroken(f"frame too large: {len(data)} bytes")
    return len(data).to_bytes(4, "little") + data


def _wide_steps(plain: dict[str, Any]) -> bytes:
    """Encode a reply with cells; every `steps` is a uint64."""
    cells = []
    for cell in plain.pop("cells"):
        steps = cell.pop("steps")
        head = {"name": cell.pop("name"), "state": cell.pop("state")}
        first, rest = _encode(head)[1:], _encode(cell)[1:]
        cells.append(
            bytes([0x80 | (3 + len(cell))]) + first + _encode("steps") + _U64 + steps.to_bytes(8, "big") + rest
        )
    others = _encode(plain)
    array = b"\xdd" + len(cells).to_bytes(4, "big") if len(cells) > 15 else bytes([0x90 | len(cells)])
    return bytes([0x80 | (len(plain) + 1)]) + others[1:] + _encode("cells") + array + b"".join(cells)


def length_of(head: bytes) -> int:
    """Return how many bytes follow the four that say so.

    Raises:
        FrameBroken: none, or more than may be.
    """
    length = int.from_bytes(head, "little")
    if not length:
        raise FrameBroken("empty frame")
    if length > MOST_BYTES:
        raise FrameBroken(f"frame too large: {length} bytes")
    return length


def socket_path() -> str:
    """Return where the socket is: `$PULP_CTL_SOCK`, `./pulp.ctl` when that is not set; "" for nowhere."""
    return os.environ.get(VARIABLE, DEFAULT_PATH)
