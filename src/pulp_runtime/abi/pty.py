"""Records of `spawn.pty`: a terminal asked for, and what is written on it."""

from __future__ import annotations

from typing import Final

import msgspec

from pulp_runtime.abi.codec import encode_bin, encode_str, encode_u32, map_header


class PtyOpen(msgspec.Struct, kw_only=True, frozen=True):
    """A terminal that a cell asks for.

    Attributes:
        shell: the program; the user's shell when empty, the operator's agent for `agent`.
        args: its arguments, or None.
        dir: where it begins; the host's own folder when empty.
        persist: whether it lives on when the cell is restarted or reloaded.
    """

    shell: str = ""
    args: list[str] | None = None
    dir: str = ""
    persist: bool = False


_PTY_ID: Final = encode_str("pty_id")
_DATA: Final = encode_str("data")


def encode_opened(pty_id: int) -> bytes:
    """Return the answer to `pty_open`."""
    return map_header(1) + _PTY_ID + encode_u32(pty_id)


def encode_pty_output(pty_id: int, data: bytes) -> bytes:
    """Return the payload of a `pty.output` event."""
    return b"".join((map_header(2), _PTY_ID, encode_u32(pty_id), _DATA, encode_bin(data)))
