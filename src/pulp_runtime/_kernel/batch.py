"""Many steps in one crossing.

Entering a guest from Python costs more than most steps do. `steps.wat`, instantiated beside the cell, takes a table of
envelopes and runs the whole of each step, alloc, copy, step and free, inside WebAssembly: the GIL is let go once for
the batch, not three times for each event. What the guest sees is the same.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import wasmtime

from pulp_runtime._kernel.crossing import Export, GuestMemory, Imports

BATCH_BYTES: Final = 4 * 65_536
_NO_ADDRESS: Final = 1 << 31
_BAD_ADDRESS: Final = 1 << 30


class Batch:
    """The glue of one instance.

    Attributes:
        done: how many steps of the last run came back.
        allocator: what its `pulp_alloc` did wrong in the last run: "" for nothing.
    """

    __slots__ = ("_memory", "_run", "allocator", "done")

    def __init__(self, store: wasmtime.Store, exports: Mapping[str, Any], imports: Imports) -> None:
        """Take the exports of the glue; `glue.attach` makes them."""
        self._run: Final = Export(store, exports["run"], imports, 1)
        self._memory: Final = GuestMemory(store, exports["batch"])
        self.done = 0
        self.allocator = ""

    @staticmethod
    def fits(count: int, size: int) -> bool:
        """Tell whether `count` envelopes of `size` bytes together go into one batch."""
        return 8 + 8 * count + size <= BATCH_BYTES

    def run(self, envelopes: Sequence[bytes]) -> None:
        """Step through envelopes that fit; `done` says how far it came, also when it raises.

        Raises:
            EngineFault: step number `done` did not come back.
        """
        count = len(envelopes)
        at = 8 + 8 * count
        table = [0, 0]
        for envelope in envelopes:
            size = len(envelope)
            table += (at, size)
            at += size
        view = self._memory.view
        view[:at] = struct.pack(f"<{len(table)}I", *table) + b"".join(envelopes)
        self.allocator = ""
        try:
            answer = self._run.call1(count)
        finally:
            self.done = self.progress
        if answer & _NO_ADDRESS:
            self.allocator = "returned 0"
        elif answer & _BAD_ADDRESS:
            self.allocator = "returned an address outside its memory"

    @property
    def progress(self) -> int:
        """How many steps of the run in progress have come back; from any thread."""
        return int.from_bytes(self._memory.view[4:8], "little")

    def stop(self) -> None:
        """End the run in progress after the step it is in; from any thread."""
        self._memory.view[0:4] = b"\1\0\0\0"

    def forget(self) -> None:
        """Drop the view of the batch; its memory is about to go away."""
        self._memory.forget()
