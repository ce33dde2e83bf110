"""Where the applications of a host can be reached (spec/core §7.8)."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext import Endpoint, Scope

HTTP: Final = ("transport.http.inbound", "public")
"""Capability and role of the address at which an application answers requests."""


class Role(NamedTuple):
    """What an address is for, in one application instance."""

    application: str
    instance: str
    capability: str
    name: str


class Endpoints:
    """Addresses by who owns them and what they are for. Safe from any thread."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._found: Final[dict[Role, tuple[Scope, str]]] = {}

    def ready(self, scope: Scope, endpoint: Endpoint) -> None:
        """Note an address that is open now; saying so twice changes nothing.

        Raises:
            ExtensionError: a part of it is blank, the endpoint has another address, or its application has one for
                that role already.
        """
        for what, value in zip(Endpoint._fields, endpoint, strict=True):
            if not value.strip():
                raise ExtensionError(f"endpoint {what} is required")
        role = _role(scope, endpoint)
        with self._lock:
            owner, address = self._found.setdefault(role, (scope, endpoint.address))
        if owner != scope:
            raise ExtensionError(
                f"{'/'.join(role[:2])} has a {endpoint.name} endpoint of {endpoint.capability} already"
            )
        if address != endpoint.address:
            raise ExtensionError(f"endpoint {endpoint.name} of {endpoint.capability} is {address} already")

    def gone(self, scope: Scope, endpoint: Endpoint) -> None:
        """Forget an address; a late word about one that has been replaced changes nothing."""
        role = _role(scope, endpoint)
        with self._lock:
            if self._found.get(role) == (scope, endpoint.address):
                del self._found[role]

    def address(self, application: str, instance: str, capability: str = HTTP[0], name: str = HTTP[1]) -> str:
        """Return where an application instance can be reached; "" for nowhere."""
        role = Role(*map(str.strip, (application, instance, capability, name)))
        with self._lock:
            return self._found.get(role, (None, ""))[1]

    def remove_application(self, application: str, instance: str) -> None:
        """Forget everything of one application instance."""
        with self._lock:
            for role in [role for role in self._found if role[:2] == (application, instance)]:
                del self._found[role]

    def __iter__(self) -> Iterator[tuple[Role, str]]:
        with self._lock:
            return iter([(role, address) for role, (_scope, address) in self._found.items()])

    @property
    def first(self) -> str:
        """The address that was open first; "" while there is none."""
        return next((address for _role, address in self), "")


def _role(scope: Scope, endpoint: Endpoint) -> Role:
    return Role(scope.application, scope.application_instance, endpoint.capability, endpoint.name)
