"""One call of `pulp_on_call` in one crossing.

As `batch.py` does for steps: `ask.wat`, instantiated beside the cell, does what a call needs inside WebAssembly, and
the host crosses over once instead of eight times. What the guest sees is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import wasmtime

from pulp_runtime._kernel.crossing import Export, GuestMemory, Imports

PAD_BYTES: Final = 4 * 65_536
_AT: Final = 16
_ALLOCATOR: Final = {1: "returned 0", 2: "returned an address outside its memory"}


class Pad:
    """The glue of one instance, and what its last call left.

    Attributes:
        code: what the guest answered, unsigned; 0 is success.
        address: of the response in the guest's memory, if it is not `copied`.
        length: of the response, in bytes.
        copied: the response is here; `response` has it.
        allocator: what `pulp_alloc` did wrong, so that nothing was asked: "" for nothing.
    """

    __slots__ = ("_ask", "_memory", "address", "allocator", "code", "copied", "length")

    def __init__(self, store: wasmtime.Store, exports: Mapping[str, Any], imports: Imports) -> None:
        """Take the exports of the glue; `glue.attach` makes them."""
        self._ask: Final = Export(store, exports["ask"], imports, 2)
        self._memory: Final = GuestMemory(store, exports["pad"])
        self.code = self.address = self.length = 0
        self.copied = False
        self.allocator = ""

    @staticmethod
    def fits(size: int) -> bool:
        """Tell whether name and arguments of `size` bytes together fit."""
        return _AT + size <= PAD_BYTES

    def ask(self, name: bytes, args: bytes | memoryview) -> None:
        """Call; name and arguments fit.

        Raises:
            EngineFault: the guest did not come back.
        """
        first, second = len(name), len(args)
        view = self._memory.view
        middle = _AT + first
        view[_AT:middle] = name
        view[middle : middle + second] = args
        failed = self._ask.call2(first, second)
        self.allocator = _ALLOCATOR[failed] if failed else ""
        words = view[:_AT].cast("I")
        self.code, self.address, self.length, copied = words
        self.copied = bool(copied)

    def response(self) -> memoryview:
        """Return the response where it lies; good until the next call."""
        return self._memory.view[_AT : _AT + self.length]

    def forget(self) -> None:
        """Drop the view of the pad; its memory is about to go away."""
        self._memory.forget()
