"""`effect.stripe.runtime`: its function's name is known, what stands in its messages is not (spec/capabilities §21).

So a cell that declares it is refused, with a sentence; one that only imports the function is answered 99, as by any
capability it has not declared.
"""

from __future__ import annotations

from typing import Final

from pulp_runtime.ext import Capability, CellRef, Errno, ExtensionError, Guest, HostFunction, Linker

NAME: Final = "effect.stripe.runtime"
_FUNCTION: Final = "stripe_effect_execute"


def capability() -> Capability:
    """Return the capability; an entry point."""

    def register(_linker: Linker, _cell: CellRef) -> None:
        raise ExtensionError(f"{NAME} is not built: what its messages hold is not published; declare payment.stripe")

    def answer(_guest: Guest, *_words: int) -> int:
        return Errno.UNDECLARED

    doc = "Not built: what its messages hold is not published."
    function = HostFunction(_FUNCTION, 4, answer, False, "(guest: Guest, request: bytes) -> bytes", doc)
    return Capability(name=NAME, register=register, provider=__name__, functions={_FUNCTION: function})
