"""Events on their way from capabilities to the cell under test, and the hooks that go with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from pulp_runtime.abi.envelope import encode_step
from pulp_runtime.errors import HookFailed
from pulp_runtime.ext import Capability, Posted, StepEvent
from pulp_runtime.manifest.cell import CellSpec


def run_hook(capability: Capability, hook: str, *arguments: Any, cell: str = "") -> Any:
    """Run a hook if the capability has it.

    Raises:
        HookFailed: it raised; a host would log it and go on.
    """
    function = getattr(capability, hook)
    if function is None:
        return None
    try:
        return function(*arguments)
    except Exception as error:
        raise HookFailed(capability.name, hook, error, cell=cell) from error


class Inbox:
    """What waits for the cell, bounded as its mailbox is.

    Args:
        spec: whose.
        step: runs one step of it.
        soon: has `deliver` called while time passes; does nothing when it stands still.
    """

    def __init__(
        self, spec: CellSpec, step: Callable[[StepEvent], int], soon: Callable[[Callable[[], int]], None]
    ) -> None:
        self._spec: Final = spec
        self._step: Final = step
        self._soon: Final = soon
        self._waiting: Final[deque[tuple[StepEvent, Capability]]] = deque()
        self.open = False
        self.closed = False

    def post(self, event: StepEvent, capability: Capability) -> Posted:
        """Take an event, or say why not; see `SetupEnv.post`."""
        if self.closed or event.cell_id not in ("", self._spec.name):
            return Posted.CLOSED
        limits = self._spec.limits
        if len(encode_step(0, 0, event.kind, event.payload)) > limits.message_bytes:
            return Posted.TOO_LARGE
        if len(self._waiting) >= limits.mailbox_events:
            return Posted.FULL
        self._waiting.append((event, capability))
        if self.open:
            self._soon(self.deliver)
        return Posted.ACCEPTED

    def deliver(self) -> int:
        """Step through everything, oldest first, and finalize each, also the one whose step failed."""
        count = 0
        while self._waiting:
            event, capability = self._waiting.popleft()
            count += 1
            try:
                self._step(event)
            finally:
                run_hook(capability, "finalize", event.id)
        return count

    def poll(self, capabilities: Sequence[Capability]) -> int:
        """Ask every source until it has nothing more; return how many events there were."""
        count = 0
        for capability in capabilities:
            while isinstance(event := run_hook(capability, "poll"), StepEvent):
                count += 1
                if self.post(event, capability) is not Posted.ACCEPTED:
                    run_hook(capability, "finalize", event.id)
        return count

    def drop(self) -> None:
        """Take nothing more; finalize what waits."""
        self.closed = True
        while self._waiting:
            event, capability = self._waiting.popleft()
            run_hook(capability, "finalize", event.id)
