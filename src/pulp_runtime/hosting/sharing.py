"""What must hold before the applications of a host are started (spec/core §7.3, §7.7)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pulp_runtime._kernel.registry import Registry
from pulp_runtime.errors import ExtensionError, ManifestError
from pulp_runtime.ext import Capability
from pulp_runtime.manifest.host import ROUTES, HostedApplication, HostSpec

TRANSPORTS: Final = frozenset({"transport.http.inbound", "transport.ws.inbound", "transport.sse"})
"""Capabilities that need a listener."""


class Sharing:
    """Which capability objects several application instances have in common.

    A capability that comes with Pulp, or that a package makes on demand, is made anew for each instance, and may do as
    it likes. One object for all of them must be able to let go of what one instance owns.

    Args:
        given: capabilities that every instance gets as the same object.
        instances: how many instances there are, of all applications.
    """

    def __init__(self, given: Iterable[Capability], instances: int) -> None:
        self._given: Final = {id(capability): capability for capability in given}
        self._instances: Final = instances
        self._first: Final[dict[int, tuple[Capability, str]]] = {}

    def vet(self, capability: Capability, identity: str) -> None:
        """Note that an instance uses a capability.

        Raises:
            ExtensionError: others use the same object, and it cannot be torn down for one of them.
        """
        _, first = self._first.setdefault(id(capability), (capability, identity))
        if self._instances < 2 or (id(capability) not in self._given and first == identity):
            return
        if capability.teardown_scope is not None or (capability.setup is None and capability.teardown is None):
            return
        what = "setup but no scoped teardown" if capability.setup is not None else "only process-global teardown"
        raise ExtensionError(
            f'capability "{capability.name}" has {what}, and {self._instances} application instances share it; '
            "give it teardown_scope, or offer it as a function that makes a new one"
        )


def check_capabilities(hosted: HostedApplication, registry: Registry, sharing: Sharing) -> None:
    """Check that every capability the cells of an application declare is there, and may be used here.

    Raises:
        ManifestError: a cell declares one that nobody offers.
        ExtensionError: see `Sharing.vet`, `Registry.find`.
    """
    for spec in hosted.app.cells:
        for name in spec.capabilities:
            capability = registry.find(name)
            if capability is None:
                reason = f"application {hosted.id}: {registry.explain_unknown(spec.name, name)}"
                raise ManifestError(spec.manifest_path, reason, field="capabilities")
            sharing.vet(capability, hosted.identity)


def check_listeners(spec: HostSpec) -> None:
    """Check that every route leads to an application that answers requests, and that no two would need one listener.

    Raises:
        ManifestError: naming the route, or what to write.
    """
    answering = {(one.id, one.instance): one for one in spec.applications if _answers(one)}
    for route in spec.routes:
        if (route.application, route.instance) not in answering:
            reason = f'route "{route.path}": application {route.application} does not expose HTTP: none of its cells '
            reason += f"declares one of {', '.join(sorted(TRANSPORTS))}; remove the route"
            raise ManifestError(spec.manifest_path, f"validate manifest: {reason}", field=f"{ROUTES}.application")
    if not spec.routes and len(answering) > 1:
        names = ", ".join(one.label for one in answering.values())
        reason = f"{names} answer HTTP, and there are no routes; write [[routes]] with a path for each"
        raise ManifestError(spec.manifest_path, f"validate manifest: {reason}", field=ROUTES)


def _answers(hosted: HostedApplication) -> bool:
    return any(not TRANSPORTS.isdisjoint(spec.capabilities) for spec in hosted.app.cells)
