"""Capabilities registered by code, for a deployment's own main module.

from pulp_runtime import ext
from pulp_runtime.cli import main
import my_extension          # calls ext.register(...)

main()
"""

from __future__ import annotations

from pulp_runtime.errors import ExtensionError
from pulp_runtime.ext.capability import Capability

_registered: list[Capability] = []


def register(capability: Capability) -> None:
    """Add `capability` to those every later `Registry()` and `Host` starts with.

    Two registrations of one name are legal until a host must choose between them.

    Raises:
        ExtensionError: it is not a `Capability`, or this very object is registered already.
    """
    if not isinstance(capability, Capability):
        raise ExtensionError(f"register takes a Capability, not {type(capability).__name__}")
    if any(capability is known for known in _registered):
        raise ExtensionError(f"{capability.name} is registered already")
    _registered.append(capability)


def all() -> tuple[Capability, ...]:  # noqa: A001  # the published name
    """Return what has been registered, oldest first."""
    return tuple(_registered)
