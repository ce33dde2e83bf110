"""The way of events inside an application: to one placement, never to all (spec/core §0, §4.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from pulp_runtime._kernel.events import Events
from pulp_runtime._kernel.policy import State
from pulp_runtime._kernel.runner import Runner
from pulp_runtime.ext import Capability, Posted, StepEvent
from pulp_runtime.log import Log

_LIVE: Final = (State.LOADING, State.READY, State.RESTARTING)


class TargetedEvents(Events):
    """The way of one capability's events. An event that could mean several placements is refused.

    A placement is named by its id, or by the routing id of its scope. An event that names nobody goes to the only live
    placement that declares the capability; in a host of several applications (`exact`) it is refused.
    """

    def __init__(
        self,
        capability: Capability,
        runners: Mapping[str, Runner],
        all_runners: Iterable[Runner],
        *,
        exact: bool = False,
    ) -> None:
        super().__init__(capability, runners)
        self._exact: Final = exact
        self._ids: Final = {one.seat.scope.routing_id: one.seat.id for one in all_runners}
        self._log: Final = Log("pulp").bind(capability=capability.name)

    def post(self, event: StepEvent) -> Posted:
        """Hand an event to its placement."""
        runner = self._runners.get(event.cell_id) or self._other(event.cell_id)
        if runner is not None:
            return runner.mailbox.post(event, self._finalize)
        self._log.warning("application event rejected", target=event.cell_id, kind=event.kind)
        return Posted.CLOSED

    def _other(self, target: str) -> Runner | None:
        if target:
            return self._runners.get(self._ids.get(target, ""))
        if self._exact:
            return None
        live = [runner for runner in list(self._runners.values()) if runner.state in _LIVE]
        return live[0] if len(live) == 1 else None
