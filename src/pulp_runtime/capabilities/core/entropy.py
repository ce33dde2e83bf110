"""`entropy.read`: random bytes of the operating system (spec/capabilities §9). Every cell has it, declared or not.

Its codes are its own, so it is bound by hand: 8 and 9 where the usual mapping answers 7 and 8.
"""

from __future__ import annotations

import os
from typing import Annotated, Final

import msgspec

from pulp_runtime.abi.codec import DecodeError, struct_decoder
from pulp_runtime.ext import Capability, CellRef, Errno, Guest, HostError, HostFunction, Linker

NAME: Final = "entropy.read"
FUNCTION: Final = "entropy_read"
MAX_BYTES: Final = 65_536
"""Most bytes in one answer."""

EMPTY: Final = 1
FAULT: Final = 2
DECODE: Final = 3
NOTHING_ASKED: Final = 4
TOO_MUCH_ASKED: Final = 5
NO_SOURCE: Final = 6
ALLOC: Final = 8
WRITE: Final = 9

_OWN_CODES: Final[dict[int, int]] = {Errno.ALLOC: ALLOC, Errno.WRITE: WRITE}


class EntropyRequest(msgspec.Struct, kw_only=True, frozen=True):
    """What a cell asks for.

    Attributes:
        n: how many bytes, 1..65,536.
    """

    n: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)] = 0


class Entropy(msgspec.Struct, frozen=True):
    """What it gets.

    Attributes:
        bytes: as many as it asked for.
    """

    bytes: bytes


_decode = struct_decoder(EntropyRequest)
_encode = msgspec.msgpack.Encoder().encode


def entropy_read(guest: Guest, address: int, length: int, address_out: int, length_out: int) -> int:
    """Deliver `n` random bytes.

    Answers 1 for an empty request, 2 for one outside memory, 3 for one that cannot be decoded, 4 when `n` is 0, 5
    when it is over 65,536, 6 when the system has no randomness, 8 when the guest's allocator refuses, 9 when the
    answer cannot be written to its memory. (7, an answer that cannot be encoded, does not happen here.)
    """
    if not length:
        return EMPTY
    data = guest.read(address, length)
    try:
        wanted = _decode(data).n
    except DecodeError:
        return DECODE
    if not wanted:
        return NOTHING_ASKED
    if wanted > MAX_BYTES:
        return TOO_MUCH_ASKED
    try:
        answer = _encode(Entropy(os.urandom(wanted)))
    except OSError:
        return NO_SOURCE
    try:
        guest.deliver(answer, address_out, length_out)
    except HostError as error:
        return _OWN_CODES.get(error.code, error.code)
    return 0


def _register(linker: Linker, _cell: CellRef) -> None:
    linker.define(FUNCTION, 4, entropy_read)


def capability() -> Capability:
    """Return the capability."""
    signature = "(cell: CellRef, request: EntropyRequest) -> Entropy"
    function = HostFunction(FUNCTION, 4, entropy_read, False, signature, entropy_read.__doc__ or "")
    return Capability(name=NAME, register=_register, provider=__name__, functions={FUNCTION: function})
